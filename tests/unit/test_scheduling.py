"""How the suite is spread over processes: units of work, their order, and tests that run alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import scheduling

ROOT: Final = Path(__file__).resolve().parents[2]


def test_only_tests_that_are_there_have_durations() -> None:
    """A file or test that moved does not keep its old line."""
    gone = []
    for name in scheduling.read_durations():
        path, _, test = name.partition("::")
        if path.endswith(".py"):
            text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            function = re.escape(test.partition("[")[0].rpartition("::")[2])
            if not re.search(rf"def {function}", text):
                gone.append(name)
    assert gone == []


MEASURING: Final = """
import os, pathlib, pytest, time
here = pathlib.Path(os.environ["SEEN"])
def note(name):
    began = time.monotonic()
    time.sleep(0.3)
    with here.open("a") as file:
        file.write(f"{name} {began} {time.monotonic()} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


PAIR: Final = "@pytest.mark.xdist_group('pair')\ndef test_p{0}(): note('p{0}')\n"


@pytest.mark.slow("a run of pytest in three processes")
@pytest.mark.timeout(180)
def test_a_test_that_measures_runs_alone(tmp_path: Path) -> None:
    """Files are spread, groups are not; nothing overlaps a test of the group `alone`."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    files = {
        "test_1": "def test_a(): note('a')\ndef test_b(): note('b')\n" + PAIR.format(1),
        "test_2": "def test_c(): note('c')\ndef test_d(): note('d')\n",
        "test_0": "@pytest.mark.xdist_group('alone')\ndef test_e(): note('alone')\n"
        + PAIR.format(0)
        + "\n".join(f"def test_f{n}(): note('f{n}')" for n in range(4)),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(MEASURING + text)
    seen = tmp_path / "seen"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SEEN": str(seen)}
    # Whoever runs this test may have a profile of its own, which is not known to another process.
    environ.pop("HYPOTHESIS_PROFILE", None)
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup",
         "--no-loadscope-reorder", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "11 passed" in answer.stdout.splitlines()[-1]
    rows = [line.split() for line in seen.read_text().splitlines()]
    spans = {name: (float(began), float(ended)) for name, began, ended, _ in rows}
    ran = {row[0]: row[3] for row in rows}
    assert ran["p0"] == ran["p1"], "of two files, each of which is begun by a process of its own"
    assert len(spans) == 11
    began, ended = spans.pop("alone")
    assert [name for name, span in spans.items() if span[0] < ended and began < span[1]] == []
