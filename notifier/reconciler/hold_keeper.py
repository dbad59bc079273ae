"""
Follows the operators' holds, shows on each whether anything known matches it, and lets go by their rates.

Nothing is sent while it is not known what is held (`HoldWatch.problem`).

A pattern with a typo holds nothing and says nothing. So the owner of the first shard writes the condition
`Matched`: of receivers and types all are known, of namespaces those that the settings name. It is written
when it changes; what cannot be written is tried again in the next round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from notifier.outside import Outside
from notifier.reconciler.controller import Controller
from notifier.settings import Loaded
from syncer.kube.delivery_holds import DeliveryHolds, HoldWatch
from syncer.model.errors import Conflict, Gone
from syncer.model.times import format_time
from syncer.rules.holds import unmatched
from syncer.sharding.ownership import Shards

#: Seconds between rounds, and between steps of letting go.
PERIOD: Final = 5.0
STEP: Final = 1.0
_MATCHES: Final = "something known matches each pattern"


class HoldKeeper:
    """Has the controller obey the holds, and writes the condition of each."""

    def __init__(
        self,
        loaded: Loaded,
        outside: Outside,
        controller: Controller,
        shards: Shards,
        *,
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wire; the controller sends nothing before `watch` has run, nor while it is `idle`."""
        self._holds = DeliveryHolds(outside.objects, loaded.environment.namespace)
        self._controller = controller
        self._router = outside.router
        self._namespaces = loaded.namespaces
        self._shards = shards
        self._idle = idle
        self.watch: Final = HoldWatch(self._holds, controller.take_holds, outside.monotonic)
        controller.placed.unknown = lambda: self.watch.problem

    async def let_go(self) -> None:
        """Let go what holds with a rate let go by now; nothing that could not be sent then."""
        if self._idle() or self.watch.problem is not None or self._controller.holds.paused:
            return
        self._controller.let_go(len(self._shards.owned) / self._shards.shards)

    async def round(self) -> None:
        """
        Have holds noticed that have begun or ended by themselves; of the first shard, write conditions.

        Raises:
            PortError: a condition was not written.
        """
        placed = self._controller.placed
        self._controller.take_holds(placed.known)
        now = placed.time.certain()
        for hold in placed.known if 0 in self._shards.owned else ():
            if now >= hold.until:
                continue
            strange = unmatched(hold, self._router.channels, self._namespaces)
            found = ("False", "; ".join(strange)) if strange else ("True", _MATCHES)
            if found != hold.matched:
                try:
                    await self._holds.put_matched(hold, *found, format_time(now, millis=False))
                except (Conflict, Gone):
                    continue  # the watch shows why
