"""A primary with a replica."""

from __future__ import annotations

from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import QUICK


class Pair:
    """A primary and its replica."""

    def __init__(self, binary: str) -> None:
        self.primary = RedisServer(find_binary(binary), settings=QUICK)
        self.replica = RedisServer(find_binary(binary), settings=QUICK)
