"""
Tells a source what became of its notifications.

A source sees what it made and nothing else: whatever does not bear its name gets the answer of what does
not exist. It may wait for the end: then the object is read again ever more seldom, for a minute at most.
How many wait at once is bounded; whoever comes above that gets at once what there is, and asks again.
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

#: Seconds that a request may wait.
LONGEST: Final = 60
#: Requests that wait at once, and those of one source.
_WAITING: Final = 64
_OF_ONE: Final = 32
#: Seconds between two looks, growing.
_PAUSE: Final = 0.25
_PAUSE_MOST: Final = 2.0
_SECONDS: Final = re.compile(r"([0-9]{1,2})s?")
#: What can be the name of an object; no path is made of anything else.
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class Asking:
    """Answers what became of notifications."""

    def __init__(self, objects: KubeObjects) -> None:
        """Read objects; nobody waits yet."""
        self._objects = objects
        self._waiting: dict[str, int] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Have those that wait be answered now."""
        self._closing.set()

    async def answer(self, source: Source, namespace: str, name: str, wait: str) -> Json:
        """
        Return what became of a notification of a source; with `wait`, once it is finished or time is up.

        Raises:
            Refused: the source made none of this name, or may not wait for so long.
            Unavailable: the API server did not say.
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
            # Who may write a status may write what no schema covers.
            raise Unavailable("the status of this notification cannot be read") from None


def _seconds(wait: str) -> int:
    found = _SECONDS.fullmatch(wait or "0")
    if not found or int(found[1]) > LONGEST:
        reason = f"must be whole seconds, at most {LONGEST}, such as 30s"
        raise Refused(reason, path="wait", status=400)
    return int(found[1])


def _none() -> Refused:
    return Refused("this source has made no notification of this name", status=404)
