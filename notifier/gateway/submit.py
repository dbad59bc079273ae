"""
Making objects exist: create, and wait for the API server within the request.

Many senders try once, or for a few seconds, and an API server that restarts is away for longer. So
a request waits here, and the create is retried until the source's patience ends. Only then is the
answer 503, and the sender's own retry is the queue. Nothing is kept here: the object exists, or the
sender knows that it does not.

"Already exists" is success: a retry, the same event from a peer, or an own create whose answer was lost.
The object's identity is compared, so that nobody who may create objects of that name can silence an alert
unnoticed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from notifier.gateway.draft import Refused
from notifier.gateway.manifest import IDENTITY
from notifier.gateway.translation import Desired
from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import list_path, object_path
from syncer.model.errors import (
    Conflict,
    Gone,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.immutable import immutable
from syncer.model.resource import Json
from syncer.model.times import time_of

#: Seconds for one call.
CALL: Final = 3.0
#: Seconds between two tries, growing.
_PAUSE: Final = 0.1
_PAUSE_MOST: Final = 1.0
#: Reasons of a refusal that passes; the second is a fault of our own configuration.
_PASSING: Final = frozenset({"NamespaceTerminating", "BadURL"})
#: Reasons of a refusal without a Status object begin so: a proxy has answered, not an API server.
_NO_STATUS: Final = "HTTP"


@immutable
class Submitted:
    """
    An object that exists now.

    Attributes:
        duplicate: Whether it was there before this request.
        digested: Whether it stands for more events than the request's.
        thinned: Whether the request was a repeat on purpose, too early for the window.
        taken: Whether the object that has the event's name does not say that it is the event's.
    """

    name: str
    namespace: str
    uid: str
    duplicate: bool
    thinned: bool = False
    taken: bool = False
    digested: bool = False

    @property
    def result(self) -> str:
        """The result of the event, in one word."""
        if self.digested:
            return "digested"
        if self.taken:
            return "taken"
        if self.thinned:
            return "thinned"
        return "duplicate" if self.duplicate else "created"


class Objects(Protocol):
    """The two rights that a gateway has."""

    async def create(self, namespace: str, body: Json) -> Json:
        """Create an object; the PortError is `Conflict` if the name is taken."""
        ...

    async def get(self, namespace: str, name: str) -> Json:
        """Read an object; the PortError is `Gone` if there is none."""
        ...


class KubeObjects:
    """`Objects` of an API server."""

    def __init__(self, client: KubeClient) -> None:
        """Use a client; its owner closes it."""
        self._client = client

    async def create(self, namespace: str, body: Json) -> Json:
        """See `Objects.create`."""
        return await self._client.request("POST", list_path(namespace), body=body, timeout=CALL)

    async def get(self, namespace: str, name: str) -> Json:
        """See `Objects.get`."""
        return await self._client.request("GET", object_path(namespace, name), timeout=CALL)


class Submitter:
    """Makes objects exist, with patience."""

    def __init__(self, objects: Objects, now: Callable[[], float]) -> None:
        """Submit to an API server; `now` gives Unix seconds."""
        self._objects = objects
        self._now = now
        #: Why the last create failed; empty if it did not.
        self.problem = ""

    async def submit(self, desired: Desired, until: float) -> Submitted:
        """
        Make one object exist; `until` is when to give up, by the loop's clock.

        Raises:
            Unavailable: the API server did not take it in time.
            Refused: it never will.
        """
        loop = asyncio.get_running_loop()
        pause = _PAUSE
        last = "the API server did not answer in time"
        while True:
            try:
                async with asyncio.timeout_at(until):
                    made = await self._once(desired)
                self.problem = ""
                return made
            except TimeoutError:
                raise Unavailable(last) from None
            except PortError as error:
                if isinstance(error, Rejected) and not _passes(error):
                    raise _refusal(error) from None
                last = str(error)
                wanted = error.retry_after or 0.0
            self.problem = last
            wait = max(min(wanted, _PAUSE_MOST), pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            if loop.time() + wait >= until:
                raise Unavailable(last)
            await asyncio.sleep(wait)
            pause = min(pause * 2, _PAUSE_MOST)

    async def find(self, desired: Desired, until: float) -> Submitted | None:
        """
        Return the object of an event if it exists, or the occurrence before that still stands for it.

        `until` is when to give up, by the loop's clock; Unavailable if the API server did not say by then.
        """
        try:
            async with asyncio.timeout_at(until):
                if desired.identity.before and (found := await self._young(desired)) is not None:
                    return found
                there = await self._objects.get(desired.namespace, desired.identity.name)
        except Gone:
            return None
        except (PortError, TimeoutError) as error:
            raise Unavailable(str(error) or "the API server did not answer in time") from None
        return _submitted(there, desired, duplicate=True) if _same(there, desired) else None

    async def _once(self, desired: Desired) -> Submitted:
        identity = desired.identity
        if identity.before and (found := await self._young(desired)) is not None:
            return found
        try:
            made = await self._objects.create(desired.namespace, desired.manifest)
        except Conflict:
            there = await self._objects.get(desired.namespace, identity.name)
            # Not refused: its name is a hash of the event, and whoever may patch the annotation could
            # have the sender, which tries no more after a 4xx, lose the event for all of its peers.
            found = _submitted(there, desired, duplicate=True)
            return found if _same(there, desired) else replace(found, taken=True)
        return _submitted(made, desired, duplicate=False)

    async def _young(self, desired: Desired) -> Submitted | None:
        """Return the occurrence before, if it is young enough to be this one."""
        identity = desired.identity
        try:
            before = await self._objects.get(desired.namespace, identity.before)
        except Gone:
            return None
        created = time_of((before.get("metadata") or {}).get("creationTimestamp"))
        if not _same(before, desired) or self._now() - created / 1000 >= identity.window:
            return None
        return _submitted(before, desired, duplicate=True)


def _passes(error: Rejected) -> bool:
    # Rights may come back: a server that has just started does not know them yet.
    return (
        isinstance(error, Unauthorised)
        or error.reason in _PASSING
        or error.reason.startswith(_NO_STATUS)
    )


def _refusal(error: Rejected) -> Refused:
    # The server's words name the member at fault; `syncer.kube.errors` has bounded them.
    status = 413 if error.reason == "TooLarge" else 422
    return Refused(f"the API server refuses the object: {error}", status=status)


def _same(document: Json, desired: Desired) -> bool:
    found = (document.get("metadata") or {}).get("annotations") or {}
    return bool(found.get(IDENTITY) == desired.identity.digest)


def _submitted(document: Json, desired: Desired, *, duplicate: bool) -> Submitted:
    meta = document.get("metadata") or {}
    return Submitted(
        name=str(meta.get("name", "")),
        namespace=str(meta.get("namespace", "")),
        uid=str(meta.get("uid", "")),
        duplicate=duplicate,
        thinned=duplicate and desired.repeat,
    )
