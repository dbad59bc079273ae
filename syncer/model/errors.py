"""
The errors that a port may raise, and what each one means.

The one question that matters after a failed call is *may it have been executed?* The tree answers
it by type, so that callers decide on types and never on texts. Adapters map vendor errors here and
raise nothing else; `asyncio.CancelledError` always passes through untouched.

Texts end up in logs and readiness details, therefore they never hold a URL, a credential or a body.
"""

from __future__ import annotations

from typing import Final


class LedgerError(Exception):
    """Root of every error this project raises on purpose."""


class ConfigError(LedgerError):
    """
    The configuration cannot be used; only raised at start-up or reload.

    `path` is the dotted path of the key at fault (`redis.url`), empty where no single key is; `line` is
    where a file says it, 0 where none does. The text says both, if the message says the line.
    """

    def __init__(self, message: str, *, path: str = "", line: int = 0) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.line = line


def reason_of(error: Exception) -> str:
    """Return why a file cannot be used, in the words of the system or of OpenSSL, without its content."""
    word = getattr(error, "reason", None)  # of OpenSSL: NO_CERTIFICATE_OR_CRL_FOUND
    if isinstance(error, OSError) and word:
        return str(word).lower().replace("_", " ")
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return getattr(error, "strerror", None) or type(error).__name__


class ContractError(LedgerError):
    """Stored data does not follow the contract: bad record, wrong checksum, unknown version."""


class PortError(LedgerError):
    """A call to Redis or to the API server has failed."""

    #: Seconds that the server asks to wait, None if it does not.
    retry_after: float | None = None


class Unavailable(PortError):
    """Not executed; call again later: after `retry_after` seconds, if the server requests that."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Ambiguous(PortError):
    """May have been executed: read back, or repeat with the same identity."""


class Conflict(PortError):
    """Not executed: the object has another resourceVersion than the caller believed."""


class Gone(PortError):
    """Not executed: the object does not exist (its collection does)."""


class KindMissing(Unavailable):
    """Not executed: the resource type itself is not served. Says nothing about any object."""


class Expired(PortError):
    """The resourceVersion or continue token is too old; list again."""


class Rejected(PortError):
    """
    Not executed, and the same call will be refused again.

    `reason` is a machine word (`Invalid`, `TooLarge`, `Forbidden`, ...), never free text.
    """

    def __init__(self, message: str, *, reason: str = "Invalid") -> None:
        super().__init__(message)
        self.reason = reason


#: Reason of an `Unauthorised` about one object, which admission refuses: the right to the call is there.
DENIED: Final = "Denied"
#: Reason of one about a status that takes from the record, which the policy on statuses refuses: a right is
#: missing that few writes need.
NOT_CORRECTED: Final = "NotCorrected"
#: Those that say nothing about other objects.
OF_ONE_OBJECT: Final = frozenset({DENIED, NOT_CORRECTED})


class Unauthorised(Rejected):
    """Credentials were not accepted, or do not grant this call."""

    def __init__(self, message: str, *, reason: str = "Unauthorised") -> None:
        super().__init__(message, reason=reason)
