"""How the suite is spread over processes: units of work, their order, and tests that run alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from tests import conftest, scheduling

ROOT: Final = Path(__file__).resolve().parents[2]

LONG: Final = {"tests/a.py::test_long[x y]", "tests/a.py::test_a[grouped]"}
GROUPS: Final = {"tests/a.py::test_a[grouped]": "alone"}
UNITS: Final = {
    "a test of a file": ("tests/a.py::test_a", "tests/a.py"),
    "a method": ("tests/a.py::TestA::test_a", "tests/a.py"),
    "a value that holds colons": ("tests/a.py::test_a[x::y]", "tests/a.py"),
    "a long test": ("tests/a.py::test_long[x y]", "tests/a.py::test_long[x y]"),
    "another case of it": ("tests/a.py::test_long[x]", "tests/a.py"),
    "a group": ("tests/a.py::test_a[grouped]", "alone"),
}


@pytest.mark.parametrize("case", UNITS)
def test_the_unit_of_work(case: str) -> None:
    """A test belongs to its group, else to itself if it is long, else to its file."""
    nodeid, wanted = UNITS[case]
    assert scheduling.unit(nodeid, GROUPS, LONG) == wanted


def test_durations_are_read_as_they_were_written(tmp_path: Path) -> None:
    """The longest come first, phases add up, long tests have lines of their own, comments stay."""
    file = tmp_path / "durations.txt"
    file.write_text("# a comment\n")
    seen = [
        ("a.py::x", 1.5), ("a.py::x", 1.5), ("b.py::y[1 2]", 30), ("b.py::y[1 2]", 10.4),
        ("b.py::z", 4.1), ("b.py::z[1]", 5.1), ("c.py::z", 0.1), ("d.py::w", 8),
    ]  # fmt: skip
    groups = tmp_path / "groups.json"
    groups.write_text('{"d.py::w": "g"}')
    scheduling.write_durations(seen, groups, file)
    assert file.read_text().splitlines() == [
        "# a comment", "    40 b.py::y[1 2]", "     9 b.py", "     8 g", "     3 a.py",
    ]  # fmt: skip
    assert scheduling.read_durations(file) == {"b.py::y[1 2]": 40, "b.py": 9, "g": 8, "a.py": 3}


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


class Process:
    """What the scheduler knows of a process: what it was given, and that no more will come."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)  # noqa: V101 (the scheduler reads it)
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:  # noqa: V105 (the scheduler calls it)
        """Take tests."""
        self.given += indices

    def shutdown(self) -> None:
        """End after what was given."""
        self.shutting_down = True


def test_long_tests_of_a_file_go_to_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process holds the test that it runs and a next one, and gets more when it has one left."""
    tests = ["a::x", "a::y", "b::1", "b::2", "b::3", "a::1", "c::1", "b::alone"]
    monkeypatch.setattr(scheduling, "read_durations", lambda: {"a::x": 9, "a::y": 8, "b": 5})
    config = SimpleNamespace(
        getvalue=lambda _: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=False)
    )
    groups = tmp_path / "groups.json"
    groups.write_text('{"b::alone": "alone"}')
    scheduler = scheduling.ByFile(config, None, groups)
    one, other = Process("one"), Process("other")
    for process in (one, other):
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    assert (one.given, other.given) == ([0, 2, 3, 4], [1, 5]), "a file after the long ones"
    scheduler.mark_test_complete(one, 0)
    scheduler.mark_test_complete(one, 2)
    assert one.given == [0, 2, 3, 4], "it knows what comes next"
    scheduler.mark_test_complete(other, 1)
    assert other.given == [1, 5, 6]
    scheduler.mark_test_complete(one, 3)
    assert one.given == [0, 2, 3, 4, 7], "a group is no part of its file"
    scheduler.mark_test_complete(other, 5)
    assert other.shutting_down


def test_what_computes_runs_beside_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process for two cores takes what computes, until there is no more of it; `alone` is the last."""
    tests = ["tests/unit/a.py::x", "tests/model/b.py::x", "tests/e2e/c.py::x", "tests/e2e/d.py::x",
             "tests/unit/e.py::x", "tests/e2e/f.py::x", "tests/unit/g.py::x"]  # fmt: skip
    monkeypatch.setattr(scheduling, "read_durations", dict)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    config = SimpleNamespace(
        getvalue=lambda _: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=False)
    )
    groups = tmp_path / "groups.json"
    groups.write_text('{"tests/unit/g.py::x": "alone"}')
    scheduler = scheduling.ByFile(config, None, groups)
    computing, waiting = Process("computing"), Process("waiting")
    for process in (computing, waiting):
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    assert (computing.given, waiting.given) == ([0, 1], [2, 3])
    scheduler.mark_test_complete(waiting, 2)
    scheduler.mark_test_complete(waiting, 3)
    assert waiting.given == [2, 3, 5, 4], "of the other kind when its own is used up"
    scheduler.mark_test_complete(computing, 0)
    assert computing.given == [0, 1, 6]


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


def test_slow_tests_give_their_reason(request: pytest.FixtureRequest) -> None:
    """What is left out of a quick run says why it is slow; the collection of tests fails otherwise."""
    items: list[pytest.Item] = []
    marks = {
        "none": None, "why": pytest.mark.slow("why"), "bare": pytest.mark.slow,
        "blank": pytest.mark.slow(" "),
    }  # fmt: skip
    for name, mark in marks.items():
        item = pytest.Function.from_parent(request.node.parent, name=name, callobj=lambda: None)
        if mark is not None:
            item.add_marker(mark)
        items.append(item)
    assert [i.rpartition("::")[2] for i in scheduling.unreasoned(items)] == ["bare", "blank"]
    with pytest.raises(pytest.UsageError, match=r"::bare, .*::blank$"):
        conftest.pytest_collection_modifyitems(request.config, items)
    assert [item.name for item in scheduling.take_slow(items)] == ["why", "bare", "blank"]
    assert [item.name for item in items] == ["none"]


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


@pytest.mark.parametrize(
    ("report", "kept"),
    [
        pytest.param({"when": "call", "outcome": "passed"}, True, id="a test that passed"),
        pytest.param({"when": "setup", "outcome": "passed"}, False, id="its set-up"),
        pytest.param({"when": "teardown", "outcome": "passed"}, False, id="its end"),
        pytest.param(
            {"when": "setup", "outcome": "passed", "duration": 0.01},
            True,
            id="a set-up that took time",
        ),
        pytest.param({"when": "setup", "outcome": "failed"}, True, id="a set-up that failed"),
        pytest.param({"when": "teardown", "outcome": "failed"}, True, id="an end that failed"),
        pytest.param({"when": "setup", "outcome": "skipped"}, True, id="a test that was skipped"),
    ],
)
def test_what_nobody_reads_is_not_reported(report: dict[str, Any], *, kept: bool) -> None:
    """Of what went well a report of the test alone, without its keywords; of the rest everything."""
    sent: list[dict[str, Any]] = []
    send = scheduling.without_routine(lambda name, **members: sent.append({name: members}))
    send("testreport", data={"duration": 0.0, "keywords": {"slow": 1}, **report})
    assert len(sent) == kept
    if kept:
        keywords = sent[0]["testreport"]["data"]["keywords"]
        assert keywords == ({} if report["outcome"] == "passed" else {"slow": 1})


def test_other_events_pass() -> None:
    """Of all else only the begin of a test is left out."""
    sent: list[str] = []
    send = scheduling.without_routine(lambda name, **_: sent.append(name))
    for name in ("workerready", "logstart", "logfinish", "runtest_protocol_complete"):
        send(name, nodeid="a")
    assert sent == ["workerready", "logfinish", "runtest_protocol_complete"]


class Server:
    """A server that may rest."""

    def __init__(self) -> None:
        self.awake = True

    def rest(self) -> None:
        """Be frozen."""
        self.awake = False

    def wake(self) -> None:
        """Be awake."""
        self.awake = True


def test_a_server_rests_while_a_file_does_not_name_it() -> None:
    """It is frozen after the last test of a file, unless the next one names it, and woken for who does."""

    def at(file: str, *fixtures: str) -> pytest.Item:
        return cast("pytest.Item", SimpleNamespace(path=Path(file), fixturenames=list(fixtures)))

    plane, other = Server(), Server()
    servers = {"plane": plane, "other": other}
    for following, wanted in (
        (at("a.py"), (True, True)),
        (None, (True, True)),
        (at("b.py", "plane"), (True, False)),
        (at("c.py", "namespace", "other"), (False, False)),
    ):
        scheduling.rest_unnamed(at("a.py", "plane"), following, servers)
        assert (plane.awake, other.awake) == wanted
    scheduling.wake_named(at("c.py", "namespace", "other"), servers)
    assert (plane.awake, other.awake) == (False, True)
    scheduling.wake_named(at("c.py", "plane"), servers)
    assert plane.awake
