"""
Messages to owners: what another process has written is looked at sooner than by the next sweep.

A message may be lost, and the account may be refused the channel. What was written is there all the same,
so whoever has written it never fails for lack of a message; `syncer doctor` says that none arrive.
"""

from __future__ import annotations

import contextlib

from syncer.ledger.client import LedgerClient
from syncer.model.errors import PortError


def wake_up_channel(prefix: str) -> str:
    """Pub/sub channel on which owners receive the uids of logs that others have appended to."""
    return f"{prefix}:poke"


async def wake_up(client: LedgerClient, what: str) -> None:
    """Tell the owners the uid of a notification, or another word that they know; best effort."""
    with contextlib.suppress(PortError, TimeoutError):
        await client.command("PUBLISH", wake_up_channel(client.prefix), what)
