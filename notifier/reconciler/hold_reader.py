"""
Reads the operators' holds, and restores in Redis what it has lost of them.

Nothing is sent before they have been read once. From then on they are read every few seconds, and at once
after a wake-up; a lost wake-up costs those seconds. Known holds stay in force while Redis does not
answer, or holds something that cannot be read. Each round compares what is stored with what is known:
after a failover that has lost the latest changes, or with an empty store, whichever replica looks first
writes the holds in force again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from notifier.reconciler.controller import Controller
from syncer.ledger.holds import HoldStore, StoredHolds
from syncer.model.errors import Ambiguous, ContractError, PortError, Rejected
from syncer.model.hold import Hold
from syncer.rules.holds import restored, within_bounds
from syncer.runtime.clock import LedgerTime

logger = logging.getLogger("ledger.delivery")

#: Seconds between rounds.
PERIOD: Final = 5.0


class HoldReader:
    """Copies holds from Redis to the controller, and restores them there."""

    def __init__(self, store: HoldStore, controller: Controller, time: LedgerTime) -> None:
        """
        Prepare; nothing is read yet.

        Args:
            store: Where the holds are.
            controller: Obeys them.
            time: By which they end.
        """
        self._store = store
        self._controller = controller
        self._time = time
        self._begun = asyncio.Event()
        #: Why those on record cannot be read, None if they can.
        self.problem: str | None = None
        #: Set to start a round early.
        self.wanted = asyncio.Event()

    async def begin(self) -> None:
        """
        Read them for the first time.

        Raises:
            ContractError: what is on record cannot be read.
            PortError: Redis does not answer, or refuses.
        """
        await self._read()
        self._begun.set()

    async def round(self) -> None:
        """Read them again, once they were read; a server that does not answer is reported elsewhere."""
        await self._begun.wait()
        self.wanted.clear()
        try:
            await self._read()
        except ContractError as error:
            self._report(str(error))
        except Rejected as error:
            self._report(f"the operators' holds cannot be read: {error}")
        except (PortError, TimeoutError):
            pass
        else:
            return
        # Those that are known may have ended meanwhile.
        self._controller.take_holds(self._controller.placed.known)

    def _report(self, problem: str) -> None:
        if self.problem != problem:
            self.problem = problem
            logger.error("%s; the known holds stay in force", problem)

    async def _read(self) -> None:
        stored = await self._store.read()
        self.problem = None
        known = self._controller.placed.known
        holds = restored(stored.holds, known, now=self._time.certain())
        # In force from now on, also where it cannot be written.
        self._controller.take_holds(holds)
        if holds != stored.holds:
            await self._put_back(stored, holds)

    async def _put_back(self, stored: StoredHolds, holds: tuple[Hold, ...]) -> None:
        try:
            written = await self._store.replace(
                stored, within_bounds(holds, now=self._time.certain())
            )
        except (Ambiguous, TimeoutError):
            # The next round says whether it is there.
            return
        except ValueError as error:
            logger.warning("holds that Redis has lost cannot be restored: %s", error)
            return
        if written:
            logger.warning(
                "holds that Redis had lost are restored",
                extra={"holds": [h.id for h in holds if h not in stored.holds]},
            )
