"""
What a benchmark says: figures with their spread, held against goals, as a table and as JSON.

A figure is the median of its rounds and never stands without the smallest and the largest of them,
so that a reader sees how noisy the machine was. A goal is a limit on the median; goals are ratios
within one run wherever that is possible, because those hold on a machine that others use as well.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

_PACKAGES: Final = (
    "aiohttp", "hiredis", "kubernetes-asyncio", "msgpack", "notification-ledger", "orjson", "redis",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit on a median: at most, or at least, so much."""

    limit: float
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether a median reaches the goal."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{'>=' if self.least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One row of the table.

    Attributes:
        name: What was measured, in words.
        unit: Unit of the values, empty for a ratio.
        rounds: One value per round, in order.
        goal: What the median is held against, None for a figure that only informs.
    """

    name: str
    unit: str
    rounds: tuple[float, ...]
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or empty without a goal."""
        if self.goal is None:
            return ""
        return "met" if self.goal.met(self.median) else "missed"


@dataclass(slots=True)
class Report:
    """Everything that one suite measured; `notes` say under which conditions."""

    suite: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, rounds: Sequence[float], goal: Goal | None = None) -> None:
        """Add a row; a figure without rounds is a mistake of the suite."""
        if not rounds:
            raise ValueError(f"nothing was measured for {name!r}")
        self.figures.append(Figure(name, unit, tuple(rounds), goal))

    def table(self) -> str:
        """The rows as a Markdown table."""
        lines = ["| figure | unit | median | min | max | rounds | goal | verdict |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        for f in self.figures:
            numbers = (f.median, min(f.rounds), max(f.rounds))
            cells = [f.name, f.unit, *(_short(n) for n in numbers), str(len(f.rounds))]
            cells += [str(f.goal or ""), f.verdict]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([f"## {self.suite}", "", *lines, "", *(f"- {n}" for n in self.notes)])

    def as_json(self) -> Json:
        """The same for machines, with every round."""
        return {
            "suite": self.suite,
            "notes": self.notes,
            "figures": [
                {
                    "name": f.name, "unit": f.unit, "median": f.median, "rounds": list(f.rounds),
                    "goal": str(f.goal or ""), "verdict": f.verdict,
                }
                for f in self.figures
            ],
        }  # fmt: skip


def _short(number: float) -> str:
    return f"{number:.3f}" if abs(number) < 10 else f"{number:,.1f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share (0 to 1) of the values lies; the nearest one that occurred."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# -- the machine ----------------------------------------------------------------------------------


def machine(programs: Sequence[Path]) -> Json:
    """What it ran on: processor, load, versions. Host names and paths are left out."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(n, 2) for n in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "programs": {p.name: _version_of(p) for p in programs},
    }


def _version_of(program: Path) -> str:
    found = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=20
    )
    lines = (found.stdout or found.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def write(path: Path, reports: Sequence[Report], about: Json) -> None:
    """Write the JSON file."""
    document = {"machine": about, "suites": [r.as_json() for r in reports]}
    path.write_text(json.dumps(document, indent=2) + "\n")


# -- processes ------------------------------------------------------------------------------------

_TICK: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system; steps of 10 ms."""
    # The command name, in parentheses, may itself hold blanks and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no resident memory")
