"""
Many worlds at once: what `scripts/simulate` runs.

Every seed is lived through twice, once with faults to its end (safety) and once with faults that
end, after which the world must come to rest (liveness). The run is red if an invariant is
violated, or if something that must have happened somewhere (`MARKS`) never did: a simulation in
which no lease was ever lost proves nothing about leases.

With `--minutes`, seeds are new ones: from a random first one, which is printed. What fails is added to
`kept.txt`, whose seeds every run of the tests lives through again.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.simulation.checks import MARKS, RARE
from tests.simulation.killers import KILLERS, hunt
from tests.simulation.mutants import MUTANTS, switched_off
from tests.simulation.world import Result, run

#: Runs that one worker makes before its process is replaced, so that leaks do not matter.
_RUNS_PER_WORKER: Final = 400
#: Runs from which on a mark is asked for, and a rare one: once in a thousand it is hit.
_ENOUGH: Final = 1_000
_ENOUGH_FOR_RARE: Final = 10_000
_CHUNK: Final = 8
_EVERY: Final = 5.0
#: First seeds of new worlds; those below are for worlds that somebody has chosen.
NEW: Final = range(1_000_000, 1_000_000_000)
#: Seeds that have ever failed: seed, mode, what was wrong.
KEPT: Final = Path(__file__).with_name("kept.txt")


@dataclass(slots=True)
class Tally:
    """What a campaign came to."""

    runs: int = 0
    calls: int = 0
    seconds: float = 0.0
    marks: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, bool, str]] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one run."""
        self.runs += 1
        self.calls += result.calls
        self.seconds += result.until
        self.marks.update(result.marks.keys())
        if result.violation is not None:
            profile = result.profile
            self.failed.append((profile.seed, profile.live, str(result.violation)))

    @property
    def missing(self) -> list[str]:
        """Marks that were never hit."""
        return [mark for mark in MARKS if not self.marks[mark]]


def one(job: tuple[int, bool, str]) -> Result:
    """Live through one world; the trace stays behind."""
    seed, live, mutant = job
    with switched_off(mutant):
        return run(seed, live=live, tail=0)


def kept() -> Iterator[tuple[int, bool, str]]:
    """Give the seeds that have ever failed, whether their faults end, and what was wrong."""
    for line in KEPT.read_text().splitlines():
        if not line.startswith("#"):
            seed, mode, finding = line.split(" ", 2)
            yield int(seed), mode == "liveness", finding


def keep(result: Result) -> None:
    """Have a world that has failed lived through again in every run of the tests."""
    profile = result.profile
    row = (profile.seed, profile.live)
    if row not in {(seed, live) for seed, live, _ in kept()}:
        with KEPT.open("a") as file:
            file.write(f"{profile.seed} {_mode(profile.live)} {result.violation}\n")


def _mode(live: bool) -> str:
    return "liveness" if live else "safety"


def campaign(seeds: Iterable[int], *, jobs: int, mutant: str = "") -> Iterator[Result]:
    """Live through all of them, in any order."""
    work = ((seed, live, mutant) for seed in seeds for live in (False, True))
    if jobs == 1:
        yield from map(one, work)
        return
    # Fresh interpreters: a fork would take along whatever this process has open. Not an executor:
    # that one is known to stand still when its workers are replaced.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=max(1, _RUNS_PER_WORKER // _CHUNK)) as pool:
        yield from pool.imap_unordered(one, work, chunksize=_CHUNK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, report; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Run the controller on a seeded event loop among servers that misbehave.",
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds; default 200")
    parser.add_argument(
        "--first", type=int, help="the first; default 0, a random one for --minutes"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help="live through new worlds for so long; what fails is added to tests/simulation/kept.txt",
    )  # fmt: skip
    parser.add_argument(
        "--digests", type=Path, metavar="FILE", help="write the digest of each world"
    )
    parser.add_argument(
        "--against", metavar="REV",
        help="name the worlds whose digests differ from those of a revision: none do after a pure move",
    )  # fmt: skip
    parser.add_argument(
        "--protections", action="store_true",
        help="switch each protection off in turn, and tell how soon that is noticed",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="repeat this one and print the end of its trace")
    parser.add_argument(
        "--mode", choices=("both", "safety", "liveness"), default="both",
        help="with --seed: which of its two worlds",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="switch this off")
    chosen = parser.parse_args(arguments)
    if chosen.protections:
        return _protections()
    if chosen.seed is not None:
        return _repeat(chosen.seed, chosen.mode, chosen.mutant)
    first, minutes = chosen.first or 0, chosen.minutes
    seeds = range(first, first + chosen.seeds)
    if chosen.digests is not None or chosen.against:
        return _digests(seeds, chosen.jobs, chosen.digests, chosen.against)
    if minutes is None:
        return _report(_watch(seeds, chosen.jobs, chosen.mutant), chosen.mutant)
    first = chosen.first if chosen.first is not None else random.SystemRandom().choice(NEW)
    print(f"new worlds from seed {first} on", flush=True)
    tally = _watch(itertools.count(first), chosen.jobs, chosen.mutant, minutes=minutes)
    return _report(tally, chosen.mutant)


def _digests(seeds: range, jobs: int, file: Path | None, against: str | None) -> int:
    """Write digests, or compare them with those of another revision, whose tests make them."""
    rows = sorted(
        f"{r.profile.seed:09} {_mode(r.profile.live)} {r.digest} {r.violation or ''}".rstrip()
        for r in campaign(seeds, jobs=jobs)
    )
    if file is not None:
        file.write_text("".join(f"{row}\n" for row in rows))
    if not against:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree, there = Path(folder, "tree"), Path(folder, "digests")
        git = ["git", "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", tree, against], check=True)
        try:
            command = [sys.executable, "-m", "tests.simulation.campaign", "--digests", str(there)]
            bounds = ["--first", str(seeds.start), "--seeds", str(len(seeds)), "--jobs", str(jobs)]
            subprocess.run([*command, *bounds], cwd=tree, check=True)
            differ = sorted(set(rows) - set(there.read_text().splitlines()))
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
    for row in differ:
        print(f"differs: {row}")
    print(f"{len(differ)} of {len(rows)} worlds differ from {against}")
    return int(bool(differ))


def _protections() -> int:
    """Table how soon it is noticed that a protection is off, in seconds of one core."""
    survived, took = 0, []
    for name in KILLERS:
        began = time.process_time()
        found = hunt(name)
        took.append(time.process_time() - began)
        survived += found is None
        told = f"{found[1].rule}, seed {found[0]}" if found else "SURVIVED"
        print(f"| {name} | {told} | {took[-1]:.1f} |", flush=True)
    print(f"{len(took)} protections off, {survived} not noticed; median {median(took):.1f} s,"
          f" at most {max(took):.1f} s")  # fmt: skip
    return int(survived > 0)


def _repeat(seed: int, mode: str, mutant: str) -> int:
    red = False
    for live in (False, True):
        if mode not in ("both", _mode(live)):
            continue
        with switched_off(mutant):
            result = run(seed, live=live)
        print(f"seed {seed}, {_mode(live)}: {result.profile}")
        print("\n".join(result.tail))
        print(f"trace {result.digest}, {result.calls} calls, {result.until:.0f} s of virtual time")
        print(f"{result.violation or 'everything held'}\n")
        red = red or result.violation is not None
    return int(red)


def _watch(seeds: Iterable[int], jobs: int, mutant: str, *, minutes: float | None = None) -> Tally:
    tally, began = Tally(), time.monotonic()
    said = began
    for result in campaign(seeds, jobs=jobs, mutant=mutant):
        tally.add(result)
        if result.violation is not None:
            profile = result.profile
            print(
                f"FAILED seed {profile.seed} {_mode(profile.live)}: {result.violation}", flush=True
            )
            if minutes is not None and not mutant:
                keep(result)
        if time.monotonic() - said >= _EVERY:
            said = time.monotonic()
            hit = len(MARKS) - len(tally.missing)
            print(f"{tally.runs} runs, {hit} of {len(MARKS)} marks,"
                  f" {len(tally.failed)} failed, {said - began:.0f} s", flush=True)  # fmt: skip
        if minutes is not None and time.monotonic() - began >= 60 * minutes:
            break
    print(f"{tally.runs} runs in {time.monotonic() - began:.0f} s")
    return tally


def _report(tally: Tally, mutant: str) -> int:
    print(f"{tally.seconds / 3600:.1f} h of virtual time, {tally.calls} calls at receivers")
    for mark in MARKS:
        print(f"  {tally.marks[mark]:6d}  {mark}")
    option = f" --mutant '{mutant}'" if mutant else ""
    for seed, live, text in tally.failed:
        print(f"FAILED {text}")
        print(f"  repeat with: scripts/simulate --seed {seed} --mode {_mode(live)}{option}")
    enough = {mark: _ENOUGH_FOR_RARE if mark in RARE else _ENOUGH for mark in MARKS}
    never = [mark for mark in tally.missing if tally.runs >= enough[mark]]
    if tally.missing:
        print(f"not seen: {', '.join(tally.missing)}")
    if never:
        print(f"too many runs for that: {', '.join(never)}")
    return int(bool(tally.failed or never))


if __name__ == "__main__":
    sys.exit(main())
