"""
Runs kubectl, to list pods and to run a command in one of them.

A command in a pod outlives the kubectl that started it, so closing its standard input is what ends it:
this process holds it open as long as it lives, and the system closes it if this process is killed. That
takes `exec -i` without a terminal (`-t`), under which the end would go unnoticed. kubectl runs in its
own session: Ctrl-C reaches only this process, which closes that input and lets the command finish its
output.

kubectl prints "command terminated with exit code N" after every command that ended with another code
than 0, and itself ends with 1 if it could not run the command at all. That line tells the two apart.
All other output is passed on at once, even in the middle of a line: it may be a prompt for a password.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, Any, Final

from syncer.kubectl.exits import ABSENT, INTERRUPTED, NOT_ASKED, REFUSED, PluginError
from syncer.kubectl.release import LABELS, Pod, Release
from syncer.kubectl.terminal import Harmless

#: Seconds for an answer of the API server; and for kubectl with it, which may ask for a password first.
_ANSWER: Final = "15s"
_PATIENCE: Final = 120
#: Seconds for a command to end after its input has, and for one that completes a word.
_LAST_WORDS: Final = 5
_COMPLETING: Final = 5
#: What ends the plugin in an orderly way.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHUNK: Final = 65536
_TERMINATED: Final = re.compile(rb"command terminated with exit code \d+\s*")
_FORBIDDEN: Final = re.compile(rb"Error from server \(Forbidden\): .*")
#: What lines that may be kept away begin with: as long as they are not whole, they wait.
_BEGINNINGS: Final = re.compile(rb"(?:c(?:o(?:m.*)?)?|E(?:r(?:r.*)?)?)\Z", re.DOTALL)


class Kubectl:
    """kubectl, with the options that say which cluster is meant."""

    def __init__(self, options: Sequence[str]) -> None:
        """Find the program, `$KUBECTL`, else on the PATH; PluginError without one."""
        program = os.environ.get("KUBECTL") or "kubectl"
        found = shutil.which(program)
        if found is None:
            raise PluginError(NOT_ASKED, f"there is no program {program!r}; install kubectl")
        self._command = [found, *options]

    def pods(
        self, namespace: str | None, *, everywhere: bool, labels: str = LABELS
    ) -> dict[str, Any] | None:
        """
        List pods; None if that is forbidden.

        Args:
            namespace: Where, None for the context's own.
            everywhere: In all namespaces.
            labels: Of the pods; by default the controllers'.

        Raises:
            PluginError: kubectl fails otherwise.
        """
        where = ["-A"] if everywhere else ["-n", namespace] if namespace else []
        command = [*self._command, "get", "pods", *where, "-l", labels, "-o", "json"]
        with tempfile.TemporaryFile() as answer:
            process = subprocess.Popen(
                [*command, f"--request-timeout={_ANSWER}"], stdout=answer, stderr=subprocess.PIPE
            )
            said = _StderrFilter(process.stderr, _FORBIDDEN)
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                raise PluginError(
                    NOT_ASKED, f"kubectl did not answer within {_PATIENCE} s"
                ) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            said.join()
            if code != 0 and said.held:
                return None
            if code != 0:
                raise PluginError(NOT_ASKED, "kubectl failed to list pods")
            answer.seek(0)
            try:
                listed = json.load(answer)
            except ValueError:
                raise PluginError(NOT_ASKED, "kubectl did not answer in JSON") from None
        return listed if isinstance(listed, dict) else {}

    def run(
        self,
        release: Release,
        pod: Pod,
        words: Sequence[str],
        *,
        feed: IO[bytes] | None = None,
        out: IO[bytes] | None = None,
    ) -> int:
        """
        Run a command in a pod until it ends; returns its exit code, or that of the plugin.

        Args:
            release: The pod's.
            pod: Where.
            words: Program and arguments.
            feed: Becomes the standard input of the command; None holds it open until the command ends.
            out: Where its standard output goes, None for this process's own.
        """
        # No signal raises here: it would leave a process that nobody knows. A handler may put to a queue of
        # this kind whatever is under way.
        done: queue.SimpleQueue[bool] = queue.SimpleQueue()
        before = {n: signal.signal(n, lambda *_: done.put(True)) for n in SIGNALS}
        try:
            shown = out is None and sys.stdout.isatty()
            process = subprocess.Popen(
                self._exec(release, pod, words), stdin=subprocess.PIPE if feed is None else feed,
                stdout=subprocess.PIPE if shown else out, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
            said = _StderrFilter(process.stderr, _TERMINATED)
            printed = threading.Thread(target=_print, args=(process.stdout,), daemon=True)
            if shown:
                printed.start()
            threading.Thread(target=_wait, args=(process, done), daemon=True).start()
            interrupted = done.get()
            _let_end(process)
            said.join()
            if shown:
                printed.join(_LAST_WORDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        code = INTERRUPTED if interrupted else process.returncode
        if code == -signal.SIGPIPE:
            # Whoever read has enough.
            return 0
        if code == 1 and not said.held:
            return NOT_ASKED
        return code if code >= 0 else NOT_ASKED

    def answer(self, release: Release, pod: Pod, words: Sequence[str]) -> tuple[int, str]:
        """Run a command in a pod as `run` does; returns its exit code and what it answers."""
        with tempfile.TemporaryFile() as out:
            code = self.run(release, pod, words, out=out)
            out.seek(0)
            return code, out.read().decode("utf-8", "replace")

    def local(
        self, words: Sequence[str], text: str = "", *, quiet: bool = False
    ) -> tuple[int, str]:
        """
        Run kubectl itself; returns an exit code of the plugin, and the answer.

        Args:
            words: Its command.
            text: Its standard input.
            quiet: What it says of errors is not handed on.

        Raises:
            PluginError: it does not answer in time.
        """
        try:
            done = subprocess.run(
                [*self._command, *words, f"--request-timeout={_ANSWER}"], input=text.encode(),
                capture_output=True, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PluginError(NOT_ASKED, f"kubectl: {error}") from None
        if not quiet:
            sys.stderr.write(done.stderr.decode("utf-8", "replace"))
        failed = NOT_ASKED
        for mark, code in ((b"(Forbidden)", REFUSED), (b"(NotFound)", ABSENT)):
            if mark in done.stderr:
                failed = code
        return failed if done.returncode else 0, done.stdout.decode("utf-8", "replace")

    def forward(self, release: Release, pod: Pod, here: int, there: int) -> subprocess.Popen[bytes]:
        """
        Begin to forward a port of 127.0.0.1 to one of a pod's loopback.

        Args:
            release: The pod's.
            pod: Where.
            here: Port of this machine, 0 for any.
            there: Port of the pod.
        """
        ports = f"{here or ''}:{there}"
        return subprocess.Popen(
            [
                *self._command, "port-forward", "-n", release.namespace, f"pod/{pod.name}", ports,
                "--address", "127.0.0.1",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def ask(self, release: Release, pod: Pod, words: Sequence[str]) -> str:
        """Return the output of a short command in a pod; nothing if it takes too long."""
        try:
            done = subprocess.run(
                self._exec(release, pod, words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, timeout=_COMPLETING, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.decode("utf-8", "replace")

    def _exec(self, release: Release, pod: Pod, words: Sequence[str]) -> list[str]:
        return [
            *self._command, "exec", "-i", "-n", release.namespace, pod.name, "-c", pod.container,
            "--", *words,
        ]  # fmt: skip


def _wait(process: subprocess.Popen[bytes], done: queue.SimpleQueue[bool]) -> None:
    process.wait()
    done.put(False)


def _let_end(process: subprocess.Popen[bytes]) -> None:
    """End a command by the end of its input, and kubectl by a signal if that does not do."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _StderrFilter:
    """Passes on standard error without some lines; `held` says whether one came."""

    def __init__(self, stream: IO[bytes] | None, kept: re.Pattern[bytes]) -> None:
        """Read what a process says, and keep the lines away that match."""
        self.held = False
        self._kept = kept
        self._harmless = Harmless()
        self._thread = threading.Thread(target=self._hand_on, args=(stream,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(_LAST_WORDS)

    def _hand_on(self, stream: IO[bytes]) -> None:
        rest, inside = b"", False
        with stream:
            while True:
                chunk = os.read(stream.fileno(), _CHUNK)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not inside and self._kept.fullmatch(line):
                        self.held = True
                    else:
                        self._write(line + b"\n")
                    inside = False
                if rest and (inside or not chunk or not _BEGINNINGS.match(rest)):
                    self._write(rest)
                    rest, inside = b"", True
                if not chunk:
                    return

    def _write(self, text: bytes) -> None:
        sys.stderr.write(self._harmless.text(text))
        sys.stderr.flush()


def _print(stream: IO[bytes]) -> None:
    """Pass on to a terminal what a command prints, as it comes."""
    harmless = Harmless()
    with stream:
        while chunk := os.read(stream.fileno(), _CHUNK):
            sys.stdout.write(harmless.text(chunk))
            sys.stdout.flush()
