"""
Asks the API server who sends (a TokenReview), and what the sender may do (a SubjectAccessReview).

The permission is `create` on `notificationrequests/gateway`, with the source as resourceName, in each
namespace that the source may write to. A Role grants it, and it allows nobody to create notifications
directly.

Answers are cached by a hash of the token, for as long as a revoked permission may remain effective;
refusals for less. Requests with the same token share one review. The numbers of concurrent and of
waiting reviews are limited: beyond these limits, and while the API server does not answer, the sender
is asked to try again, because its token may be valid. Invented tokens take nothing from a sender that
was accepted before: neither its cached answer nor its slot for a review.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.translation import Source
from syncer.kube.client import KubeClient
from syncer.model.errors import PortError, Unavailable
from syncer.model.resource import GROUP, PLURAL, Json
from syncer.runtime.supervise import end

TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
#: Subresource of `notificationrequests` that a Role names to let somebody send through the gateway.
SUBRESOURCE: Final = "gateway"
#: Seconds for which an approval and a refusal are cached.
ALLOWED: Final = 60.0
REFUSED: Final = 10.0
#: Most cached approvals (and refusals), reviews in progress, and concurrent calls.
_KEPT: Final = 4096
_PENDING: Final = 256
_TOGETHER: Final = 16
#: Seconds for one call, and most characters of a token.
_CALL: Final = 3.0
_LONGEST: Final = 16_384


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result of a review; an empty reason lets the sender in."""

    until: float
    reason: str = ""
    status: int = 200


class Reviews:
    """Asks the API server, and caches the answers for a while."""

    def __init__(self, client: KubeClient, clock: Callable[[], float]) -> None:
        """Start with an empty cache; the client's owner closes it, the clock gives monotonic seconds."""
        self._client = client
        self._clock = clock
        #: Approvals, expired ones included, which need a new review; and refusals.
        self._admitted: OrderedDict[bytes, _Answer] = OrderedDict()
        self._rejected: OrderedDict[bytes, _Answer] = OrderedDict()
        self._pending: dict[bytes, asyncio.Task[_Answer]] = {}
        self._gate = asyncio.Semaphore(_TOGETHER)

    async def check(self, incoming: Incoming, source: Source, audiences: tuple[str, ...]) -> None:
        """
        Check that a bearer token is for one of the audiences, and that its owner may send to a source.

        Raises:
            Refused: 401 without a valid token, 403 if its owner lacks the right.
            Unavailable: the API server did not answer in time.
        """
        token = incoming.authorization("bearer")
        if not 0 < len(token) <= _LONGEST:
            raise Refused("a Kubernetes token is required", status=401)
        key = hashlib.sha256(f"{source.name} {token}".encode("utf-8", "surrogateescape")).digest()
        known = self._admitted.get(key) or self._rejected.get(key)
        if known is None or known.until <= self._clock():
            known = await self._asked(key, lambda: self._review(token, source, audiences))
        if known.reason:
            raise Refused(known.reason, status=known.status)

    async def close(self) -> None:
        """End the reviews in progress."""
        await end(*self._pending.values())

    async def _asked(
        self, key: bytes, review: Callable[[], Coroutine[Any, Any, _Answer]]
    ) -> _Answer:
        task = self._pending.get(key)
        if task is None:
            # Senders that were accepted before are few, and invented tokens must not keep them out.
            if len(self._pending) >= _PENDING and key not in self._admitted:
                raise Unavailable("too many tokens are being reviewed")
            task = asyncio.create_task(review())
            self._pending[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        # The task does not end with the first request: others with the same token wait for it as well.
        done, _ = await asyncio.wait({task}, timeout=3 * _CALL)
        if not done or task.cancelled():
            raise Unavailable("the API server did not review the token in time")
        try:
            return task.result()
        except PortError as error:
            raise Unavailable(f"the API server did not review the token: {error}") from None

    def _done(self, key: bytes, task: asyncio.Task[_Answer]) -> None:
        del self._pending[key]
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        self._admitted.pop(key, None)
        self._rejected.pop(key, None)
        group = self._rejected if answer.reason else self._admitted
        group[key] = answer
        while len(group) > _KEPT:
            group.popitem(last=False)

    async def _review(self, token: str, source: Source, audiences: tuple[str, ...]) -> _Answer:
        asked = {"token": token, "audiences": list(audiences)}
        status = await self._ask(TOKENS, "TokenReview", asked)
        # A server that does not support audiences returns none: then the token may be for anybody.
        found = status.get("audiences") or ()
        if status.get("authenticated") is not True or not set(found) & set(audiences):
            return _Answer(
                self._clock() + REFUSED,
                f"the API server knows no such token for the audience {', '.join(audiences)}",
                401,
            )
        user = status.get("user") or {}
        for namespace in source.namespaces:
            if not await self._allowed(user, source.name, namespace):
                return _Answer(
                    self._clock() + REFUSED,
                    f"the token's owner may not create {PLURAL}/{SUBRESOURCE} {source.name} in"
                    f" {namespace}",
                    403,
                )
        return _Answer(self._clock() + ALLOWED)

    async def _allowed(self, user: Json, source: str, namespace: str) -> bool:
        asked = {
            "user": user.get("username"), "uid": user.get("uid"), "groups": user.get("groups"),
            "extra": user.get("extra"),
            "resourceAttributes": {
                "group": GROUP, "resource": PLURAL, "subresource": SUBRESOURCE, "verb": "create",
                "namespace": namespace, "name": source,
            },
        }  # fmt: skip
        spec = {key: value for key, value in asked.items() if value}
        return (await self._ask(ACCESS, "SubjectAccessReview", spec)).get("allowed") is True

    async def _ask(self, path: str, kind: str, spec: Json) -> Json:
        body = {"apiVersion": f"{path.split('/')[2]}/v1", "kind": kind, "spec": spec}
        async with self._gate:
            answer = await self._client.request("POST", path, body=body, timeout=_CALL)
        status: Json = answer.get("status") or {}
        return status
