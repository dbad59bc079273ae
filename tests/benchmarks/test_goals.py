"""Verdicts are what the figures say, and no goal is left out, however little was measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import pages, plots
from tests.benchmarks.__main__ import SUITES, main
from tests.benchmarks.goals import BESIDES, TARGETS, Target, judge, outcomes, table
from tests.benchmarks.report import Cores, Goal, Report, _own_seconds, meanwhile, read, write

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {
    "at": "2026-01-01 00:00 UTC", "cpu": "a processor", "cores": 2, "load": [1.0, 0.5, 0.2],
    "system": "Linux 6", "python": "3.11", "programs": {"etcd": "etcd 3.6"},
    "product": "0123456789ab", "load after": [2.0, 1.0, 0.5],
}  # fmt: skip
ALL = (*TARGETS, *BESIDES)
FEW = Target("few", "s", "case .: few", Goal(2))
MANY = Target("many", "s", "many", Goal(10, least=True))
LARGE = Target("large", "s", "many", Goal(10, least=True), "a lot")
NEVER = Target("never", "s", "many", Goal(0, every=True))


def report(*, quick: bool = False, **figures: list[float]) -> Report:
    """A report of a suite `s`; in a name, `_` is `: `."""
    made = Report("s", quick=quick, machine=MACHINE)
    for name, rounds in figures.items():
        made.add(name.replace("_", ": ").replace("case", "case "), "", rounds)
    return made


@pytest.mark.parametrize(
    ("target", "of", "word"),
    [
        pytest.param(MANY, report(many=[9, 10, 99]), "met", id="the median reaches it"),
        pytest.param(MANY, report(many=[9, 9.9, 99]), "missed", id="the median does not"),
        pytest.param(
            FEW, report(case1_few=[1.0], case2_few=[3.0], case3_few=[1.0]), "missed",
            id="one row of three does not",
        ),
        pytest.param(FEW, report(case1_few=[1.0], case2_few=[2.0]), "met", id="all rows do"),
        pytest.param(NEVER, report(many=[0, 0, 0, 1, 0]), "missed", id="one round of five does not"),
        pytest.param(LARGE, report(many=[99]), "met", id="the full run"),
        pytest.param(
            LARGE, report(quick=True, many=[99]), "needs the full run (a lot)", id="the quick run"
        ),
        pytest.param(
            LARGE, report(quick=True, few=[99]), "needs the full run (a lot)", id="not in quick"
        ),
        pytest.param(MANY, report(quick=True, many=[99]), "met", id="quick is enough"),
        pytest.param(
            MANY, report(few=[9]), "not measured: the suite has no figure 'many'", id="no figure"
        ),
        pytest.param(MANY, None, "not measured: the suite was not run", id="no report"),
    ],
)  # fmt: skip
def test_verdict(target: Target, of: Report | None, word: str) -> None:
    """The worst row counts, by its median or, where each round counts, by its worst round."""
    assert judge(target, of).word == word


def test_the_worst_row_is_shown() -> None:
    """What stands in the table is the row that decided, and its name."""
    row = judge(FEW, report(case1_few=[1.0], case2_few=[2.5, 3.0, 4.0])).row()
    assert row == "| s | few (worst of 2: case 2: few) | <= 2 | 3.000 | 2.500 | 4.000 | missed |"
    assert judge(MANY, report(quick=True, many=[99])).row().startswith("| s (quick) | many |")
    assert judge(LARGE, report(quick=True, many=[99])).row().startswith("| s (quick) | large |")


def test_no_goal_is_left_out() -> None:
    """With nothing measured, all goals are in the table; a goal of a single row is added."""
    assert [o.target for o in outcomes({})] == list(ALL)
    further = Report("strategies", machine=MACHINE)
    further.add("a row of its own", "%", [1.0], Goal(2))
    judged = outcomes({"strategies": further}, {"append": "the suite failed (OSError)"})
    assert [(o.target.words, o.word) for o in judged[len(ALL) :]] == [
        ("a row of its own, %", "met")
    ]
    text = table(judged)
    assert "not measured: the suite failed (OSError)" in text
    assert text.splitlines()[-1] == (f"Goals: {len(ALL) + 1}; met: 1, not measured: {len(ALL)}.")


def test_every_goal_names_a_suite() -> None:
    """A goal whose suite does not exist could never be measured."""
    assert {t.suite for t in ALL} <= set(SUITES)
    for target in ALL:
        re.compile(target.figure)


@pytest.mark.parametrize(
    "goal", [None, Goal(1.5), Goal(10, least=True), Goal(0, every=True), Goal(1e-3)]
)
def test_results_survive_the_file(tmp_path: Path, goal: Goal | None) -> None:
    """What was written is what is read, goals and series included."""
    before = report(many=[1.25, 3.5])
    before.add("judged", "ms", [0.1, 1e-7, 12345.678], goal)
    before.notes.append("a note with [1, 2]")
    before.series = {"s": [0.0, 5.0], "MiB": [70.5, 71.0]}
    before.seconds = 12.3
    write(tmp_path / "results.json", {"s": before})
    assert read(tmp_path / "results.json") == {"s": before}
    assert read(tmp_path / "other.json") == {}


async def test_one_suite_replaces_its_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Suites are run one by one into the same directory, each with its own size and machine."""
    drawn: list[str] = []
    monkeypatch.setattr(plots, "draw", lambda _chart, path: drawn.append(path.name))
    monkeypatch.setattr(plots, "can_draw", lambda: True)

    def suite(name: str, figure: str, value: float) -> None:
        async def run(*, quick: bool) -> Report:
            made = Report(name)
            made.add(figure, "", [value])
            return made

        monkeypatch.setitem(SUITES, name, run)

    async def broken(*, quick: bool) -> Report:
        raise OSError("no servers here")

    ratio = "everysec, 2 records, 1 at once: log / bare p50"
    monkeypatch.setattr("tests.benchmarks.__main__._assets_for", _no_servers)
    suite("append", ratio, 1.0)
    suite("recovery", "100,000 notifications: all looked at", 31.0)
    assert await main(["append", "recovery", "--out", str(tmp_path)]) == 0
    suite("append", ratio, 2.0)
    monkeypatch.setitem(SUITES, "waiting", broken)
    assert await main(["append", "waiting", "--quick", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "not measured: the suite failed (OSError)" in said
    assert "| recovery | start among 100,000: all looked at, s | <= 25 | 31.0 " in said
    now = read(tmp_path / "results.json")
    assert {n: (r.quick, r.figures[0].median) for n, r in now.items()} == {
        "append": (True, 2.0), "recovery": (False, 31.0),
    }  # fmt: skip
    page = (tmp_path / "report.md").read_text()
    for words in ("## append", "## recovery", "full run; ", "quick: fewer", "load after"):
        assert words in page
    assert drawn == ["recovery.svg", "recovery.svg"]


async def test_plots_that_cannot_be_drawn_are_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody measures for an hour to hear that a library is missing."""
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    with pytest.raises(SystemExit) as ended:
        await main(["append", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "dependency group `bench`" in capsys.readouterr().err


def test_only_our_plots_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot without figures goes; a picture of somebody else stays, and each name is known."""
    monkeypatch.setattr(plots, "draw", lambda _chart, path: path.write_text("new"))
    for name in ("soak.svg", "theirs.svg"):
        (tmp_path / name).write_text("old")
    pages.add(tmp_path, {"append": report(many=[1.0])})
    assert {path.name for path in tmp_path.glob("*.svg")} == {"theirs.svg"}
    published = read(ROOT / "docs" / "benchmarks" / "results.json")
    made = {chart.name for some in plots.charts(published).values() for chart in some}
    assert made <= set(plots.NAMES)


async def _no_servers(names: list[str]) -> None:
    """No control plane is built or started."""


def test_the_report_is_made_from_its_results() -> None:
    """The page that is published says what the results say, and has the plots that belong to them."""
    folder = ROOT / "docs" / "benchmarks"
    reports = read(folder / "results.json")
    charts = plots.charts(reports)
    made = pages.page(reports, charts)
    assert (folder / "report.md").read_text() == made, (
        "run -m tests.benchmarks.pages docs/benchmarks"
    )
    drawn = {path.name for path in folder.glob("*.svg")}
    assert drawn == {chart.file for some in charts.values() for chart in some}


def test_rows_and_goals_ask_for_the_same() -> None:
    """Where a row of a suite's table has a goal, it is the limit of the goal in the list."""
    reports = read(ROOT / "docs" / "benchmarks" / "results.json")
    compared = 0
    for target in ALL:
        report = reports.get(target.suite, Report(target.suite))
        for figure in report.figures:
            if re.fullmatch(target.figure, figure.name) and figure.goal:
                assert figure.goal == target.limit, figure.name
                compared += 1
    assert compared > 10


def test_usage_names_every_suite() -> None:
    """`scripts/bench` says what can be measured, no more and no less."""
    text = (ROOT / "scripts" / "bench").read_text()
    (line,) = re.findall(r"^#\s+\[([a-z|]+)\|all\.\.\.\]$", text, re.MULTILINE)
    assert line.split("|") == sorted(SUITES)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "still there"])
def test_what_we_started_is_not_the_work_of_others(*, ended: bool) -> None:
    """CPU of a child counts as ours while it lives and after it has ended."""
    before = _own_seconds()
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{busy}print('done', flush=True)\nimport sys\nsys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"done\n"
    if ended:
        child.communicate()
    grown = _own_seconds() - before
    child.communicate()
    assert grown >= 0.29


def test_other_work_is_told() -> None:
    """Where the machine did something else meanwhile, the report says how much."""
    made = report(many=[1.0])
    assert "other work" not in made.where()
    assert not meanwhile([made])
    made.machine = {**MACHINE, **Cores().others()}
    assert meanwhile([made, report(many=[2.0])]).startswith("Of 2 cores other work took ")
    assert re.search(r"other work took [\d.]+ cores, the host [\d.]+$", made.where())
