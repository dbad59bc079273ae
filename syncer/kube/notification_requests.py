"""
Reading NotificationRequests and writing their status.

A read is a quorum read: no resourceVersion is sent, so the answer is never older than the call. A
status write is a merge patch that carries the resourceVersion it was computed from. That is the
only guard there is: the status subresource ignores a wrong uid, and a patch without a
resourceVersion writes into whatever object has the name now. Nothing is retried here; after
`Conflict` or `Ambiguous` the caller reads and merges again.

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
#: Returns whether the object with this uid is wanted; the server sends the others as well.
Ours = Callable[[str], bool]

PAGE_SIZE: Final = 500
FIELD_MANAGER: Final = "notification-controller"
#: Single objects that are read at once, each on a connection of its own. For each connection, TLS takes a
#: third of a MiB that the process never gives back, and the claims of a start would read 64 at once.
READS: Final = 32
#: Selects the objects that have not reached a final phase.
UNFINISHED: Final = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL_PHASES))
#: Requests a list as it is printed: metadata and a few cells for each object.
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_PHASE_COLUMN: Final = "Phase"
#: Requests only the metadata of each object.
_METADATA: Final = (
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
)
#: Status of a finished object as far as a row shows it, by phase.
_ENDED: Final = {phase: Status(phase=phase) for phase in TERMINAL_PHASES}


@dataclass(frozen=True, slots=True)
class Meta:
    """The identity of an object, known even if the object does not parse."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    #: When it was created, in Unix milliseconds.
    created: int = 0

    @classmethod
    def of(cls, document: Json) -> Meta:
        """Read the metadata of a document; ContractError if it is missing or identifies no object."""
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
    """Return a text of an object's metadata, empty if absent; of foreign objects nothing else is read."""
    try:
        found = document["metadata"][member]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Unreadable(Meta):
    """An object that exists but does not parse; `problem` names the error's type and quotes nothing."""

    problem: str = ""


def excludes(ours: Ours, document: Json) -> bool:
    """Whether `ours` excludes an object; False if the object has no uid."""
    uid = told_of(document, "uid")
    return bool(uid) and not ours(uid)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """
    One page of a list.

    Attributes:
        objects: Parsed objects, and those that exist but do not parse; the rows of a list in brief.
        unchanged: Objects that the caller knows in this very version; they are not parsed.
        anonymous: Number of items without any identity.
        foreign: Number of items that `ours` excludes; nothing else is known of them.
        continue_token: Token for the next page; empty on the last.
        resource_version: resourceVersion of the list, the same on every page.
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
        """Return the outline of a finished object; its retention and completion time are not known."""
        return _outlined(self.meta, _ENDED[self.phase], deleting=self.deleting, days=7)


class NotificationRequestClient:
    """
    The NotificationRequests of a cluster, read live; an `ObjectClient` (`syncer.model.ports`).

    Every method raises `Unavailable`, `KindMissing` or `Unauthorised` if the API server, the resource
    type or the permission is missing.
    """

    def __init__(self, client: KubeClient, *, timeout: float = 10.0) -> None:
        """Use a client; `timeout` is for each call, in seconds."""
        self._client = client
        self._timeout = timeout
        self._reads = asyncio.Semaphore(READS)

    async def get(
        self, namespace: str, name: str, known: NotificationRequest | None = None, /
    ) -> NotificationRequest:
        """Read one object, as `ObjectClient` says; an object equal to `known` is not parsed again."""
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

        Members with the value null are removed, a list is replaced as a whole. Returns the object as it
        is after the write; a patch that changes nothing keeps the resourceVersion.

        Raises:
            ValueError: no resourceVersion is given; such a write would be unconditional.
            Rejected: the schema or its rules refuse the status (`Invalid`), or the object would
                become too large (`TooLarge`).
            ContractError: the status was written, but the returned object does not parse.
            PortError: as `ObjectClient` says.
        """
        if not resource_version:
            raise ValueError("a status write needs a resourceVersion")
        try:
            answer = await self._client.request(
                "PATCH",
                f"{object_path(namespace, name)}/status",
                # Members for people that the CRD does not define are dropped without a warning.
                params={"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"},
                body={"metadata": {"resourceVersion": resource_version}, "status": status},
                content_type=MERGE_PATCH,
                timeout=self._timeout,
            )
        except Gone:
            # The server gives the same 404 if the resource type has no status subresource.
            await self._client.request("GET", object_path(namespace, name), timeout=self._timeout)
            raise KindMissing("the status subresource is not served") from None
        return readable(answer)

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """
        Delete the object that has this uid and this resourceVersion.

        Raises:
            ValueError: one of the two is not given; such a deletion would be unconditional.
            Conflict: the object has another uid or resourceVersion.
            Gone: there is no object of this name, or a first try was executed but its answer was lost.
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


async def list_page(  # noqa: PLR0913 - the options of a list
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
    Read one page of objects; the first page is as fresh as the call, the others have its version.

    Args:
        client: The client to read with.
        namespace: Namespace of the list; None for all namespaces.
        limit: Objects in a page.
        continue_token: Token of the page before; empty for the first.
        timeout: Seconds.
        known: Returns the resourceVersion in which the caller knows an object, None if it does not
            know it, or an empty text to have it parsed in any case. An object known in its current
            version is not parsed; a finished one that is not known is read only in `outline`. When a
            process starts, nine of ten objects are of this kind, and parsing is ten times the work.
        max_bytes: Largest page, 0 for no limit.
        ours: Returns whether an object is wanted.
        labels: Selector of labels; empty for all.
        fields: Selector of fields, such as `UNFINISHED`; empty for all.

    Raises:
        Expired: the continue token is too old.
        Rejected: the page is larger (`OVERSIZED`), or the CRD does not let a field be selected
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
    """Read one page of object metadata; arguments and errors are those of `list_rows`."""
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
        client: The client to read with.
        namespace: Namespace of the list; None for all namespaces.
        limit: Objects in a page.
        continue_token: Token of the page before; empty for the first.
        timeout: Seconds.
        ours: Returns whether an object is wanted.
        max_bytes: Largest page, 0 for no limit.

    Returns:
        The page; None if the server does not print objects of this type with their phase.

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
    # In an empty list, `rows` is null.
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
    """Return the items of a list, the token of its next page, and its resourceVersion."""
    meta, found = answer.get("metadata"), answer.get(member)
    if not (isinstance(meta, dict) and isinstance(found, list) and meta.get("resourceVersion")):
        raise Unavailable("the answer is not a list")
    return found, str(meta.get("continue") or ""), str(meta["resourceVersion"])


def outline(document: Json, meta: Meta) -> NotificationRequest | None:
    """Return the outline of a finished object, without `raw`; None if it is unfinished or was journaled."""
    status, spec = document.get("status"), document.get("spec")
    if not isinstance(status, dict):
        return None
    phase = status.get("phase")
    days = spec.get("retentionDays", 7) if isinstance(spec, dict) else 7
    if phase not in TERMINAL_PHASES or type(days) is not int or journaled(status):
        return None  # the log may lack journaled attempts that the status shows
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
    """Read an object; return `Unreadable` if it does not parse; ContractError if it has no identity."""
    meta = Meta.of(document)
    try:
        return parse_object(document, known)
    except Exception as error:  # noqa: BLE001 (a malformed member may raise anything)
        return Unreadable(**asdict(meta), problem=type(error).__name__)


def readable(document: Json, known: NotificationRequest | None = None) -> NotificationRequest:
    """Read an object; ContractError, which does not quote it, if it does not parse."""
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
