"""
Failpoints: named places at which a test may kill or stop the process.

Off unless NOTIFICATION_LEDGER_FAILPOINTS is set when the process starts; then a call costs one
dictionary look-up, otherwise an attribute that is None. The value is a list separated by commas:

    NAME=ACTION[@N]

where ACTION is `kill` (SIGKILL to ourselves) or `stop` (SIGSTOP), and @N acts at the N-th call only (1 by
default). A process that is armed reports it at its start and in /readyz, and writes every hit to
standard error before it acts, so that a test can prove that its fault happened.

The names are the protocol's steps; the set here is the set in docs/faults.md.
"""

from __future__ import annotations

import os
import signal
import sys
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


class _Armed:
    def __init__(self, text: str) -> None:
        self._actions: dict[str, tuple[str, int]] = {}
        self._hits: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            name, _, action = part.partition("=")
            action, _, nth = action.partition("@")
            self._actions[Failpoint(name)] = (action, int(nth or 1))

    def hit(self, name: Failpoint) -> None:
        found = self._actions.get(name)
        if found is None:
            return
        action, nth = found
        self._hits[name] = self._hits.get(name, 0) + 1
        if self._hits[name] != nth:
            return
        sys.stderr.write(f'{{"failpoint":"{name}","action":"{action}"}}\n')
        sys.stderr.flush()
        os.kill(os.getpid(), _ACTIONS[action])


def armed() -> str | None:
    """Say that this process will fail on purpose, None if it will not; for the log and readiness."""
    if _armed is None:
        return None
    return f"this process fails on purpose: {VARIABLE} is set, and only a test should set it"


_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def failpoint(name: Failpoint) -> None:
    """Act here if a test has armed this place."""
    if _armed is not None:
        _armed.hit(name)
