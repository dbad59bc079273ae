"""
Everything that is known of one notification: object, log, owner, holds; for `explain` and the explorer.

Reads only: nothing is claimed and nothing is written. The object names the uid; if it is gone or cannot be
read, the log is found by the name in its header. What could not be read is a sentence, never an answer: a
log alone does not show whether the object agrees, and a status alone not what came before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from syncer.cli.access import Access
from syncer.cli.explanation import Explanation, Rules, explain
from syncer.cli.holding import read_holds
from syncer.cli.lookup import namespace_and_name
from syncer.cli.namespaces import controller_namespace
from syncer.cli.outage import SILENT, log_by_status, now_here, reason_of, store_without_redis
from syncer.cli.owner import Owner, find_owner
from syncer.cli.scan import Joined, read_logs
from syncer.cli.store import Store, check_store, home_from_environment
from syncer.ledger.log import RedisLog
from syncer.ledger.reading import Line, lines_of, read_log
from syncer.model.errors import ConfigError, ContractError, Gone, LedgerError, PortError
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Finding
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.merge import exceeds, lacking
from syncer.rules.verification import Bounds

T = TypeVar("T")

REDIS: Final = "Redis"
API: Final = "the API server"
#: Seconds until a server that was silent is asked again.
_REST: Final = 5.0


class Missing(LedgerError):
    """A sentence that says what could not be read, and why."""


class Asker:
    """
    Asks servers, each within some seconds; one that was silent is not asked again for a while.

    A `strict` one hides silence alone: what a server refuses, and a store that is not ours, stay errors.
    """

    def __init__(self, seconds: float, *, strict: bool = False) -> None:
        """Nobody was silent yet."""
        self._seconds = seconds
        self._strict = strict
        self._silent: dict[str, tuple[float, str]] = {}

    async def ask(self, server: str, call: Callable[[], Awaitable[T]], *, walks: bool = False) -> T:
        """
        Ask a server. Where a call `walks`, it asks for much: that it takes long says nothing of the server.

        Raises:
            Missing: it does not answer; or refuses, or is not the one that it should be.
            Gone: what was asked for is not there.
            ContractError: what came back cannot be read.
        """
        until, text = self._silent.get(server, (0.0, ""))
        if time.monotonic() < until:
            raise Missing(text)
        try:
            async with asyncio.timeout(None if walks and self._strict else self._seconds):
                found = await call()
        except Gone:
            raise
        except (PortError, TimeoutError, ConfigError) as error:
            if self._strict and not isinstance(error, SILENT):
                raise
            if isinstance(error, ConfigError):
                raise Missing(str(error)) from None
            reason = (str(error) and reason_of(error)) or f"no answer within {self._seconds:g} s"
            # A command says it where it is clear which server is meant.
            text = reason if self._strict else f"{server} could not be reached ({reason})"
            if not (walks and isinstance(error, TimeoutError)):
                self._silent[server] = (time.monotonic() + _REST, text)
            raise Missing(text) from error
        self._silent.pop(server, None)
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """
    Everything that is known of one notification.

    Attributes:
        key: `namespace/name`.
        uid: Empty if it is not known.
        request: The object, None if it is gone or could not be read; `object_problem` says why.
        log: Its log, None if it could not be read; `unread` says why.
        lines: Every record, readable or not.
        ttl: Seconds until the log expires; -1 never, -2 no log.
        store: The store, as far as it could be checked.
        explanation: By the status alone where the log could not be read; None without the object.
        findings: Where log and object disagree, as `verify` says it.
        now: Unix milliseconds.
        refused: Why the object could not be read, if that is no silence.
    """

    key: str
    uid: str
    request: NotificationRequest | None
    object_problem: str
    log: ReadLog | None
    unread: str
    lines: tuple[Line, ...]
    ttl: int
    store: Store
    explanation: Explanation | None
    findings: tuple[Finding, ...]
    gone: bool
    now: int
    refused: LedgerError | None = None

    @property
    def missing(self) -> list[str]:
        """What could not be read; sentences."""
        unread = f"the object could not be read: {self.object_problem}"
        return [
            *([unread] if self.object_problem and not self.gone else []),
            *([f"the log could not be read: {self.unread}"] if self.unread else []),
            *(self.explanation.owner.unread if self.explanation is not None else ()),
        ]

    @property
    def view(self) -> LogView:
        """Fold of the log's readable prefix."""
        return self.log.view if self.log is not None else LogView()

    @property
    def compared(self) -> bool:
        """Whether log and status were both read."""
        return self.request is not None and not self.unread

    @property
    def journaled(self) -> str:
        """Name of the outage in which attempts were journaled in the status, empty without one."""
        return (self.request.status.journal or "") if self.request is not None else ""

    @property
    def differences(self) -> tuple[str, ...]:
        """Where log and status disagree; empty if they agree."""
        out = [f"record {line.position}: {line.error}" for line in self.lines if line.error]
        if self.request is None or self.unread:
            return tuple(out)
        status, header = self.request.status, self.log.header if self.log is not None else None
        if header is None and status.attempts and not status.terminal:
            out.append("the object shows attempts but has no log")
        if header is not None:
            journaled = ": it is journaled" if self.journaled else ""
            out += [
                f"attempt {a.id} is in the status and not in the log{journaled}"
                for a in lacking(self.view, status)
            ]
            if exceeds(self.view, status):
                out.append("the log holds results that the status does not show yet")
        return (
            *out,
            *(
                f"attempt {a.id} on {a.channel} is open"
                for a in self.view.attempts.values()
                if a.open
            ),
        )


async def find_uid(log: RedisLog, key: str) -> str:
    """Return the uid of the newest log whose header has this name, empty if there is none."""
    found: list[tuple[int, str]] = []
    async for uids in log.scan():
        for uid, head in zip(uids, await log.read_headers(uids), strict=True):
            if head.header is not None and head.header.object == key:
                # A log without an expiry belongs to an object that lives.
                found.append((head.ttl if head.ttl >= 0 else 1 << 40, uid))
    return max(found)[1] if found else ""


async def know(
    at: Access, key: str, asker: Asker, *, uid: str = "", home: str = ""
) -> Known | None:
    """
    Read one notification; None if neither an object nor a log has the name.

    Args:
        at: Open connections.
        key: `namespace/name`.
        asker: Asks the servers.
        uid: Of the object, empty if that is not known.
        home: Namespace of the controller, empty if that is not known.

    Raises:
        ConfigError: the key is not `namespace/name`; or as of the asker.
        PortError: as of the asker.
    """
    namespace, name = namespace_and_name(key)
    home, unread, problem, gone = home or home_from_environment(), "", "", False
    request, joined, now = None, None, now_here()
    refused: LedgerError | None = None
    try:
        store = await asker.ask(REDIS, lambda: check_store(at, home=home))
    except Missing as error:
        home, unread = home or await controller_namespace(), str(error)
        store = await store_without_redis(at, home=home, reason=unread)
    try:
        request = await asker.ask(API, lambda: at.objects.get(namespace, name))
        uid = request.uid
    except Gone:
        problem, gone = "there is no such object", True
    except ContractError as error:
        problem = f"it does not parse ({error})"
    except Missing as error:
        problem = str(error)
    except (ConfigError, PortError) as error:
        problem, refused = reason_of(error), error
    if not unread:
        try:
            now = await asker.ask(REDIS, at.now)
            uid = uid or await asker.ask(REDIS, lambda: find_uid(at.log, key), walks=True)
            if uid:
                (joined,) = await asker.ask(REDIS, lambda: read_logs(at, [(uid, request)]))
        except (Missing, ContractError) as error:
            unread = str(error)
    if gone and not (uid or unread):
        return None
    log = read_log(joined.elements) if joined is not None else None
    explanation = None
    if request is not None:
        owner, rules = await _around(at, request, asker, store, home)
        shown = log if log is not None else log_by_status(request)
        explanation = explain(request, shown, rules, now=now, owner=owner, unread=unread)
    return Known(
        key, uid, request, problem, log, unread,
        tuple(lines_of(log, joined.elements)) if log is not None and joined is not None else (),
        joined.ttl if joined is not None else -2, store, explanation,
        _findings(at, joined, now) if request is not None or gone else (), gone, now, refused,
    )  # fmt: skip


async def _around(
    at: Access, request: NotificationRequest, asker: Asker, store: Store, home: str
) -> tuple[Owner, Rules]:
    """Return who works on a notification, and what is configured and held."""
    rules = Rules.of(at)
    namespace, uid = request.namespace, request.uid
    try:
        rules = Rules.of(at, *await asker.ask(API, lambda: read_holds(at)))
        return await asker.ask(
            API, lambda: find_owner(at, store, namespace=namespace, uid=uid, home=home)
        ), rules
    except Missing as error:
        return Owner(unread=(f"who works on it is not known: {error}",)), rules


def _findings(at: Access, joined: Joined | None, now: int) -> tuple[Finding, ...]:
    if joined is None:
        return ()
    delivery, sync = at.settings.delivery, at.settings.sync
    return joined.check(
        Bounds(now, at_most_once=delivery.at_most_once, status_bytes=sync.max_status_bytes)
    )
