"""
The simulation itself, and what it has to say about the product.

Some worlds are lived through in every run, and for a minute others that nobody has seen yet; thousands by
`scripts/simulate`. A seed that has ever failed stays in `kept.txt` with what it had found. Seeds say little
once the code around them has changed, since every draw shifts; they are kept because they cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.examples import SEED
from tests.simulation import campaign, legal
from tests.simulation.campaign import NEW, Tally, keep, kept, main
from tests.simulation.checks import MARKS, RARE
from tests.simulation.killers import KILLERS, NIGHTLY, hunt
from tests.simulation.loop import OWNER, Blocked, Gate, SimLoop, simulate
from tests.simulation.mutants import MUTANTS, switched_off
from tests.simulation.world import FAULTS, Profile, run, run_profile

pytestmark = pytest.mark.timeout(400)

ROOT: Final = Path(__file__).resolve().parents[2]
SAFETY: Final = range(60)
LIVENESS: Final = range(40)
#: Seconds of CPU for new worlds, in so many tests, so that several processes share them.
_SECONDS: Final = float(os.environ.get("EXPLORE_SECONDS") or (60 if SEED is not None else 4))
_PARTS: Final = 2
#: What asks for the same runs is run in one process, which makes them once.
WORLDS: Final = pytest.mark.xdist_group("simulated worlds")


# -- the loop -------------------------------------------------------------------------------------


class _Process:
    """An owner that can be told what to do."""

    def __init__(self) -> None:
        self.gate = Gate.RUN
        self.kept: list[asyncio.Handle] = []

    def keep(self, handle: asyncio.Handle) -> None:
        self.kept.append(handle)


def test_ready_callbacks_run_in_a_seeded_order() -> None:
    """Each seed has its order, and it is not always that of arrival."""

    def order(seed: int) -> tuple[int, ...]:
        out: list[int] = []

        async def start(_loop: SimLoop) -> None:
            async def step(n: int) -> None:
                out.append(n)

            await asyncio.gather(*(step(n) for n in range(6)))

        simulate(seed, start)
        return tuple(out)

    assert order(5) == order(5)
    assert len({order(seed) for seed in range(8)}) > 4


@pytest.mark.parametrize(
    "reach",
    [
        lambda: time.sleep(0.01),
        lambda: socket.socket(),  # noqa: PLW0108 - not to be made before it is called
        lambda: threading.Thread(target=print).start(),
        lambda: asyncio.get_running_loop().run_in_executor(None, print),
    ],
    ids=["a sleep", "a socket", "a thread", "an executor"],
)
def test_the_outside_is_out_of_reach(reach: Callable[[], object]) -> None:
    """Whatever would block or leave the simulation is refused, through handlers of errors too."""

    async def leave(_loop: SimLoop) -> None:
        with contextlib.suppress(Exception):
            reach()

    with pytest.raises(Blocked):
        simulate(1, leave)


def test_the_dead_run_nothing_and_the_paused_run_it_later() -> None:
    """A killed process does not even run its `finally`; a paused one goes on where it was."""
    ran: list[str] = []

    async def body(name: str) -> None:
        try:
            await asyncio.sleep(1)
            ran.append(f"{name} went on")
        finally:
            ran.append(f"{name} cleaned up")

    def begin(loop: SimLoop, name: str) -> tuple[_Process, asyncio.Task[None]]:
        process = _Process()
        token = OWNER.set(process)
        task = loop.create_task(body(name))
        OWNER.reset(token)
        return process, task

    async def play(loop: SimLoop) -> None:
        dead, corpse = begin(loop, "the dead")
        paused, sleeper = begin(loop, "the paused")
        await asyncio.sleep(0.5)
        dead.gate, paused.gate = Gate.DROP, Gate.KEEP
        await asyncio.sleep(2)
        assert ran == []
        paused.gate = Gate.RUN
        loop.resume(paused.kept)
        await sleeper
        assert ran == ["the paused went on", "the paused cleaned up"]
        assert not corpse.done()
        ran.append("end")

    simulate(1, play)
    assert ran[2] == "end"


# -- the world ------------------------------------------------------------------------------------


@cache
def digest_of(seed: int, *, live: bool) -> str:
    """Return the digest of a run, which whichever test is first makes."""
    return run(seed, live=live).digest


def test_a_seed_is_a_run() -> None:
    """The same seed leaves the same trace twice, and another seed another one."""
    for seed, live in ((3, False), (15, True)):
        assert run(seed, live=live).digest == digest_of(seed, live=live)
    assert len({digest_of(seed, live=False) for seed in range(4)}) == 4


def test_a_seed_is_the_same_run_in_another_interpreter() -> None:
    """Neither hashes nor addresses, which differ between processes, reach the trace."""
    code = "from tests.simulation.world import run; print(run(15, live=True).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashseed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hashseed in ("1", "2")
    }
    assert digests == {digest_of(15, live=True)}


def test_each_fault_is_in_some_profile_and_absent_from_others() -> None:
    """Swarm: no fault is always there, none is never."""
    known = Counter(f for seed in SAFETY for f in Profile.draw(seed, live=False).faults)
    assert set(known) == set(FAULTS)
    assert max(known.values()) < len(SAFETY)


def test_what_a_process_remembers_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each callback, in every fourth world; a rule that a notification breaks is named."""
    monkeypatch.setitem(legal.RULES, "nothing is ever planned", lambda e: e.view.plan is None)
    violation = run(0, live=False, tail=0).violation
    assert violation is not None
    assert violation.rule == "legal"
    assert violation.text.endswith(": nothing is ever planned")
    assert run(1, live=False, tail=0).violation is None


@cache
def lived_through(seeds: range, *, live: bool) -> Tally:
    """Return what the runs of these seeds came to; whichever test is first makes them."""
    tally = Tally()
    for seed in seeds:
        tally.add(run(seed, live=live, tail=0))
    return tally


@WORLDS
def test_nothing_breaks_while_faults_last() -> None:
    """No invariant is violated in any world whose faults never end."""
    assert lived_through(SAFETY, live=False).failed == []


@WORLDS
def test_every_world_comes_to_rest() -> None:
    """Once its faults have ended, every phase becomes final and every record published."""
    assert lived_through(LIVENESS, live=True).failed == []


@WORLDS
def test_what_is_to_be_withstood_has_happened() -> None:
    """The runs above have seen takeovers, zombies, losses and the rest."""
    safety, liveness = lived_through(SAFETY, live=False), lived_through(LIVENESS, live=True)
    assert set(safety.missing) & set(liveness.missing) - RARE == set()
    assert set(MARKS) >= RARE


@pytest.mark.parametrize(("seed", "live"), [(seed, live) for seed, live, _ in kept()])
def test_what_failed_once_holds(seed: int, *, live: bool) -> None:
    """The seeds that found something find it no more."""
    assert run(seed, live=live, tail=0).violation is None


@pytest.mark.parametrize("seed", [1250000004, 1250000010])
def test_what_a_former_owner_keeps_for_longer_than_its_log_stops_nothing(seed: int) -> None:
    """It hands a result in once the log has expired: that makes one which says less than the status."""
    world = replace(
        Profile.draw(seed, live=True),
        faults=frozenset({"redis mute", "receiver 503", "pause"}), retention=2, policy=False,
        replicas=3, shards=2, objects=8, channels=1, bulky=False, journal=False, incidents=False,
        chaos=40.0, spread=False, fallback=0.0,
    )  # fmt: skip
    result = run_profile(world, tail=0)
    assert result.violation is None
    assert result.marks["log expired"]


@pytest.mark.parametrize("part", range(_PARTS))
def test_new_worlds_hold(part: int) -> None:
    """Nothing breaks in worlds that no run has lived through; what does is kept."""
    began = time.process_time()
    for seed in itertools.count(NEW.start + (SEED or 0) + part, _PARTS):
        for live in (False, True):
            result = run(seed, live=live, tail=0)
            if result.violation is not None:
                keep(result)
                pytest.fail(f"seed {seed}, {'liveness' if live else 'safety'}: {result.violation}")
        if time.process_time() - began > _SECONDS / _PARTS:
            break


# -- mutants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KILLERS if name not in NIGHTLY])
def test_a_protection_switched_off_is_noticed(name: str) -> None:
    """Without it, one of some seeds violates the rule that it stands for."""
    assert hunt(name) is not None, "the mutant survived"


def test_every_mutant_has_its_killers() -> None:
    """No mutant is listed without being run, and none is provoked by a fault that there is not."""
    assert set(KILLERS) == set(MUTANTS)
    assert set(KILLERS) > NIGHTLY
    assert {f for _, faults, _ in KILLERS.values() for f in faults.split(", ")} <= set(FAULTS)


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return a function that gives what was printed."""
    return lambda: capsys.readouterr().out  # type: ignore[return-value]  # a str


def test_the_command_is_red_and_names_how_to_repeat(said: Callable[[], str]) -> None:
    """A violation ends with exit code 1 and the command that shows it again."""
    arguments = ["--seeds", "1", "--jobs", "1", "--mutant", "ack before patch"]
    assert main(arguments) == 1
    out = said()
    assert "FAILED seed 0 safety: S10" in out
    assert "scripts/simulate --seed 0 --mode safety --mutant 'ack before patch'" in out


def test_what_fails_in_a_new_world_is_kept(
    said: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first seed is printed, and a failed world is kept once; a mutant's is not."""
    file = tmp_path / "kept.txt"
    file.write_text("# as ever\n")
    monkeypatch.setattr(campaign, "KEPT", file)
    fast = ["--minutes", "0", "--first", "0", "--jobs", "1"]
    assert main([*fast, "--mutant", "ack before patch"]) == 1
    assert "new worlds from seed 0 on" in said()
    assert list(kept()) == []
    with switched_off("ack before patch"):
        assert [main(fast), main(fast)] == [1, 1]
    ((seed, live, finding),) = kept()
    assert (seed, live) == (0, False)
    assert finding.startswith("S10: ")
