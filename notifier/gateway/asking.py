"""
Reports to a source the results of its notifications.

A source sees only its own notifications: for an object without its name, the answer is the same as for one
that does not exist. A request may wait for the end; then the object is read again at growing intervals, for
a minute at most. The number of waiting requests is bounded. Beyond the bound, a request gets the current
result at once, and its sender asks again.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from notifier.gateway.draft import Refused
from notifier.gateway.manifest import SOURCE_LABEL
from notifier.gateway.report import report
from notifier.gateway.submit import KubeObjects
from notifier.gateway.translation import Source
from syncer.model.errors import Gone, PortError, Unavailable
from syncer.model.resource import Json
from syncer.runtime.supervise import elapse

#: Longest wait of a request, in seconds.
LONGEST: Final = 60
#: Most requests that wait at once, of all sources and of one.
_WAITING: Final = 64
_OF_ONE: Final = 32
#: Seconds between two reads of an object, at first and at most.
_PAUSE: Final = 0.25
_PAUSE_MOST: Final = 2.0
_SECONDS: Final = re.compile(r"([0-9]{1,2})s?")
#: A valid object name; no path of the API server is made of anything else.
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class Asking:
    """Answers questions for the results of notifications."""

    def __init__(self, objects: KubeObjects) -> None:
        """Answer from the status of `objects`; no request waits yet."""
        self._objects = objects
        self._waiting: dict[str, int] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Answer all waiting requests now."""
        self._closing.set()

    async def answer(self, source: Source, namespace: str, name: str, wait: str) -> Json:
        """
        Return the result of a source's notification; with `wait`, once it is finished or the time is up.

        Raises:
            Refused: the source has made no notification of this name, or `wait` is wrong or too long.
            Unavailable: the API server did not answer, or the status cannot be read.
        """
        seconds = _seconds(wait)
        if namespace not in source.namespaces or not _NAME.fullmatch(name):
            raise _none()
        until = asyncio.get_running_loop().time() + seconds
        own = self._waiting.get(source.name, 0)
        if not seconds or own >= _OF_ONE or sum(self._waiting.values()) >= _WAITING:
            return await self._look(source, namespace, name)
        self._waiting[source.name] = own + 1
        try:
            return await self._finished(source, namespace, name, until)
        finally:
            self._waiting[source.name] -= 1

    async def _finished(self, source: Source, namespace: str, name: str, until: float) -> Json:
        pause = _PAUSE
        while True:
            found = await self._look(source, namespace, name)
            left = until - asyncio.get_running_loop().time()
            if found["finished"] or left <= 0 or self._closing.is_set():
                return found
            await elapse(min(pause, left), self._closing)
            pause = min(pause * 1.5, _PAUSE_MOST)

    async def _look(self, source: Source, namespace: str, name: str) -> Json:
        try:
            document = await self._objects.get(namespace, name)
        except Gone:
            raise _none() from None
        except PortError as error:
            raise Unavailable(str(error)) from None
        labels = (document.get("metadata") or {}).get("labels") or {}
        if labels.get(SOURCE_LABEL) != source.name:
            raise _none()
        try:
            return report(document)
        except (ValueError, TypeError, AttributeError):
            # Whoever may write a status may write values that no schema covers.
            raise Unavailable("the status of this notification cannot be read") from None


def _seconds(wait: str) -> int:
    found = _SECONDS.fullmatch(wait or "0")
    if not found or int(found[1]) > LONGEST:
        reason = f"must be whole seconds, at most {LONGEST}, such as 30s"
        raise Refused(reason, path="wait", status=400)
    return int(found[1])


def _none() -> Refused:
    return Refused("this source has made no notification of this name", status=404)
