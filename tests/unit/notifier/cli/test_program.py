"""The process: how it ends, whatever hangs, and when it is told to before it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from notifier.cli.main import main
from notifier.cli.program import _ended, _run, _Threads
from notifier.settings import Loaded
from syncer.model.errors import ConfigError
from syncer.runtime.offload import SWITCH_INTERVAL

_END = """
import os, signal, sys, threading, time
from notifier.cli.program import _ended
threading.Thread(target=time.sleep, args=({seconds},), name="resolve_0").start()
sys.stdout.write("delivered")
code = _ended(3)
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(code)
"""


def ended(seconds: float) -> tuple[int, str, float]:
    """
    Exit code, what it said, and how long it took, of a process with a thread that is busy.

    What it has written to standard output arrives, however it ends.
    """
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", _END.format(seconds=seconds)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert process.stdout == "delivered"
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


@pytest.mark.slow("a start of the controller each")
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


_EXTENSION = """
import os, signal, sys
from notifier.cli.program import _at_once, _on_signal

class Finder:
    within = False
    def find_spec(self, name, *_):
        if self.within:
            os.kill(os.getpid(), signal.SIGTERM)
        self.within |= name == "orjson.orjson"

_on_signal(_at_once)
sys.meta_path.insert(0, Finder())
import orjson
sys.exit(3)
"""


def test_signal_while_an_extension_begins() -> None:
    """One that imports others, and takes none of them for missing, is not given an exception."""
    process = subprocess.run(
        [sys.executable, "-c", _EXTENSION], capture_output=True, timeout=100, check=False
    )
    assert (process.returncode, process.stderr) == (0, b"")


_SET_UP = """
import asyncio, json, resource, sys, threading
from notifier.cli.program import _main
from syncer.runtime.stalls import LoopWatch

async def product() -> None:
    threads = [t.name for t in threading.enumerate()]
    more = resource.getrlimit(resource.RLIMIT_NOFILE)[0] > low
    print(json.dumps([sys.getswitchinterval(), threads, more]))
    watch.close()

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
low = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard - 1)
resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
watch = LoopWatch()
asyncio.run(_main(product(), watch))
"""


def test_a_process_is_set_up_for_many_connections() -> None:
    """Threads give way soon, a long stall is looked at from outside, and descriptors are not few."""
    said = subprocess.check_output([sys.executable, "-c", _SET_UP], timeout=60)
    interval, threads, more = json.loads(said)
    assert interval == pytest.approx(SWITCH_INTERVAL)
    assert "loop-watch" in threads
    assert more


# -- in this process ------------------------------------------------------------------------------


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave signals and logging as they were: a command sets both up; threads of others are not its own."""
    alive, others = threading.enumerate, set(threading.enumerate()) - {threading.main_thread()}
    monkeypatch.setattr(threading, "enumerate", lambda: [t for t in alive() if t not in others])
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    root = logging.getLogger()
    known, level = list(root.handlers), root.level
    loggers = {name: logging.getLogger(name) for name in ("aiohttp", "asyncio", "ledger.archive")}
    levels = {name: logger.level for name, logger in loggers.items()}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:] = known
    root.setLevel(level)
    for name, logger in loggers.items():
        logger.setLevel(levels[name])


def _settings(folder: Path, text: str) -> str:
    file = folder / "config.yaml"
    file.write_text(text)
    return str(file)


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines of a log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.usefixtures("_as_before")
def test_what_is_odd_about_the_settings_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each warning is a line, in the form that the settings ask for; so is a process made to fail."""
    product = AsyncMock(return_value=None)
    monkeypatch.setattr("notifier.process.production.run", product)
    monkeypatch.setattr("syncer.runtime.failpoints.armed", lambda: "this process fails on purpose")
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", "ns")
    settings = "redis: {url: 'redis://127.0.0.1:1'}\ncontroller: {leaderElection: true}\n"
    assert main(["run", "--config", _settings(tmp_path, settings)]) == 0
    product.assert_awaited_once()
    danger, warning = lines_of(capsys.readouterr().err)
    assert (danger["level"], danger["event"]) == ("critical", "this process fails on purpose")
    assert warning["level"] == "warning"
    assert warning["event"].startswith("settings: controller.leaderElection has no effect: ")


@pytest.mark.usefixtures("_as_before")
def test_hanging_threads_have_a_second_between_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is waited for until then and no longer; of many hanging ones eight are named."""
    now, waits = 50.0, list[float]()

    class Hanging:
        daemon = False

        def __init__(self, name: str) -> None:
            self.name = name

        def join(self, seconds: float) -> None:
            nonlocal now
            waits.append(round(seconds, 3))
            now += 0.4

        def is_alive(self) -> bool:
            return True

    found = [Hanging(f"t{n}") for n in range(9)]
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread(), *found])
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(os, "_exit", lambda _: None)
    _ended(0)
    assert waits == [1.0, 0.6, 0.2, *[0.0] * 6]
    (line,) = caplog.records
    assert line.__dict__["threads"] == [f"t{n}" for n in range(8)]


GOOD: Final = "redis:\n  url: redis://127.0.0.1:1\nlogging:\n  level: WARN\n"


@pytest.mark.usefixtures("_as_before")
def test_settings_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The process says what is wrong with them and ends with code 1; signals are ignored then."""
    assert main(["run", "--config", _settings(tmp_path, "redis: 5\n")]) == 1
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["level"], line["event"]) == ("error", "the configuration cannot be used")
    assert "redis" in line["error"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


ENDS: Final = {
    "as asked": (None, 0, None),
    "a setting that the cluster refutes": (
        ExceptionGroup("tasks", [ExceptionGroup("more", [ConfigError("no such store")])]), 1,
        ("the configuration cannot be used", "no such store", False),
    ),
    "two loops are lost": (
        BaseExceptionGroup("tasks", [RuntimeError("one"), ExceptionGroup("m", [OSError("two")])]), 1,
        ("a background task has ended", "one; two", True),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("case", ENDS)
def test_how_the_product_ends(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code and the last line say why; a traceback is shown of what is no setting."""
    error, code, wanted = ENDS[case]
    ran: list[object] = []

    async def product(loaded: Loaded, watch: object) -> None:
        ran.append(loaded.settings.logging.level)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
        executor: Any = asyncio.get_running_loop()
        assert type(executor._default_executor) is _Threads
        if error is not None:
            raise error

    monkeypatch.setattr("notifier.process.production.run", product)
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", "ns")
    assert main(["run", "--config", _settings(tmp_path, GOOD)]) == code
    assert ran == ["WARN"]
    last = [line for line in lines_of(capsys.readouterr().err) if line["level"] == "critical"]
    if wanted is None:
        assert last == []
    else:
        (line,) = last
        shown = "Traceback" in json.dumps(line)
        assert (line["event"], line["error"], shown) == wanted


def test_threads_of_the_loop_end_with_it() -> None:
    """One that is idle goes at once; one that looks up a name is not waited for."""
    ended = threading.Event()
    pool = _Threads(thread_name_prefix="loop")
    try:
        busy, idle = pool.submit(ended.wait), pool.submit(threading.current_thread)
        thread = idle.result(60)
        pool.shutdown(wait=True)
        thread.join(10)
        assert (thread.is_alive(), busy.done()) == (False, False)
    finally:
        ended.set()
    assert busy.result(60)


def test_garbage_is_collected_less_often_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The imports of a start are full of what stays, and the default looks through it again and again."""
    set_threshold = Mock(side_effect=InterruptedError)
    monkeypatch.setattr("gc.set_threshold", set_threshold)
    monkeypatch.setattr("notifier.cli.program._on_signal", lambda _handler: None)
    with pytest.raises(InterruptedError):
        _run(lambda: pytest.fail("the program is imported first"))
    set_threshold.assert_called_once_with(50_000, 20, 50)
