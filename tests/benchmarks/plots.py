"""
Plots of what was measured: which figures make a chart, and how it is drawn.

The first half is pure: `charts` picks figures by their names and makes descriptions of charts; a suite
that was not run, or a figure that is not there, leaves its chart out. `draw` renders one of them with
matplotlib, which is imported there and nowhere else: nobody needs it to run a suite or a test.

An SVG of the same numbers has the same bytes: no date in it, identifiers from a fixed salt, text as
text.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.benchmarks.goals import UPSTREAM_RATE
from tests.benchmarks.report import Figure, Report

#: Told apart in grey and by the colour-blind as well.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: Of all charts that there may be.
NAMES: Final = ("cpu", "latency", "memory", "recovery", "soak", "strategies", "throughput")
_INCHES: Final = (7.2, 3.8)


@dataclass(frozen=True, slots=True)
class Row:
    """
    One series of a chart.

    Attributes:
        label: For the legend.
        x: Positions; categories of a bar chart are numbered from 0.
        y: Medians.
        low: Smallest round of each, `high` the largest; empty draws no spread.
        panel: Under which axis it stands, counted from 0.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    panel: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """
    One picture.

    Attributes:
        name: Stem of the file.
        title: Above it; also what is read where no picture can be seen.
        x: Label of the horizontal axis.
        y: Labels of the vertical axes, one for each panel.
        kind: Bars beside each other, or lines.
        rows: The series.
        categories: Names of the places of a bar chart.
        log: Logarithmic vertical axes; `log_x` the horizontal one.
    """

    name: str
    title: str
    x: str
    y: tuple[str, ...]
    kind: Literal["bars", "lines"]
    rows: tuple[Row, ...]
    categories: tuple[str, ...] = ()
    log: bool = False
    log_x: bool = False

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.svg"


def _row(label: str, at: list[tuple[float, Figure]], panel: int = 0) -> Row:
    return Row(
        label,
        tuple(x for x, _ in at),
        tuple(f.median for _, f in at),
        tuple(min(f.rounds) for _, f in at),
        tuple(max(f.rounds) for _, f in at),
        panel,
    )


def _matching(report: Report, pattern: str) -> list[tuple[re.Match[str], Figure]]:
    """Figures whose whole name matches, in the report's order."""
    found = ((re.fullmatch(pattern, f.name), f) for f in report.figures)
    return [(m, f) for m, f in found if m]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


# -- which charts ----------------------------------------------------------------------------------


def _strategies(report: Report) -> list[Chart]:
    names = {"naive": "naive overwrite", "A": "optimistic locking", "B": "one at a time",
             "C": "this product"}  # fmt: skip
    cases = [m[1] for m, _ in _matching(report, r"(.*): C recorded/s")]
    rows = []
    for way, label in names.items():
        figures = [report.find(f"{case}: {way} recorded/s") for case in cases]
        rows.append(_row(label, [(float(i), f) for i, f in enumerate(figures) if f]))
    short = (re.sub(r"(\d+) attempts by (\d+) writers", r"\1 by \2", case) for case in cases)
    return [
        Chart(
            "strategies", "Attempts recorded per second, by way of recording",
            "attempts per object, by so many writers at once", ("attempts/s",), "bars",
            tuple(rows), tuple(short), log=True,
        )
    ]  # fmt: skip


def _throughput(report: Report) -> list[Chart]:
    wanted = (
        ("null controller", "null: notifications/s"),
        ("this product", "notifications/s"),
        ("with Events", "Events on: notifications/s"),
    )
    found = [(label, report.find(name)) for label, name in wanted]
    at = [(float(i), f) for i, (_, f) in enumerate(found) if f]
    upstream = Figure("upstream", "1/s", (UPSTREAM_RATE,))
    at.append((float(len(found)), upstream))
    labels = (*(label for label, _ in found), "replaced controller,\nanother hour")
    rates = Chart(
        "throughput", "Notifications per second, all created at once", "", ("notifications/s",),
        "bars", (_row("notifications/s", at),), labels,
    )  # fmt: skip
    processes = (
        ("controller", "controller CPU per notification"),
        ("API server", "API server CPU per notification"),
        ("etcd", "etcd CPU per notification"),
        ("Redis", "Redis CPU per notification"),
    )
    costs = [(label, report.find(name)) for label, name in processes]
    each = [(float(i), f) for i, (_, f) in enumerate(costs) if f]
    cpu = Chart(
        "cpu", "CPU of one notification, Events off", "", ("ms",), "bars", (_row("ms", each),),
        tuple(label for label, _ in costs),
    )  # fmt: skip
    return [rates, cpu]


def _latency(report: Report) -> list[Chart]:
    kinds = (
        ("create to first byte, p50", "first byte, p50"),
        ("create to first byte, p99", "first byte, p99"),
        ("create to final phase, p50", "final phase, p50"),
        ("create to final phase, p99", "final phase, p99"),
    )
    rows = []
    for name, label in kinds:
        at = [(_number(m[1]), f) for m, f in _matching(report, rf"(\d+) %: {name}")]
        rows.append(_row(label, at))
    return [
        Chart(
            "latency", "From creation to the receiver, and to the status", "load, % of the largest",
            ("ms",), "lines", tuple(rows), log=True,
        )
    ]  # fmt: skip


def _recovery(report: Report) -> list[Chart]:
    rows = []
    for name, panel in (
        ("first pending delivery", 0), ("ready", 0), ("all looked at", 0), ("resident, largest", 1),
    ):  # fmt: skip
        at = [(_number(m[1]), f) for m, f in _matching(report, rf"([\d,]+) notifications: {name}")]
        rows.append(_row(name, at, panel))
    return [
        Chart(
            "recovery", "A start, by what it finds", "notifications", ("s", "resident, MiB"), "lines",
            tuple(rows), log_x=True,
        )
    ]  # fmt: skip


def _memory(report: Report) -> list[Chart]:
    rows = []
    for label, words in (
        ("short errors", ""), ("errors of 200 B", ", errors of 200 B"),
        ("errors of 1,000 B", ", errors of 1,000 B"),
    ):  # fmt: skip
        found = _matching(report, rf"Redis, (\d+) attempts?{words}")
        rows.append(_row(label, [(_number(m[1]), f) for m, f in found]))
    return [
        Chart(
            "memory", "Redis memory of one log", "attempts, all but the last failed", ("B",), "lines",
            tuple(rows),
        )
    ]  # fmt: skip


def _soak(report: Report) -> list[Chart]:
    """Whatever was seen over time: a panel for each column; the column `s` is the time."""
    columns = [name for name in report.series if name != "s"]
    minutes = tuple(s / 60 for s in report.series["s"])
    rows = [
        Row(name, minutes, tuple(report.series[name]), panel=i) for i, name in enumerate(columns)
    ]
    return [
        Chart(
            "soak", "A steady load over time", "minutes", tuple(columns), "lines", tuple(rows)
        )
    ]  # fmt: skip


_CHARTS: Final[dict[str, Callable[[Report], list[Chart]]]] = {
    "strategies": _strategies, "throughput": _throughput, "latency": _latency,
    "recovery": _recovery, "memory": _memory, "soak": _soak,
}  # fmt: skip


def charts(reports: Mapping[str, Report]) -> dict[str, list[Chart]]:
    """The charts of each suite; those that would be empty are left out."""
    made = {name: _CHARTS[name](report) for name, report in reports.items() if name in _CHARTS}
    return {name: [c for c in some if any(r.x for r in c.rows)] for name, some in made.items()}


# -- how they are drawn ----------------------------------------------------------------------------


def can_draw() -> bool:
    """Whether the dependency group `bench` is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(chart: Chart, path: Path) -> None:
    """
    Write one chart as SVG.

    Raises:
        ModuleNotFoundError: The dependency group `bench` is not installed.
    """
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 - as above

    style = {
        "svg.hashsalt": "notification-ledger", "svg.fonttype": "none", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    }  # fmt: skip
    with mpl.rc_context(style):
        panels = len(chart.y)
        height = _INCHES[1] if panels == 1 else 1.5 * panels + 1
        canvas = Canvas(figsize=(_INCHES[0], height), layout="constrained")
        axes = canvas.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
        canvas.suptitle(chart.title)
        for panel, axis in enumerate(axes):
            rows = [r for r in chart.rows if r.panel == panel and r.x]
            (_bars if chart.kind == "bars" else _lines)(axis, chart, rows)
            axis.set_ylabel(chart.y[panel])
            if chart.log:
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.grid(axis="y", color="#dddddd")
        axes[-1].set_xlabel(chart.x)
        canvas.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _spread(row: Row) -> Any:
    if not row.low or row.low == row.high:
        return None
    below = [y - low for y, low in zip(row.y, row.low, strict=True)]
    return [below, [high - y for y, high in zip(row.y, row.high, strict=True)]]


def _legend(axis: Any, rows: list[Row]) -> None:
    if len(rows) > 1:
        # Beside the axes: within them there is no place that is free in every chart.
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _bars(axis: Any, chart: Chart, rows: list[Row]) -> None:
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        places = [x + (i - (len(rows) - 1) / 2) * width for x in row.x]
        colours = _COLOURS[i] if len(rows) > 1 else [_COLOURS[int(x)] for x in row.x]
        axis.bar(
            places, row.y, width * 0.92, label=row.label, color=colours, yerr=_spread(row),
            error_kw={"linewidth": 0.8, "ecolor": "#333333"},
        )  # fmt: skip
        if len(rows) == 1:
            for x, y in zip(places, row.y, strict=True):
                axis.annotate(
                    f"{y:.3g}", (x, y), xytext=(4, 3), textcoords="offset points", ha="left"
                )
    axis.set_xticks(range(len(chart.categories)), chart.categories)
    _legend(axis, rows)


def _lines(axis: Any, chart: Chart, rows: list[Row]) -> None:
    for i, row in enumerate(rows):
        marker = "o" if row.low else ""
        axis.errorbar(
            row.x, row.y, yerr=_spread(row), label=row.label, color=_COLOURS[i % len(_COLOURS)],
            marker=marker, markersize=4, linewidth=1.2, elinewidth=0.8, capsize=2,
        )  # fmt: skip
    if chart.log_x:
        axis.set_xscale("log")
    _legend(axis, rows)
