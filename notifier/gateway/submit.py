"""
Making objects exist: create, and wait for the API server within the request.

Many senders try once, or for a few seconds, and an API server that restarts is away for longer. So
a request waits here, and the create is retried until the source's patience ends. Only then is the
answer 503, and the sender's own retry is the queue. Nothing is kept here: the object exists, or the
sender knows that it does not.

A storm must not cost more than it brings. So the API server is asked about a few events of a namespace
at once, in the order in which they came; the others wait. And what is under way when the patience ends goes
on: given up, it would cost its connection, and its object would exist all the same. The retry meets it.
Twins and retries, which are half of a storm, find by a read what another create would be refused for.

"Already exists" is success: a retry, the same event from a peer, or an own create whose answer was lost.
The object's identity is compared, so that nobody who may create objects of that name can silence an alert
unnoticed.

An alert may fire again with the start that it had, after its end was reported. Its bytes are then those of
a peer that lags behind, and only time tells them apart: a peer is late by seconds. So an event whose object
is older than two minutes is looked at more closely: if its incident was reported in the other state since,
it is an occurrence of its own. That look lists the objects of the event.

The ends of alerts one by one are for what is open; that takes one look for a hundred incidents, by their
label, and nothing more for those whose end was reported before.

An end is looked at so at any age. A peer may report as firing, after the end, what it knew before; then it
reports the end again, with the bytes of the first. It is an occurrence of its own if it says of all that
was reported as firing since that this is over: the same alerts, with the same starts. The end that a peer
reports late, after an alert has fired anew, does not say so, and ends nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import orjson

from notifier.gateway.draft import Refused
from notifier.gateway.identity import hashed
from notifier.gateway.manifest import IDENTITY
from notifier.gateway.translation import Conditional, Desired
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
from syncer.model.event import EVENT
from syncer.model.incident import (
    DATA,
    FIRING,
    INCIDENT,
    RESOLVED,
    incident_label,
    incident_of,
    incident_time,
)
from syncer.model.resource import Json
from syncer.model.times import time_of
from syncer.runtime.supervise import end

T = TypeVar("T")

#: Seconds for one call.
CALL: Final = 3.0
#: Seconds between two tries, growing.
_PAUSE: Final = 0.1
_PAUSE_MOST: Final = 1.0
#: Seconds after which an equal event is none of a peer that lags behind.
_LATE: Final = 120.0
#: Events of one namespace about which the API server is asked at once.
_TOGETHER: Final = 16
_TAKEN_RESULT: Final = "taken"
#: Names that are known to be taken.
_TAKEN: Final = 10_000
#: Incidents about which one request asks: it is no longer than proxies and servers take.
_LOOKED: Final = 100
#: Objects of one page, and pages that are read.
_PAGE: Final = 500
_PAGES: Final = 20
#: Reasons of a refusal that passes; the second is a fault of our own configuration.
_PASSING: Final = frozenset({"NamespaceTerminating", "BadURL"})
#: Reasons of a refusal without a Status object begin so: a proxy has answered, not an API server.
_NO_STATUS: Final = "HTTP"


@dataclass(frozen=True, slots=True)
class Submitted:
    """
    An object that exists now.

    Attributes:
        duplicate: Whether it was there before this request.
        result: What became of the event: `created`, `duplicate`, `thinned` (a repeat on purpose, too early
            for the window), `digested` (the object stands for more events than this one), or `taken` (the
            object that has the event's name does not say that it is the event's).
    """

    name: str
    namespace: str
    uid: str
    duplicate: bool
    result: str

    @property
    def taken(self) -> bool:
        """Whether the event has no object, since another one has its name."""
        return self.result == _TAKEN_RESULT


@dataclass
class KubeObjects:
    """The rights that a gateway has at an API server; the owner of the client closes it."""

    client: KubeClient

    async def create(self, namespace: str, body: Json) -> Json:
        """Create an object; the PortError is `Conflict` if the name is taken."""
        return await self.client.request("POST", list_path(namespace), body=body, timeout=CALL)

    async def get(self, namespace: str, name: str) -> Json:
        """Read an object; the PortError is `Gone` if there is none."""
        return await self.client.request("GET", object_path(namespace, name), timeout=CALL)

    async def select(self, namespace: str, selector: str) -> list[Json]:
        """Read the objects that a label selector selects."""
        found: list[Json] = []
        params = {"labelSelector": selector, "limit": str(_PAGE)}
        for _ in range(_PAGES):
            page = await self.client.request(
                "GET", list_path(namespace), params=params, timeout=CALL
            )
            found += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                break
            params["continue"] = more
        return found


class Submitter:
    """Makes objects exist, with patience."""

    def __init__(self, objects: KubeObjects, now: Callable[[], float]) -> None:
        """Submit to an API server; `now` gives Unix seconds."""
        self.objects = objects
        self._now = now
        #: Why the last create failed; empty if it did not.
        self.problem = ""
        #: By namespace, while one is used: one may hang, by a webhook of its own.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        #: By namespace and name, as what is known to be taken, which the API server is still asked about.
        self._under_way: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._taken: dict[tuple[str, str], None] = {}

    async def close(self) -> None:
        """End what is under way; nobody waits for it any more."""
        await end(*self._under_way.values())

    async def submit(self, desired: Desired, until: float) -> Submitted:
        """
        Make one object exist; `until` is when to give up, by the loop's clock.

        Raises:
            Unavailable: the API server did not take it in time.
            Refused: it never will.
        """
        return await self._patiently(until, lambda: self._in_turn(desired, self._once))

    async def wanted(self, ends: Sequence[Conditional], until: float) -> list[Conditional]:
        """
        Return those ends whose incident is open; `until` is when to give up, by the loop's clock.

        Raises:
            Unavailable: the API server did not say in time.
            Refused: it never will.
        """
        labels: dict[str, dict[str, None]] = {}
        for each in ends:
            labels.setdefault(each.namespace, {})[each.label] = None
        looks = [
            partial(self._states, namespace, list(found)[n : n + _LOOKED])
            for namespace, found in labels.items()
            for n in range(0, len(found), _LOOKED)
        ]
        states: dict[tuple[str, str], str] = {}
        for found in await asyncio.gather(*(self._patiently(until, look) for look in looks)):
            states |= found
        return [
            each
            for each in ends
            for place in ((each.namespace, each.label),)
            if states.get(place) == FIRING or (each.unknown and place not in states)
        ]

    async def _states(self, namespace: str, labels: Iterable[str]) -> dict[tuple[str, str], str]:
        """Return the newest state of each incident that has notifications, by namespace and label."""
        async with self._turn(namespace):
            objects = await self.objects.select(namespace, f"{INCIDENT} in ({','.join(labels)})")
        # By what nobody can change later; the label is there to select by.
        found = (incident_of(_extensions(each)) for each in sorted(objects, key=_order))
        return {(namespace, incident_label(incident)): state for incident, state in found}

    def _turn(self, namespace: str) -> asyncio.Semaphore:
        return self._turns.setdefault(namespace, asyncio.Semaphore(_TOGETHER))

    async def _patiently(self, until: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = asyncio.get_running_loop()
        pause = _PAUSE
        last = "the API server did not answer in time"
        while True:
            try:
                async with asyncio.timeout_at(until):
                    made = await ask()
                self.problem = ""
                return made
            except TimeoutError:
                raise Unavailable(last) from None
            except PortError as error:
                if isinstance(error, Rejected) and not _passes(error):
                    # The server's words name the member at fault; `syncer.kube.errors` has bounded them.
                    reason = f"the API server refuses the object: {error}"
                    status = 413 if error.reason == "TooLarge" else 422
                    raise Refused(reason, status=status) from None
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
                return await self._in_turn(desired, self._found)
        except Gone:
            return None
        except (PortError, TimeoutError) as error:
            raise Unavailable(str(error) or "the API server did not answer in time") from None

    async def _in_turn(
        self, desired: Desired, ask: Callable[[Desired], Coroutine[Any, Any, T]]
    ) -> T:
        """Ask the API server about an event when those before it have been; who waits may go."""
        turn = self._turn(desired.namespace)
        key = _key(desired)
        await turn.acquire()
        while (twin := self._under_way.get(key)) is not None:
            turn.release()
            await asyncio.wait({twin})
            await turn.acquire()

        def ended(task: asyncio.Task[T]) -> None:
            turn.release()
            del self._under_way[key]
            if not task.cancelled():
                task.exception()

        task = asyncio.create_task(ask(desired))
        self._under_way[key] = task
        task.add_done_callback(ended)
        await asyncio.wait({task})
        return task.result()

    async def _found(self, desired: Desired) -> Submitted | None:
        there = await self._young(desired)
        if there is None:
            there = await self.objects.get(*_key(desired))
        if not _same(there, desired) or await self._again(desired, there) is not None:
            return None
        return _submitted(there, desired, duplicate=True)

    async def _once(self, desired: Desired) -> Submitted:
        there = await self._young(desired)
        if there is None and _key(desired) in self._taken:
            with suppress(Gone):
                there = await self.objects.get(*_key(desired))
        if there is None:
            try:
                made = await self.objects.create(desired.namespace, desired.manifest)
                self._take(desired)
                return _submitted(made, desired, duplicate=False)
            except Conflict:
                self._take(desired)
                there = await self.objects.get(*_key(desired))
        found = _submitted(there, desired, duplicate=True)
        if not _same(there, desired):
            # Not refused: its name is a hash of the event, and whoever may patch the annotation could
            # have the sender, which tries no more after a 4xx, lose the event for all of its peers.
            return replace(found, result=_TAKEN_RESULT)
        again = await self._again(desired, there)
        return found if again is None else await self._once(again)

    def _take(self, desired: Desired) -> None:
        self._taken[_key(desired)] = None
        if len(self._taken) > _TAKEN:
            del self._taken[next(iter(self._taken))]

    async def _again(self, desired: Desired, there: Json) -> Desired | None:
        """Return an event whose object exists as an occurrence of its own; None if it is not one."""
        incident, state = desired.incident
        late = self._now() - _created(there) / 1000 >= _LATE
        if not incident or not (late or state == RESOLVED):
            return None
        if desired.opposite:
            try:
                await self.objects.get(desired.namespace, desired.opposite)
            except Gone:
                return None
        label = desired.manifest["metadata"]["labels"].get(EVENT, "")
        other = (incident, FIRING if state == RESOLVED else RESOLVED)
        since = [
            each
            for each in await self.objects.select(desired.namespace, f"{EVENT}={label}")
            if incident_of(_extensions(each)) == other and _order(each) > _order(there)
        ]
        newest = max(since, key=_order, default=None)
        if newest is None or not (late or _ends(desired.manifest, newest)):
            return None
        prefix = desired.identity.name.partition("-")[0]
        identity = hashed(prefix, desired.identity.digest, newest["metadata"]["name"])
        meta = desired.manifest["metadata"]
        marks = {**meta["annotations"], IDENTITY: identity.digest}
        meta = {**meta, "name": identity.name, "annotations": marks}
        return replace(
            desired, identity=identity, manifest={**desired.manifest, "metadata": meta}, opposite=""
        )

    async def _young(self, desired: Desired) -> Json | None:
        """Return the occurrence before, if there is one that is young enough to be this one."""
        identity = desired.identity
        if not identity.before:
            return None
        try:
            before = await self.objects.get(desired.namespace, identity.before)
        except Gone:
            return None
        old = self._now() - _created(before) / 1000 >= identity.window
        return None if old or not _same(before, desired) else before


def _key(desired: Desired) -> tuple[str, str]:
    return desired.namespace, desired.identity.name


def _passes(error: Rejected) -> bool:
    # Rights may come back: a server that has just started does not know them yet.
    return (
        isinstance(error, Unauthorised)
        or error.reason in _PASSING
        or error.reason.startswith(_NO_STATUS)
    )


def _created(document: Json) -> int:
    return time_of((document.get("metadata") or {}).get("creationTimestamp"))


def _order(document: Json) -> tuple[int, int]:
    """The order of an incident, as the controller has it: the API server's times are whole seconds."""
    return _created(document), incident_time(_extensions(document))


def _extensions(document: Json) -> Json:
    return (document.get("spec") or {}).get("extensions") or {}


def _ends(end: Json, firing: Json) -> bool:
    """Whether an end has all the alerts that fire, with their starts; False if they cannot all be seen."""
    fire = _alerts(firing, FIRING)
    return bool(fire) and fire <= _alerts(end, RESOLVED)


def _alerts(document: Json, status: str) -> set[bytes]:
    """Labels and starts of the alerts in this state; none if some were left out."""
    try:
        data = orjson.loads(_extensions(document).get(DATA, ""))
        if data["truncatedAlerts"]:
            return set()
        return {
            orjson.dumps((alert["labels"], alert["startsAt"]), option=orjson.OPT_SORT_KEYS)
            for alert in data["alerts"]
            if alert["status"] == status
        }
    except (ValueError, TypeError, LookupError):
        return set()  # whoever may create objects may write anything there


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
        result="thinned"
        if duplicate and desired.repeat
        else "duplicate"
        if duplicate
        else "created",
    )
