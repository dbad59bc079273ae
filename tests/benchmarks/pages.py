"""
What a run leaves in a directory: `results.json`, `report.md`, a plot for each comparison.

The results are the source, the page and the plots are made from them, so they never disagree: what
one run adds replaces its suites' results and then everything is written anew. The same results give
the same bytes.

    python -m tests.benchmarks.pages DIR     make page and plots again from DIR/results.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks import goals, plots
from tests.benchmarks.report import Report, meanwhile, read, write

RESULTS: Final = "results.json"
PAGE: Final = "report.md"

_INTRODUCTION: Final = """\
# Benchmarks: the report

Made by `scripts/bench --out`; what the suites measure, how to repeat them and what was found stands in
the [benchmarks](README.md). A figure is the median of its rounds. Under each table stands where and
when it was measured: suites are run one after the other, not always at the same time.

## Goals

"Reached" is the median of the rounds, or the worst round where each round counts; of several rows the
worst.
"""


def page(reports: Mapping[str, Report], charts: Mapping[str, list[plots.Chart]]) -> str:
    """
    The page: goals first, then the suites by name.

    Args:
        reports: By suite.
        charts: Those of each suite.
    """
    parts = [
        _INTRODUCTION,
        goals.table(goals.outcomes(reports)),
        "",
        meanwhile(reports.values()),
        "",
    ]
    for name in sorted(reports):
        parts.append(reports[name].table())
        parts += [f"\n![{c.title}]({c.file})" for c in charts.get(name, ())]
        parts.append("")
    return "\n".join(parts)


def render(folder: Path) -> None:
    """Make page and plots from the results that are there."""
    reports = read(folder / RESULTS)
    charts = plots.charts(reports)
    # Those of an earlier run that have nothing to show any more; other people's pictures stay.
    for name in plots.NAMES:
        (folder / f"{name}.svg").unlink(missing_ok=True)
    for chart in (c for some in charts.values() for c in some):
        plots.draw(chart, folder / chart.file)
    (folder / PAGE).write_text(page(reports, charts))


def add(folder: Path, reports: Mapping[str, Report]) -> None:
    """Put these suites in the place of their former results, and make everything anew."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / RESULTS, {**read(folder / RESULTS), **reports})
    render(folder)


if __name__ == "__main__":
    render(Path(sys.argv[1]))
