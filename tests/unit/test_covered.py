"""Floors of coverage: how they are judged, and that they only rise."""

from __future__ import annotations

import re
import subprocess

from tests.covered import FLOORS, ROOT, parse


def test_floors_only_rise() -> None:
    """No package stands lower than a commit has put it."""
    log = subprocess.run(
        ["git", "log", "--format=", "--patch", "--unified=0", "--", FLOORS.relative_to(ROOT)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    now = parse(FLOORS.read_text().splitlines())
    before: dict[str, int] = {}
    for package, percent in re.findall(r"^\+([\w/]+) (\d+)$", log, re.MULTILINE):
        before[package] = max(before.get(package, 0), int(percent))
    # A checkout without history knows one commit, which adds all that it has.
    assert before
    fallen = {p: (before[p], now[p]) for p in now if now[p] < before.get(p, 0)}
    assert fallen == {}
