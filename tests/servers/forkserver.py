"""
A process that has imported the product and forks a child for each start of a command.

    python -m tests.servers.forkserver FD

Imports take most of the CPU of a short `notifier run`. This process has done them; a child begins where a
new interpreter would run the command's module. `tests/servers/starts.py` decides which starts come here.
Each message on the socket FD is one start; it brings the standard files of the child, and a socket for the
answers `pid N` and `ended CODE`.

The same as in a new process:

- a session and process group of its own, a pid that signals reach, no descriptor but 0, 1 and 2;
- environment, working directory and arguments; failpoints are armed from the environment;
- signal handlers; the end of the interpreter, which waits for threads; exit code, or death by a signal;
- a dead child stays a zombie until its starter has read the exit code, so its pid is not used again.

What differs:

- Every module of the product is loaded: a missing import is not noticed, and imports cost nothing.
- All children of a server have the same seed of string hashes.
- The collector ignores what was imported, as `notifier run` has it do once it is ready (`gc.freeze`).
- Memory is shared with the server until it is written: figures of memory mean nothing.
- The parent is this process. It kills its children when the tests end; when it is killed, the kernel does.
- `/proc/PID/cmdline` is the server's.

Nothing of the tests is imported here: children have what the product imports.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
from typing import Any, Final

#: Bytes of a request at most, environment included.
LARGEST: Final = 1 << 20
#: Standard input, output and error, and the socket for the answers.
FILES: Final = 4

_PACKAGES: Final = ("notifier", "syncer")
_PR_SET_PDEATHSIG: Final = 1
#: The kernel gives none from here on.
_NO_DESCRIPTOR: Final = 1 << 20


class _Children:
    """The children that were started and not waited for yet."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        #: By descriptor of the process: pid, and the descriptor for answers.
        self._running: dict[int, tuple[int, int]] = {}
        #: Pids by the descriptor for answers.
        self._pids: dict[int, int] = {}

    def serve(self) -> dict[str, Any] | None:
        """Fork until the tests end; returns the request in each child, and None in the server."""
        while True:
            for ready, _ in self._poll.poll():
                if ready in self._running:
                    self._report(ready)
                elif ready in self._pids:
                    self._reap(ready)
                else:
                    message, files, _flags, _ = socket.recv_fds(self._requests, LARGEST, FILES)
                    if not message:
                        self._kill_all()
                        return None
                    if self._fork(files):
                        self._requests.close()
                        start: dict[str, Any] = json.loads(message)
                        _become(start, files)
                        return start

    def _fork(self, files: list[int]) -> bool:
        """Whether this is the child."""
        pid = os.fork()
        if pid == 0:
            return True
        *standard, answers = files
        for file in standard:
            os.close(file)
        process = os.pidfd_open(pid)
        self._running[process] = pid, answers
        self._pids[answers] = pid
        self._poll.register(process, select.POLLIN)
        self._poll.register(answers, 0)  # POLLHUP needs no mask
        return False

    def _report(self, process: int) -> None:
        """Report how a child has ended; it stays a zombie."""
        self._poll.unregister(process)
        _pid, answers = self._running.pop(process)
        ended = os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT)
        os.close(process)
        if ended is not None:
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            with contextlib.suppress(OSError):
                os.write(answers, b"ended %d" % code)

    def _reap(self, answers: int) -> None:
        """Wait for a child whose starter has closed its socket; one that still runs is killed."""
        self._poll.unregister(answers)
        pid = self._pids.pop(answers)
        for process, (of, _) in list(self._running.items()):
            if of == pid:
                self._poll.unregister(process)
                del self._running[process]
                os.close(process)
                _kill(pid)
        os.waitpid(pid, 0)
        os.close(answers)

    def _kill_all(self) -> None:
        for pid, _ in self._running.values():
            _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _become(start: dict[str, Any], files: list[int]) -> None:
    """Make the child what a new process is before its first import."""
    parent = os.getppid()
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    *standard, answers = files
    for number, file in enumerate(standard):
        os.dup2(file, number)
    os.write(answers, b"pid %d" % os.getpid())
    os.closerange(FILES - 1, _NO_DESCRIPTOR)
    os.chdir(start["cwd"])
    kept = {name: os.environ[name] for name in _set_by_imports}
    os.environ.clear()
    os.environ.update(kept | start["environment"])
    # The one module that reads the environment when it is imported and keeps the result.
    failpoints = sys.modules["syncer.runtime.failpoints"]
    if text := os.environ.get(failpoints.VARIABLE):
        failpoints._armed.update(failpoints._read(text))  # as its import does
    sys.argv = ["-m", *start["arguments"]]
    sys.path[0] = start["cwd"]


def _import_all() -> None:
    # First, as in a process of the controller: it says which modules libraries import for nothing.
    importlib.import_module("notifier.cli.program")
    for name in _PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def main() -> None:
    """Serve; a child runs its module, and its interpreter ends as usual."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    before = set(os.environ)
    _import_all()
    _set_by_imports.extend(set(os.environ) - before)
    gc.collect()
    gc.freeze()
    start = _Children(requests).serve()
    if start is not None:
        runpy.run_module(start["module"], run_name="__main__", alter_sys=True)


_libc: Final = ctypes.CDLL(None, use_errno=True)
#: Names of the variables that imports have set, as they would in a new process.
_set_by_imports: Final[list[str]] = []

if __name__ == "__main__":
    main()
