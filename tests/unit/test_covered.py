"""Floors of coverage: how they are judged, and that they only rise."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests import covered
from tests.covered import FLOORS, ROOT, Share, judge, parse, render, risen, shares


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


def test_lines_and_branches_count_by_package() -> None:
    """A package's share is of its lines and branches; a deeper package counts with it."""
    assert shares(REPORT) == {"syncer": Share(9, 12), "syncer/cli": Share(5, 8)}
    assert shares(REPORT)["syncer"].percent == 75.0
    assert Share().percent == 100.0


def test_what_is_wrong() -> None:
    """A package below its floor, one without, and a floor without a package are failures."""
    found = {"a": Share(79, 100), "b": Share(1, 1), "d": Share(80, 100)}
    assert judge(found, {"a": 80, "c": 10, "d": 80}) == [
        "a: 79.0 % is below its floor of 80 %",
        "b: has no floor",
        "c: is not there any more",
    ]
    assert judge(found, {"a": 79, "b": 100, "d": 3}) == []


def test_floors_rise_and_never_fall() -> None:
    """Raising keeps what is higher, leaves some margin for timing, and drops what is gone."""
    found = {"a": Share(900, 1000), "b": Share(904, 1000), "c": Share(906, 1000)}
    assert risen(found, {"a": 95, "b": 1, "gone": 50}) == {"a": 95, "b": 89, "c": 90}


def test_the_file_is_read_as_it_is_written() -> None:
    """Comments stay at the top, packages are in order."""
    text = render({"b": 2, "a": 1}, ["# why"])
    assert text == "# why\na 1\nb 2\n"
    assert parse(text.splitlines()) == {"a": 1, "b": 2}


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
