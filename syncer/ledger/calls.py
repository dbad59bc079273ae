"""One command on its way to a server, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis

from syncer.ledger.lua import Script
from syncer.model.errors import LedgerError
from syncer.model.immutable import immutable


class StaleGuard(LedgerError):
    """The caller's guard no longer held when the connection was ready; nothing was sent."""


@immutable
class Call:
    """
    A command and what goes with it.

    Attributes:
        command: Name and arguments.
        guard: Called right before the command is written; False means that it is not sent.
        script: The script that the command runs, loaded where the server does not have it.
        wait: Replicas that must confirm, and milliseconds to wait for them. The result is then a pair:
            the reply, and how many replicas have confirmed.
        more: Commands that are executed after the first one; the result is then the tuple of all replies.
        asking: Whether to send ASKING first, so that a node serves a slot that is moving to it.
    """

    command: tuple[Any, ...]
    guard: Callable[[], bool] | None = None
    script: Script | None = None
    wait: tuple[int, int] | None = None
    more: tuple[tuple[Any, ...], ...] = ()
    asking: bool = False

    @property
    def alone(self) -> bool:
        """Whether the command is all that is written."""
        return not (self.more or self.asking)

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        """What is written, in order, on one connection."""
        if self.alone:
            return [self.command]
        return [
            *([("ASKING",)] if self.asking else []),
            self.command,
            *self.more,
        ]


def pack(command: tuple[Any, ...]) -> bytes:
    """Return a command as it is written."""
    packed: bytes = hiredis.pack_command(command)
    return packed
