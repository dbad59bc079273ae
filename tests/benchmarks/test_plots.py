"""Charts show the figures that were measured; what was not measured has no chart."""

from __future__ import annotations

from tests.benchmarks.plots import Row, charts
from tests.benchmarks.report import Report


def test_nothing_measured_nothing_drawn() -> None:
    """A suite without a chart, and figures without a place in one, leave no empty picture."""
    other = Report("strategies")
    other.add("something else", "", [1.0])
    assert charts({"append": Report("append"), "strategies": other}) == {"strategies": []}


def test_strategies_by_case() -> None:
    """A bar for each way in each case, with the spread of its rounds."""
    report = Report("strategies")
    for case, factor in (("1 attempts by 1 writers", 1.0), ("5 attempts by 5 writers", 2.0)):
        for way, rate in (("naive", 10.0), ("A", 5.0), ("B", 7.0), ("C", 100.0)):
            report.add(f"{case}: {way} recorded/s", "1/s", [rate * factor, rate * factor + 3, 1])
    (chart,) = charts({"strategies": report})["strategies"]
    assert (chart.file, chart.kind, chart.log) == ("strategies.svg", "bars", True)
    assert chart.categories == ("1 by 1", "5 by 5")
    assert chart.rows[3] == Row(
        "this product", (0.0, 1.0), (100.0, 200.0), (1.0, 1.0), (103.0, 203.0)
    )


def test_lines_by_load_and_by_size() -> None:
    """The horizontal place is the number in the figure's name."""
    latency = Report("latency")
    for load in (10, 50, 90):
        latency.add(f"{load} %: create to first byte, p99", "ms", [load / 10])
    (chart,) = charts({"latency": latency})["latency"]
    (row,) = (r for r in chart.rows if r.x)
    assert (row.label, row.x, row.y) == ("first byte, p99", (10, 50, 90), (1, 5, 9))
    recovery = Report("recovery")
    for size in (10_000, 100_000):
        recovery.add(f"{size:,} notifications: resident, largest", "MiB", [size / 1000])
    (chart,) = charts({"recovery": recovery})["recovery"]
    (row,) = (r for r in chart.rows if r.x)
    assert (row.panel, row.x, row.y) == (1, (10_000, 100_000), (10, 100))


def test_memory_by_attempts() -> None:
    """A line for each length of error; rows of another kind are no points of it."""
    memory = Report("memory")
    for name, size in (
        ("1 attempt", 800.0), ("5 attempts", 2000.0), ("5 attempts, errors of 200 B", 2600.0),
        ("5 attempts: MEMORY USAGE", 1.0), ("3 channels, 5 attempts each", 2.0),
    ):  # fmt: skip
        memory.add(f"Redis, {name}", "B", [size])
    (chart,) = charts({"memory": memory})["memory"]
    short, longer, longest = chart.rows
    assert (short.x, short.y) == ((1, 5), (800, 2000))
    assert (longer.x, longer.y, longest.x) == ((5,), (2600,), ())


def test_a_long_run_over_time() -> None:
    """A panel for each column; minutes along the bottom."""
    soak = Report("soak", series={"s": [0.0, 60.0], "MiB": [70.0, 71.0], "keys": [5.0, 4.0]})
    (chart,) = charts({"soak": soak})["soak"]
    assert (chart.x, chart.y) == ("minutes", ("MiB", "keys"))
    assert [(r.panel, r.x, r.y) for r in chart.rows] == [
        (0, (0.0, 1.0), (70.0, 71.0)), (1, (0.0, 1.0), (5.0, 4.0)),
    ]  # fmt: skip
