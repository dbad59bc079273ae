"""
Run benchmarks by hand: a table on standard output, JSON in a file.

    python -m tests.benchmarks SUITE... [--json FILE] [--quick]

Exit code 0 whether or not goals are met: on a busy machine a missed goal is a finding to look at,
not a defect. A suite that cannot be run to its end ends the program with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Final, Protocol

from tests.benchmarks import append, isolation, operate, recovery, strategies, throughput, waiting
from tests.benchmarks.report import Report, machine, write


class Suite(Protocol):
    """One suite's entry."""

    def __call__(self, *, quick: bool) -> Awaitable[Report]:
        """Measure, a little or all."""


SUITES: Final[dict[str, Suite]] = {
    "append": append.run,
    "isolation": isolation.run,
    "operate": operate.run,
    "recovery": recovery.run,
    "strategies": strategies.run,
    "throughput": throughput.run,
    "waiting": waiting.run,
}


async def main(arguments: Sequence[str]) -> int:
    """Run the suites that are named."""
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure the product on this machine."
    )
    parser.add_argument("suite", nargs="+", choices=[*SUITES, "all"], help="what to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round here")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    wanted = parser.parse_args(arguments)
    names = list(SUITES) if "all" in wanted.suite else list(dict.fromkeys(wanted.suite))
    found = shutil.which("redis-server")
    about = machine([Path(found)] if found else [])
    reports = []
    for name in names:
        report = await SUITES[name](quick=wanted.quick)
        if wanted.quick:
            report.notes.append("quick: fewer and smaller rounds than the full run")
        reports.append(report)
        print(f"{report.table()}\n", flush=True)
    about["load after"] = machine([])["load"]
    print(", ".join(f"{k}: {v}" for k, v in about.items()))
    if wanted.json:
        write(wanted.json, reports, about)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
