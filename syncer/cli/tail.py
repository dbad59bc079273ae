"""
`syncer tail`: attempts as they happen, at a bounded cost.

Shown are outcomes, and the reasons why due attempts were not made; the intent before each only on
request. Restored facts (`seed`) are not news: they were shown when they were first recorded.

A sweep walks all keys (SCAN, never KEYS), compares lengths, and reads each log that has grown from its
last known position. Owners announce nothing that they append, so news is as late as the time between
two sweeps. That time is at least four times as long as the last sweep took, so following costs a fifth
of a core here and a few per cent of Redis, whatever the number of logs.

In memory are a number and a length for each log, and the newest of the past events that are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from syncer.cli.access import Access, access
from syncer.cli.arguments import STATES
from syncer.cli.exits import NOT_COMPARED, OK, SILENT
from syncer.cli.installation import StoreState, namespaces_of, trusted_store
from syncer.cli.known import namespace_and_name, read_request
from syncer.cli.output import Columns, Table, cut, in_words, translated, write_remark
from syncer.cli.scan import short_of
from syncer.cli.times import moment_of
from syncer.ledger.ends import LogEnd, read_ends, read_lengths
from syncer.model.attempt import receiver_of
from syncer.model.errors import Gone, LedgerError
from syncer.model.record import Kind, Record
from syncer.model.times import format_time
from syncer.rules.holds import on_channel

#: States that can be asked for: `syncer.cli.arguments.STATES`, with the records that state them.
_STATES: Final = {
    Kind.INTENT: "intent",
    Kind.SUCCESS: "success",
    Kind.RESOLVE_SUCCESS: "success",
    Kind.FAILED: "failed",
    Kind.RESOLVE_FAILED: "failed",
    Kind.UNKNOWN: "unknown",
    Kind.SKIP: "skip",
}
#: What a failure is called, by its class.
_FAILURES: Final = {"permanent": "failed for good", "notSent": "not sent", "operator": "refused"}


@dataclass(frozen=True, slots=True)
class Event:
    """One record of one notification."""

    uid: str
    object: str
    record: Record
    #: Of the object, where that is there and can be read.
    severity: str = ""
    subject: str = ""

    @property
    def at(self) -> int:
        """When it happened, Unix milliseconds of Redis."""
        return int(self.record.body.get("at", 0))

    @property
    def state(self) -> str:
        """Its state as `--state` names it, empty if it is not shown."""
        return _STATES.get(self.record.kind, "")

    @property
    def error(self) -> str:
        """The error, or the reason why it was not sent."""
        body = self.record.body
        return str(body.get("error") or body.get("why") or "")

    @property
    def result(self) -> str:
        """What became of the attempt, in words."""
        if self.state == "skip":
            return "skipped"
        if self.state == "intent":
            return "opened"
        if self.record.kind.resolution:
            # A person's word, which nobody has observed.
            return f"resolved: {self.state}"
        return _FAILURES.get(str(self.record.body.get("class", "")), self.state)

    @property
    def detail(self) -> str:
        """What is known of it besides, in words."""
        body = self.record.body
        said = [str(body["code"])] if body.get("code") else []
        said += [translated(self.error)] if self.error else []
        if due := int(body.get("due", 0)):
            # Whether another attempt is left, only its policy says.
            said.append(f"(if attempts are left, next in {in_words(due - self.at)})")
        if self.record.kind.resolution:
            said.append(f"(by {body.get('by', '?')})")
        if body.get("words"):
            said.append(f"({body['words']})")
        if body.get("ms") and self.state == "success":
            said.append(f"after {int(body['ms']) / 1000:.1f} s")
        return " ".join(said)

    def as_json(self) -> dict[str, Any]:
        """Return the event as one JSON object; the keys are an interface."""
        body = self.record.body
        noted = self.record.kind.state is None
        return {
            "at": format_time(self.at) or None,
            "object": self.object or None,
            "uid": self.uid,
            "severity": self.severity or None,
            "subject": self.subject or None,
            "position": self.record.position,
            "channel": self.record.channel,
            "receiver": receiver_of(self.record.channel),
            "state": self.state,
            "class": body.get("class") or None,
            "attempt": None if noted else str(self.record.attempt_id),
            "code": body.get("code") or None,
            "error": self.error or None,
            "templates": body.get("words") or None,
            "durationMs": body.get("ms") or None,
            "due": format_time(int(body.get("due", 0))) or None,
            "by": body.get("by") or None,
            "resolved": self.record.kind.resolution,
        }


def columns_of(*, dated: bool) -> Columns:
    """Return the columns of a list of events; `dated` if they may be of another day."""

    def moment(event: Event) -> str:
        day, _, clock = format_time(event.at, millis=False).rstrip("Z").partition("T")
        return f"{day} {clock}" if dated else clock

    return {
        "UTC": moment,
        "NOTIFICATION": lambda event: event.object or event.uid,
        "SEVERITY": lambda event: event.severity or "-",
        "CHANNEL": lambda event: event.record.channel,
        "RESULT": lambda event: event.result,
        "SUBJECT": lambda event: cut(event.subject, 60) or "-",
        "DETAIL": lambda event: event.detail,
    }


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Which events are shown; each condition that is set must hold.

    Attributes:
        states: Any of these.
        namespaces: Any of these; empty for all.
        receivers: Patterns of channels, or of receivers; empty for all.
        since: Unix milliseconds.
    """

    states: Collection[str]
    namespaces: Collection[str] = ()
    receivers: Sequence[str] = ()
    since: int = 0

    def namespace(self, key: str) -> bool:
        """Whether the notifications of a namespace are wanted, by `namespace/name`."""
        return not self.namespaces or key.partition("/")[0] in self.namespaces

    def matches(self, event: Event) -> bool:
        """Whether an event is shown."""
        return (
            event.state in self.states
            and event.at >= self.since
            and self.namespace(event.object)
            and on_channel(event.record.channel, self.receivers)
        )


#: A pause is at least so many times as long as the sweep before it took.
_RESTS: Final = 4
#: Records that are read, and in memory, together; a log that has more is read by itself.
_RECORDS: Final = 5_000
#: Milliseconds that a record may be behind: it says when the attempt ended, by its owner's clock, and it is
#: appended later, perhaps behind one that ended after it.
LATE: Final = 10_000
#: Objects that are asked for together, the seconds for all of them, and how many are remembered.
_TOGETHER: Final = 16
_ANSWER: Final = 4.0
_TOLD: Final = 5_000


class Follower:
    """
    What is appended to logs, from when this was made on.

    Attributes:
        checked: Redis time in milliseconds of the last look at everything: the beginning of the last whole
            sweep.
        passed_over: Events of the past that were wanted, and left out because there were too many.
    """

    def __init__(self, at: Access, wanted: Wanted, uids: Sequence[str] = ()) -> None:
        """Follow the logs of these uids, or all that there are."""
        self._at = at
        self._wanted = wanted
        self._uids = uids
        self._known: dict[int, int] = {}
        self._unread: set[int] = set()
        #: Uid, severity and subject of objects, by `namespace/name`.
        self._told: dict[str, tuple[str, str, str]] = {}
        self._pause = 0.0
        self.checked = wanted.since
        self.passed_over = 0

    @property
    def resume(self) -> int:
        """Unix milliseconds from which to follow again; nothing appended since then ended earlier."""
        return max(self._wanted.since, self.checked - LATE)

    def pause(self, least: float) -> float:
        """Seconds to wait before the next sweep, at least `least`."""
        return max(least, self._pause)

    async def past(self, limit: int) -> list[Event]:
        """
        Return the newest `limit` wanted events of the past, 0 for all, in the order of time; call it first.

        Raises:
            PortError: Redis does not answer, or refuses.
        """
        found: list[tuple[int, int, Event]] = []
        number = 0
        async with aclosing(self._walk(first=True)) as pages:
            async for events in pages:
                for event in events:
                    number += 1
                    # The number keeps equal times in order, and events from being compared.
                    heapq.heappush(found, (event.at, number, event))
                    if limit and len(found) > limit:
                        heapq.heappop(found)
                        self.passed_over += 1
        return await self._named([event for *_, event in sorted(found)])

    async def sweep(self) -> AsyncGenerator[list[Event], None]:
        """
        Look at every log, and yield what is wanted of what was appended, page by page.

        It raises PortError if Redis does not answer, or refuses; call it again later.
        """
        async with aclosing(self._walk(first=False)) as pages:
            async for events in pages:
                if events:
                    yield await self._named(sorted(events, key=lambda event: event.at))

    async def _named(self, events: list[Event]) -> list[Event]:
        """Add subject and severity, which no log has, from the objects; without if that takes long."""
        keys = {e.object for e in events if e.object} - self._told.keys()
        if keys and self._at.store is not None:
            slots = asyncio.Semaphore(_TOGETHER)
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    await asyncio.gather(*(self._ask(key, slots) for key in keys))
            while len(self._told) > _TOLD:
                del self._told[next(iter(self._told))]
        out = []
        for event in events:
            uid, severity, subject = self._told.get(event.object, ("", "", ""))
            known = uid == event.uid
            out.append(replace(event, severity=severity, subject=subject) if known else event)
        return out

    async def _ask(self, key: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                found = await self._at.objects.get(*namespace_and_name(key))
            except Gone:
                self._told[key] = ("", "", "")
            except LedgerError:
                return
            else:
                self._told[key] = (found.uid, found.severity, found.spec().subject)

    async def _walk(self, *, first: bool) -> AsyncGenerator[list[Event], None]:
        loop = asyncio.get_running_loop()
        began, now = loop.time(), await self._at.now()
        seen: dict[int, int] = {}
        try:
            async with aclosing(self._pages()) as pages:
                async for uids in pages:
                    yield await self._page(uids, seen, first=first)
        except BaseException:
            # What was yielded is not yielded again.
            self._known |= seen
            raise
        # What has expired is forgotten with this.
        self._known = seen
        self._unread &= seen.keys()
        self.checked = now
        # Looking at the past is dearer than what follows, and comes once.
        self._pause = 0.0 if first else _RESTS * (loop.time() - began)

    async def _pages(self) -> AsyncGenerator[Sequence[str], None]:
        if self._uids:
            yield self._uids
            return
        async for uids in self._at.log.scan():
            yield list(dict.fromkeys(uids))

    async def _page(self, uids: Sequence[str], seen: dict[int, int], *, first: bool) -> list[Event]:
        length_of = dict(zip(uids, await read_lengths(self._at.log, uids), strict=True))
        grown: list[tuple[str, int]] = []
        for uid, length in length_of.items():
            short = short_of(uid)
            known = max(self._known.get(short, 1), seen.get(short, 1))
            # One that has shrunk is another log: all of it is new.
            start = known if known <= length else 1
            if length > start:
                grown.append((uid, start))
            elif length:
                seen[short] = length
        if first:
            grown = await self._recent(grown, length_of, seen)
        events: list[Event] = []
        read: dict[int, int] = {}
        for batch in _batches(grown, length_of):
            ends = await read_ends(self._at.log, batch)
            for (uid, _), end in zip(batch, ends, strict=True):
                read[short_of(uid)] = max(end.length, 1)
                self._report(uid, end)
                found = (Event(uid, end.object, record) for record in end.records)
                events += [event for event in found if self._wanted.matches(event)]
        # Only now: if others cannot be read, none of these is shown, and the next sweep reads them.
        seen |= read
        return events

    async def _recent(
        self, logs: Sequence[tuple[str, int]], lengths: dict[str, int], seen: dict[int, int]
    ) -> list[tuple[str, int]]:
        """Return the logs whose last record is recent enough; only that is read of the others."""
        last = await read_ends(self._at.log, [(uid, lengths[uid] - 1) for uid, _ in logs])
        out = []
        for (uid, start), end in zip(logs, last, strict=True):
            latest = max((int(r.body.get("at", 0)) for r in end.records), default=0)
            if (end.problem or latest >= self._wanted.since - LATE) and self._wanted.namespace(
                end.object
            ):
                out.append((uid, start))
            else:
                seen[short_of(uid)] = max(end.length, 1)
        return out

    def _report(self, uid: str, end: LogEnd) -> None:
        short = short_of(uid)
        if end.problem and short not in self._unread and self._wanted.namespace(end.object):
            self._unread.add(short)
            write_remark(f"{end.object or uid}: what follows cannot be read ({end.problem})")


def _batches(
    logs: Sequence[tuple[str, int]], lengths: Mapping[str, int]
) -> Iterator[list[tuple[str, int]]]:
    """Divide the logs to read, each from a position on, into batches that bound memory."""
    batch: list[tuple[str, int]] = []
    number = 0
    for uid, start in logs:
        more = lengths[uid] - start
        if batch and number + more > _RECORDS:
            yield batch
            batch, number = [], 0
        batch.append((uid, start))
        number += more
    if batch:
        yield batch


#: Seconds between sweeps, unless they take long.
_PERIOD: Final = 1.0
#: Between tries while Redis does not answer.
_AWAY: Final = 5.0
#: Past attempts that are shown at most.
MOST: Final = 1000


async def run(options: argparse.Namespace) -> int:
    """Show what has happened, and what happens; returns the exit code."""
    async with access(options) as at:
        now = await at.now()
        wanted = Wanted(
            states=tuple(options.state or (s for s in STATES if s != "intent")),
            namespaces=namespaces_of(at, options) if not options.object else (),
            receivers=tuple(options.receiver or ()),
            since=moment_of(options.since, "--since", now),
        )
        store = await trusted_store(at, new=True)
        uids = [(await read_request(at, key)).uid for key in options.object]
        follower = Follower(at, wanted, uids)
        columns = columns_of(dated=now - wanted.since > 86_400_000)
        table = Table(columns, json=options.json)
        try:
            table.write(await follower.past(MOST))
            if follower.passed_over:
                write_remark(
                    f"{follower.passed_over} earlier ones are not shown; a shorter --since shows less,"
                    " `explain --records` all of one"
                )
            if options.follow:
                await _follow(follower, table)
        finally:
            write_remark(f"to continue from here: --since {format_time(follower.resume)}")
    return NOT_COMPARED if store.state is StoreState.NEW else OK


async def _follow(follower: Follower, table: Table) -> None:
    """Show what is appended, until cancelled."""
    away = False
    while True:
        await asyncio.sleep(_AWAY if away else follower.pause(_PERIOD))
        try:
            async with aclosing(follower.sweep()) as pages:
                async for events in pages:
                    table.write(events)
        except SILENT as error:
            if not away:
                write_remark(f"Redis does not answer, retrying: {error}")
            away = True
        else:
            if away:
                write_remark("Redis answers again; nothing was missed")
            away = False
