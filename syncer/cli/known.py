"""Finds and reads one notification: by its name, by a part of the name, or by its event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from syncer.cli.access import Access
from syncer.cli.exits import SILENT, Absent, reason_of
from syncer.cli.explanation import Explanation, Rules, explain
from syncer.cli.installation import (
    Store,
    check_store,
    controller_namespace,
    home_from_environment,
    read_holds,
)
from syncer.cli.output import write_remark
from syncer.cli.owner import Owner, find_owner, log_by_status, store_without_redis
from syncer.cli.scan import bounds_of, read_logs, walk
from syncer.cli.times import now_here
from syncer.ledger.log import RedisLog
from syncer.ledger.reading import Line, lines_of, read_log
from syncer.model.errors import (
    ConfigError,
    ContractError,
    Gone,
    LedgerError,
    PortError,
    Unavailable,
)
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.divergence import Finding
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.text import plain
from syncer.settings import LABEL

#: Seconds to read an object.
_ANSWER: Final = 5.0
#: Notifications that are listed if a search finds several.
_NAMED: Final = 10


def is_key(key: str) -> bool:
    """Whether a search text has the form `namespace/…`; subjects and events have other forms."""
    namespace, slash, name = key.partition("/")
    return bool(slash and "/" not in name and LABEL.fullmatch(namespace))


def namespace_and_name(key: str, hint: str = "") -> tuple[str, str]:
    """
    Split the key of an object; `hint` says how to find one.

    Raises:
        ConfigError: the key is not `namespace/name`. The API server would take anything after a second
            slash for a subresource.
    """
    namespace, _, name = key.partition("/")
    if not (namespace and name) or "/" in name:
        raise ConfigError(f"NAMESPACE/NAME expected, not {plain(key)!r}{hint}")
    return namespace, name


async def find_key(at: Access, key: str, namespaces: Sequence[str]) -> str:
    """
    Return `namespace/name` of the only object whose name contains a text.

    If no name contains it, subjects and events are searched, ignoring case.

    Args:
        at: Open connections.
        key: A part of the name, or `namespace/` and a part of the name. Subjects may contain slashes, too.
        namespaces: Namespaces to search; empty for all.

    Raises:
        Absent: no object matches, or several do; the newest of those are listed.
        PortError: the API server does not answer, or refuses.
    """
    namespace, _, part = key.partition("/") if is_key(key) else ("", "", key)
    named, told = list[NotificationRequest](), list[NotificationRequest]()
    async for one in walk(at, (namespace,) if namespace else namespaces):
        if part and isinstance(one, NotificationRequest):
            if part in one.name:
                named.append(one)
            elif part.lower() in f"{one.spec().subject}\n{one.event}".lower():
                told.append(one)
    where = "name" if named else "subject or event"
    found = sorted(named or told, key=lambda one: -one.created)
    if len(found) == 1:
        write_remark(f"the only one with {part!r} in its {where}: {found[0].key}")
        return found[0].key
    if not found:
        raise Absent(
            f"there is no object {key}, and no subject or event with {part!r}; if it was deleted, give"
            " NAMESPACE/NAME or its uid while its log is kept"
        )
    listed = "".join(
        f"\n  {o.key}  {format_time(o.created, millis=False)}  {plain(o.spec().subject)}"
        for o in found[:_NAMED]
    )
    raise Absent(f"{len(found)} notifications have {part!r} in their {where}; the newest:{listed}")


async def find_event(at: Access, event: str, namespaces: Sequence[str]) -> str:
    """
    Return `namespace/name` of the newest notification whose event contains a text.

    Args:
        at: Open connections.
        event: The text, in the words of the event's sender.
        namespaces: Namespaces to search; empty for all.

    Raises:
        Absent: no notification matches.
        PortError: the API server does not answer, or refuses.
    """
    found = [
        one
        async for one in walk(at, namespaces)
        if isinstance(one, NotificationRequest) and event in one.event
    ]
    if not found:
        among = f" in {', '.join(namespaces)}" if namespaces else ""
        raise Absent(f"there is no notification of the event {plain(event)!r}{among}")
    if len(found) > 1:
        write_remark(f"the newest of {len(found)} of this event; `list --event` shows all")
    return max(found, key=lambda one: one.created).key


async def read_request(at: Access, key: str) -> NotificationRequest:
    """
    Read an object.

    Raises:
        ConfigError: the key is not `namespace/name`, or the API server is not available.
        Absent: there is no such object.
        PortError: the API server does not answer, or refuses.
    """
    namespace, name = namespace_and_name(key, "; find it with `syncer explain PART`")
    try:
        async with asyncio.timeout(_ANSWER):
            return await at.objects.get(namespace, name)
    except Gone:
        raise Absent(f"there is no object {key}") from None
    except TimeoutError:
        raise Unavailable(f"the API server has not answered within {_ANSWER:.0f} s") from None


T = TypeVar("T")

REDIS: Final = "Redis"
API: Final = "the API server"
#: Seconds until a server that has not answered is asked again.
_REST: Final = 5.0


class Missing(LedgerError):
    """Something could not be read; the text is a sentence that says what, and why."""


class Asker:
    """
    Asks servers within a time limit; a server that has not answered is not asked again for a while.

    A `strict` one raises `Missing` only for missing answers: a refusal by a server, and a store that is not
    ours, stay errors.
    """

    def __init__(self, seconds: float, *, strict: bool = False) -> None:
        """Begin with every server considered reachable; each has `seconds` to answer."""
        self._seconds = seconds
        self._strict = strict
        self._silent: dict[str, tuple[float, str]] = {}

    async def ask(self, server: str, call: Callable[[], Awaitable[T]], *, walks: bool = False) -> T:
        """
        Ask a server. A call that `walks` reads a lot, so its timeout does not count against the server.

        Raises:
            Missing: the server does not answer; unless strict, also if it refuses or is the wrong one.
            Gone: the requested object does not exist.
            ContractError: the answer cannot be read.
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
            # Commands show the text where it is clear which server is meant.
            text = reason if self._strict else f"{server} could not be reached ({reason})"
            if not (walks and isinstance(error, TimeoutError)):
                self._silent[server] = (time.monotonic() + _REST, text)
            raise Missing(text) from error
        self._silent.pop(server, None)
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """
    Everything that is known about one notification.

    Attributes:
        key: `namespace/name`.
        uid: Empty if it is not known.
        request: The object, None if it is gone or could not be read; `object_problem` says why.
        log: Its log, None if it could not be read; `unread` says why.
        lines: Every record, readable or not.
        ttl: Seconds until the log expires; -1 never, -2 no log.
        store: The store, as far as it could be checked.
        explanation: The explanation, from the status alone if the log could not be read; None without the
            object.
        findings: Disagreements of log and object, as `verify` reports them.
        now: Unix milliseconds.
        refused: The refusal or configuration error that kept the object from being read, else None.
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
        """Sentences about what could not be read."""
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
        """Where log and status disagree; empty if they agree, or were not compared."""
        return tuple(f"{f.kind}: {f.text}" for f in self.findings) if self.compared else ()


async def find_uid(log: RedisLog, key: str) -> str:
    """Return the uid of the newest log whose header has this name, empty if there is none."""
    found: list[tuple[int, str]] = []
    async for uids in log.scan():
        for uid, head in zip(uids, await log.read_headers(uids), strict=True):
            if head.header is not None and head.header.object == key:
                # A log without an expiry belongs to an object that still exists.
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
        asker: Calls the servers.
        uid: Uid of the object, empty if that is not known.
        home: Namespace of the controller, empty if that is not known.

    Raises:
        ConfigError: the key is not `namespace/name`; or see the asker.
        PortError: see the asker.
    """
    namespace, name = namespace_and_name(key)
    home, unread, problem, gone = home or home_from_environment(), "", "", False
    request, joined, now = None, None, now_here()
    refused: LedgerError | None = None
    try:
        store = await asker.ask(REDIS, lambda: check_store(at, home=home))
    except Missing as error:
        home, unread = home or controller_namespace(), str(error)
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
    findings: tuple[Finding, ...] = ()
    if joined is not None and (request is not None or gone):
        findings = joined.check(replace(bounds_of(at), now=now))
    return Known(
        key, uid, request, problem, log, unread,
        tuple(lines_of(log, joined.elements)) if log is not None and joined is not None else (),
        joined.ttl if joined is not None else -2, store, explanation,
        findings, gone, now, refused,
    )  # fmt: skip


async def _around(
    at: Access, request: NotificationRequest, asker: Asker, store: Store, home: str
) -> tuple[Owner, Rules]:
    """Return who works on a notification, and the settings and holds that apply."""
    rules = Rules(at.settings.delivery, at.configured)
    namespace, uid = request.namespace, request.uid
    try:
        holds, problem = await asker.ask(API, lambda: read_holds(at))
        rules = replace(rules, holds=holds, holds_problem=problem)
        return await asker.ask(
            API, lambda: find_owner(at, store, namespace=namespace, uid=uid, home=home)
        ), rules
    except Missing as error:
        return Owner(unread=(f"who works on it is not known: {error}",)), rules
