"""Exit codes of the operators' command, and the errors that carry one."""

from __future__ import annotations

import sys
from typing import ClassVar, Final

from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    Conflict,
    ContractError,
    Gone,
    LedgerError,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)

OK: Final = 0
#: Something is not as it should be, or what was asked for was refused.
DIFFERENT: Final = 1
USAGE: Final = 2
ABSENT: Final = 3
UNAVAILABLE: Final = 4
NOT_COMPARED: Final = 5
REFUSED: Final = 6
INTERRUPTED: Final = 130

EPILOG: Final = (
    "exit codes: 0 success, nothing to report; 1 something was found, or the request was refused;"
    " 2 wrong usage, configuration or input; 3 no such notification; 4 Redis or the API server does not"
    " answer; 5 something could not be read or compared, and the answer names it; 6 Redis or the API"
    " server refuses the account"
)


class CommandError(LedgerError):
    """A command ends with this message on standard error and this exit code."""

    exit_code: ClassVar[int] = DIFFERENT


class Absent(CommandError):
    """There is no such notification."""

    exit_code = ABSENT


class Refused(CommandError):
    """What the operator asks for makes no sense here; nothing was written."""


class Misused(Refused):
    """What the operator asks for can never be done, whatever is on record."""

    exit_code = USAGE


def message_of(error: Exception) -> str:
    """Return what an error says; one of time says nothing by itself."""
    return str(error) or "no answer in time"


#: Errors of a Redis that does not answer.
SILENT: Final = (Unavailable, Ambiguous, TimeoutError)


def reason_of(error: Exception) -> str:
    """Return what an error says, and which server it is of."""
    return f"{message_of(error)}{''.join(f' ({line})' for line in getattr(error, '__notes__', ()))}"


def failed(error: LedgerError | TimeoutError, program: str = "syncer") -> int:
    """Say what has ended a command; returns its exit code."""
    from syncer.rules.text import neutral

    sys.stderr.write(f"{program}: {neutral(reason_of(error))}\n")
    return exit_code_of(error)


def exit_code_of(error: LedgerError | TimeoutError) -> int:
    """Return the exit code of a command that an error has ended."""
    match error:
        case CommandError():
            return error.exit_code
        case Unauthorised():
            return REFUSED
        case Rejected() | Conflict() | Gone():
            return DIFFERENT
        case PortError() | TimeoutError():
            return UNAVAILABLE
        case ConfigError() | ContractError():
            return USAGE
        case _:
            return DIFFERENT
