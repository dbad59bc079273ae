"""
The ports: what rules and shells need from Kubernetes and from the leases, as protocols.

Adapters implement them; tests and the simulation bring their own. Every method that talks to a
server raises `PortError`s, or `ContractError` for what it cannot read, and lets
`asyncio.CancelledError` pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from syncer.model.attempt import Epoch
from syncer.model.resource import NotificationRequest, RetryPolicy


class LeaseTerm(Protocol):
    """The time for which this process owns a shard."""

    @property
    def epoch(self) -> Epoch:
        """Fencing token of the term."""

    @property
    def since(self) -> int:
        """The API server's time when it had begun, in Unix milliseconds, 0 if that is not known."""

    def valid(self, now: float) -> bool:
        """Whether the lease still holds at a second of the monotonic clock."""

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Whether a send begun now is over before another process may own the shard."""


class Ownership(Protocol):
    """Which notifications are ours."""

    def term_of(self, uid: str) -> LeaseTerm | None:
        """The lease term of a notification's shard, None while the shard is not ours."""

    def accepts(self, uid: str) -> bool:
        """Whether new work may begin: ours, and not being handed over."""


class ObjectClient(Protocol):
    """Reads and status writes of single objects."""

    async def get(
        self, namespace: str, name: str, known: NotificationRequest | None = None, /
    ) -> NotificationRequest:
        """
        Read an object from a quorum; `known` itself if nothing of it has changed.

        Raises:
            ContractError: it exists and does not parse; its state is not known.
            Gone: there is no such object.
            KindMissing: the resource type is not served.
            Unauthorised: reading is not allowed.
            Unavailable: not answered.
        """

    async def patch(
        self,
        namespace: str,
        name: str,
        status: dict[str, Any],
        *,
        resource_version: str,
    ) -> NotificationRequest:
        """
        Merge-patch the status, if the object still has this resourceVersion.

        Raises:
            Conflict: it has another one; nothing was written.
            Gone: there is no such object.
            Rejected: refused by the schema or a rule, or too large.
            Ambiguous: may have been written.
            Unavailable: not written.
        """


#: Milliseconds from the end of attempt n to the earliest start of the next one.
Backoff = Callable[[RetryPolicy, int], int]
