"""How the suite is spread over processes: units of work, their order, and tests that run alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import scheduling

ROOT: Final = Path(__file__).resolve().parents[2]

UNITS: Final = {
    "a test of a file": ("tests/a.py::test_a", "tests/a.py"),
    "a method": ("tests/a.py::TestA::test_a", "tests/a.py"),
    "a value that holds an @": ("tests/a.py::test_a[x@y]", "tests/a.py"),
    "a value that holds colons": ("tests/a.py::test_a[x::y]", "tests/a.py"),
    "a group": ("tests/a.py::test_a@alone", "alone"),
    "a group and a value that holds an @": ("tests/a.py::test_a[x@y]@alone", "alone"),
}


@pytest.mark.parametrize("case", UNITS)
def test_the_unit_of_work(case: str) -> None:
    """A test belongs to its group, else to its file."""
    nodeid, wanted = UNITS[case]
    assert scheduling.unit(nodeid) == wanted


def test_durations_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Files come longest first, phases add up, what is short stays out, comments stay."""
    file = tmp_path / "durations.txt"
    file.write_text("# a comment\n")
    seen = [("a.py::x", 1.5), ("a.py::x", 1.5), ("b.py::y[1]", 40.4), ("c.py::z", 0.1)]
    scheduling.write_durations(seen, file)
    assert file.read_text().splitlines() == ["# a comment", "    40 b.py", "     3 a.py"]
    assert scheduling.read_durations(file) == {"b.py": 40.0, "a.py": 3.0}


def test_only_files_that_are_there_have_durations() -> None:
    """A file that moved does not keep its old line."""
    named = scheduling.read_durations().keys() - {scheduling.ALONE}
    assert [name for name in named if not (ROOT / name).is_file()] == []


MEASURING: Final = """
import os, pathlib, pytest, time
here = pathlib.Path(os.environ["SEEN"])
def note(name):
    began = time.monotonic()
    time.sleep(0.3)
    with here.open("a") as file:
        file.write(f"{name} {began} {time.monotonic()}\\n")
"""


@pytest.mark.timeout(180)
def test_a_test_that_measures_runs_alone_and_last(tmp_path: Path) -> None:
    """Files are spread over the processes; nothing overlaps a test of the group `alone`."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    files = {
        "test_1": "def test_a(): note('a')\ndef test_b(): note('b')\n",
        "test_2": "def test_c(): note('c')\ndef test_d(): note('d')\n",
        "test_0": "@pytest.mark.xdist_group('alone')\ndef test_e(): note('alone')\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(MEASURING + text)
    seen = tmp_path / "seen"
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup",
         "--no-loadscope-reorder", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEEN": str(seen)},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "5 passed" in answer.stdout.splitlines()[-1]
    rows = [line.split() for line in seen.read_text().splitlines()]
    spans = {name: (float(began), float(ended)) for name, began, ended in rows}
    assert len(spans) == 5
    began, ended = spans.pop("alone")
    assert [name for name, span in spans.items() if span[0] < ended and began < span[1]] == []
    assert all(span[1] <= began for span in spans.values())
