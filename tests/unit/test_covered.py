"""Floors of coverage: how they are judged, and that they only rise."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests import covered
from tests.covered import FLOORS, ROOT, parse


def _entry(covered_lines: int, lines: int, covered_branches: int, branches: int) -> dict[str, Any]:
    return {
        "summary": {
            "covered_lines": covered_lines, "num_statements": lines,
            "covered_branches": covered_branches, "num_branches": branches,
        }
    }  # fmt: skip


REPORT: Final = {
    "files": {
        "syncer/loop.py": _entry(8, 10, 1, 2),
        "syncer/cli/deep/more.py": _entry(1, 2, 0, 0),
        "syncer/cli/show.py": _entry(3, 4, 1, 2),
    }
}


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails below a floor, raises floors when asked to, and says what could be higher."""
    monkeypatch.setattr(covered, "FLOORS", tmp_path / "floors")
    report = tmp_path / "report"
    report.write_text(json.dumps(REPORT))
    (tmp_path / "floors").write_text("# why\nsyncer 76\nsyncer/cli 10\n")
    assert covered.main([str(report)]) == 1
    told = capsys.readouterr().out
    assert "syncer: 75.0 % is below its floor of 76 %" in told
    assert re.search(r"^syncer/cli +62\.5 % +floor +10 +could be higher$", told, re.MULTILINE)
    (tmp_path / "floors").write_text("# why\nsyncer 70\n")
    assert covered.main([str(report), "--raise"]) == 0
    assert (tmp_path / "floors").read_text() == "# why\nsyncer 74\nsyncer/cli 62\n"


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
