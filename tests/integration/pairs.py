"""A primary with a replica."""

from __future__ import annotations

import asyncio

from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import call, port_of, until

QUICK = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class Pair:
    """A primary and its replica."""

    def __init__(self, binary: str) -> None:
        self.primary = RedisServer(find_binary(binary), settings=QUICK)
        self.replica = RedisServer(find_binary(binary), settings=QUICK)

    async def follow(self) -> None:
        """Have the replica follow, and wait until it does."""
        port = port_of(self.primary)
        await asyncio.to_thread(call, port_of(self.replica), "REPLICAOF", "127.0.0.1", port)

        def follows() -> bool:
            theirs = call(port_of(self.replica), "INFO", "replication")
            mine = call(port, "INFO", "replication")
            return bool(theirs.get("master_link_status") == "up" and mine["connected_slaves"] == 1)

        await until(follows, what="the replica follows")
