"""
How tests start a command of the product: in a new process, or as a fork of a process that has imported it.

A fork takes less than half the CPU (`tests/servers/forkserver.py` says what is the same and what differs).
This module is the only place that chooses. A start is a fork if

- a test runs, the test does not measure (the group `alone`), and it has no mark `new_processes`, which
  gives a reason: what starting is about, and one test for each kind of scenario.
  Programs that are not tests, such as benchmarks, start new processes;
- the module is the product's, or one of `_CHANGED`, which replace functions of the product;
- the environment has the values that the server of forks was started with, for all variables that an
  interpreter or a C library reads when it starts (`_AT_START`), and the working directory is the same;
- TEST_NEW_PROCESSES is not set: `TEST_NEW_PROCESSES=1 scripts/test` starts new processes only.

Either kind has a session of its own and does not outlive the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from tests import scheduling
from tests.servers.forkserver import LARGEST
from tests.servers.process import _guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
MARK: Final = "new_processes"
SWITCH: Final = "TEST_NEW_PROCESSES"
#: A process reads what the system trusts several times, 40 ms of CPU each, and meets nobody whom it would
#: trust for it.
UNTRUSTING: Final = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}

_PRODUCT: Final = ("notifier", "syncer")
_CHANGED: Final = ("tests.chaos.broken",)
#: What their names begin with.
_AT_START: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "TZ", "SSL_", "OPENSSL_")
_POLL: Final = 0.01
#: Seconds for a fork, on a busy machine, the server's imports included.
_PATIENCE: Final = 120.0


class _New:
    """A new interpreter."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._guard: subprocess.Popen[bytes] | None = _guard(process.pid)
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._seen(self._process.poll())

    def wait(self, timeout: float | None = None) -> int:
        code = self._process.wait(timeout)
        self._seen(code)
        return code

    def _seen(self, code: int | None) -> int | None:
        guard, self._guard = self._guard, (self._guard if code is None else None)
        if code is not None and guard is not None:
            guard.kill()
            guard.communicate()
        return code


class _Fork:
    """A child of the server of forks, which is waited for once `answers` is closed."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self.returncode: int | None = None
        answers.settimeout(_PATIENCE)
        kind, number = self._next()
        if kind != "pid":
            answers.close()
            raise OSError(f"a start failed in the server of forks: {kind} {number}")
        self.pid = number
        answers.setblocking(False)

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                with contextlib.suppress(BlockingIOError):
                    _, self.returncode = self._next()
                    self._answers.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
            time.sleep(_POLL)
        return code

    def _next(self) -> tuple[str, int]:
        message = self._answers.recv(64)
        if not message:
            raise OSError("the server of forks has ended")
        kind, _, number = message.decode().partition(" ")
        return kind, int(number)


#: A started process, the leader of its group; members are named as those of `subprocess.Popen`.
Process: TypeAlias = _New | _Fork


class _Server:
    """The server of forks of this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        #: Imports see nothing else, whatever the tests have in theirs.
        self.environment = _at_start(os.environ) | UNTRUSTING
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT,
                env=self.environment, start_new_session=True,
            )  # fmt: skip
        self._requests = ours

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], files: Sequence[int]
    ) -> _Fork:
        request = {
            "module": words[0], "arguments": list(words[1:]), "cwd": str(ROOT),
            "environment": dict(environment),
        }  # fmt: skip
        message = json.dumps(request).encode()
        if len(message) > LARGEST:
            raise ValueError(f"a request to the server of forks has {len(message)} bytes")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._requests, [message], [*files, theirs.fileno()])
        return _Fork(ours)

    def close(self) -> None:
        self._requests.close()
        self._process.wait(60)


class _Choice:
    """Whether starts are forks at present, and the server, once there is one."""

    def __init__(self) -> None:
        self.forks = False
        self._server: _Server | None = None
        self._lock = threading.Lock()

    def server(self, module: str, environment: Mapping[str, str], cwd: Path) -> _Server | None:
        """Return the server if this start is to be a fork."""
        if not self.forks or os.environ.get(SWITCH) or cwd != ROOT:
            return None
        if module not in _PRODUCT + _CHANGED:
            return None
        with self._lock:
            self._server = self._server or _Server()
        same = _at_start(environment) == _at_start(self._server.environment)
        return self._server if same else None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


_choice: Final = _Choice()


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(_AT_START)}


def choose(item: pytest.Item) -> None:
    """Choose for the starts of a test; called before its fixtures are made."""
    _choice.forks = not scheduling.is_alone(item) and item.get_closest_marker(MARK) is None


def close() -> None:
    """End the server of forks and its children."""
    _choice.forks = False
    _choice.close()


def start(
    words: Sequence[str],
    *,
    stdout: int | IO[Any],
    stderr: int | IO[Any],
    stdin: int | IO[Any] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> Process:
    """
    Start `python -m WORDS` in a session of its own.

    Args:
        words: A module and its arguments.
        stdout: A file, or its descriptor.
        stderr: As `stdout`.
        stdin: As `stdout`; nothing to read by default.
        env: The environment; this process's by default. What the settings file says of constants counts.
        cwd: The working directory.
    """
    environment = dict(os.environ if env is None else env)
    if "--config" in words:
        environment.setdefault("LEDGER_TESTING", words[words.index("--config") + 1])
    with contextlib.ExitStack() as opened:
        if stdin is None:
            stdin = opened.enter_context(Path(os.devnull).open("rb"))
        server = _choice.server(words[0], environment, cwd)
        if server is not None:
            files = [f if isinstance(f, int) else f.fileno() for f in (stdin, stdout, stderr)]
            return server.start(words, environment, files)
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=environment,
            start_new_session=True,
        )  # fmt: skip
        return _New(process)


class Ended(subprocess.CompletedProcess[str]):
    """How a command ended, and what it wrote."""


def run(
    words: Sequence[str],
    *,
    given: str = "",
    together: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Ended:
    """
    Run `python -m WORDS` to its end.

    Args:
        words: A module and its arguments.
        given: Its standard input.
        together: Standard error goes where standard output goes.
        env: The environment; by default this process's, without the system's roots of trust.
        timeout: Seconds after which it is killed.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(given.encode())
        stdin.seek(0)
        process = start(
            words, stdin=stdin, stdout=stdout, stderr=stdout if together else stderr,
            env=dict(os.environ) | UNTRUSTING if env is None else env,
        )  # fmt: skip
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(15)
            raise
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    return Ended(list(words), code, *texts)


async def run_beside(words: Sequence[str], **options: Any) -> Ended:
    """As `run`, beside the event loop."""
    return await asyncio.to_thread(run, words, **options)
