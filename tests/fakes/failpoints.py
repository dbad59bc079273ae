"""Failpoints that tell a test instead of ending the process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncer.runtime import failpoints
from syncer.runtime.failpoints import Failpoint


class _Watched(dict[Failpoint, tuple[str, int]]):
    def __init__(self, on_pass: Callable[[str], None]) -> None:
        super().__init__()
        self._on_pass = on_pass

    def __contains__(self, name: object) -> bool:
        self._on_pass(str(name))
        return False


def watch_failpoints(monkeypatch: pytest.MonkeyPatch, on_pass: Callable[[str], None]) -> None:
    """Have the name of each place told that the test passes."""
    monkeypatch.setattr(failpoints, "_armed", _Watched(on_pass))
