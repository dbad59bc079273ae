"""
Reading NotificationRequests and writing their status.

A read is a quorum read: no resourceVersion is sent, so the answer is never older than the call. A
status write is a merge patch that carries the resourceVersion it was computed from. That is the
only guard there is: the status subresource ignores a wrong uid, and a patch without a
resourceVersion writes into whatever bears the name now. A conflict is data, so nothing is retried
here; after `Conflict` or `Ambiguous` the caller reads and merges again.

Lists never ask for resourceVersion 0, which any stale cache may answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.model.carried import journaled
from syncer.model.errors import ContractError, Gone, KindMissing, Unavailable
from syncer.model.resource import (
    GROUP,
    PLURAL,
    TERMINAL_PHASES,
    VERSION,
    NotificationRequest,
    Status,
    parse_object,
)
from syncer.model.times import parse_time, time_of

T = TypeVar("T")
#: Tells by its uid whether an object is wanted; the server sends the others as well.
Ours = Callable[[str], bool]

PAGE_SIZE: Final = 500
FIELD_MANAGER: Final = "notification-controller"
#: Single objects that are read at once, each on a connection of its own. TLS takes a third of a MiB for one
#: that the process does not give back, and the claims of a start would read 64.
READS: Final = 32
#: Selects what has not reached a final phase.
UNFINISHED: Final = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL_PHASES))
#: Asks for a list as it is printed: of each object its metadata and a few cells.
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_PHASE_COLUMN: Final = "Phase"
#: Asks for the metadata of each object alone.
_METADATA: Final = (
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
)
#: What a row shows of a finished object.
_ENDED: Final = {phase: Status(phase=phase) for phase in TERMINAL_PHASES}


@dataclass(frozen=True, slots=True)
class Meta:
    """The identity of an object, known also if the object does not parse."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    #: When it was created, in Unix milliseconds.
    created: int = 0

    @classmethod
    def of(cls, document: Json) -> Meta:
        """Read the metadata of a document; ContractError if there is none, or it names nothing."""
        meta = document.get("metadata") if isinstance(document, dict) else None
        if isinstance(meta, dict):
            uid, namespace, name = meta.get("uid"), meta.get("namespace"), meta.get("name")
            if uid and namespace and name and (version := meta.get("resourceVersion")):
                created = meta.get("creationTimestamp")
                at = time_of(created) if isinstance(created, str) else 0
                return cls(str(uid), str(namespace), str(name), str(version), at)
        raise ContractError("an object without identity")

    @property
    def key(self) -> str:
        """`namespace/name`, for people."""
        return f"{self.namespace}/{self.name}"


def told_of(document: Json, member: str) -> str:
    """A text in the metadata of an object, empty without: no more is read of what belongs to others."""
    try:
        found = document["metadata"][member]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Unreadable(Meta):
    """An object that exists and does not parse; `problem` names the error's type, no content."""

    problem: str = ""


def excludes(ours: Ours, document: Json) -> bool:
    """Whether an object belongs to others; false for what has no uid."""
    uid = told_of(document, "uid")
    return bool(uid) and not ours(uid)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """
    One page of a list.

    Attributes:
        objects: What parsed, and what exists and did not; of a list in brief, the rows.
        unchanged: What the caller knows in this very version, not parsed.
        anonymous: How many entries had no identity at all.
        foreign: How many belong to others; nothing else is known of them.
        continue_token: For the next page; empty on the last.
        resource_version: Of the list, the same on every page.
    """

    objects: tuple[T, ...]
    anonymous: int
    continue_token: str
    resource_version: str
    unchanged: tuple[Meta, ...] = ()
    foreign: int = 0


ObjectPage = Page[NotificationRequest | Unreadable]


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a list in brief; `phase` is empty before the first status."""

    meta: Meta
    phase: str
    deleting: bool

    def outline(self) -> NotificationRequest:
        """What is kept of a finished object; retention and the time of its end are not known."""
        return _outlined(self.meta, _ENDED[self.phase], deleting=self.deleting, days=7)


class NotificationRequestClient:
    """
    The NotificationRequests of a cluster, read live; an `ObjectClient` (`syncer.model.ports`).

    Every method raises `Unavailable`, `KindMissing` or `Unauthorised` where the API server or its
    permission is missing.
    """

    def __init__(self, client: KubeClient, *, timeout: float = 10.0) -> None:
        """Use a client; `timeout` is for each call, in seconds."""
        self._client = client
        self._timeout = timeout
        self._reads = asyncio.Semaphore(READS)

    async def get(
        self, namespace: str, name: str, known: NotificationRequest | None = None, /
    ) -> NotificationRequest:
        """Read one object, as `ObjectClient` says; what has not changed since `known` is not parsed."""
        path = object_path(namespace, name)
        async with self._reads:
            found = await self._client.request("GET", path, timeout=self._timeout)
        return readable(found, known)

    async def patch(
        self,
        namespace: str,
        name: str,
        status: Json,
        *,
        resource_version: str,
    ) -> NotificationRequest:
        """
        Merge members into the status of an object, as `ObjectClient` says.

        Members with the value null are removed, a list is replaced as one. The object as it is after
        the write is returned; a patch that changes nothing keeps the resourceVersion.

        Raises:
            ValueError: no resourceVersion is given; such a write would be unconditional.
            Rejected: the schema or its rules refuse the status (`Invalid`), or the object would
                become too large (`TooLarge`).
            ContractError: written, and what came back does not parse.
            PortError: as `ObjectClient` says.
        """
        if not resource_version:
            raise ValueError("a status write needs a resourceVersion")
        try:
            answer = await self._client.request(
                "PATCH",
                f"{object_path(namespace, name)}/status",
                # Members for people are dropped where the CRD has no place for them, without a warning.
                params={"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"},
                body={"metadata": {"resourceVersion": resource_version}, "status": status},
                content_type=MERGE_PATCH,
                timeout=self._timeout,
            )
        except Gone:
            # The same 404 is given where the resource type has no status subresource.
            await self._client.request("GET", object_path(namespace, name), timeout=self._timeout)
            raise KindMissing("the status subresource is not served") from None
        return readable(answer)

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """
        Delete the object that has this uid and this resourceVersion.

        Raises:
            ValueError: one of the two is not given; such a deletion would be unconditional.
            Conflict: the object has another uid or resourceVersion.
            Gone: there is no object of this name, or a first deletion was executed unanswered.
            Ambiguous: it may have been deleted.
        """
        if not (uid and resource_version):
            raise ValueError("a deletion needs a uid and a resourceVersion")
        await self._client.request(
            "DELETE",
            object_path(namespace, name),
            body={
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": uid, "resourceVersion": resource_version},
            },
            timeout=self._timeout,
        )

    async def list_page(
        self,
        namespace: str | None = None,
        *,
        limit: int = PAGE_SIZE,
        continue_token: str = "",
        labels: str = "",
    ) -> ObjectPage:
        """Read one page of a namespace, or of all with None; Expired if the token is too old."""
        return await list_page(
            self._client, namespace, limit=limit, continue_token=continue_token,
            timeout=self._timeout, labels=labels,
        )  # fmt: skip


async def list_page(  # noqa: PLR0913 - what a list may be asked for
    client: KubeClient,
    namespace: str | None,
    *,
    limit: int,
    continue_token: str,
    timeout: float,
    known: Callable[[Meta], str | None] = lambda _meta: "",
    max_bytes: int = 0,
    ours: Ours = lambda _uid: True,
    labels: str = "",
    fields: str = "",
) -> ObjectPage:
    """
    Read one page of objects; the first is as fresh as the call, the others belong to the first.

    Args:
        client: Where to ask.
        namespace: Of the list; None is all of them.
        limit: Objects in a page.
        continue_token: Of the page before; empty for the first.
        timeout: Seconds.
        known: Tells the resourceVersion in which the caller knows an object, None if it does not;
            an empty text has it parsed. What it knows already is not parsed, and a finished object that
            it does not know only in `outline`: nine of ten are of this kind at the start of a process,
            and parsing is ten times the work.
        max_bytes: Of the page, 0 for no bound.
        ours: Tells the objects that are wanted.
        labels: Selector of labels; empty for all.
        fields: Selector of fields, as `UNFINISHED`; empty for all.

    Raises:
        Expired: the continue token is too old.
        Rejected: the page is larger (`OVERSIZED`), or the definition does not let a field be selected
            (`BAD_REQUEST`).
        PortError: as `KubeClient.request`.
    """
    params = _query(limit, continue_token, labels, fields)
    answer = await client.request(
        "GET", list_path(namespace), params=params, timeout=timeout, max_bytes=max_bytes
    )
    items, token, list_version = _list_of(answer, "items")
    objects: list[NotificationRequest | Unreadable] = []
    unchanged: list[Meta] = []
    foreign = 0
    for item in items:
        if excludes(ours, item):
            foreign += 1
            continue
        try:
            about = Meta.of(item)
            version = known(about)
            if version == about.resource_version:
                unchanged.append(about)
            else:
                brief = outline(item, about) if version is None else None
                objects.append(brief or parse(item))
        except ContractError:
            continue
    return Page(
        tuple(objects),
        len(items) - len(objects) - len(unchanged) - foreign,
        token,
        list_version,
        tuple(unchanged),
        foreign,
    )


async def list_metadata(
    client: KubeClient,
    namespace: str | None,
    *,
    limit: int,
    continue_token: str,
    timeout: float,
    ours: Ours,
    max_bytes: int,
) -> Page[Meta]:
    """Read one page of what identifies objects; arguments and errors are those of `list_rows`."""
    answer = await client.request(
        "GET",
        list_path(namespace),
        params=_query(limit, continue_token),
        accept=_METADATA,
        timeout=timeout,
        max_bytes=max_bytes,
    )
    items, token, version = _list_of(answer, "items")
    found: list[Meta] = []
    for item in items:
        with suppress(ContractError):
            if not excludes(ours, item):
                found.append(Meta.of(item))
    return Page(tuple(found), 0, token, version)


async def list_rows(
    client: KubeClient,
    namespace: str | None,
    *,
    limit: int,
    continue_token: str,
    timeout: float,
    ours: Ours,
    max_bytes: int,
) -> Page[Row] | None:
    """
    Read one page of objects in brief: a tenth of the bytes, and a fifth of the server's work.

    Args:
        client: Where to ask.
        namespace: Of the list; None is all of them.
        limit: Objects in a page.
        continue_token: Of the page before; empty for the first.
        timeout: Seconds.
        ours: Tells the objects that are wanted.
        max_bytes: Of the page, 0 for no bound.

    Returns:
        None if the server does not print objects of this type with their phase.

    Raises:
        Expired: the continue token is too old.
        PortError: as `KubeClient.request`.
    """
    answer = await client.request(
        "GET",
        list_path(namespace),
        params=_query(limit, continue_token),
        accept=_TABLE,
        timeout=timeout,
        max_bytes=max_bytes,
    )
    if answer.get("kind") != "Table":
        return None
    names = [c.get("name") for c in answer.get("columnDefinitions") or [] if isinstance(c, dict)]
    if _PHASE_COLUMN not in names:
        return None
    column = names.index(_PHASE_COLUMN)
    # Of an empty list the rows are null.
    found, token, version = _list_of({**answer, "rows": answer.get("rows") or []}, "rows")
    rows: list[Row] = []
    foreign = 0
    for row in found:
        try:
            document = row["object"]
            if excludes(ours, document):
                foreign += 1
                continue
            about = Meta.of(document)
            phase = row["cells"][column]
        except (ContractError, KeyError, IndexError, TypeError, AttributeError):
            continue
        deleting = bool(document["metadata"].get("deletionTimestamp"))
        rows.append(Row(about, str(phase or ""), deleting))
    anonymous = len(found) - len(rows) - foreign
    return Page(tuple(rows), anonymous, token, version, foreign=foreign)


def _query(limit: int, continue_token: str, labels: str = "", fields: str = "") -> dict[str, str]:
    asked = {
        "limit": str(limit),
        "labelSelector": labels,
        "fieldSelector": fields,
        "continue": continue_token,
    }
    return {name: text for name, text in asked.items() if text}


def _list_of(answer: Json, member: str) -> tuple[list[Json], str, str]:
    """The entries of a list, the token of its next page, and its resourceVersion."""
    meta, found = answer.get("metadata"), answer.get(member)
    if not (isinstance(meta, dict) and isinstance(found, list) and meta.get("resourceVersion")):
        raise Unavailable("the answer is not a list")
    return found, str(meta.get("continue") or ""), str(meta["resourceVersion"])


def outline(document: Json, meta: Meta) -> NotificationRequest | None:
    """What is kept of a finished object, and `raw` empty; None for one that is not, or was journaled."""
    status, spec = document.get("status"), document.get("spec")
    if not isinstance(status, dict):
        return None
    phase = status.get("phase")
    days = spec.get("retentionDays", 7) if isinstance(spec, dict) else 7
    if phase not in TERMINAL_PHASES or type(days) is not int or journaled(status):
        return None  # of what was journaled, the log may lack what the status shows
    try:
        ended = parse_time(status.get("completionTime"))
    except (TypeError, ValueError):
        return None
    deleting = bool(document["metadata"].get("deletionTimestamp"))
    status = Status(phase=phase, completed_at=ended)
    return _outlined(meta, status, deleting=deleting, days=days or 7)


def _outlined(meta: Meta, status: Status, *, deleting: bool, days: int) -> NotificationRequest:
    return NotificationRequest(
        meta.uid, meta.namespace, meta.name, meta.resource_version, created=meta.created,
        deleting=deleting, retention_days=days, status=status,
    )  # fmt: skip


def parse(
    document: Json, known: NotificationRequest | None = None
) -> NotificationRequest | Unreadable:
    """Read an object; one that does not parse is `Unreadable`, one without an identity a ContractError."""
    meta = Meta.of(document)
    try:
        return parse_object(document, known)
    except Exception as error:  # noqa: BLE001 (a malformed member fails in any way it likes)
        return Unreadable(**asdict(meta), problem=type(error).__name__)


def readable(document: Json, known: NotificationRequest | None = None) -> NotificationRequest:
    """Read an object; the ContractError for one that does not parse does not quote it."""
    found = parse(document, known)
    if isinstance(found, Unreadable):
        raise ContractError(f"the object cannot be read ({found.problem})")
    return found


def list_path(namespace: str | None) -> str:
    """Path of the collection in one namespace, or in all with None."""
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


def object_path(namespace: str, name: str) -> str:
    """Path of one object."""
    return f"{list_path(namespace)}/{quote(name, safe='')}"
