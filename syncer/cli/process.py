"""The process of a command, which is over soon after it has answered."""

from __future__ import annotations

import atexit
import gc
import io
import sys


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
