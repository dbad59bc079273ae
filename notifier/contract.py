"""
What a send came to: exactly one of delivered, failed, unknown.

A channel answers with an `Outcome` and never raises for anything the receiver did. The three ways
out differ in what may be claimed about the receiver:

- success: the receiver accepted the message;
- failed: the receiver refused it, or no byte of the request was written. `transient` may be tried
  again, `permanent` never, `notSent` says that the request did not leave;
- unknown: bytes left and no usable answer came back. It is retried like a transient failure, but
  the record says that a repeat may be a second delivery.

The texts are upstream's, exact up to the colon before the answer's body (they are an interface:
dashboards and tests match on them). The class is a field; nobody reads it back from the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from syncer.model.attempt import AttemptState, FailureClass


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    Result of one call.

    Attributes:
        state: SUCCESS, FAILED or UNKNOWN.
        failure: Class of a failure, None on success.
        error: Text for the record, already without URL and secrets; empty on success.
        code: HTTP or SMTP status code, 0 if there was no answer.
        retry_after: Wait in seconds that the receiver asked for, or None.
        by_rule: Nothing was sent, because the operators' rules deny it.
    """

    state: AttemptState
    failure: FailureClass | None = None
    error: str = ""
    code: int = 0
    retry_after: float | None = None
    by_rule: bool = False

    @classmethod
    def success(cls, code: int = 0) -> Outcome:
        """The receiver accepted the message."""
        return cls(AttemptState.SUCCESS, code=code)

    @classmethod
    def transient(cls, error: str, *, code: int = 0, retry_after: float | None = None) -> Outcome:
        """Refused for now, or never sent because the receiver could not be reached."""
        return cls(AttemptState.FAILED, FailureClass.TRANSIENT, error, code, retry_after)

    @classmethod
    def permanent(cls, error: str, *, code: int = 0) -> Outcome:
        """Refused for good; upstream's prefix is added here."""
        return cls(AttemptState.FAILED, FailureClass.PERMANENT, f"permanent failure: {error}", code)

    @classmethod
    def denied(cls, error: str) -> Outcome:
        """Never sent, for good: the receiver is not for this namespace."""
        return replace(cls.permanent(error), by_rule=True)

    @classmethod
    def not_sent(cls, error: str) -> Outcome:
        """The attempt was opened and then given up before any byte left."""
        return cls(AttemptState.FAILED, FailureClass.NOT_SENT, error)

    @classmethod
    def unknown(cls, error: str, *, code: int = 0) -> Outcome:
        """Bytes left, and whether the receiver acted on them cannot be known."""
        return cls(AttemptState.UNKNOWN, FailureClass.UNCERTAIN, error, code)


def classify_http(kind: str, code: int, body: str, *, retry_after: float | None = None) -> Outcome:
    """
    Class of an HTTP answer, with upstream's text.

    Args:
        kind: Channel type as the text names it: `slack`, `pagerduty`, `teams`, `webhook`.
        code: Status code of the answer.
        body: Bounded, sanitised excerpt of the answer.
        retry_after: Seconds from the header, or None.

    2xx succeeds whatever the body; 5xx and 429 may be tried again; every other code, a redirect
    included, is permanent (redirects are never followed).
    """
    if 200 <= code <= 299:
        return Outcome.success(code)
    if code == 429 or 500 <= code <= 599:
        return Outcome.transient(
            f"{kind} webhook returned {code} (retryable): {body}",
            code=code,
            retry_after=retry_after,
        )
    return Outcome.permanent(
        f"{kind} webhook returned {code} (permanent failure): {body}", code=code
    )
