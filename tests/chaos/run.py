"""
The program of `scripts/chaos`.

    scripts/chaos --minutes 5       faults at random; exit code 1 unless all invariants hold
    scripts/chaos --outages         the same, and Redis is away for long, so that attempts are journaled
    scripts/chaos --list-breaks     names of protections that can be switched off
    scripts/chaos --break NAME      one is off: the run must fail, and says which invariant
    scripts/chaos --against NAME    the same trouble, nothing switched off: must pass
    scripts/chaos --try-breaks      all of these, on shared servers; exit code 1 unless each break
                                    is noticed and each trouble is survived

The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.chaos.broken import BREAKS, NONE
from tests.chaos.faults import AWAY, KINDS, storm
from tests.chaos.report import DROPPED, JOURNALED, REFUSED, Report, evidence, judge
from tests.chaos.targeted import SCHEDULES
from tests.chaos.world import World, end, sentences, world
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.definition import serve, upstream_form
from tests.servers.redis import RedisServer, find_binary

#: Controllers at a time, and notifications a second.
REPLICAS: Final = 3
RATE: Final = 2.0
#: Seconds in which everything must come to rest once faults have ended: a breaker stays open for up
#: to 30 s and then lets one notification through at a time, and a replica must own a shard first. A
#: receiver with many failures outstanding takes several such turns.
SETTLE: Final = 300.0
#: The same after a schedule for one break.
SETTLE_SHORT: Final = 20.0
#: Seconds for which a finished log is kept; below the longest freeze, so that logs expire under a
#: process that still holds an old claim.
TTL: Final = 4
#: File with all that was seen of the notifications about which a storm has something to say.
EVIDENCE: Final = "evidence.json"
_PROGRESS: Final = 5.0
_START: Final = 60.0


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"chaos: {text}\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def chaos(
    plane: ControlPlane,
    redis: RedisServer,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    pause: float = 3.0,
    outages: bool = False,
) -> Report:
    """Faults at random for so many seconds, then rest, then the judgement."""
    async with world(plane, redis, folder, seed=seed, ttl=TTL, journal=outages) as here:
        for _ in range(REPLICAS):
            await asyncio.to_thread(here.replica().start)
        await _ready(here)
        load = asyncio.create_task(here.load(RATE))
        progress = asyncio.create_task(_tell(here, seconds))
        try:
            await storm(here, seconds, pause)
        finally:
            await end(load, progress)
        say("faults end; waiting until everything has come to rest")
        await here.heal()
        left = await here.settle(SETTLE)
        away = (AWAY, JOURNALED) if outages else ()
        report = await judge(here, left, (*KINDS, *away, DROPPED, REFUSED))
        if not report.sound:
            text = json.dumps(evidence(here, report), indent=2, default=str) + "\n"
            await asyncio.to_thread((folder / EVIDENCE).write_text, text)
        return report


async def run_schedule(
    plane: ControlPlane, redis: RedisServer, folder: Path, name: str, *, broken: bool
) -> Report:
    """The schedule of one break, with the protection on or off."""
    schedule = SCHEDULES[name]
    off = name if broken else NONE
    async with world(
        plane,
        redis,
        folder,
        seed=1,
        broken=off,
        ttl=schedule.ttl,
        shards=1,
        journal=schedule.journal,
    ) as here:
        stuck = ""
        try:
            await schedule.run(here)
        except AssertionError as error:
            stuck = str(error)
        await here.heal()
        left = await here.settle(SETTLE_SHORT)
        if stuck:
            left.append(f"the schedule got stuck: {stuck}")
        return await judge(here, left, tuple(here.landed) or ("what the schedule brings about",))


async def try_breaks(names: Sequence[str]) -> bool:
    """Every break and its trouble without it, as a table; whether all is as it must be."""
    good = True
    tell(f"{'protection off':<28}{'violated':<34}{'seconds':>8}  with it on")
    async with servers() as (plane, redis, folder):
        for name in names:
            begun = time.monotonic()
            off = await run_schedule(plane, redis, folder / name / "off", name, broken=True)
            took = time.monotonic() - begun
            on = await run_schedule(plane, redis, folder / name / "on", name, broken=False)
            good = good and noticed(name, off) and on.sound
            said = ", ".join(off.violated) or "nothing"
            tell(f"{name:<28}{said:<34}{took:>8.1f}  {on.verdict()}")
            for finding in () if on.sound else on.findings.violations[:5]:
                tell(f"    with it on: {finding}")
    return good


def noticed(name: str, report: Report) -> bool:
    """Whether a run has failed for the reason for which the break must make it fail."""
    return not report.sound and bool(SCHEDULES[name].names & set(report.violated))


async def _ready(here: World) -> None:
    async with asyncio.timeout(_START):
        await asyncio.gather(*(r.wait_ready(_START) for r in here.replicas))


async def _tell(here: World, seconds: float) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS)
        versions = here.here.watcher.versions.values()
        sent = sum(v[-1].phase == "Sent" for v in versions)
        say(
            f"{time.monotonic() - began:.0f} of {seconds:.0f} s: {len(versions)} notifications,"
            f" {sent} sent, {len(here.book)} calls, {sum(here.landed.values())} faults of"
            f" {sum(v > 0 for v in here.landed.values())} kinds"
        )


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[ControlPlane, RedisServer, Path]]:
    """Servers of our own, and a folder; all gone afterwards."""
    assets = await asyncio.to_thread(built_programs)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        async with contextlib.AsyncExitStack() as stack:
            plane = await stack.enter_async_context(ControlPlane(assets))
            redis = await stack.enter_async_context(
                RedisServer(find_binary("redis-server"), others=True)
            )
            await asyncio.to_thread(serve, plane, upstream_form())
            yield plane, redis, folder / "run"
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _main(options: argparse.Namespace) -> int:
    name = options.broken or options.against
    say("starting etcd, kube-apiserver and Redis")
    async with servers() as (plane, redis, folder):
        if name:
            report = await run_schedule(plane, redis, folder, name, broken=bool(options.broken))
        else:
            say(f"seed {options.seed}")
            seconds = options.minutes * 60
            report = await chaos(
                plane, redis, folder, seconds=seconds, seed=options.seed, outages=options.outages
            )
        if not (report.sound or options.broken):
            kept = await asyncio.to_thread(tempfile.mkdtemp, prefix="chaos-kept-")
            await asyncio.to_thread(shutil.copytree, folder, kept, dirs_exist_ok=True)
            say(f"what was seen is kept in {kept}")
    tell(report.table())
    tell(report.verdict())
    for finding in report.findings.violations[:20]:
        tell(f"  {finding}")
    if report.left:
        tell(f"not at rest:{sentences(report.left)}")
    if options.broken and not noticed(name, report):
        say(f"NOT NOTICED: the break {name} should violate {', '.join(SCHEDULES[name].names)}")
    return 0 if report.sound else 1


def parser() -> argparse.ArgumentParser:
    """Options of the program."""
    out = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Break real parts at random and hold receivers, logs and statuses together.",
    )
    out.add_argument("--minutes", type=float, default=1.0, help="length of the faults (1)")
    out.add_argument(
        "--seed", type=int, help="order and parameters of the faults; drawn and told by default"
    )
    out.add_argument(
        "--outages", action="store_true",
        help="also outages of Redis of 20 to 90 s, in which attempts are journaled",
    )  # fmt: skip
    which = out.add_mutually_exclusive_group()
    which.add_argument(
        "--break", dest="broken", choices=sorted(BREAKS), metavar="NAME",
        help="switch one protection off; the run must then fail",
    )  # fmt: skip
    which.add_argument(
        "--against", choices=sorted(BREAKS), metavar="NAME",
        help="the trouble of a break, with nothing switched off; the run must pass",
    )  # fmt: skip
    which.add_argument("--list-breaks", action="store_true", help="name all breaks, and end")
    which.add_argument(
        "--try-breaks", action="store_true", help="show every break, and its trouble without it"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(10**6)
    if options.list_breaks:
        for name, broken in BREAKS.items():
            words = broken if isinstance(broken, str) else inspect.getdoc(broken) or ""
            tell(f"{name:<28}{words.splitlines()[0]}")
        return 0
    if options.try_breaks:
        return 0 if asyncio.run(try_breaks(list(BREAKS))) else 1
    return asyncio.run(_main(options))


if __name__ == "__main__":
    sys.exit(main())
