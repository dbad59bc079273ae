"""The process: how it ends, whatever hangs, and when it is told to before it has begun."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_END = """
import os, signal, sys, threading, time
from notifier.cli import _ended
threading.Thread(target=time.sleep, args=({seconds},), name="resolve_0").start()
code = _ended(3)
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(code)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_before_the_start(number: signal.Signals, tmp_path: Path) -> None:
    """While settings are still being read there is nothing to drain: it ends at once, with code 0."""
    settings = tmp_path / "config.yaml"
    os.mkfifo(settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "notifier", "run", "--config", settings], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        writer = None
        while writer is None and time.monotonic() < deadline:
            # There is a reader as soon as the process reads its settings, and it waits for a word.
            with contextlib.suppress(OSError):
                writer = os.open(settings, os.O_WRONLY | os.O_NONBLOCK)
            time.sleep(0.02)
        assert writer is not None
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        os.close(writer)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, b"")


_LOOKUP = """
import asyncio, sys, time
from notifier.cli import _ended, _main

async def product() -> None:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 90)
    await asyncio.sleep(0.1)

asyncio.run(_main(product()))
sys.exit(_ended(3))
"""


def test_lookup_that_hangs_does_not_hold_up_the_loop() -> None:
    """The names of Redis and of the API server are looked up in the loop's threads."""
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", _LOOKUP], capture_output=True, timeout=100, check=False
    )
    assert (process.returncode, time.monotonic() - began < 60) == (3, True)
    assert b"threads hang" in process.stderr
