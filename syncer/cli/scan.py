"""
Every log against every object, in pages: what `verify`, `repair` and `list` walk through.

Objects are listed in pages and their logs are read page by page; then the logs are scanned for those
without an object. What is held at any time is one page, and for each notification eight bytes of its uid,
by which the scan tells a log whose object was seen. (Two uids that agree in these eight bytes would hide
an orphan from one run; among a million that is one chance in forty million.)

A pair that looks wrong is read again at the end, log first, object after it, because the two are read one
after the other while a controller works on them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from syncer.cli.access import Access
from syncer.cli.check import Bounds, Finding, Pair, judge
from syncer.cli.output import Progress
from syncer.kube.notification_requests import Page, Unreadable
from syncer.ledger.codec import decode_header
from syncer.ledger.log import WRONG_TYPE
from syncer.model.attempt import Epoch, make_epoch
from syncer.model.errors import ContractError, Expired, Gone, Rejected
from syncer.model.resource import NotificationRequest

#: Objects in a page; their logs are in memory at the same time.
PAGE: Final = 500
#: Pairs that look wrong are judged once more; beyond so many something is wrong with all of them.
_SUSPECTS: Final = 20_000
#: Times that a list begins anew because the API server has forgotten its place.
_RESTARTS: Final = 5
_TOGETHER: Final = 16


@dataclass(slots=True)
class Scan:
    """
    One walk.

    Attributes:
        objects: Objects seen.
        logs: Logs seen.
        records: Records read.
        latest: Latest epoch that the cluster can have given out, None before the first page.
    """

    objects: int = 0
    logs: int = 0
    records: int = 0
    latest: Epoch | None = None
    _seen: set[int] = field(default_factory=set, repr=False)

    def see(self, uid: str) -> bool:
        """Note a uid; False if it was noted before."""
        before = len(self._seen)
        self._seen.add(_short(uid))
        return len(self._seen) > before

    def saw(self, uid: str) -> bool:
        """Whether a uid was noted."""
        return _short(uid) in self._seen

    def note_version(self, at: Access, version: str) -> None:
        """Take up the resourceVersion of a list."""
        if version.isdigit():
            self.latest = make_epoch(at.settings.sharding.incarnation, version)


async def pairs(
    at: Access, scan: Scan, namespaces: Sequence[str], progress: Progress
) -> AsyncGenerator[list[Pair], None]:
    """
    Walk through all objects with their logs, page by page; then through logs without an object.

    Args:
        at: Where.
        scan: Is kept up to date.
        namespaces: Only these; empty for all.
        progress: Told each object and each log without one.

    Raises:
        PortError: one of the servers does not answer, or refuses.
    """
    async with aclosing(objects(at, scan, namespaces)) as pages:
        async for page in pages:
            found = await read_logs(at, [(o.uid, o) for o in page])
            scan.logs += sum(bool(p.elements) for p in found)
            scan.records += sum(max(0, len(p.elements) - 1) for p in found)
            progress.step(len(page))
            yield found
    async for uids in at.log.scan(page=PAGE):
        strangers = [u for u in dict.fromkeys(uids) if not scan.saw(u)]
        if not strangers:
            continue
        found = await read_logs(at, [(u, None) for u in strangers])
        # What tells no namespace may be anybody's.
        wanted = [
            p for p in found
            if not namespaces or not p.key or p.key.partition("/")[0] in namespaces
        ]  # fmt: skip
        scan.logs += len(wanted)
        progress.step(len(wanted))
        yield wanted


async def objects(
    at: Access, scan: Scan, namespaces: Sequence[str]
) -> AsyncGenerator[list[NotificationRequest | Problem], None]:
    """List objects page by page, each once."""
    for namespace in namespaces or (None,):
        async with aclosing(_listed(at, namespace)) as pages:
            async for page in pages:
                scan.note_version(at, page.resource_version)
                fresh: list[NotificationRequest | Problem] = []
                for item in page.objects:
                    found: NotificationRequest | Problem
                    if isinstance(item, Unreadable):
                        meta = item.meta
                        key = f"{meta.namespace}/{meta.name}"
                        found = Problem(
                            meta.uid, key, f"the object does not parse ({item.problem})"
                        )
                    else:
                        found = item
                    if scan.see(found.uid):
                        fresh.append(found)
                scan.objects += len(fresh)
                if fresh:
                    yield fresh


async def _listed(at: Access, namespace: str | None) -> AsyncGenerator[Page, None]:
    """Pages of one list. The next one is asked for before this one is looked at: both take time."""
    restarts, last = 0, False
    coming = asyncio.create_task(at.objects.list_page(namespace, limit=PAGE))
    try:
        while not last:
            try:
                page = await coming
            except Expired:
                restarts += 1
                if restarts > _RESTARTS:
                    raise
                coming = asyncio.create_task(at.objects.list_page(namespace, limit=PAGE))
                continue
            last = not page.continue_token
            if not last:
                coming = asyncio.create_task(
                    at.objects.list_page(namespace, limit=PAGE, continue_token=page.continue_token)
                )
            yield page
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Problem:
    """An object that exists and cannot be judged."""

    uid: str
    key: str
    text: str


async def read_logs(
    at: Access, wanted: Sequence[tuple[str, NotificationRequest | Problem | None]]
) -> list[Pair]:
    """Read the logs of notifications and put each beside its object."""
    uids = [uid for uid, _ in wanted]
    try:
        logs: list[tuple[list[bytes], int] | None] = list(await at.log.whole(uids))
    except Rejected as error:
        if error.reason != WRONG_TYPE:
            raise
        # A key of another type among them; asked one by one, it is the only one that refuses.
        logs = [await _whole(at, uid) for uid in uids]
    out = []
    for (uid, known), log in zip(wanted, logs, strict=True):
        elements, ttl = log or ([], -1)
        request = known if isinstance(known, NotificationRequest) else None
        problem = known.text if isinstance(known, Problem) else ""
        key = known.key if known is not None else _named(elements)
        out.append(
            Pair(uid, key, request, tuple(elements), ttl, problem, wrong_type=log is None)
        )  # fmt: skip
    return out


async def _whole(at: Access, uid: str) -> tuple[list[bytes], int] | None:
    try:
        return (await at.log.whole([uid]))[0]
    except Rejected as error:
        if error.reason != WRONG_TYPE:
            raise
        return None


def _named(elements: Sequence[bytes]) -> str:
    try:
        return decode_header(elements[0]).object if elements else ""
    except ContractError:
        return ""


async def again(at: Access, pair: Pair) -> Pair:
    """
    Read one pair anew: the log, then the object, then the log once more.

    Only if the log stood still meanwhile is it what the object has to be held against; one that moves
    is in the hands of its owner, and nothing is said of it.
    """
    (first,) = await read_logs(at, [(pair.uid, None)])
    namespace, _, name = pair.key.partition("/")
    request: NotificationRequest | Problem | None = None
    if name:
        try:
            found = await at.objects.get(namespace, name)
            request = found if found.uid == pair.uid else None
        except Gone:
            request = None
        except ContractError as error:
            request = Problem(pair.uid, pair.key, str(error))
    (second,) = await read_logs(at, [(pair.uid, request)])
    if first.elements[1:] != second.elements[1:]:
        return Pair(second.uid, second.key or pair.key, request=None, ttl=0)
    key = second.key or pair.key
    return Pair(
        second.uid, key, second.request, second.elements, second.ttl, second.problem,
        second.wrong_type,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one notification."""

    pair: Pair
    findings: tuple[Finding, ...]


async def diverging(
    at: Access,
    scan: Scan,
    bounds: Bounds,
    namespaces: Sequence[str],
    progress: Progress,
    *,
    pause: float,
) -> AsyncIterator[Verdict]:
    """
    Walk through everything, and yield what is still wrong at a second look.

    Args:
        at: Where.
        scan: Is kept up to date.
        bounds: For judging; its time and latest epoch are taken anew here.
        namespaces: Only these; empty for all.
        progress: Told each notification.
        pause: Seconds between the end of the walk and the second look.
    """
    suspects: list[tuple[str, str]] = []
    async with aclosing(pairs(at, scan, namespaces, progress)) as pages:
        async for page in pages:
            here = await _current(at, bounds, scan)
            for pair in page:
                findings = judge(pair, here)
                if findings and len(suspects) < _SUSPECTS:
                    suspects.append((pair.uid, pair.key))
                elif findings:
                    yield Verdict(pair, findings)
    if not suspects:
        return
    await asyncio.sleep(pause)
    async for verdict in look_again(at, scan, bounds, suspects):
        yield verdict


async def look_again(
    at: Access, scan: Scan, bounds: Bounds, suspects: Iterable[tuple[str, str]]
) -> AsyncIterator[Verdict]:
    """Read notifications (uid, key) anew and yield those with findings."""
    waiting = list(suspects)
    near = next((key.partition("/")[0] for _, key in waiting if key), "")
    if near:
        # An epoch given out since the list was read is no later than this.
        page = await at.objects.list_page(near, limit=1)
        scan.note_version(at, page.resource_version)
    for start in range(0, len(waiting), _TOGETHER):
        batch = waiting[start : start + _TOGETHER]
        fresh = await asyncio.gather(*(again(at, Pair(uid, key, None)) for uid, key in batch))
        here = await _current(at, bounds, scan)
        for pair in fresh:
            findings = judge(pair, here)
            if findings:
                yield Verdict(pair, findings)


async def _current(at: Access, bounds: Bounds, scan: Scan) -> Bounds:
    return Bounds(
        await at.now(), bounds.settle, bounds.stuck, bounds.at_most_once, scan.latest,
        bounds.status_bytes,
    )  # fmt: skip


def bounds_of(at: Access, *, settle: float, stuck: float) -> Bounds:
    """The bounds that the settings and the command line say, in seconds; the time is not set."""
    return Bounds(
        now=0,
        settle=round(settle * 1000),
        stuck=round(stuck * 1000),
        at_most_once=at.settings.delivery.at_most_once,
        status_bytes=at.settings.sync.max_status_bytes,
    )


def _short(uid: str) -> int:
    return int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=8).digest(), "big")
