"""
Run benchmarks by hand: tables on standard output, and on request a report with plots.

    python -m tests.benchmarks [SUITE...] [--quick] [--out DIR]

Without a suite, all of them. The last table holds every goal with its verdict. `--out` keeps
`results.json`, `report.md` and the plots in a directory; a run of some suites replaces their part of
it and leaves the rest, so suites can be run one by one when the machine is quiet. It is written
after each suite, so that what an interrupted run has measured is not lost.

Exit code 0 whether or not goals are met: on a busy machine a missed goal is a finding to look at,
not a defect. A suite that cannot be run to its end does not keep the others from running, is not
measured, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks import (
    append,
    gateway,
    goals,
    idle,
    isolation,
    latency,
    memory,
    operate,
    outage,
    pages,
    plots,
    recovery,
    replicas,
    soak,
    stall,
    strategies,
    takeover,
    tenants,
    throughput,
    wording,
)
from tests.benchmarks.load import Suite, programs, sharing_a_plane
from tests.benchmarks.report import Cores, Report, load, machine, meanwhile

SUITES: Final[dict[str, Suite]] = {
    "append": append.run,
    "gateway": gateway.run,
    "idle": idle.run,
    "isolation": isolation.run,
    "latency": latency.run,
    "memory": memory.run,
    "operate": operate.run,
    "outage": outage.run,
    "recovery": recovery.run,
    "replicas": replicas.run,
    "soak": soak.run,
    "stall": stall.run,
    "strategies": strategies.run,
    "takeover": takeover.run,
    "tenants": tenants.run,
    "throughput": throughput.run,
    "wording": wording.run,
}
#: These need no API server; nobody has to build one for them.
_WITHOUT_PLANE: Final = frozenset({"append", "wording"})


async def measured(name: str, *, quick: bool, servers: Sequence[Path]) -> Report:
    """Run one suite, and say where, when and how long."""
    before = machine(servers)
    began, cores = time.monotonic(), Cores()
    report = await SUITES[name](quick=quick)
    report.quick = quick
    goals.hold(report)
    report.seconds = time.monotonic() - began
    report.machine = {**before, "load after": load(), **cores.others()}
    return report


def _servers(assets: Path | None) -> list[Path]:
    """The programs that are asked for their version."""
    found = shutil.which("redis-server")
    servers = [Path(found)] if found else []
    return servers + [assets / name for name in ("kube-apiserver", "etcd") if assets]


def _suite(text: str) -> str:
    if text not in (*SUITES, "all"):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join((*SUITES, 'all'))}")
    return text


async def main(arguments: Sequence[str]) -> int:
    """Run the suites that are named."""
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure the product on this machine."
    )
    # `choices` would refuse the empty list, which means all.
    parser.add_argument(
        "suite", nargs="*", type=_suite, metavar="SUITE",
        help=f"what to measure: {', '.join(SUITES)}; default: all",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep report and plots here")
    wanted = parser.parse_args(arguments)
    if wanted.out and not plots.can_draw():
        parser.error(
            "--out draws plots: install the dependency group `bench`, as scripts/bench does"
        )
    everything = not wanted.suite or "all" in wanted.suite
    names = list(SUITES) if everything else list(dict.fromkeys(wanted.suite))
    assets = None if _WITHOUT_PLANE.issuperset(names) else await programs()
    servers = _servers(assets)
    reports: dict[str, Report] = {}
    failed: dict[str, str] = {}
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        if assets and wanted.quick and len(names) > 1:
            await stack.enter_async_context(sharing_a_plane(assets))
        for number, name in enumerate(names, 1):
            print(f"bench: {name} ({number} of {len(names)})", file=sys.stderr, flush=True)
            try:
                report = await measured(name, quick=wanted.quick, servers=servers)
            except Exception as error:  # noqa: BLE001 - the others are to be measured all the same
                traceback.print_exc()
                failed[name] = f"the suite failed ({type(error).__name__})"
                continue
            reports[name] = report
            print(f"{report.table()}\n", flush=True)
            if wanted.out:
                pages.add(wanted.out, {name: report})
    judged = goals.outcomes(reports, failed)
    if not everything:
        judged = [o for o in judged if o.target.suite in names]
    print(f"## Goals\n\n{goals.table(judged)}\n{meanwhile(reports.values())}")
    print(f"bench: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
