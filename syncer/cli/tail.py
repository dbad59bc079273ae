"""
`syncer tail`: attempts as they happen, at a bounded cost.

It shows results, and the reasons why due attempts were not made. Restored facts (`seed`) are left out: they
were shown when they were first recorded.

A sweep walks all keys (SCAN, never KEYS), compares lengths, and reads what was appended to each log since
its last known position, or the end of a log that was not seen before. Owners do not announce what they
append, so a record is shown after the next sweep. The pause between sweeps is at least four times as long
as the last sweep took, so following costs a fifth of a core here and a few per cent of Redis, whatever the
number of logs.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from syncer.cli.access import Access, access
from syncer.cli.exits import OK
from syncer.cli.installation import check_names, namespaces_of, trusted_store
from syncer.cli.known import namespace_and_name
from syncer.cli.output import Columns, Table, in_words, translated, write_remark
from syncer.cli.scan import Scan
from syncer.cli.times import moment_of
from syncer.ledger.ends import read_ends, read_lengths
from syncer.model.attempt import receiver_of
from syncer.model.errors import Gone, LedgerError
from syncer.model.record import Kind, Record
from syncer.model.times import format_time
from syncer.rules.holds import on_channel
from syncer.rules.text import cut

#: The records that are shown, and what they state.
_STATES: Final = {
    Kind.SUCCESS: "success", Kind.RESOLVE_SUCCESS: "success", Kind.FAILED: "failed",
    Kind.RESOLVE_FAILED: "failed", Kind.UNKNOWN: "unknown", Kind.SKIP: "skipped",
}  # fmt: skip
#: Words for a failure, by its class.
_FAILURES: Final = {"permanent": "failed for good", "notSent": "not sent", "operator": "refused"}
#: Shortest pause between sweeps, in seconds, and as a multiple of the time that the last sweep took.
_PERIOD: Final = 1.0
_RESTS: Final = 4
#: Records read from the end of a log that was not seen before; events that one sweep shows at most.
_PAST: Final = 50
MOST: Final = 1000
#: Seconds to read the objects that events are about; objects that are remembered.
_ANSWER: Final = 4.0
_TOLD: Final = 5_000


class Event(NamedTuple):
    """One record of one notification; severity and subject come from its object, if that can be read."""

    uid: str
    object: str
    record: Record
    severity: str = ""
    subject: str = ""

    @property
    def at(self) -> int:
        """When it happened, Unix milliseconds of Redis."""
        return int(self.record.body.get("at", 0))

    @property
    def error(self) -> str:
        """The error, or the reason why it was not sent."""
        return str(self.record.body.get("error") or self.record.body.get("why") or "")

    @property
    def result(self) -> str:
        """The result of the attempt, in words."""
        state = _STATES[self.record.kind]
        if self.record.kind.resolution:
            # A manual resolution is not an observed result, and is shown as such.
            return f"resolved: {state}"
        return _FAILURES.get(str(self.record.body.get("class", "")), state)

    @property
    def detail(self) -> str:
        """Further details, in words."""
        body = self.record.body
        due, took = int(body.get("due", 0)), int(body.get("ms", 0))
        said = [
            str(body.get("code") or ""),
            translated(self.error),
            # Only the retry policy, which is not read, shows whether attempts are left.
            f"(if attempts are left, next in {in_words(due - self.at)})" if due else "",
            f"(by {body.get('by', '?')})" if self.record.kind.resolution else "",
            f"({body['words']})" if body.get("words") else "",
            f"after {took / 1000:.1f} s" if took and self.record.kind is Kind.SUCCESS else "",
        ]
        return " ".join(filter(None, said))

    def as_json(self) -> dict[str, Any]:
        """Return the event as one JSON object; the keys are an interface."""
        body, channel = self.record.body, self.record.channel
        return {
            "at": format_time(self.at) or None, "object": self.object or None, "uid": self.uid,
            "severity": self.severity or None, "subject": self.subject or None,
            "position": self.record.position, "channel": channel, "receiver": receiver_of(channel),
            "state": _STATES[self.record.kind], "class": body.get("class") or None,
            "attempt": None if self.record.kind is Kind.SKIP else str(self.record.attempt_id),
            "code": body.get("code") or None, "error": self.error or None,
            "templates": body.get("words") or None, "durationMs": body.get("ms") or None,
            "due": format_time(int(body.get("due", 0))) or None, "by": body.get("by") or None,
            "resolved": self.record.kind.resolution,
        }  # fmt: skip


COLUMNS: Final[Columns] = {
    "UTC": lambda event: format_time(event.at, millis=False).replace("T", " ").rstrip("Z"),
    "NOTIFICATION": lambda event: event.object or event.uid,
    "SEVERITY": lambda event: event.severity or "-",
    "CHANNEL": lambda event: event.record.channel,
    "RESULT": lambda event: event.result,
    "SUBJECT": lambda event: cut(event.subject, 60) or "-",
    "DETAIL": lambda event: event.detail,
}


class Tail:
    """Reads what was appended to logs since the last sweep; `scan` has the names that were seen."""

    def __init__(self, at: Access, options: argparse.Namespace, since: int) -> None:
        """Follow what the options select, from `since` on, in Unix milliseconds."""
        self._at = at
        self._receivers = tuple(options.receiver or ())
        self._namespaces = namespaces_of(at, options)
        self._since = since
        self._known: dict[str, int] = {}
        self.scan = Scan()
        #: Uid, severity and subject of objects, by `namespace/name`.
        self._told: dict[str, tuple[str, str, str]] = {}

    async def sweep(self) -> list[Event]:
        """
        Look at every log, and return the newest of the wanted events, in order of time.

        Raises:
            PortError: Redis does not answer, or refuses; the next sweep returns everything missed.
        """
        seen, events = dict[str, int](), list[Event]()
        async for page in self._at.log.scan():
            uids = list(dict.fromkeys(page))
            lengths = dict(zip(uids, await read_lengths(self._at.log, uids), strict=True))
            starts = {
                uid: self._known.get(uid, max(1, length - _PAST)) for uid, length in lengths.items()
            }
            # A log that has shrunk is another log: all of it is new.
            starts = {uid: at if at <= lengths[uid] else 1 for uid, at in starts.items()}
            grown = [(uid, at) for uid, at in starts.items() if lengths[uid] > at]
            seen |= {uid: length for uid, length in lengths.items() if length}
            for (uid, _), end in zip(grown, await read_ends(self._at.log, grown), strict=True):
                # If the log is gone by now, everything in a log that replaces it is new.
                seen[uid] = max(end.length, 1)
                self.scan.channels.update(r.channel for r in end.records)
                self.scan.namespaces.add(end.object.partition("/")[0])
                if end.problem:
                    write_remark(
                        f"{end.object or uid}: what follows cannot be read ({end.problem})"
                    )
                events += filter(self._wanted, (Event(uid, end.object, r) for r in end.records))
            events = sorted(events, key=lambda event: event.at)[-MOST:]
        # This also forgets logs that have expired.
        self._known = seen
        return await self._named(events)

    def _wanted(self, event: Event) -> bool:
        return (
            event.record.kind in _STATES
            and event.at >= self._since
            and (not self._namespaces or event.object.partition("/")[0] in self._namespaces)
            and on_channel(event.record.channel, self._receivers)
        )

    async def _named(self, events: Iterable[Event]) -> list[Event]:
        """Add subject and severity from the objects, as logs have neither; leave them out if it is slow."""
        if len(self._told) > _TOLD:
            self._told.clear()
        keys = {e.object for e in events if e.object} - self._told.keys()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER):
                await asyncio.gather(*map(self._ask, keys))
        return [
            event._replace(severity=told[1], subject=told[2])
            if (told := self._told.get(event.object, ("", "", "")))[0] == event.uid
            else event
            for event in events
        ]

    async def _ask(self, key: str) -> None:
        with suppress(LedgerError):
            try:
                found = await self._at.objects.get(*namespace_and_name(key))
                self._told[key] = (found.uid, found.severity, found.spec().subject)
            except Gone:
                self._told[key] = ("", "", "")


async def run(options: argparse.Namespace) -> int:
    """Show past attempts, and follow new ones if requested; returns the exit code."""
    async with access(options) as at:
        await trusted_store(at, new=True)
        tail = Tail(at, options, moment_of(options.since, "--since", await at.now()))
        table, loop = Table(COLUMNS, json=options.json), asyncio.get_running_loop()
        table.write(await tail.sweep())
        await check_names(at, options, tail.scan)
        while options.follow:
            began = loop.time()
            table.write(await tail.sweep())
            await asyncio.sleep(max(_PERIOD, _RESTS * (loop.time() - began)))
    return OK
