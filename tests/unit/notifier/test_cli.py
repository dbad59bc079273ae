"""The end of the process: exit code, and threads that hang."""

from __future__ import annotations

import subprocess
import sys
import time

_END = """
import sys, threading, time
from notifier.cli import _ended
threading.Thread(target=time.sleep, args=({seconds},), name="resolve_0").start()
sys.exit(_ended(3))
"""


def ended(seconds: float) -> tuple[int, str, float]:
    """Exit code, what it said, and how long it took, of a process with a thread that is busy."""
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", _END.format(seconds=seconds)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return process.returncode, process.stderr, time.monotonic() - began


def test_thread_that_hangs_does_not_hold_up_the_end() -> None:
    """A dead name server holds a thread far longer than the grace period lasts."""
    code, said, took = ended(90)
    assert (code, took < 60) == (3, True)
    assert "threads hang" in said


def test_thread_that_ends_is_waited_for() -> None:
    """What a thread still has to say is said."""
    code, said, _ = ended(0.2)
    assert (code, said) == (3, "")
