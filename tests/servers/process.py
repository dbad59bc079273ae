"""
A server process that a test can stop, kill, freeze and wake, and that never outlives the tests.

Everything here blocks; the servers built on it offer the same as coroutines. That way a session
fixture can start a server without an event loop, and no loop is tied to a server's life.

Three habits, each from a trap:

- Every wait has a deadline and ends at once when the process has ended, with the end of its log.
- A signal goes to the process *group*: Redis forks children to rewrite its file.
- A guard process holds a pipe to us. If we die, however that happens, the pipe closes and the
  guard kills the group, so that an interrupted test run leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_POLL = 0.05
_LOG_TAIL = 2_000


class ServerError(Exception):
    """A server did not start, answer or stop; the message ends with what it logged last."""


class Started:
    """What is started and closed by `async with`, in threads: both block."""

    def launch(self) -> None:
        """Start, on the data that it left, and wait until it answers."""
        raise NotImplementedError

    async def start(self) -> None:
        """Do the same without blocking."""
        await asyncio.to_thread(self.launch)

    def close(self) -> None:
        """Close."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Start; what could not be started is closed."""
        try:
            await self.start()
        except BaseException:
            await asyncio.to_thread(self.close)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await asyncio.to_thread(self.close)


class ServerProcess:
    """
    One server: its command line, its log file, and the process while it runs.

    Attributes:
        name: used in messages.
        argv: the command line; it is run anew on each start.
        log: the file that collects standard output and standard error over all starts.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a server; ``env`` is added to this process's environment."""
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process exists (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            self._fail("is not started")
        return self._process.pid

    def start(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Start the process and return when ``ready`` says so."""
        if self.running:
            self._fail("is already running")
        self._release()  # of a process that ended by itself
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                start_new_session=True,
            )
        self._guard = _guard(self._process.pid)
        try:
            self.wait_until(ready, what="be ready", timeout=timeout)
        except BaseException:
            self.kill()
            raise

    def wait_until(self, condition: Callable[[], bool], *, what: str, timeout: float) -> None:
        """Poll ``condition`` until it holds, the process ends, or the time is up."""
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running:
                self._fail(f"ended ({self._exit()}) before it could {what}")
            if time.monotonic() > deadline:
                self._fail(f"did not {what} within {timeout:g} s")
            time.sleep(_POLL)

    def terminate(self, *, timeout: float = 15) -> None:
        """End the process the polite way (SIGTERM); after ``timeout`` seconds that is an error."""
        if self._process is not None and self.running:
            self._signal(signal.SIGTERM)
            # A frozen process would never see the first, and one that is not may have ended by now.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            if self.running:
                self.kill()
                self._fail(f"ignored SIGTERM for {timeout:g} s and was killed")
        self._release()

    def kill(self) -> None:
        """End the process now (SIGKILL); works on a frozen one too."""
        if self._process is not None and self.running:
            self._signal(signal.SIGKILL)
            self._process.wait(15)
        self._release()

    def pause(self) -> None:
        """
        Freeze the process (SIGSTOP) and return when every thread of it stands still.

        The kernel still accepts connections for it: clients connect, send, and hear nothing.
        """
        self.freeze()
        self.wait_until(lambda: _thread_states(self.pid) == {"T"}, what="freeze", timeout=5)

    def freeze(self) -> None:
        """Freeze the process (SIGSTOP), some time soon."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Wake a frozen process (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self.wait_until(lambda: "T" not in _thread_states(self.pid), what="wake", timeout=5)

    def _signal(self, number: signal.Signals) -> None:
        if not self.running:
            self._fail(f"is not running ({self._exit()}), cannot get {number.name}")
        os.killpg(self.pid, number)

    def _release(self) -> None:
        self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _exit(self) -> str:
        code = None if self._process is None else self._process.poll()
        if code is None:
            return "no exit code"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def _fail(self, text: str) -> NoReturn:
        tail = ""
        with contextlib.suppress(OSError):
            tail = self.log.read_text(errors="replace")[-_LOG_TAIL:].strip()
        msg = f"{self.name} {text}; its log ends with:\n{tail or '(nothing)'}"
        raise ServerError(msg)


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start the process that kills group ``pid`` once our end of its pipe is closed."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "guard", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _thread_states(pid: int) -> set[str]:
    """Return the state letters (R, S, T, Z ...) of a process's threads."""
    states = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            # The command name, in parentheses, may itself hold blanks and parentheses.
            states.add(stat.read_text().rpartition(")")[2].split()[0])
        except OSError:  # the thread has ended since
            continue
    return states
