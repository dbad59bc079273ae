"""The common part of both clients: the call, its key, and the result."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.model.errors import Ambiguous, Rejected, Unavailable
from syncer.model.resource import Json

#: Seconds between two reads of a result, at first and at most.
_PAUSE: Final = 0.25
_PAUSE_MOST: Final = 2.0
#: Seconds within which an answer must arrive, beyond the requested wait.
_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Made:
    """A notification that exists; a `duplicate` was created by an earlier call with the same key."""

    name: str
    namespace: str
    uid: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Channel:
    """
    The result of a notification on one channel.

    Attributes:
        outcome: `pending`, `sending`, `retrying`, `delivered`, `failed`, `unknown` (it may have arrived),
            `superseded` (a newer notification of its incident was sent instead).
        unknown: Number of `attempts` that got no answer and may have arrived.
        code: HTTP status of the last answer, None without one.
    """

    name: str
    outcome: str
    attempts: int
    unknown: int
    code: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of a notification.

    Attributes:
        finished: Whether no further attempt is made.
        outcome: `pending`, `delivered`, `partly delivered`, `failed`, or `unknown`: no channel certainly
            delivered it, and at least one may have.
    """

    name: str
    namespace: str
    uid: str
    phase: str
    finished: bool
    outcome: str
    channels: tuple[Channel, ...]

    @classmethod
    def of(cls, answer: Json) -> Result:
        """Return the result in an answer of the gateway or of `notifier.gateway.report`."""
        members = ("name", "namespace", "uid", "phase", "finished", "outcome")
        names = ("name", "outcome", "attempts", "unknown", "code")
        channels = tuple(Channel(*(each[name] for name in names)) for each in answer["channels"])
        return cls(**{member: answer[member] for member in members}, channels=channels)


class Client(ABC):
    """
    Creates notifications, and reads their results.

    Errors are those of `syncer.model.errors`. `Rejected` (and its subclass `Unauthorised`): the call will
    be refused again; the text names the member at fault. `Unavailable`: the call was not executed and may
    succeed later. `Ambiguous`: the call may have been executed; call again with the same key. `Gone`: there
    is no notification of this name.
    """

    async def notify(  # noqa: V105, PLR0913 (for callers; members of a notification)
        self,
        subject: str,
        body: str,
        *,
        key: str,
        type: str = "Simple",  # noqa: A002 (as in the resource)
        priority: str = "Medium",
        severity: str = "",
        extensions: Mapping[str, str] | None = None,
        links: Sequence[tuple[str, str, str]] = (),
        incident: str = "",
        state: str = "",
        traceparent: str = "",
        timeout: float = 60.0,
    ) -> Made:
        """
        Create a notification, once for each key; retries until it exists or the time is up.

        Args:
            subject: The title.
            body: The text, in Markdown.
            key: Distinguishes the event from every other one of the same source.
            type: As in the resource.
            priority: Critical, High, Medium or Low.
            severity: Free text; routes match on it.
            extensions: Further attributes; routes match on them.
            links: Service, URL and text of each.
            incident: Identifies an incident; its notifications share the value.
            state: `firing` or `resolved`.
            traceparent: W3C header of the trace that it belongs to.
            timeout: Seconds for the whole call, retries included.

        Raises:
            PortError: see the class.
        """
        if not key:
            raise Rejected("key: is required: with it, a call that is repeated makes nothing new")
        given = {
            "key": key, "subject": subject, "body": body, "type": type, "priority": priority,
            "severity": severity, "extensions": dict(extensions or {}), "incident": incident,
            "state": state,
            "links": [dict(zip(("service", "url", "label"), link, strict=True)) for link in links],
        }  # fmt: skip
        until = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(until):
                return await self._make({k: v for k, v in given.items() if v}, traceparent, until)
        except TimeoutError:
            raise Ambiguous(
                f"no answer within {timeout:g} s: call again with the same key"
            ) from None

    async def wait(self, made: Made, *, timeout: float = 60.0) -> Result:
        """
        Return the result of a notification once it is finished, or the current one when the time is up.

        Raises:
            PortError: see the class; `Unavailable` if no answer has come by then.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + timeout, _PAUSE
        while True:
            left = until - loop.time()
            try:
                async with asyncio.timeout(max(0.0, left) + _GRACE):
                    found = Result.of(await self._look(made.namespace, made.name, max(0.0, left)))
                if found.finished or left <= 0:
                    return found
            except (Unavailable, Ambiguous, TimeoutError) as error:
                if left <= 0:
                    raise Unavailable(str(error) or "no answer in time") from None
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
            pause = min(pause * 1.5, _PAUSE_MOST)

    @abstractmethod
    async def _make(self, given: Json, traceparent: str, until: float) -> Made:
        """Create the notification; `until` is when to give up, by the loop's clock."""

    @abstractmethod
    async def _look(self, namespace: str, name: str, seconds: float) -> Json:
        """Return the result of a notification, waiting for its end for at most about `seconds`."""
