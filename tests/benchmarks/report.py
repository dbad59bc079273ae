"""
What a benchmark says: figures with their spread, held against goals, as a table and as JSON.

A figure is the median of its rounds and never stands without the smallest and the largest of them,
so that a reader sees how noisy the machine was. A goal is a limit on the median, or on every round
where one failure is one too many; goals are ratios within one run wherever that is possible, because
those hold on a machine that others use as well.

What one suite measured stands together with where and how it was measured: suites are run one by one
on quiet cores, at different times. `read` gives back what `write` wrote, so that a run of one suite
replaces that part alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
#: What one round came to, by the names of figures.
Measured = Mapping[str, float]
#: Columns of numbers of the same length, by name: what was seen over time.
Series = dict[str, list[float]]

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = (
    "aiohttp", "hiredis", "kubernetes-asyncio", "msgpack", "notification-ledger", "orjson", "redis",
)  # fmt: skip
_NUMBERS: Final = re.compile(r"\[[-+0-9.e,\s]+\]")
_AFTER: Final = "load after"
_OTHERS: Final = "cores of others"
_EVERY: Final = " in every round"
#: What the product is made of: a commit speaks for the figures only if these are as it has them.
_PRODUCT: Final = ("notifier", "syncer", "charts")


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A limit: at most, or at least, so much.

    Attributes:
        limit: The value that is just good enough.
        least: At least that, not at most.
        every: Each round is held against it, not the median.
    """

    limit: float
    least: bool = False
    every: bool = False

    def met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return value >= self.limit if self.least else value <= self.limit

    def judged(self, rounds: Sequence[float]) -> float:
        """The value that counts: the median, or the worst round."""
        if self.every:
            return min(rounds) if self.least else max(rounds)
        return statistics.median(rounds)

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{'>=' if self.least else '<='} {self.limit:g}{_EVERY if self.every else ''}"

    @staticmethod
    def read(text: str) -> Goal | None:
        """What `str` made; None of an empty text."""
        if not text:
            return None
        sign, _, rest = text.removesuffix(_EVERY).partition(" ")
        return Goal(float(rest), least=sign == ">=", every=text.endswith(_EVERY))


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One row of the table.

    Attributes:
        name: What was measured, in words.
        unit: Unit of the values, empty for a ratio.
        rounds: One value per round, in order.
        goal: What is asked of it, None for a figure that only informs.
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
        return "met" if self.goal.met(self.goal.judged(self.rounds)) else "missed"


@dataclass(slots=True)
class Report:
    """
    Everything that one suite measured.

    Attributes:
        suite: Its name.
        figures: The rows.
        notes: Under which conditions.
        series: What was seen over time, for a plot; may be empty.
        quick: Fewer and smaller rounds than the full run.
        seconds: How long it took.
        machine: Where it ran, as `machine` says it; empty until it has ended.
    """

    suite: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: Series = field(default_factory=dict)
    quick: bool = False
    seconds: float = 0.0
    machine: Json = field(default_factory=dict)

    def add(self, name: str, unit: str, rounds: Sequence[float]) -> None:
        """Add a row; a figure without rounds is a mistake of the suite."""
        if not rounds:
            raise ValueError(f"nothing was measured for {name!r}")
        self.figures.append(Figure(name, unit, tuple(rounds)))

    def rows(self, units: Mapping[str, str], rounds: Sequence[Measured], at: str = "") -> None:
        """Add a row for each of these names, with its unit, of the values that the rounds have by it."""
        for name, unit in units.items():
            self.add(f"{at}{name}", unit, [measured[name] for measured in rounds])

    def find(self, name: str) -> Figure | None:
        """The row of this name."""
        return next((f for f in self.figures if f.name == name), None)

    def table(self) -> str:
        """The rows as a Markdown table, with where they come from and the notes."""
        lines = ["| figure | unit | median | min | max | rounds | goal | verdict |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        for f in self.figures:
            numbers = (f.median, min(f.rounds), max(f.rounds))
            cells = [f.name, f.unit, *(short(n) for n in numbers), str(len(f.rounds))]
            cells += [str(f.goal or ""), f.verdict]
            lines.append(f"| {' | '.join(cells)} |")
        notes = [*self.notes, self.where()] if self.machine else self.notes
        return "\n".join([f"## {self.suite}", "", *lines, "", *(f"- {n}" for n in notes)])

    def where(self) -> str:
        """Size, machine, versions, load and time in one line."""
        about = self.machine
        loads = [f"{k} {' '.join(map(str, about[k]))}" for k in ("load", _AFTER)]
        facts = [
            "quick: fewer and smaller rounds than the full run" if self.quick else "full run",
            f"{self.seconds:.0f} s", about["at"],
            f"{about['cpu']}, {about['cores']} cores, {about['system']}",
            f"Python {about['python']}", *about["programs"].values(), f"product {about['product']}",
            ", ".join(loads),
            f"other work took {about[_OTHERS]:g} cores, the host {about['stolen']:g}",
        ]  # fmt: skip
        return "; ".join(facts)

    def as_json(self) -> Json:
        """The same for machines, with every round."""
        return {
            "suite": self.suite,
            "quick": self.quick,
            "seconds": round(self.seconds, 1),
            "machine": self.machine,
            "notes": self.notes,
            "figures": [
                {
                    "name": f.name, "unit": f.unit, "median": f.median, "rounds": list(f.rounds),
                    "goal": str(f.goal or ""), "verdict": f.verdict,
                }
                for f in self.figures
            ],
            "series": self.series,
        }  # fmt: skip

    @staticmethod
    def of(document: Json) -> Report:
        """What `as_json` made."""
        figures = [
            Figure(f["name"], f["unit"], tuple(f["rounds"]), Goal.read(f["goal"]))
            for f in document["figures"]
        ]
        return Report(
            document["suite"], figures, document["notes"], document["series"], document["quick"],
            document["seconds"], document["machine"],
        )  # fmt: skip


def meanwhile(reports: Iterable[Report]) -> str:
    """One line on what the machine did besides; empty where nothing was measured."""
    known = list(reports)
    if not known:
        return ""
    busiest = max(known, key=lambda r: float(r.machine[_OTHERS]))
    quietest = min(known, key=lambda r: float(r.machine[_OTHERS]))
    return (
        f"Of {busiest.machine['cores']} cores other work took {quietest.machine[_OTHERS]:g} "
        f"({quietest.suite}) to {busiest.machine[_OTHERS]:g} ({busiest.suite}) while this was measured."
    )


def short(number: float) -> str:
    """A number with as many digits as a reader can use."""
    return f"{number:.3f}" if abs(number) < 10 else f"{number:,.1f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share (0 to 1) of the values lies; the nearest one that occurred."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def in_ms(rounds: Iterable[Sequence[float]], share: float) -> list[float]:
    """Percentiles in ms of what took so many seconds, one of each round."""
    return [percentile(seconds, share) * 1000 for seconds in rounds]


# -- the machine ----------------------------------------------------------------------------------


def machine(programs: Iterable[Path]) -> Json:
    """
    What it runs on: processor, load, versions, time. Host names and paths are left out.

    Args:
        programs: Servers, each of which is asked for its version.
    """
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": load(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "programs": {p.name: _version_of(p) for p in programs},
        "product": _commit(),
    }


def load() -> list[float]:
    """Load of the last minute, five and fifteen."""
    return [round(n, 2) for n in os.getloadavg()]


def _version_of(program: Path) -> str:
    lines = _said(program, "--version").splitlines()
    words = lines[0].split() if lines else []
    # "Redis server v=7.0.15 sha=...", "Kubernetes v1.37.0", "etcd Version: 3.6.7".
    number = next((w for w in words if w.strip("v=")[:1].isdigit()), "of an unknown version")
    return f"{program.name} {number.strip('v=')}"


def _commit() -> str:
    """The product's commit, and whether it was changed since; `unknown` outside a checkout."""
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "of an unknown commit"
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", *_PRODUCT)
    return f"{commit} with local changes" if changed else commit


def _said(*words: str | Path) -> str:
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    except OSError:
        return ""
    return "" if found.returncode else found.stdout.strip()


def write(path: Path, reports: Mapping[str, Report]) -> None:
    """Write the JSON file; a reader never sees half of it."""
    document = {"suites": {name: reports[name].as_json() for name in sorted(reports)}}
    new = path.with_name(f"{path.name}.new")
    # One line for each list of numbers: there are thousands.
    text = _NUMBERS.sub(lambda m: " ".join(m[0].split()), json.dumps(document, indent=1))
    new.write_text(text + "\n")
    new.replace(path)


def read(path: Path) -> dict[str, Report]:
    """What `write` wrote, by suite; nothing where there is no file."""
    if not path.exists():
        return {}
    suites = json.loads(path.read_text())["suites"]
    return {name: Report.of(document) for name, document in suites.items()}


# -- processes ------------------------------------------------------------------------------------

_TICK: Final = os.sysconf("SC_CLK_TCK")
#: Of a whole process, as the scheduler counts it (CPUCLOCK_SCHED).
_CPU_CLOCK: Final = 2


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system, of its threads that have ended as well."""
    # The number of its clock as clock_getcpuclockid(3) makes it. /proc has steps of 10 ms, and at rest a
    # replica takes two of them in a window of a quick run.
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def _own_seconds() -> float:
    """CPU time of this process and of all that it ever started, be they over or not."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(folder.name))
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # Its own time, and that of its children that have ended and were waited for.
            total += sum(map(int, words[11:15])) / _TICK
        waiting += parents.get(pid, ())
    return total


def _machine_seconds() -> tuple[float, float]:
    """Seconds that all cores were busy so far, and that the host did not give them."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, stolen = map(int, words)
    return (user + nice + system + irq + softirq) / _TICK, stolen / _TICK


@dataclass(slots=True)
class Cores:
    """What else the cores do while something is measured: begins with its making."""

    began: float = field(default_factory=time.monotonic)
    own: float = field(default_factory=_own_seconds)
    before: tuple[float, float] = field(default_factory=_machine_seconds)

    def others(self) -> Json:
        """Cores that other work was given since, and cores that the host kept for itself."""
        elapsed = max(time.monotonic() - self.began, 1 / _TICK)
        busy, stolen = (
            now - then for now, then in zip(_machine_seconds(), self.before, strict=True)
        )
        others = max(0.0, busy - (_own_seconds() - self.own))
        return {_OTHERS: round(others / elapsed, 2), "stolen": round(stolen / elapsed, 2)}


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no resident memory")
