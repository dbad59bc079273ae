"""One command on its way to a server, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from syncer.ledger.lua import Script


@dataclass(frozen=True, slots=True)
class Call:
    """
    A command and what goes with it.

    Attributes:
        script: The script that the command runs, loaded where the server does not have it.
        wait: Replicas that must confirm, and milliseconds to wait for them. The result is then a pair:
            the reply, and how many replicas have confirmed.
        more: Commands that are executed after the first one; the result is then the tuple of all replies.
        asking: Whether to send ASKING first, so that a node serves a slot that is moving to it.
    """

    command: tuple[Any, ...]
    script: Script | None = None
    wait: tuple[int, int] | None = None
    more: tuple[tuple[Any, ...], ...] = ()
    asking: bool = False

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        """What is written, in order, on one connection."""
        return [*([("ASKING",)] if self.asking else ()), self.command, *self.more]


#: Makes of a command what is written.
pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command


async def read_reply(connection: AbstractConnection, call: Call) -> Any:
    """Read the reply to a call, error replies as values; every reply must be read."""
    replies: list[Any] = []
    for _ in call.commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    failed = next((r for r in replies if isinstance(r, ResponseError)), None)
    if failed is not None:
        return failed
    return tuple(replies) if call.more else replies[-1]
