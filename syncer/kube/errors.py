"""
What an answer other than 2xx means, as one of the project's errors; no I/O.

The API server explains a refusal by a Status object. It decides what the status code leaves open: whether
an object or its resource type is missing, whether a write is too large. An error quotes only its reason and
message, up to a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import orjson

from syncer.model.conditions import bounded
from syncer.model.errors import (
    DENIED,
    NOT_CORRECTED,
    Ambiguous,
    Conflict,
    Expired,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)

_ERROR_BYTES: Final = 256
_RETRY_AFTER_MAX: Final = 300.0
#: Wording of a refusal because the user has no right to the call; admission words refusals differently.
_NO_RIGHT: Final = re.compile(r'User "[^"]*" cannot ')
#: How the API server introduces the reason that a webhook or a policy gives.
_ADMISSION: Final = re.compile(
    r"^admission webhook \"[^\"]*\" denied the request"
    r"|: ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request"
)
#: Wording of the chart's own policies when a user lacks a verb that they check. This is a missing
#: permission: `record` concerns every object of a namespace.
_NO_VERB: Final = re.compile(
    r"' denied request: (User \"[^\"]*\" cannot (record|correct) resource .*)", re.DOTALL
)
_REQUEST_TOO_LARGE: Final = ("request is too large", "larger than max")
#: Reason of an error about an answer that is larger than the caller allows.
OVERSIZED: Final = "Oversized"
#: Reason of a refusal of an invalid request, such as a field selector that the CRD does not support.
BAD_REQUEST: Final = "BadRequest"
#: A member of etcd that lags shows an older state for a moment; a restored one does so until its versions
#: have caught up. A process that starts meanwhile accepts the state that it finds.
OLDER_STATE: Final = (
    "the server lists an older state than it has shown before; if that lasts, etcd was restored: raise"
    " sharding.incarnation and restart all replicas"
)


class OversizedLine(Expired):
    """A line of a watch is too long to be read. Its event is lost, so a new list is needed."""


def no_answer(text: str, *, write: bool) -> PortError:
    """Return the error for a request whose answer was lost: a write may have been executed."""
    return Ambiguous(text) if write else Unavailable(text)


def error_of(  # noqa: C901, PLR0911, PLR0912 (a table)
    status: int, body: bytes, retry_after: str | None, *, write: bool
) -> PortError:
    """
    Return the error for an answer other than 2xx.

    A 404 is `Gone` only if a Status object names the missing object; any other 404 (the plain text that
    unknown paths get, a collection that is not served) is `KindMissing`, and proves nothing about
    objects. Admission refuses one object, with any code that its author likes. That proves nothing about
    credentials, the right to the call (the reason is `DENIED`), the existence of the object or the load. An
    overloaded or failing server has not executed a read; whether it has executed a write is known only if
    its answer shows it.

    Args:
        status: HTTP status.
        body: Body of the answer, of any kind.
        retry_after: The Retry-After header, or None.
        write: Whether the request may have changed something.
    """
    answer = _StatusObject.read(body)
    text = bounded(f"{status} {answer.reason}: {answer.message}".rstrip(": "), _ERROR_BYTES)
    wait = _seconds(retry_after, answer)
    if status == 403 and (own := _NO_VERB.search(answer.message)):
        # Without the text before the match, which is long and would fill the quote.
        text = bounded(f"403 Forbidden: {own[1]}", _ERROR_BYTES)
        return Unauthorised(text, reason="Forbidden" if own[2] == "record" else NOT_CORRECTED)
    match status:
        case 401 | 403 | 404 | 409 | 410 if answer.denied:
            return Unauthorised(text, reason=DENIED)
        case _ if answer.denied and (status == 429 or status >= 500):
            return Unavailable(text)
        case 401:
            return Unauthorised(f"{status}: the credentials are not valid, or have expired")
        case 403 if "NamespaceTerminating" in answer.causes:
            return Rejected(text, reason="NamespaceTerminating")
        case 403:
            return Unauthorised(text, reason="Forbidden" if answer.lacks_right else DENIED)
        case 404 if answer.name:
            return Gone(text)
        case 404 if answer.message:
            return KindMissing(text)
        case 404:
            return KindMissing(
                "404: not served; for NotificationRequests, apply the CRD (notifier show crd)"
            )
        case 409:
            return Conflict(text)
        case 410:
            return Expired(text)
        case 413:
            return Rejected(text, reason="TooLarge")
        case 422:
            return Rejected(text, reason="Invalid")
        case 429 if "storage is (re)initializing" in answer.message:
            return KindMissing(text, retry_after=wait)
        case 429:
            return Unavailable(text, retry_after=wait)
        case 500 if any(words in answer.message for words in _REQUEST_TOO_LARGE):
            return Rejected(text, reason="TooLarge")
        case 503 if wait is not None:
            return Unavailable(text, retry_after=wait)
        case _ if status == 408 or status >= 500:
            return Ambiguous(text) if write else Unavailable(text, retry_after=wait)
        case _:
            return Rejected(text, reason=answer.reason or f"HTTP{status}")


@dataclass(frozen=True, slots=True)
class _StatusObject:
    """The members of a Status object; empty if the body is not one."""

    reason: str = ""
    message: str = ""
    name: str = ""
    causes: frozenset[str] = frozenset()
    retry_after: object = None

    @property
    def denied(self) -> bool:
        """Whether a webhook or a policy has refused the object."""
        return _ADMISSION.search(self.message) is not None

    @property
    def lacks_right(self) -> bool:
        """Whether a refusal is about the user, not the object; one without a message counts as such."""
        return not self.message or _NO_RIGHT.search(self.message) is not None

    @classmethod
    def read(cls, body: bytes) -> _StatusObject:
        try:
            status = orjson.loads(body)
        except orjson.JSONDecodeError:
            return cls()
        if not isinstance(status, dict) or status.get("kind") != "Status":
            return cls()
        details = status.get("details")
        details = details if isinstance(details, dict) else {}
        causes = details.get("causes")
        return cls(
            reason=str(status.get("reason") or ""),
            message=str(status.get("message") or ""),
            name=str(details.get("name") or ""),
            causes=frozenset(
                str(c.get("reason")) for c in causes if isinstance(c, dict)
            ) if isinstance(causes, list) else frozenset(),
            retry_after=details.get("retryAfterSeconds"),
        )  # fmt: skip


def _seconds(header: str | None, answer: _StatusObject) -> float | None:
    for given in (header, answer.retry_after):
        try:
            seconds = float(given)  # type: ignore[arg-type]  # None raises as well, and is caught
        except (TypeError, ValueError):
            continue  # absent, or a date, which the API server does not send
        if seconds >= 0:  # also refuses "nan"
            return min(seconds, _RETRY_AFTER_MAX)
    return None
