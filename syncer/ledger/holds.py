"""
The holds of an installation, in Redis: one small value under `<prefix>:holds`.

`syncer.rules.holds` decides what it contains; here it is read and replaced. A change replaces exactly
what was read, so that two concurrent changes lose nothing: the later one starts over. It needs only
commands that every user of the logs may run, and a user that may read logs may read it.

After a change, the replicas get a wake-up, which may be lost: each of them also reads every few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from syncer.ledger import lua
from syncer.ledger.client import LedgerClient
from syncer.ledger.replies import WrongType
from syncer.model.errors import Ambiguous, ContractError, Unavailable
from syncer.model.hold import Hold
from syncer.rules.holds import decode, encode

#: What a wake-up says in the place of a uid.
HOLDS_CHANGED: Final = "holds"
#: Times that a change begins anew.
_TRIES: Final = 20


class StoredHolds(NamedTuple):
    """Holds as read, and the text that says so."""

    text: bytes
    holds: tuple[Hold, ...]


class HoldStore:
    """The holds of one installation."""

    def __init__(self, client: LedgerClient) -> None:
        self._client = client

    @property
    def key(self) -> str:
        """Where they are."""
        return f"{self._client.prefix}:holds"

    async def read(self) -> StoredHolds:
        """
        Read them.

        Raises:
            ContractError: they cannot be read; the message names the key and the member.
            PortError: Redis does not answer, or refuses.
        """
        try:
            text: bytes = await self._client.command("GET", self.key) or b""
            return StoredHolds(text, decode(text))
        except WrongType:
            raise ContractError(
                f"the key {self.key} is not text: another program uses it; delete it, or set another"
                " redis.keyPrefix"
            ) from None
        except ValueError as error:
            raise ContractError(
                f"the holds under {self.key} cannot be read: {error}; save the value, delete the key and"
                " place the holds again"
            ) from None

    async def replace(self, before: StoredHolds, holds: tuple[Hold, ...]) -> bool:
        """Replace the holds that were read; False if they have changed meanwhile."""
        reply = await self._client.evaluate(lua.SWAP, self.key, [before.text, encode(holds)])
        return bytes(reply[0]) == b"OK"

    async def change(self, to: Callable[[tuple[Hold, ...]], tuple[Hold, ...]]) -> tuple[Hold, ...]:
        """
        Change them; `to` must be idempotent. Returns what is on record now.

        Raises:
            ValueError: as `to` raises.
            ContractError: what is on record cannot be read.
            PortError: Redis does not answer, or refuses.
        """
        for _ in range(_TRIES):
            before = await self.read()
            after = to(before.holds)
            try:
                if after == before.holds or await self.replace(before, after):
                    return after
            except (Ambiguous, TimeoutError):
                # It may be there: what is read next says so.
                continue
        raise Unavailable("the holds keep being changed by others; try again")

    async def announce(self) -> None:
        """Tell the replicas that the holds have changed; best effort."""
        await self._client.wake_up(HOLDS_CHANGED)
