"""
Floors of coverage: what share of each package's lines and branches the tests reach.

`scripts/test --coverage` measures and calls this. It runs the tests that tell one cause each (unit,
laws, channels, integration), since what only a whole process happens to pass through is hardly tested,
and a few of whole processes for what makes them start and stop; a killed one would report nothing.
A floor stands a little below what was measured, because some branches depend on timing, and it only
rises: a test compares the file with its history. A package without a floor has none to fall below,
so that is a failure too.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
FLOORS: Final = Path(__file__).with_name("coverage-floors.txt")

#: Percentage points between what is measured and the floor: what timing alone may cost.
SLACK: Final = 0.5
#: Percentage points above its floor at which a package is worth a higher one.
WORTH: Final = 2.0


@dataclass(frozen=True, slots=True)
class Share:
    """Of so many lines and branches, so many were reached."""

    reached: int = 0
    there: int = 0

    def __add__(self, other: Share) -> Share:
        """Of both together."""
        return Share(self.reached + other.reached, self.there + other.there)

    @property
    def percent(self) -> float:
        """In percent; a package in which nothing can be reached is covered."""
        return 100.0 * self.reached / self.there if self.there else 100.0

    @property
    def floor(self) -> int:
        """The highest floor that it stands on safely."""
        return math.floor(self.percent - SLACK)


def package_of(file: str) -> str:
    """The package that a file counts for: two levels, so that modules of the top have their own."""
    return "/".join(Path(file).parts[:-1][:2])


def shares(report: Mapping[str, Any]) -> dict[str, Share]:
    """Add up a report of `coverage json` by package."""
    out: dict[str, Share] = {}
    for file, entry in report["files"].items():
        summary = entry["summary"]
        share = Share(
            summary["covered_lines"] + summary["covered_branches"],
            summary["num_statements"] + summary["num_branches"],
        )
        package = package_of(file)
        out[package] = out.get(package, Share()) + share
    return dict(sorted(out.items()))


def parse(lines: Iterable[str]) -> dict[str, int]:
    """Read floors: a package and a whole percentage a line, comments apart."""
    pairs = (line.split() for line in lines if line.strip() and not line.startswith("#"))
    return {package: int(percent) for package, percent in pairs}


def judge(found: Mapping[str, Share], floors: Mapping[str, int]) -> list[str]:
    """Say what is wrong: a package below its floor, without one, or a floor without a package."""
    wrong = [
        f"{package}: {share.percent:.1f} % is below its floor of {floors[package]} %"
        for package, share in found.items()
        if package in floors and share.percent < floors[package]
    ]
    wrong += [f"{package}: has no floor" for package in found if package not in floors]
    wrong += [f"{package}: is not there any more" for package in floors if package not in found]
    return wrong


def risen(found: Mapping[str, Share], floors: Mapping[str, int]) -> dict[str, int]:
    """The floors that a measurement allows; none is lower than before."""
    return {p: max(s.floor, floors.get(p, 0)) for p, s in found.items()}


def render(floors: Mapping[str, int], comments: Iterable[str]) -> str:
    """Write floors, the comments of the file at the top."""
    lines = [*comments, *(f"{package} {percent}" for package, percent in sorted(floors.items()))]
    return "\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> int:
    """Judge a report; 0 if every package stands on its floor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("report", type=Path, help="what `coverage json` has written")
    parser.add_argument("--raise", dest="up", action="store_true", help="raise floors to it")
    options = parser.parse_args(words)
    found = shares(json.loads(options.report.read_text()))
    lines = FLOORS.read_text().splitlines() if FLOORS.exists() else []
    floors = parse(lines)
    if options.up:
        floors = risen(found, floors)
        FLOORS.write_text(render(floors, [line for line in lines if line.startswith("#")]))
    for package, share in found.items():
        floor = floors.get(package)
        stands = "-" if floor is None else str(floor)
        more = "  could be higher" if floor is not None and share.percent > floor + WORTH else ""
        say(f"{package:<24}{share.percent:>7.1f} %   floor {stands:>3}{more}")
    whole = sum(found.values(), Share())
    say(f"{'all of it':<24}{whole.percent:>7.1f} %")
    wrong = judge(found, floors)
    for each in wrong:
        say(each)
    return 1 if wrong else 0


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
