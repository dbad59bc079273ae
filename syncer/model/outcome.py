"""
What one call to a receiver came to.

An outcome is exactly one of delivered, failed, unknown. The three differ in what may be claimed about the
receiver:

- success: the receiver accepted the message;
- failed: the receiver refused it, or no byte of the request was written. `transient` may be tried
  again, `permanent` never, `notSent` means that the request never left. What is an operator's `mistake` is
  waited for instead, where that is configured (`syncer.sync.attempts`);
- unknown: bytes left and no usable answer came back. It is retried like a transient failure, but
  the record says that a repeat may be a second delivery.

The texts are upstream's, exact up to the colon before the answer's body (they are an interface:
dashboards and tests match on them). The class is a field; it is never read back from the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from syncer.model.attempt import AttemptState, FailureClass

#: Upstream's prefix of what is refused for good.
PERMANENT: Final = "permanent failure: "


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
        mistake: Refused for what an operator has configured, not for the message.
        digest: Of the templates by which it was worded; empty without any.
        answer: The id that the receiver gave to what it made of the message; empty without one.
        unworded: Why they did not fit, so that the usual text was sent, or nothing.
    """

    state: AttemptState
    failure: FailureClass | None = None
    error: str = ""
    code: int = 0
    retry_after: float | None = None
    by_rule: bool = False
    mistake: bool = False
    digest: str = ""
    unworded: str = ""
    answer: str = ""

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
        return cls(AttemptState.FAILED, FailureClass.PERMANENT, f"{PERMANENT}{error}", code)

    @classmethod
    def mistaken(cls, error: str, *, code: int = 0) -> Outcome:
        """Refused for good as things are, and only an operator can mend them."""
        return replace(cls.permanent(error, code=code), mistake=True)

    @classmethod
    def denied(cls, error: str) -> Outcome:
        """Never sent, for good: the receiver is not for this namespace."""
        return replace(cls.permanent(error), by_rule=True)

    @classmethod
    def not_sent(cls, error: str) -> Outcome:
        """The attempt was opened and then given up before any byte left."""
        return cls(AttemptState.FAILED, FailureClass.NOT_SENT, error)

    @classmethod
    def superseded(cls, newer: str) -> Outcome:
        """Never sent: another notification of its incident, of this name, is newer."""
        error = f"superseded by {newer}"
        return cls(AttemptState.FAILED, FailureClass.SUPERSEDED, error)

    @classmethod
    def unknown(cls, error: str, *, code: int = 0) -> Outcome:
        """Bytes left, and whether the receiver acted on them cannot be known."""
        return cls(AttemptState.UNKNOWN, FailureClass.UNCERTAIN, error, code)
