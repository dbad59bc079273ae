"""
Kubernetes Events: for people who run `kubectl describe`, never part of the record.

`emit` puts an event into a bounded queue and returns; an event that does not fit is counted and dropped.
A few loops send them at a bounded rate, because an event costs the API server as much as a status
write. Errors are counted and not raised: an event that cannot be written must not disturb
what it reports about.

Namespaces take turns, with one event of each under way, so a slow webhook in one namespace delays only the
events of that namespace. A namespace that does not accept an event within a second counts as slow until it
does. Half of the senders serve only namespaces that are not slow, however many slow ones there are. If the
queue is full, the namespace with the most waiting events loses its last; none loses its only one.

The name of an event is derived from the object's uid, the reason and a discriminator that the
caller chooses (an attempt id, a channel). So a repeat, by a second try or by the next process, is
AlreadyExists, which is as good as created.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote

from syncer.kube.client import Json, KubeClient
from syncer.model.conditions import bounded
from syncer.model.errors import (
    Ambiguous,
    Conflict,
    Gone,
    PortError,
    Rejected,
    Unavailable,
)
from syncer.model.resource import GROUP, KIND, VERSION, NotificationRequest
from syncer.rules.backoff import exponential
from syncer.rules.bucket import TokenBucket

COMPONENT: Final = "notification-controller"

_MESSAGE_BYTES: Final = 1024
_NAME_CHARS: Final = 200
_TRIES: Final = 3
#: Maximum of events under way for quick namespaces, and for slow ones.
_SENDERS: Final = 4
#: Seconds within which a quick namespace accepts an event.
_QUICK: Final = 1.0
#: Seconds between tries, at first and at most.
_PAUSE_FIRST: Final = 0.5
_PAUSE_MOST: Final = 5.0

logger = logging.getLogger("ledger.kube")


class EventRecorder:
    """Sends events about NotificationRequests; `dropped` counts those that were not written."""

    def __init__(
        self,
        client: KubeClient,
        *,
        instance: str,
        rate: float = 50.0,
        burst: int = 1000,
        queue: int = 1000,
        timeout: float = 5.0,
    ) -> None:
        """
        Prepare; `run` sends.

        Args:
            client: Must not be the client of the Leases.
            instance: Name of this replica, shown in the events.
            rate: Events per second in the long run.
            burst: Events that may be sent at once after a quiet time.
            queue: Maximum of waiting events.
            timeout: Seconds for one try.
        """
        self._client = client
        self._instance = instance
        self._queue = queue
        self._timeout = timeout
        self._bucket = TokenBucket(rate, burst, time.monotonic())
        #: Waiting events by namespace; a namespace is in it while one of its events waits or is under way.
        self._waiting: dict[str, deque[Json]] = {}
        #: Events that wait or are under way.
        self._left = 0
        #: Namespaces whose next event may be sent, in the order of their turns: quick and slow ones.
        self._turns: tuple[asyncio.Queue[str], ...] = asyncio.Queue(), asyncio.Queue()
        self._slow: set[str] = set()
        #: Namespace whose events cannot be written, which was logged; empty if there is none.
        self._reported = ""
        self.dropped = 0

    def emit(
        self,
        obj: NotificationRequest,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        discriminator: str,
    ) -> None:
        """
        Queue an event; never blocks, never raises for a full queue.

        Args:
            obj: The object that the event is about.
            kind: Type of the event.
            reason: One word in upper camel case.
            message: Already sanitised; cut to 1 KiB.
            discriminator: Tells events of one object and reason apart; the same discriminator again is a
                repeat.
        """
        waiting = self._waiting.get(obj.namespace)
        if self._left >= self._queue:
            self.dropped += 1
            most = max(self._waiting.values(), key=len, default=deque())
            if len(most) <= max(1, len(waiting or ())):
                return
            most.pop()
            self._left -= 1
        if waiting is None:
            waiting = self._waiting[obj.namespace] = deque()
            self._take_turn(obj.namespace)
        waiting.append(self._document(obj, kind, reason, message, discriminator))
        self._left += 1

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for n in range(_SENDERS * 2):
                group.create_task(self._serve(slow=n >= _SENDERS), name=f"events-{n}")

    def _take_turn(self, namespace: str) -> None:
        self._turns[namespace in self._slow].put_nowait(namespace)

    async def _serve(self, *, slow: bool) -> None:
        """Send an event of the namespace whose turn it is, again and again."""
        turns = self._turns[slow]
        while True:
            namespace = await turns.get()
            waiting = self._waiting[namespace]
            try:
                if waiting:
                    await self._next(namespace, waiting, slow=slow)
            finally:
                if waiting:
                    self._take_turn(namespace)
                else:
                    del self._waiting[namespace]
                turns.task_done()

    async def _next(self, namespace: str, waiting: deque[Json], *, slow: bool) -> None:
        event = waiting.popleft()
        again: object = None
        try:
            await asyncio.sleep(self._bucket.reserve(time.monotonic()))
            began = time.monotonic()
            if slow:
                await self._send(event)
            else:
                again = await self._try(event, _QUICK)
        finally:
            if again:
                waiting.appendleft(event)
            else:
                self._left -= 1
        if again:
            while len(self._slow) >= self._queue:
                self._slow.pop()
            self._slow.add(namespace)
        elif time.monotonic() - began < _QUICK:
            self._slow.discard(namespace)

    async def drain(self, timeout: float) -> int:
        """
        Wait until the queue is empty, at most `timeout` seconds, and drop what is left.

        `run` must still be running.

        Returns:
            Number of dropped events, including those under way, since nobody waits for their answers.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._left:
                    for turns in self._turns:
                        await turns.join()
        except TimeoutError:
            left = self._left
            self.dropped += left
            for waiting in self._waiting.values():
                self._left -= len(waiting)
                waiting.clear()
            return left
        return 0

    async def _send(self, event: Json) -> None:
        """Try a few times, with pauses."""
        for again in range(1, _TRIES + 1):
            error = await self._try(event, self._timeout)
            if error is None:
                return
            if again < _TRIES:
                requested = error.retry_after or 0.0
                wait = exponential(_PAUSE_FIRST, _PAUSE_MOST, again)
                await asyncio.sleep(min(_PAUSE_MOST, max(requested, wait)))
            else:
                self._failed(event["metadata"]["namespace"], error)

    async def _try(self, event: Json, timeout: float) -> Unavailable | Ambiguous | None:
        """Send once; returns the error if a further try may help."""
        namespace = event["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
        try:
            await self._client.request("POST", path, body=event, timeout=timeout)
        except Conflict:
            logger.debug("the event already exists")
        except (Unavailable, Ambiguous) as error:
            return error
        except PortError as error:
            self._failed(namespace, error)
        else:
            if namespace == self._reported:
                self._reported = ""
        return None

    def _failed(self, namespace: str, error: PortError) -> None:
        self.dropped += 1
        ends = isinstance(error, Rejected) and error.reason == "NamespaceTerminating"
        if ends or isinstance(error, Gone):
            logger.debug("an event was refused because its namespace is being deleted: %s", error)
        elif not self._reported:
            self._reported = namespace
            logger.warning("events cannot be written: %s", error)

    def _document(
        self, obj: NotificationRequest, kind: str, reason: str, message: str, discriminator: str
    ) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": event_name(obj.name, obj.uid, reason, discriminator),
                "namespace": obj.namespace,
            },
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": obj.namespace,
                "name": obj.name,
                "uid": obj.uid,
                "resourceVersion": obj.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": bounded(message, _MESSAGE_BYTES),
            "source": {"component": COMPONENT, "host": self._instance},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }


def event_name(name: str, uid: str, reason: str, discriminator: str) -> str:
    """Name of an event: always the same for the same arguments, and a valid DNS name."""
    text = f"{uid}\x00{reason}\x00{discriminator}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(text).hexdigest()[:24]
    return f"{name[:_NAME_CHARS].rstrip('.-')}.{digest}"
