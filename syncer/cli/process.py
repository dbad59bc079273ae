"""The process of a command, which is over soon after it has answered."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Final

from syncer.cli.exits import INTERRUPTED, OK, USAGE
from syncer.model.errors import reason_of

#: Why an answer cannot be written to where it is sent.
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def begin() -> None:
    """
    Set up the process.

    What a terminal has no character for is written as an escape; an arrow would end the command.

    The interpreter looks for cyclic garbage seldom, and not at the end of the process. With the default
    threshold collections take a sixth of what it costs to import what a command needs, and the one at the
    end as much again: it looks through every module to free what ends anyway.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def finish(program: str, work: Callable[[], int]) -> int:
    """
    Do what a command does, and hand on what it wrote; returns the exit code.

    Args:
        program: That says what is wrong.
        work: Of the command; returns its exit code, or exits, as help does.
    """
    # Whoever has closed standard output wants none; the interpreter then has no stream for it.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123 - likewise
    try:
        try:
            return work()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough.
        _give_up_output()
        return OK
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _give_up_output()
        sys.stderr.write(f"{program}: the answer cannot be written: {reason_of(error)}\n")
        return USAGE


def _give_up_output() -> None:
    """Send what is still to be written nowhere: the interpreter must not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
