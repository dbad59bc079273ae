"""
What a page needs from Redis and the API server, read with a deadline, or the reason why it is missing.

A page is always shown. Each read returns its result or a sentence that says what could not be read. A
server that did not answer is not asked again for a few seconds, so that an outage does not make every
page wait. Expensive results (the doctor's examination, Leases) are read once and shared by all viewers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from syncer.cli.access import Access
from syncer.cli.doctor.examination import examine
from syncer.cli.doctor.leases import LeaseFacts, read_leases
from syncer.cli.doctor.result import Result
from syncer.cli.explanation import Explanation, Rules, explain
from syncer.cli.holding import read_holds
from syncer.cli.inspection import find_uid
from syncer.cli.listing import unpublished
from syncer.cli.outage import log_by_status, now_here, store_without_redis
from syncer.cli.owner import find_owner
from syncer.cli.scan import Joined, read_logs
from syncer.cli.store import check_store
from syncer.cli.web.entries import Entry
from syncer.cli.web.index import Index
from syncer.cli.web.receivers import Receiver, count, to_read
from syncer.ledger.answers import StoredLog
from syncer.ledger.reading import read_log
from syncer.model.errors import ConfigError, ContractError, Gone, LedgerError, PortError
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Finding
from syncer.rules.fold import ReadLog
from syncer.rules.verification import Bounds

T = TypeVar("T")

#: Seconds for a reading of one server, for the doctor, and until a silent server is asked again.
_ANSWER: Final = 3.0
_DOCTOR: Final = 20.0
_REST: Final = 5.0
#: Seconds for which what was read for all serves.
_FRESH: Final = 2.0
_EXAMINED: Final = 30.0
_REDIS: Final = "Redis"
_API: Final = "the API server"


class Missing(LedgerError):
    """A sentence that says what could not be read, and why."""


class Shared(Generic[T]):
    """A value that is read once and shared by all who need it within some seconds."""

    def __init__(self, read: Callable[[], Awaitable[T]], fresh: float) -> None:
        """Read nothing yet; the result of `read` is used for `fresh` seconds."""
        self._read = read
        self._fresh = fresh
        self._task: asyncio.Future[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """Return the value, and read it unless it is fresh; raises what the read raises."""
        now = time.monotonic()
        if self._task is None or (self._task.done() and now >= self._until):
            self._task = asyncio.ensure_future(self._read())
            self._task.add_done_callback(self._stamp)
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """End a reading that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _stamp(self, task: asyncio.Future[T]) -> None:
        self._until = time.monotonic() + self._fresh
        if not task.cancelled():
            task.exception()  # whoever waits gets it; it need not be reported where nobody does any more


class Head(NamedTuple):
    """Of a log: records that are not published, -1 where none is known; and whether it is illegible."""

    unsynced: int
    unreadable: bool


@dataclass(frozen=True, slots=True)
class Heads:
    """By uid what the list shows of logs, and what is missing."""

    known: Mapping[str, Head]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """
    Everything that is known of one notification.

    Attributes:
        key: `namespace/name`.
        uid: Empty if it is not known.
        request: The object, None if it is gone or could not be read.
        log: Its log, None if it could not be read.
        explanation: By the status alone where the log could not be read; None without the object.
        findings: Where log and object disagree.
        missing: What could not be read; sentences.
        now: Unix milliseconds.
    """

    key: str
    uid: str
    request: NotificationRequest | None
    log: ReadLog | None
    explanation: Explanation | None
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    gone: bool
    now: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Receivers by channel, whether there are more, and what is missing."""

    receivers: Mapping[str, Receiver]
    more: bool
    missing: str
    now: int


class Source:
    """Reads the contents of pages."""

    def __init__(self, at: Access, index: Index, *, namespaces: Sequence[str], home: str) -> None:
        """Prepare. No namespaces are all, and an empty `home` (the controller's namespace) is not known."""
        self._at = at
        self._index = index
        self._namespaces = namespaces
        self._home = home
        self._silent: dict[str, tuple[float, str]] = {}
        self.leases = Shared(self._leases, _FRESH)
        self.examination = Shared(self._examine, _EXAMINED)
        self.receivers = Shared(self._receivers, _FRESH)

    async def close(self) -> None:
        """End what is under way."""
        for shared in (self.leases, self.examination, self.receivers):
            await shared.close()

    async def now(self) -> int:
        """Redis time in milliseconds, ours where Redis does not answer."""
        try:
            return await self._ask(_REDIS, self._at.now)
        except Missing:
            return now_here()

    async def heads(self, entries: Sequence[Entry]) -> Heads:
        """Read what the list shows of logs."""
        try:
            heads = await self._ask(
                _REDIS, lambda: self._at.log.read_headers([e.uid for e in entries])
            )
        except Missing as error:
            return Heads({}, f"{error}: whether everything is published is not known")
        pairs = zip(entries, heads, strict=True)
        return Heads({e.uid: Head(*unpublished(head)) for e, head in pairs})

    async def holds(self) -> tuple[tuple[Hold, ...], str]:
        """Read the operators' holds, and why they could not be read."""
        try:
            return await self._ask(_API, lambda: read_holds(self._at))
        except Missing as error:
            return (), str(error)

    async def known(self, namespace: str, name: str) -> Known | None:
        """Read one notification; None if neither an object nor a log has the name."""
        key, entry, missing = f"{namespace}/{name}", self._index.get(namespace, name), []
        request, gone = None, False
        try:
            request = await self._ask(_API, lambda: self._at.objects.get(namespace, name))
        except Gone:
            gone = True
        except (Missing, ContractError) as error:
            missing.append(f"the object could not be read: {error}")
        uid = request.uid if request is not None else entry.uid if entry is not None else ""
        joined: Joined | None = None
        unread = ""
        try:
            if not uid:
                found = await self._ask(_REDIS, lambda: find_uid(self._at.log, key), walks=True)
                uid = found or ""
            if uid:
                (joined,) = await self._ask(_REDIS, lambda: read_logs(self._at, [(uid, request)]))
        except (Missing, ContractError) as error:
            unread = str(error)
            missing.append(f"the log could not be read: {error}")
        if not uid and not missing:
            return None
        now, log = await self.now(), read_log(joined.elements) if joined is not None else None
        explanation = None
        if request is not None and log is not None:
            explanation = await self._explained(request, log, now, missing)
        elif request is not None:
            explanation = await self._by_status(request, now, unread)
        findings: tuple[Finding, ...] = ()
        if joined is not None and (request is not None or gone):
            delivery, sync = self._at.settings.delivery, self._at.settings.sync
            findings = joined.check(
                Bounds(
                    now, at_most_once=delivery.at_most_once, status_bytes=sync.max_status_bytes,
                )
            )  # fmt: skip
        return Known(key, uid, request, log, explanation, findings, tuple(missing), gone, now)

    async def _by_status(
        self, request: NotificationRequest, now: int, unread: str
    ) -> Explanation | None:
        """Explain a notification whose log cannot be read, by its object and the Leases."""
        store = await store_without_redis(self._at, home=self._home, reason=unread)
        owner = await find_owner(
            self._at, store, namespace=request.namespace, uid=request.uid, home=self._home
        )
        log, rules = log_by_status(request), Rules.of(self._at)
        return explain(request, log, rules, now=now, owner=owner, unread=unread)

    async def _explained(
        self, request: NotificationRequest, log: ReadLog, now: int, missing: list[str]
    ) -> Explanation | None:
        rules = Rules.of(self._at, *await self.holds())
        try:
            store = await self._ask(_REDIS, lambda: check_store(self._at, home=self._home))
            owner = await self._ask(
                _API,
                lambda: find_owner(
                    self._at, store, namespace=request.namespace, uid=request.uid, home=self._home
                ),
            )
        except LedgerError as error:
            missing.append(f"who works on it is not known: {error}")
            return explain(request, log, rules, now=now)
        return explain(request, log, rules, now=now, owner=owner)

    async def _receivers(self) -> Overview:
        now = await self.now()
        found, more = await count(self._index.walk(), self._index.recent, now=now)
        uids, missing = to_read(found), ""
        try:
            logs = await self._ask(_REDIS, lambda: self._at.log.read_logs(uids)) if uids else []
        except Missing as error:
            logs, missing = [], f"{error}: whether a breaker is open is not known"
        skips = _skips(uids, logs)
        for receiver in found.values():
            said = [skips.get((entry.uid, receiver.channel), "") for _, entry in receiver.oldest]
            # A hold is about one notification, everything else about what stands behind the channel.
            receiver.skip = next(
                iter(sorted(filter(None, said), key=lambda reason: reason.startswith("held"))), ""
            )
        return Overview(found, more, missing, now)

    async def _leases(self) -> LeaseFacts:
        kube, home = self._at.kube, self._home
        if kube is None:
            return LeaseFacts(problem=self._at.problem)
        if not home:
            return LeaseFacts(problem="the controller's namespace is not known")
        try:
            return await self._ask(_API, lambda: read_leases(self._at, kube, home))
        except Missing as error:
            return LeaseFacts(problem=str(error))

    async def _examine(self) -> list[Result]:
        async with asyncio.timeout(_DOCTOR):
            return await examine(
                self._at, namespaces=self._namespaces, home=self._home, account="", reader=True
            )

    async def _ask(
        self, server: str, call: Callable[[], Awaitable[T]], *, walks: bool = False
    ) -> T:
        """
        Ask a server within a few seconds.

        Where a call `walks`, it asks for much: that it takes longer says nothing of the server.

        Raises:
            Missing: it does not answer, refuses, or is not the one that it should be.
            Gone: what was asked for is not there.
            ContractError: what came back cannot be read.
        """
        until, text = self._silent.get(server, (0.0, ""))
        if time.monotonic() < until:
            raise Missing(text)
        try:
            async with asyncio.timeout(_ANSWER):
                found = await call()
        except Gone:
            raise
        except (PortError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_ANSWER:g} s"
            text = f"{server} could not be reached ({reason})"
            if not (walks and isinstance(error, TimeoutError)):
                self._silent[server] = (time.monotonic() + _REST, text)
            raise Missing(text) from None
        except ConfigError as error:
            raise Missing(str(error)) from None
        self._silent.pop(server, None)
        return found


def _skips(uids: Sequence[str], logs: Sequence[StoredLog]) -> dict[tuple[str, str], str]:
    """Why the last due attempt was not made, by uid and channel."""
    found = {}
    for uid, log in zip(uids, logs, strict=False):
        for channel, why in read_log(log.elements).view.last_skip.items():
            found[uid, channel] = why
    return found
