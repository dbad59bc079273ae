"""
Liveness while it lasts: nothing that is due goes unlooked-at for longer than a bound.

The controller's own book of its looks is not believed: each process is watched from outside. A look is a
call of `reconcile`, whatever comes of it. What needs one is asked of the memory of the process: a
notification of ours that is not claimed, that is gone, that has a channel which is due while no attempt
of it runs and no queue of its receiver holds it, or whose log was unreadable and is not any more.

The clock of a notification stands while there is a reason that is known: the process does not run, is
draining, does not own the shard or may not act for it now, or has no Redis.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from notifier.reconciler.controller import Controller
from syncer.rules.plan import Deliver, Resolve, hold_of
from syncer.sync.notification import Notification
from tests.simulation.checks import is_readable

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

#: Seconds for which something due may go unlooked-at: two rounds of the resync, and a slow loop.
BOUND: Final = 7.0
#: The same for a log that was unreadable and has been repaired without a word.
BLOCKED_BOUND: Final = 36.0


class Looks:
    """Who looks at what, and since when nobody has."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Looks that have begun and not ended.
        self._under_way: Counter[tuple[str, str]] = Counter()
        #: Since when a notification has needed a look of a process.
        self._since: dict[tuple[str, str], float] = {}
        #: Since when a process knows that operators hold a notification back, by channel.
        self._held: dict[tuple[str, str, str], float] = {}

    def held(self, process: Process, notification: Notification, channel: str) -> float:
        """Seconds for which a process has known that operators hold a channel back, 0 if they do not."""
        now = self._world.loop.time()
        self._note_hold(process, notification, channel, now)
        return now - self._held.get((process.name, notification.uid, channel), now)

    def _note_hold(
        self, process: Process, notification: Notification, channel: str, now: float
    ) -> None:
        placed = process.app.controller.placed.of(notification.request, (channel,))
        place = (process.name, notification.uid, channel)
        if hold_of(notification.request.hold, paused=False) or placed:
            self._held.setdefault(place, now)
            self._world.checks.mark("held by an operator")
        else:
            self._held.pop(place, None)

    def attend(self, process: Process) -> None:
        """Take notice of every look of a process that has just been wired."""
        reconciler = process.app.controller.reconciler
        reconcile = reconciler.reconcile

        async def watched(uid: str) -> Any:
            place = (process.name, uid)
            self._under_way[place] += 1
            try:
                return await reconcile(uid)
            finally:
                self._under_way[place] -= 1
                self._since.pop(place, None)

        reconciler.reconcile = watched  # type: ignore[method-assign]  # seen from outside

    def check(self) -> None:
        """Look at every process now; to be called often."""
        now = self._world.loop.time()
        for host in self._world.hosts:
            process = host.process
            if process is None or process.dead:
                continue
            for uid, notification in process.app.cache.entries.items():
                channels = self._world.channels_of(notification.request.name)
                for channel in channels if self._world.may_hold else ():
                    self._note_hold(process, notification, channel, now)
                place = (process.name, uid)
                why = "" if self._under_way[place] else _wanted(self._world, process, notification)
                if not why:
                    self._since.pop(place, None)
                    continue
                bound = BLOCKED_BOUND if notification.quarantine else BOUND
                waited = now - self._since.setdefault(place, now)
                if waited > bound:
                    self._world.checks.fail(
                        "L2",
                        f"{notification.request.name}: {why}, and {process.name} has not looked at it"
                        f" for {waited:.1f} s",
                    )


def _wanted(world: World, process: Process, notification: Notification) -> str:
    """Why a process has to look at a notification, empty if it has not or may not."""
    controller, app = process.app.controller, process.app
    term = app.shards.term_of(notification.uid)
    if process.paused or process.draining or not app.log.available:
        return ""
    if term is None or not app.shards.accepts(notification.uid) or not term.valid(app.monotonic()):
        return ""
    if notification.busy or _in_a_queue(controller, notification.uid):
        return ""
    if notification.deleted:
        return "it is deleted and not let go"
    if notification.quarantine:
        return "its log can be read again" if is_readable(world.log_of(notification.uid)) else ""
    if notification.claim is None:
        # What is blocked for a reason that is known is looked at now and then, and said elsewhere.
        return "" if notification.blocked else "it is not claimed"
    if notification.violation or notification.cancelled:
        return ""
    decision = controller.decisions.next(notification)
    return decision.reason if isinstance(decision, Deliver | Resolve) else ""


def _in_a_queue(controller: Controller, uid: str) -> bool:
    """Whether an attempt of a notification runs, or waits for its receiver."""
    dispatcher = controller.dispatcher
    return any(uid in receiver_queue.keys for receiver_queue in dispatcher._queues.values()) or any(
        task.get_name() == f"attempt-{uid}" for task in dispatcher._tasks
    )
