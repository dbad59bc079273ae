"""Reading NotificationRequests and writing their status.

A read is a quorum read: no resourceVersion is sent, so the answer is never older than the call. A
status write is a merge patch that carries the resourceVersion it was computed from. That is the
only guard there is: the status subresource ignores a wrong uid, and a patch without a
resourceVersion writes into whatever bears the name now. A conflict is data, so nothing is retried
here; whoever gets `Conflict` or `Ambiguous` reads and merges again.

Lists never ask for resourceVersion 0, which any stale cache may answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from syncer.api.errors import ContractError, Gone, KindMissing, Unavailable
from syncer.api.resource import GROUP, PLURAL, VERSION, NotificationRequest, parse_object
from syncer.cluster.client import MERGE_PATCH, Json, KubeClient

PAGE_SIZE: Final = 500
FIELD_MANAGER: Final = "notification-controller"


@dataclass(frozen=True, slots=True)
class Meta:
    """What the metadata of an object tells, also of one that cannot be parsed."""

    uid: str
    namespace: str
    name: str
    resource_version: str

    @classmethod
    def of(cls, document: Json) -> Meta:
        """Read the metadata of a document.

        Raises:
            ContractError: there is none, or it names nothing.
        """
        meta = document.get("metadata")
        if isinstance(meta, dict):
            found = [
                str(meta.get(k) or "") for k in ("uid", "namespace", "name", "resourceVersion")
            ]
            if all(found):
                return cls(*found)
        raise ContractError("an object without identity")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that exists and does not parse; `problem` names the error's type, no content."""

    meta: Meta
    problem: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        objects: What parsed, and what exists and did not.
        anonymous: How many entries had no identity at all.
        continue_token: For the next page; empty on the last.
        resource_version: Of the whole list, the same on every page.
    """

    objects: tuple[NotificationRequest | Unreadable, ...]
    anonymous: int
    continue_token: str
    resource_version: str


class StatusStore:
    """The NotificationRequests of a cluster, read live.

    Every method raises `Unavailable`, `KindMissing` or `Unauthorised` where the API server or its
    permission is missing.
    """

    def __init__(self, client: KubeClient, *, timeout: float = 10.0) -> None:
        """Use a client; `timeout` is for each call, in seconds."""
        self._client = client
        self._timeout = timeout

    async def get(self, namespace: str, name: str) -> NotificationRequest:
        """Read one object as it is now.

        Raises:
            Gone: there is no object of this name.
            ContractError: it exists and does not parse.
        """
        path = object_path(namespace, name)
        return readable(await self._client.request("GET", path, timeout=self._timeout))

    async def patch(
        self,
        namespace: str,
        name: str,
        status: Json,
        *,
        resource_version: str,
        dry_run: bool = False,
    ) -> NotificationRequest:
        """Merge members into the status of the object that has this resourceVersion.

        A dry run is checked and answered like a write, and changes nothing.

        Members with the value null are removed, lists are replaced whole. The object as it is after
        the write is returned; a patch that changes nothing keeps the resourceVersion.

        Raises:
            ValueError: no resourceVersion is given; such a write would be unconditional.
            Conflict: the object has another resourceVersion.
            Gone: there is no object of this name.
            Rejected: the schema or its rules refuse the status (`Invalid`), or the object would
                become too large (`TooLarge`).
            Ambiguous: the write may have happened.
            ContractError: written, and what came back does not parse.
        """
        if not resource_version:
            raise ValueError("a status write needs a resourceVersion")
        try:
            answer = await self._client.request(
                "PATCH",
                f"{object_path(namespace, name)}/status",
                params={"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})},
                body={"metadata": {"resourceVersion": resource_version}, "status": status},
                content_type=MERGE_PATCH,
                timeout=self._timeout,
            )
        except Gone:
            # The same 404 is given where the resource type has no status subresource.
            await self._client.request("GET", object_path(namespace, name), timeout=self._timeout)
            raise KindMissing("the status subresource is not served") from None
        return readable(answer)

    async def list_page(
        self, namespace: str | None = None, *, limit: int = PAGE_SIZE, continue_token: str = ""
    ) -> Page:
        """Read one page of a namespace, or of all with None; see `list_page`.

        Raises:
            Expired: the continue token is too old, start again without one.
        """
        return await list_page(
            self._client, namespace, limit=limit, continue_token=continue_token,
            timeout=self._timeout,
        )  # fmt: skip


async def list_page(
    client: KubeClient, namespace: str | None, *, limit: int, continue_token: str, timeout: float
) -> Page:
    """Read one page of objects; the first is as fresh as the call, the others belong to the first.

    Raises:
        Expired: the continue token is too old.
        PortError: as `KubeClient.request`.
    """
    params = {"limit": str(limit)}
    if continue_token:
        params["continue"] = continue_token
    answer = await client.request("GET", list_path(namespace), params=params, timeout=timeout)
    meta, items = answer.get("metadata"), answer.get("items")
    if not (isinstance(meta, dict) and isinstance(items, list) and meta.get("resourceVersion")):
        raise Unavailable("the answer is not a list")
    objects: list[NotificationRequest | Unreadable] = []
    for item in items:
        try:
            objects.append(parse(item))
        except ContractError:
            continue
    return Page(
        tuple(objects),
        len(items) - len(objects),
        str(meta.get("continue") or ""),
        str(meta["resourceVersion"]),
    )


def parse(document: Json) -> NotificationRequest | Unreadable:
    """Read an object, or say that it exists and cannot be read.

    Raises:
        ContractError: it has no identity.
    """
    if not isinstance(document, dict):
        raise ContractError("an object that is no JSON object")
    meta = Meta.of(document)
    try:
        return parse_object(document)
    except Exception as error:  # noqa: BLE001 (a malformed member fails in any way it likes)
        return Unreadable(meta, type(error).__name__)


def readable(document: Json) -> NotificationRequest:
    """Read an object.

    Raises:
        ContractError: it does not parse. The text does not quote it.
    """
    found = parse(document)
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


def version_key(resource_version: str) -> tuple[int, str]:
    """Sort key of a resourceVersion: a decimal number, so by length, then lexically."""
    return len(resource_version), resource_version
