"""The capacity model computes what it says, and docs/scale.md holds what it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.capacity import (
    AT_REST,
    BEGIN,
    END,
    PAGE,
    RESULTS,
    SOURCES,
    Carried,
    Inputs,
    Need,
    _limits,
    block,
    carried,
    etcd_lasts,
    filled,
    inputs,
    main,
    need,
    rounded,
)
from tests.benchmarks.report import Report, read, write

KNOWN = Inputs(
    rate=200, busy=1.9, controller=2, controller_events=3, others=0.5, others_sharded=0.02, servers=6,
    servers_events=10, watch=0.1, redis=0.25, writes=1, event_writes=3, scripts=5,
    commands=24, object_bytes=2**11, start=0.25,
)  # fmt: skip


def test_what_one_replica_carries() -> None:
    """A core at 60 % gives 600 ms in a second; the tightest place decides."""
    one = carried(KNOWN, replicas=1, cores=2, masters=1)
    assert one == Carried(300, 200, 2400)
    assert (one.most, one.wall) == (200, "API server")
    more = carried(KNOWN, replicas=1, cores=8, masters=1)
    assert (more.most, more.wall) == (300, "controller")
    assert carried(KNOWN, replicas=1, cores=8, masters=1, events=True).most == 200
    # Half of the Events were written: all of them cost twice as much again.
    half = replace(KNOWN, event_writes=1.5)
    dear = carried(half, replicas=1, cores=2, masters=1, events=True)
    assert (dear.controllers, dear.redis) == (150, 2400)
    assert dear.servers == pytest.approx(1200 / 14)


def test_replicas_pay_for_each_other() -> None:
    """Ten replicas carry less than ten times as much: each watches all, and each is one watch more."""
    ten = carried(KNOWN, replicas=10, cores=8, masters=3)
    assert ten.controllers == pytest.approx(600 / (0.2 + 0.45))
    assert ten.servers == pytest.approx(8 * 600 / 6.9)
    assert ten.redis == pytest.approx(7200)
    many = carried(KNOWN, replicas=10**6, cores=8, masters=3)
    assert many.controllers == pytest.approx(600 / 0.5, rel=1e-3)


def test_replicas_that_are_sent_their_own_pay_less() -> None:
    """Where the API server selects by shard, ten replicas carry nearly ten times as much."""
    ten = carried(KNOWN, replicas=10, cores=8, masters=3, sharded=True)
    assert ten.controllers == pytest.approx(600 / (0.2 + 0.018))
    assert ten.servers == pytest.approx(8 * 600 / 6.9)
    many = carried(KNOWN, replicas=10**6, cores=8, masters=3, sharded=True)
    assert many.controllers == pytest.approx(600 / 0.02, rel=1e-3)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        pytest.param(0.02, "ten replicas carry 9.2 times as much as one, and the bound for any number "
                     "is 30,000.", id="a little"),
        pytest.param(0.0, "ten replicas carry 10 times as much as one: what is another's costs a replica "
                     "less than can be measured.", id="nothing"),
    ],
)  # fmt: skip
def test_what_more_replicas_bring(others: float, words: str) -> None:
    """The bound of replicas that see everything stands beside that of those that do not."""
    text = _limits(replace(KNOWN, others_sharded=others))
    assert "no number of them carries more than 1,200 per second" in text
    assert words in text


def test_what_a_rate_takes() -> None:
    """As many installations of two replicas, cores and masters as carry it, and not one more."""
    one = carried(KNOWN, replicas=2, cores=1, masters=1)
    assert one == Carried(480, 600 / 6.1, 2400)
    assert need(KNOWN, 480) == Need(1, 5, 1)
    assert need(KNOWN, 481) == Need(2, 5, 1)
    assert need(KNOWN, 10_000) == Need(21, 102, 5)
    assert need(KNOWN, 10_000, events=True) == Need(30, 169, 5)
    assert etcd_lasts(KNOWN, 1024) == 4096


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.0426, "0.043"),
        (3.14, "3.1"),
        (99.6, "100"),
        (1234, "1,200"),
        (98_765, "99,000"),
    ],
)
def test_two_digits(number: float, text: str) -> None:
    """A model is not exact, and does not look it."""
    assert rounded(number) == text


def measured() -> dict[str, Report]:
    """Results that hold every input, each with the value 1."""
    found = {name: Report(name) for name in ("throughput", "replicas", "recovery")}
    for source in SOURCES.values():
        if source.suite != "recovery":
            for name in source.figures:
                found[source.suite].add(name, source.unit, [0.5, 1.0, 9.0])
    recovery = found["recovery"]
    recovery.add("10,000 notifications: CPU until all looked at", "s", [2.0])
    recovery.add("100,000 notifications: CPU until all looked at", "s", [30.0])
    found["idle"] = Report("idle")
    for count, value in (("1 replica", 0.5), ("5 replicas", 0.004)):
        for _, name in AT_REST:
            found["idle"].add(f"{count}: {name}", "", [value])
    return found


def test_inputs_are_medians_of_figures() -> None:
    """Costs of two processes are added; a start is taken at its largest size, in ms for each."""
    known = inputs(measured())
    assert (known.controller, known.servers, known.servers_events) == (1, 2, 2)
    assert (known.others_sharded, known.watch) == (1, 1)
    assert known.start == pytest.approx(0.3)


def test_a_missing_figure_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is filled in for what was not measured, and the page stays as it is."""
    reports = measured()
    del reports["recovery"]
    with pytest.raises(ValueError, match="start: recovery has no figure"):
        inputs(reports)
    results, page = tmp_path / "results.json", tmp_path / "scale.md"
    write(results, reports)
    page.write_text(f"{BEGIN}\nold\n{END}\n")
    assert main(["--write"], results=results, place=page) == 1
    assert "recovery has no figure" in capsys.readouterr().err
    assert "old" in page.read_text()


def test_what_it_costs_at_rest() -> None:
    """A column for each number of replicas; what is only noise is nothing."""
    lines = block(measured()).splitlines()
    assert "| with nothing to do | 1 replica | 5 replicas |" in lines
    reads = "reads from the API server per second, all together, without the LIST of metadata"
    assert f"| {reads} | 0.50 | 0 |" in lines
    without = measured()
    del without["idle"]
    with pytest.raises(ValueError, match="idle: there are no results"):
        block(without)


def test_events_must_have_been_written() -> None:
    """A run in which none was let through says nothing of their cost."""
    reports = measured()
    name = SOURCES["event_writes"].figures[0]
    figures = reports["throughput"].figures
    figures[:] = [replace(f, rounds=(0.0,)) if f.name == name else f for f in figures]
    with pytest.raises(ValueError, match="no Event was written"):
        inputs(reports)


def test_only_the_tables_are_replaced(tmp_path: Path) -> None:
    """What stands around the marks is the author's."""
    results, page = tmp_path / "results.json", tmp_path / "scale.md"
    write(results, measured())
    page.write_text(f"# Scale\n\n{BEGIN}\nold\n{END}\n\nprose\n")
    assert main(["--write"], results=results, place=page) == 0
    text = page.read_text()
    assert text.startswith(f"# Scale\n\n{BEGIN}\n\n| with nothing to do")
    assert text.endswith(f"{END}\n\nprose\n")
    assert "old" not in text
    with pytest.raises(ValueError, match="no place for the tables"):
        filled("# Scale\n", "tables")


def test_the_page_is_up_to_date() -> None:
    """Numbers on the page are those of the committed results; `--write` puts them there."""
    text = PAGE.read_text()
    assert filled(text, block(read(RESULTS))) == text, (
        "run python -m tests.benchmarks.capacity --write"
    )
