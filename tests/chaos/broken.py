"""
One replica of the product, with one of its protections switched off from outside.

    python -m tests.chaos.broken NAME TTL run --config FILE

The product knows nothing of this: functions of it are replaced before its command line is called,
so what is broken is exactly what is written here. NAME is `none` for the sound product. TTL (in
seconds, 0 for the product's own) is how long a finished log is kept: a run of minutes must see logs
expire, and the product itself never goes below a day.

Each break names the invariant that falls with it. A suite that stays green with one is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import notifier.cli.main
from notifier.contract import Outcome
from notifier.reconciler.attempt import Attempts, Sender
from syncer.kube.lease_term import LeaseTerm
from syncer.ledger import lua
from syncer.ledger.answers import Answer, Appended
from syncer.model.attempt import FailureClass
from syncer.model.errors import PortError
from syncer.model.record import Record, intent_record
from syncer.sharding.sessions import SessionLease
from syncer.sync.attempts import Outcomes
from syncer.sync.recorder import Recorder
from tests.simulation.mutants import keep_finished_for, switched_off

NONE: Final = "none"


def no_deadline() -> None:
    """A send may outlive its lease term: a frozen process wakes up and sends what another has sent."""

    def always(*_: object) -> bool:
        return True

    LeaseTerm.valid = always  # type: ignore[method-assign, assignment]  # broken on purpose
    LeaseTerm.may_send = always  # type: ignore[method-assign, assignment]  # broken on purpose


def no_fence() -> None:
    """
    Any epoch may open an attempt, whatever the log holds, on one that is gone as well.

    Who held a claim before the log of a delivered notification expired sends once more. The
    deadline must be off too, since it would hide the missing fence.
    """
    no_deadline()
    header = "'nl1 object=any/any epoch=' .. epoch .. ' acked=0 audited=0'"
    source = lua.INTENT.source
    for guard, broken in {
        "if #log == 0 then\n  return {'RECLAIM'}": f"if #log == 0 then\n"
        f"  redis.call('RPUSH', key, {header})\n  log = redis.call('LRANGE', key, 0, -1)",
        "if stored ~= epoch then": "if false then",
        "if not base or chain_at(base, position) ~= ARGV[7] then": "if false then",
    }.items():
        if guard not in source:
            raise RuntimeError("INTENT has changed; this break must follow it")
        source = source.replace(guard, broken)
    lua.INTENT.source = source
    lua.INTENT.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def send_before_intent() -> None:
    """The request leaves before it is on record: a crash in between leaves a call nobody knows."""
    run, send = Attempts.run, Sender.send
    sent: dict[tuple[str, str], tuple[str, Outcome]] = {}
    next_id = Recorder.next_id

    async def broken(self: Attempts, uid: str, channel: str) -> Outcome | None:
        known = self.ports.notifications
        notification, term = known.cache.entries.get(uid), known.ownership.term_of(uid)
        via = self.ports.router.channel(channel)
        if notification and term and via and self.still_due(notification, term, channel):
            chosen = next_id(known.recorder, term.epoch)
            record = intent_record(chosen, channel, at=0, by="broken")
            outcome = await send(self.sender, notification, term, record, via)
            sent[uid, channel] = (chosen, outcome)
            reserved.append(chosen)
        return await run(self, uid, channel)

    reserved: list[Any] = []

    def reuse(self: Recorder, epoch: Any) -> Any:
        return reserved.pop(0) if reserved else next_id(self, epoch)

    async def remembered(
        self: Sender, notification: Any, term: Any, intent: Any, via: Any, **_: Any
    ) -> Outcome:
        return sent.pop((notification.uid, intent.channel))[1]

    Attempts.run = broken  # type: ignore[method-assign]  # broken on purpose
    Sender.send = remembered  # type: ignore[method-assign, assignment]  # broken on purpose
    Recorder.next_id = reuse  # type: ignore[method-assign]  # broken on purpose


def send_without_log() -> None:
    """While Redis is away it is sent all the same, and recorded later: a crash loses the calls."""
    open_ = Outcomes.open

    async def broken(
        self: Outcomes, notification: Any, term: Any, channel: str, *, limit: int
    ) -> tuple[Appended, Record]:
        try:
            async with asyncio.timeout(0.7):
                return await open_(self, notification, term, channel, limit=limit)
        except (PortError, TimeoutError):
            chosen = self.recorder.next_id(term.epoch)
            record = intent_record(chosen, channel, at=self.recorder.time.now(), by="broken")
            notification.in_flight.begin(chosen, channel)
            return Appended(Answer.OK), record

    Outcomes.open = broken  # type: ignore[method-assign]  # broken on purpose


def unknown_as_failed() -> None:
    """A request without an answer counts as refused: nothing explains the repeat after it."""

    def broken(cls: type[Outcome], error: str, *, code: int = 0) -> Outcome:
        return replace(cls.transient(error, code=code), failure=FailureClass.TRANSIENT)

    Outcome.unknown = classmethod(broken)  # type: ignore[assignment, method-assign]  # broken on purpose


def one_session() -> None:
    """Who has lost its session begins no other: a replica that was frozen serves nothing any more."""
    begin = SessionLease._begin

    async def broken(self: SessionLease) -> Any:
        if self in begun:
            return None
        session = await begin(self)
        if session is not None:
            begun.add(self)
        return session

    begun: set[SessionLease] = set()
    SessionLease._begin = broken  # type: ignore[method-assign]  # broken on purpose


#: By name; what the simulation switches off likewise has its name there.
BREAKS: Final[dict[str, Callable[[], None] | str]] = {
    "no-deadline": no_deadline,
    "no-fence": no_fence,
    "send-before-intent": send_before_intent,
    "send-without-log": send_without_log,
    "unknown-as-failed": unknown_as_failed,
    "one-session": one_session,
    "journal-without-write": "journaled after the send",
}


def main(arguments: Sequence[str]) -> int:
    """Break what is named, then be `notifier`."""
    name, ttl, *rest = arguments
    with contextlib.ExitStack() as for_good:
        for_good.enter_context(keep_finished_for(int(ttl)))
        if name != NONE:
            broken = BREAKS[name]
            if isinstance(broken, str):
                for_good.enter_context(switched_off(broken))
            else:
                broken()
            sys.stderr.write(f'{{"event":"broken","break":"{name}"}}\n')
        return notifier.cli.main.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
