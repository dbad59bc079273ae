"""
Failpoints: named places at which a test may kill or stop the process.

Off unless NOTIFICATION_LEDGER_FAILPOINTS is set when the process starts; a call costs one look-up in a
dictionary, which is empty otherwise. The value is a list separated by commas:

    NAME=ACTION[@N]

where ACTION is `kill` (SIGKILL to itself) or `stop` (SIGSTOP), and @N acts at the N-th call only (1 by
default). A process that is armed reports it at its start and in /readyz, and writes every hit to
standard error before it acts, so that a test can prove that its fault happened.

The names are the protocol's steps; the set here is the set in docs/faults.md.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from enum import StrEnum
from typing import Final

VARIABLE: Final = "NOTIFICATION_LEDGER_FAILPOINTS"
_ACTIONS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Failpoint(StrEnum):
    """Every place that can be made to fail."""

    LEASE_ACQUIRED = "lease-acquired"
    LISTED = "listed"
    CLAIMED = "claimed"
    BEFORE_INTENT = "before-intent"
    AFTER_INTENT = "after-intent"
    AFTER_SEND = "after-send"
    AFTER_OUTCOME = "after-outcome"
    BEFORE_PATCH = "before-patch"
    AFTER_PATCH = "after-patch"
    AFTER_ACK = "after-ack"


def _read(text: str) -> dict[Failpoint, tuple[str, int]]:
    """Return the action of each armed place, and at which call it acts."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, what = part.partition("=")
        action, _, nth = what.partition("@")
        found[Failpoint(name)] = (action, int(nth or 1))
    return found


_armed: Final = _read(os.environ.get(VARIABLE, ""))
_hits: Final[Counter[Failpoint]] = Counter()


def armed() -> str | None:
    """Say that this process will fail on purpose, None if it will not; for the log and readiness."""
    if not _armed:
        return None
    return f"this process fails on purpose: {VARIABLE} is set, and only a test should set it"


def failpoint(name: Failpoint) -> None:
    """Act here if a test has armed this place."""
    if name not in _armed:
        return
    action, nth = _armed[name]
    _hits[name] += 1
    if _hits[name] == nth:
        sys.stderr.write(f'{{"failpoint":"{name}","action":"{action}"}}\n')
        sys.stderr.flush()
        os.kill(os.getpid(), _ACTIONS[action])
