"""How a command ends: exit codes, the errors that carry one, and the output of a process that exits."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
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
from syncer.model.errors import reason_of as fault_of

OK: Final = 0
#: Something is not as it should be, or the request was refused.
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
    """Ends a command with this message on standard error and this exit code."""

    exit_code: ClassVar[int] = DIFFERENT


class Absent(CommandError):
    """There is no such notification."""

    exit_code = ABSENT


class Refused(CommandError):
    """The request makes no sense in the present state; nothing was written."""


class Misused(Refused):
    """The request can never be carried out, whatever is on record."""

    exit_code = USAGE


#: Errors that mean that a server does not answer.
SILENT: Final = (Unavailable, Ambiguous, TimeoutError)


def reason_of(error: Exception) -> str:
    """Return the text of an error and the server that it names; a TimeoutError has no text of its own."""
    notes = "".join(f" ({line})" for line in getattr(error, "__notes__", ()))
    return f"{str(error) or 'no answer in time'}{notes}"


def failed(error: LedgerError | TimeoutError, program: str = "syncer") -> int:
    """Write the error that ended a command to standard error; returns the exit code."""
    from syncer.rules.text import neutral

    sys.stderr.write(f"{program}: {neutral(reason_of(error))}\n")
    if isinstance(error, CommandError):
        return error.exit_code
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), DIFFERENT)


#: Exit codes by kind of error; the first kind that matches counts.
_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...]] = (
    (Unauthorised, REFUSED), ((Rejected, Conflict, Gone), DIFFERENT),
    ((PortError, TimeoutError), UNAVAILABLE), ((ConfigError, ContractError), USAGE),
)  # fmt: skip


#: Errors that mean that the answer cannot be written to its destination.
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def finish(program: str, work: Callable[[], int]) -> int:
    """
    Run a command and flush its output; returns the exit code.

    Args:
        program: Name of the program, for errors.
        work: Runs the command; returns its exit code, or exits, as `--help` does.
    """
    # If standard output was closed, nobody wants it, and `sys.stdout` is None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123 - likewise
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Write characters that the encoding lacks as escapes; otherwise an arrow would end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return work()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, which is no error.
        _give_up_output()
        return OK
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _give_up_output()
        sys.stderr.write(f"{program}: the answer cannot be written: {fault_of(error)}\n")
        return USAGE


def _give_up_output() -> None:
    """Discard the output that is still unwritten, or the interpreter would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
