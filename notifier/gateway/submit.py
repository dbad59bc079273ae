"""
Creates objects, and waits for the API server within the request.

Many senders try once, or for a few seconds, and an API server takes longer to restart. So a request waits
here, and the create is retried until the source's patience ends. Only then is the answer 503, and the
sender's own retry is the queue. Nothing is kept here: the object exists, or the sender knows that it may
not exist.

A storm must not cause more work than necessary. So only a few calls for the events of a namespace run at
once, in the order of arrival; the other events wait. A call that is in progress when the patience ends
continues: giving it up would cost its connection, and the object would be created all the same. The retry
finds it. Retries and events from peers are half of a storm; they find their object by a read, instead of a
create that would be refused.

"Already exists" is success: a retry, the same event from a peer, or an own create whose answer was lost.
The object's identity is compared, so that nobody who may create objects of that name can silence an alert
unnoticed.

An alert may fire again with its old start after its end was reported. Its bytes are then equal to a late
report of a peer, and only time distinguishes them: a peer is late by seconds. So if an event's object is
older than two minutes, the objects of the event are listed: if its incident has since been reported in the
other state, the event is an occurrence of its own.

With one notification for each alert, ends are created only for open incidents. One list call by label
checks a hundred incidents; an incident whose end was reported before needs no further call.

An end is checked in this way at any age. After the end, a peer may still report an alert as firing that it
knew before; then it reports the end again, with the same bytes as the first end. That end is an occurrence
of its own if it ends everything that was reported as firing since: the same alerts, with the same starts.
If a peer reports an end late, after an alert has fired anew, that end does not cover the alert's new start,
and ends nothing.
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
#: Seconds between two tries, at first and at most.
_PAUSE: Final = 0.1
_PAUSE_MOST: Final = 1.0
#: Seconds after which an equal event is not the late report of a peer.
_LATE: Final = 120.0
#: Most events of one namespace for which the API server is called at once.
_TOGETHER: Final = 16
_TAKEN_RESULT: Final = "taken"
#: Most names that are remembered as taken.
_TAKEN: Final = 10_000
#: Most incidents in one list call: its URL must not be longer than proxies and servers accept.
_LOOKED: Final = 100
#: Objects of one page, and most pages that are read.
_PAGE: Final = 500
_PAGES: Final = 20
#: Reasons of a refusal that may pass; the second is a fault in the gateway's own configuration.
_PASSING: Final = frozenset({"NamespaceTerminating", "BadURL"})
#: Prefix of the reason of a refusal without a Status object: a proxy has answered, not an API server.
_NO_STATUS: Final = "HTTP"


@dataclass(frozen=True, slots=True)
class Submitted:
    """
    An object that exists now.

    Attributes:
        duplicate: Whether it existed before this request.
        result: The result for the event: `created`, `duplicate`, `thinned` (an intended repeat that is too
            early for the window), `digested` (the object stands for other events as well), or `taken` (the
            object with the event's name does not have the event's identity).
    """

    name: str
    namespace: str
    uid: str
    duplicate: bool
    result: str

    @property
    def taken(self) -> bool:
        """Whether the event has no object, because another object has its name."""
        return self.result == _TAKEN_RESULT


@dataclass
class KubeObjects:
    """The calls that a gateway may make to an API server; the owner of the client closes it."""

    client: KubeClient

    async def create(self, namespace: str, body: Json) -> Json:
        """Create an object; the PortError is `Conflict` if the name is taken."""
        return await self.client.request("POST", list_path(namespace), body=body, timeout=CALL)

    async def get(self, namespace: str, name: str) -> Json:
        """Read an object; the PortError is `Gone` if there is none."""
        return await self.client.request("GET", object_path(namespace, name), timeout=CALL)

    async def select(self, namespace: str, selector: str) -> list[Json]:
        """List the objects that a label selector matches, up to a bound."""
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
    """Makes objects exist; retries until the patience ends."""

    def __init__(self, objects: KubeObjects, now: Callable[[], float]) -> None:
        """Submit to an API server; `now` gives Unix seconds."""
        self.objects = objects
        self._now = now
        #: Why the last call failed; empty if it did not.
        self.problem = ""
        #: By namespace, while in use: one namespace may hang because of an admission webhook of its own.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        #: Calls in progress, and names that are known to be taken; both by namespace and name.
        self._under_way: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._taken: dict[tuple[str, str], None] = {}

    async def close(self) -> None:
        """End the calls in progress; no request waits for them any more."""
        await end(*self._under_way.values())

    async def submit(self, desired: Desired, until: float) -> Submitted:
        """
        Make one object exist; `until` is when to give up, by the loop's clock.

        Raises:
            Unavailable: the API server did not accept it in time.
            Refused: the API server will never accept it.
        """
        return await self._patiently(until, lambda: self._in_turn(desired, self._once))

    async def wanted(self, ends: Sequence[Conditional], until: float) -> list[Conditional]:
        """
        Return those ends whose incident is open; `until` is when to give up, by the loop's clock.

        Raises:
            Unavailable: the API server did not answer in time.
            Refused: the API server refuses the list call for good.
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
        # The incident is read from the extensions, which nobody can change; the label only selects objects.
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
                    # The server's message names the member at fault; `syncer.kube.errors` has bounded it.
                    reason = f"the API server refuses the object: {error}"
                    status = 413 if error.reason == "TooLarge" else 422
                    raise Refused(reason, status=status) from None
                last = str(error)
                wanted = error.retry_after or 0.0
            self.problem = last
            wait = max(min(wanted, _PAUSE_MOST), pause * random.uniform(0.5, 1.0))  # noqa: S311 (pause)
            if loop.time() + wait >= until:
                raise Unavailable(last)
            await asyncio.sleep(wait)
            pause = min(pause * 2, _PAUSE_MOST)

    async def find(self, desired: Desired, until: float) -> Submitted | None:
        """
        Return the object of an event if it exists, or the previous occurrence if that still stands for it.

        `until` is when to give up, by the loop's clock; Unavailable without an answer by then.
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
        """Call the API server for an event in its turn; the call continues if the waiting request ends."""
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
            # Not refused with a 4xx, after which the sender does not retry: the name is a hash of the
            # event, so whoever may patch the annotation could make all peers of the sender lose the event.
            return replace(found, result=_TAKEN_RESULT)
        again = await self._again(desired, there)
        return found if again is None else await self._once(again)

    def _take(self, desired: Desired) -> None:
        self._taken[_key(desired)] = None
        if len(self._taken) > _TAKEN:
            del self._taken[next(iter(self._taken))]

    async def _again(self, desired: Desired, there: Json) -> Desired | None:
        """Return an event whose object exists as an occurrence of its own; None if it is a duplicate."""
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
        """Return the previous occurrence, if it is young enough to make this one a duplicate."""
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
    # Rights may come back: a server that has just started may not know them yet.
    return (
        isinstance(error, Unauthorised)
        or error.reason in _PASSING
        or error.reason.startswith(_NO_STATUS)
    )


def _created(document: Json) -> int:
    return time_of((document.get("metadata") or {}).get("creationTimestamp"))


def _order(document: Json) -> tuple[int, int]:
    """Return the sort key of an incident's objects, the controller's: creation times are whole seconds."""
    return _created(document), incident_time(_extensions(document))


def _extensions(document: Json) -> Json:
    return (document.get("spec") or {}).get("extensions") or {}


def _ends(end: Json, firing: Json) -> bool:
    """Whether an end contains all firing alerts, with their starts; False if some cannot be seen."""
    fire = _alerts(firing, FIRING)
    return bool(fire) and fire <= _alerts(end, RESOLVED)


def _alerts(document: Json, status: str) -> set[bytes]:
    """Return the labels and starts of the alerts in this state; empty if some were left out."""
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
        return set()  # whoever may create objects may write anything here


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
