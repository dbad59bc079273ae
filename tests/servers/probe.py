"""
A program that describes its process and ends as it is told, for the tests of `starts`.

    python -m tests.servers.probe END [WORD...]
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from syncer.runtime.failpoints import armed


def main(end: str) -> None:
    """Describe this process, then end."""
    files = (sys.stdin, sys.stdout, sys.stderr)
    known = {
        "name": __name__,
        "arguments": sys.argv[1:],
        "program": Path(sys.argv[0]).name,
        "path": sys.path[0],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "leads its session": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "descriptors": sorted(int(f.name) for f in Path("/proc/self/fd").iterdir())[:-1],
        "signals": {int(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wake-up": signal.set_wakeup_fd(-1),
        "flags": str(sys.flags),
        "encodings": [(f.encoding, f.errors, f.line_buffering) for f in files],
        "threads": threading.active_count(),
        "threshold": gc.get_threshold(),
        "armed": armed() is not None,
        "given": sys.stdin.read(),
    }  # fmt: skip
    sys.stdout.write(json.dumps(known) + "\n")
    sys.stderr.write("to standard error\n")
    atexit.register(sys.stdout.write, "at exit\n")
    match end:
        case "wait":
            sys.stdout.flush()
            time.sleep(600)
        case "signal":
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGTERM)
        case "text":
            sys.exit("a text")
        case "error":
            raise ValueError("an error")
        case "interrupt":
            raise KeyboardInterrupt
        case "thread":
            later = threading.Timer(0.2, sys.stdout.write, ["a thread\n"])
            later.start()
        case "return":
            pass
        case code:
            sys.exit(int(code))


if __name__ == "__main__":
    main(sys.argv[1])
