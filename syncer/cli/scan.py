"""
The scan: logs joined with objects, page by page, for `verify` and `list`.

Objects are listed in pages, and their logs are read page by page; then the logs are scanned for those
without an object. Memory holds one page, and the uid of each notification, by which the scan knows whether
the object of a log was seen.

Whatever looks wrong is read again at the end, first the log and then the object, because a controller may
have worked on them between the first two reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from syncer.cli.access import Access
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import StoredLog
from syncer.ledger.reading import read_log
from syncer.ledger.replies import read_apart
from syncer.model.attempt import Epoch, make_epoch
from syncer.model.errors import ContractError, Expired, Gone
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Finding
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.verification import Bounds, Sides, check

#: Objects in a page; their logs are in memory at the same time.
PAGE: Final = 500
#: Milliseconds for which an unpublished record is not reported; milliseconds after which an open attempt
#: counts as abandoned; seconds before a divergence is read again to confirm it.
SETTLE = 10_000
STUCK = 120_000
PAUSE = 2.0
#: Times that a list is started again because its continue token has expired.
_RESTARTS: Final = 5
_TOGETHER: Final = 16


@dataclass(slots=True)
class Scan:
    """
    The objects and logs that one scan has seen.

    Attributes:
        channels: Channels that notifications name or were tried on; `namespaces` are those of the
            notifications.
        latest: Latest epoch that the cluster can have issued, None before the first page.
    """

    objects: int = 0
    logs: int = 0
    records: int = 0
    latest: Epoch | None = None
    seen: set[str] = field(default_factory=set, repr=False)
    channels: set[str] = field(default_factory=set, repr=False)
    namespaces: set[str] = field(default_factory=set, repr=False)

    def note_version(self, at: Access, version: str) -> None:
        """Note the resourceVersion of a list."""
        if version.isdigit():
            self.latest = make_epoch(at.settings.sharding.incarnation, version)


#: The identity of a notification: its uid, and `namespace/name`, empty if that is not known.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """
    A log joined with its object.

    Attributes:
        key: `namespace/name` from the object or from the log's header, empty if neither names it.
        request: The object, None if there is none of this uid.
        elements: The log as stored, empty if there is none.
        ttl: Seconds until the log expires; -1 never, -2 no log.
        problem: Why the object cannot be checked although it exists, empty if it can.
        wrong_type: The key of the log holds something that is not a list.
    """

    uid: str
    key: str
    request: NotificationRequest | None
    elements: tuple[bytes, ...] = ()
    ttl: int = -2
    problem: str = ""
    wrong_type: bool = False

    @property
    def name(self) -> Name:
        """The identity of the notification."""
        return self.uid, self.key

    def check(self, bounds: Bounds) -> tuple[Finding, ...]:
        """Name every divergence, the worst first; empty if all is well."""
        stranger = ReadLog(None, (), LogView(), "the key of the log is not a list")
        log = stranger if self.wrong_type else read_log(self.elements)
        return check(Sides(log, self.request, self.ttl, self.problem), bounds)


async def join(
    at: Access, scan: Scan, namespaces: Sequence[str]
) -> AsyncGenerator[list[Joined], None]:
    """
    Read all objects with their logs, page by page; then the logs without an object.

    Args:
        at: Open connections.
        scan: Updated as pages are read.
        namespaces: Only these; empty for all.

    Raises:
        PortError: one of the servers does not answer, or refuses.
    """
    async for page in objects(at, scan, namespaces):
        found = await read_logs(at, [(o.uid, o) for o in page])
        scan.logs += sum(bool(p.elements) for p in found)
        scan.records += sum(max(0, len(p.elements) - 1) for p in found)
        yield found
    async for uids in at.log.scan():
        strangers = [u for u in dict.fromkeys(uids) if u not in scan.seen]
        if not strangers:
            continue
        found = await read_logs(at, [(u, None) for u in strangers])
        # A log that names no object may belong to any namespace.
        wanted = [
            p for p in found
            if not namespaces or not p.key or p.key.partition("/")[0] in namespaces
        ]  # fmt: skip
        scan.logs += len(wanted)
        yield wanted


async def objects(
    at: Access, scan: Scan, namespaces: Sequence[str]
) -> AsyncGenerator[list[NotificationRequest | Unreadable], None]:
    """
    List objects page by page, each once.

    Args:
        at: Open connections.
        scan: Updated as pages are read.
        namespaces: Only these; empty for all.

    Raises:
        PortError: the API server does not answer, or refuses.
    """
    for namespace in namespaces or (None,):
        token, restarts = "", 0
        while True:
            try:
                page = await at.objects.list_page(namespace, limit=PAGE, continue_token=token)
            except Expired:
                restarts += 1
                if restarts > _RESTARTS:
                    raise
                token = ""
                continue
            scan.note_version(at, page.resource_version)
            fresh = {o.uid: o for o in page.objects if o.uid not in scan.seen}
            scan.seen.update(fresh)
            scan.objects += len(fresh)
            scan.namespaces.update(one.namespace for one in fresh.values())
            known = [one.status for one in fresh.values() if isinstance(one, NotificationRequest)]
            scan.channels.update(c.name for status in known for c in status.channels)
            scan.channels.update(a.channel for status in known for a in status.attempts)
            if fresh:
                yield list(fresh.values())
            token = page.continue_token
            if not token:
                break


async def walk(
    at: Access, namespaces: Sequence[str], scan: Scan | None = None
) -> AsyncGenerator[NotificationRequest | Unreadable, None]:
    """Yield every object once; arguments and errors as for `objects`."""
    async for page in objects(at, scan or Scan(), namespaces):
        for one in page:
            yield one


def problem_of(found: Unreadable) -> str:
    """Return in words what is wrong with an object that cannot be read."""
    return f"the object cannot be parsed ({found.problem})"


async def read_logs(
    at: Access, wanted: Sequence[tuple[str, NotificationRequest | Unreadable | None]]
) -> list[Joined]:
    """Read the logs of notifications and join each with its object."""
    uids = [uid for uid, _ in wanted]
    logs = await read_apart(at.log.read_logs, uids, None)
    out = []
    for (uid, known), log in zip(wanted, logs, strict=True):
        elements, ttl = log or StoredLog([], -1)
        request = known if isinstance(known, NotificationRequest) else None
        problem = problem_of(known) if isinstance(known, Unreadable) else ""
        header = read_log(elements[:1]).header
        key = known.key if known is not None else header.object if header is not None else ""
        out.append(
            Joined(uid, key, request, tuple(elements), ttl, problem, wrong_type=log is None)
        )  # fmt: skip
    return out


async def read_again(at: Access, name: Name) -> Joined:
    """
    Read one notification again: the log, then the object, then the log once more.

    The object has to agree with the log only if the log has not changed in between. A log that changes is
    being worked on by its owner; the result then has no findings.
    """
    uid, key = name
    (first,) = await read_logs(at, [(uid, None)])
    namespace, _, short = key.partition("/")
    request, problem = None, ""
    if short:
        try:
            with suppress(Gone):
                found = await at.objects.get(namespace, short)
                request = found if found.uid == uid else None
        except ContractError as error:
            problem = str(error)
    (second,) = await read_logs(at, [(uid, request)])
    known = key if problem else second.key or key
    if first.elements[1:] != second.elements[1:]:
        return Joined(uid, known, request=None, ttl=0)
    return replace(second, key=known, problem=problem)


class Result(NamedTuple):
    """The result of checking one notification: its findings."""

    joined: Joined
    findings: tuple[Finding, ...]


async def diverging(
    at: Access,
    scan: Scan,
    bounds: Bounds,
    namespaces: Sequence[str],
) -> AsyncIterator[Result]:
    """
    Check everything, and yield the notifications that are still wrong when they are checked again.

    Args:
        at: Open connections.
        scan: Updated as pages are read.
        bounds: Bounds of the check; its time and latest epoch are replaced here.
        namespaces: Only these; empty for all.
    """
    suspects: list[Name] = []
    async for page in join(at, scan, namespaces):
        here = replace(bounds, now=await at.now(), latest=scan.latest)
        suspects += [joined.name for joined in page if joined.check(here)]
    if suspects:
        await asyncio.sleep(PAUSE)
        async for result in check_again(at, scan, bounds, suspects):
            yield result


async def check_again(
    at: Access, scan: Scan, bounds: Bounds, suspects: Iterable[Name]
) -> AsyncIterator[Result]:
    """
    Read notifications again and yield those with findings.

    Args:
        at: Open connections.
        scan: Its latest epoch is kept up to date.
        bounds: Bounds of the check; its time and latest epoch are replaced here.
        suspects: The notifications to read.
    """
    waiting = list(suspects)
    near = next((key.partition("/")[0] for _, key in waiting if key), "")
    if near:
        # An epoch issued since the list was read is no later than the version of this page.
        page = await at.objects.list_page(near, limit=1)
        scan.note_version(at, page.resource_version)
    for start in range(0, len(waiting), _TOGETHER):
        batch = waiting[start : start + _TOGETHER]
        fresh = await asyncio.gather(*(read_again(at, name) for name in batch))
        here = replace(bounds, now=await at.now(), latest=scan.latest)
        for joined in fresh:
            if findings := joined.check(here):
                yield Result(joined, findings)


def bounds_of(at: Access) -> Bounds:
    """Return the bounds of a check according to the settings; the time is not set."""
    return Bounds(
        now=0, settle=SETTLE, stuck=STUCK, at_most_once=at.settings.delivery.at_most_once,
        status_bytes=at.settings.sync.max_status_bytes,
    )  # fmt: skip
