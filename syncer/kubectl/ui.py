"""
`kubectl ledger ui`: the explorer's pages in a browser here.

The explorer listens on its pod's loopback, so a forwarded port is the only way to it, and who may create
`pods/portforward` in its namespace may look. The port here is 127.0.0.1's too. kubectl ends as soon as
one connection is refused inside the pod; then it is started again on the same port, so that open pages go
on, and the pod is looked for again, since an upgrade or a drained node replaces it. It ends with this
process, however that ends in an orderly way.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Final

from syncer.kubectl.client import SIGNALS, Kubectl
from syncer.kubectl.exits import INTERRUPTED, NOT_ASKED, USAGE, PluginError
from syncer.kubectl.release import Release

#: The port in the pod.
_PORT: Final = 8088
_FORWARDING: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
#: What kubectl says of each connection.
_CHATTER: Final = re.compile(r"(Handling connection for|Forwarding from) ")
#: Seconds to end in, and of a forwarding that was a good one: it is begun again at once.
_LAST_WORDS: Final = 5
_GOOD: Final = 30.0
_PAUSE: Final = 1.0
#: Failures in a row until it gives up: half a minute, in which a pod is replaced.
_TRIES: Final = 8

HELP: Final = """usage: kubectl ledger ui [--no-open] [--port PORT]

Forwards a port of this machine to the explorer's pages, read-only, and opens a browser; Ctrl-C ends it.

  --no-open    only print the address of the pages
  --port PORT  of 127.0.0.1 (default: any free one)
"""


def options_of(words: Sequence[str]) -> tuple[bool, int]:
    """Return whether to open a browser, and the port, 0 for any; PluginError for any other word."""
    opens, port, left = True, 0, list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if word == "--no-open":
            opens = False
        elif name == "--port" and (equals or left):
            value = value if equals else left.pop(0)
            if not (value.isascii() and value.isdigit() and int(value) < 65_536):
                raise PluginError(USAGE, f"ui: --port needs a number below 65536, not {value!r}")
            port = int(value)
        else:
            raise PluginError(USAGE, f"ui: unknown option {word}; see `kubectl ledger ui --help`")
    return opens, port


def serve(kubectl: Kubectl, find: Callable[[], Release], words: Sequence[str]) -> int:
    """
    Forward the port until it is ended; returns the exit code.

    Args:
        kubectl: Forwards it.
        find: Finds the release by the explorer's pods, of which one runs; may raise PluginError.
        words: Behind the command's name.

    Raises:
        PluginError: a word is not an option, or the port cannot be forwarded.
    """
    opens, port = options_of(words)
    release, failures = find(), 0
    while True:
        began = time.monotonic()
        found = _forward(kubectl, release, port, opens=opens)
        if found and time.monotonic() - began >= _GOOD:
            failures = 0
        opens, port, failures = opens and not found, found or port, failures + 1
        if not found and failures == 1:
            raise PluginError(NOT_ASKED, "the port cannot be forwarded; see above")
        if failures >= _TRIES:
            raise PluginError(NOT_ASKED, f"the connection was lost {failures} times in a row")
        sys.stderr.write("kubectl ledger: the connection was lost; reconnecting\n")
        time.sleep(_PAUSE * failures)
        try:
            release = find()
        except PluginError as error:
            sys.stderr.write(f"kubectl ledger: {error}\n")


def _forward(kubectl: Kubectl, release: Release, port: int, *, opens: bool) -> int:
    """Forward the port until kubectl ends; returns the port here, 0 if it did not come about."""
    found, process = 0, None
    # A signal that raised in the middle of this would leave a process that nobody knows.
    ended: list[int] = []
    before = {n: signal.signal(n, lambda number, _: ended.append(number)) for n in SIGNALS}
    try:
        process = kubectl.forward(release, release.pods[0], port, _PORT)
        _restore(before)
        if ended:
            raise SystemExit(INTERRUPTED)
        # It talks of each connection, and what is not read would hold it up.
        errors = threading.Thread(target=_hand_on, args=(process.stderr,), daemon=True)
        errors.start()
        for line in process.stdout or ():
            match = _FORWARDING.match(line.decode("utf-8", "replace"))
            if match and not found:
                found = int(match[1])
                sys.stdout.write(f"http://127.0.0.1:{found}/\n")
                sys.stdout.flush()
                if opens and not webbrowser.open(f"http://127.0.0.1:{found}/"):
                    sys.stderr.write(
                        "kubectl ledger: no browser was found; open this address yourself\n"
                    )
        process.wait()
        errors.join(_LAST_WORDS)
    finally:
        _restore(before)
        if process is not None:
            _end(process)
    return found


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _hand_on(stream: IO[bytes]) -> None:
    """Pass on what went wrong; a closed tab is not an error."""
    with stream:
        for line in stream:
            text = line.decode("utf-8", "replace")
            if not _CHATTER.match(text) and "connection reset by peer" not in text:
                sys.stderr.write(text)
                sys.stderr.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_LAST_WORDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
