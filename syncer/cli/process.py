"""The process of a command, which is over soon after it has answered."""

from __future__ import annotations

import atexit
import gc


def collect_seldom() -> None:
    """
    Have the interpreter look for cyclic garbage seldom, and not at the end of the process.

    With the default threshold collections take a sixth of what it costs to import what a command needs, and
    the one at the end as much again: it looks through every module to free what ends anyway.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)
