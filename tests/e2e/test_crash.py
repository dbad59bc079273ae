"""
The crash points, on real parts: SIGKILL anywhere, and record and receiver still agree.

Every case kills a real controller process at a named failpoint, proves by its log that the fault
landed, and lets somebody carry on: the same process again (same health port, hence the same lease
identity: the lease is taken at once), or another one (another port: it waits for the lease to
expire). Then the checker holds receiver, log and every status version together, and the case states
what exactly must have happened: the number of calls, and the attempts on record.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from syncer.model.resource import Json
from syncer.runtime.failpoints import Failpoint
from tests.e2e.checker import Kind
from tests.e2e.harness import (
    BRISK,
    BUSY,
    LEASE_SECONDS,
    OK,
    PATIENT,
    QUICK,
    SEND_TIMEOUT,
    NotifierProcess,
    Stage,
    Step,
    stage,
)
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

#: Cases at a time; each runs a controller, and more would starve their leases on two cores.
_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Crash:
    """
    A place to be killed at, and what must come of it.

    Attributes:
        at: The failpoint.
        calls: Calls at the receiver, which answers every one with 200.
        attempts: Statuses on record afterwards.
        before: Calls that had been made when the process was killed.
    """

    at: Failpoint
    calls: int
    attempts: tuple[str, ...]
    before: int = 0


_ONCE = ("success",)
_UNSURE = ("unknown", "success")

CRASHES = {
    "a lease without work": Crash(Failpoint.LEASE_ACQUIRED, 1, _ONCE),
    "lists answered, no lease": Crash(Failpoint.LISTED, 1, _ONCE),
    "claimed, nothing opened": Crash(Failpoint.CLAIMED, 1, _ONCE),
    "about to open an attempt": Crash(Failpoint.BEFORE_INTENT, 1, _ONCE),
    "between intent and send": Crash(Failpoint.AFTER_INTENT, 1, _UNSURE),
    "between send and outcome": Crash(Failpoint.AFTER_SEND, 2, _UNSURE, before=1),
    "outcome recorded, cache behind": Crash(Failpoint.AFTER_OUTCOME, 1, _ONCE, before=1),
    "between outcome and PATCH": Crash(Failpoint.BEFORE_PATCH, 1, _ONCE, before=1),
    "between PATCH and ACK": Crash(Failpoint.AFTER_PATCH, 1, _ONCE, before=1),
    "acknowledged": Crash(Failpoint.AFTER_ACK, 1, _ONCE, before=1),
}


#: Settings with which a session that has to run out does so after more than `_LONG` seconds: whatever
#: does not wait for that is told from what does, however busy the machine is.
_SLOW: Final[Json] = {"margin": "30s"}
_LONG: Final = 30.0
#: LeaseDuration of the other settings, with the time that the receiver has here.
_LEASE_SECONDS: Final = LEASE_SECONDS - SEND_TIMEOUT + PATIENT
#: Seconds that an unfinished state may wait to be written: none is before the outcome, however busy the
#: machine is. A final one is written at once.
_WINDOW: Final = "20s"


async def _killed(
    here: Stage, crash: Crash, sharding: Json | None = None
) -> tuple[NotifierProcess, str]:
    """Have a controller killed at the failpoint; returns it, and the uid of the notification."""
    first = here.notifier(sharding=sharding or BRISK, sync={"window": _WINDOW})
    uid = await here.create("n")
    first.start(f"{crash.at}=kill")
    assert await first.wait_exit(within=40) == -9, first.tail()
    assert first.landed(crash.at) == 1, f"the fault did not land; {first.tail()}"
    assert len(here.receiver.book) == crash.before, first.tail()
    return first, uid


async def _agreed(here: Stage, crash: Crash, uid: str) -> None:
    """Record, status and receiver say what the case says, and the checker has nothing to add."""
    version = await here.wait_phase(uid)
    findings = await here.sound([uid])
    assert [a["status"] for a in version.attempts] == list(crash.attempts), str(findings)
    assert [a["attempt"] for a in version.attempts] == list(range(1, len(crash.attempts) + 1))
    assert version.status["totalAttempts"] == len(crash.attempts)
    assert version.status.get("uncertainAttempts", 0) == crash.attempts.count("unknown")
    assert len(here.receiver.book) == crash.calls, str(findings)
    repeats = findings.of(Kind.EXPLAINED)
    assert len(repeats) == crash.calls - 1, "a repeat must have its unknown, and only a repeat"


async def _restarted(here: Stage, crash: Crash) -> None:
    process, uid = await _killed(here, crash, _SLOW)
    process.start()
    await _agreed(here, crash, uid)
    # Its own lease is taken without waiting for it to expire.
    assert await process.seconds_to_acquire() < _LONG, process.tail()


async def _taken_over(here: Stage, crash: Crash) -> None:
    held = crash.at is not Failpoint.LISTED
    sharding = BRISK if held else _SLOW
    _, uid = await _killed(here, crash, sharding)
    second = here.notifier(sharding=sharding).start()
    await _agreed(here, crash, uid)
    waited = await second.seconds_to_acquire()
    least, most = (_LEASE_SECONDS, math.inf) if held else (0.0, _LONG)
    assert least <= waited < most, f"waited {waited:.2f} s; {second.tail()}"


@pytest.mark.parametrize("carry_on", [_restarted, _taken_over], ids=["restart", "takeover"])
async def test_a_kill_at_any_point_loses_nothing_and_repeats_only_the_unknown(
    control_plane: ControlPlane,
    namespace: str,
    redis_url: str,
    tmp_path: Path,
    carry_on: Callable[[Stage, Crash], Awaitable[None]],
) -> None:
    """After SIGKILL at each failpoint, whoever carries on leaves record and receiver agreed."""
    assert {c.at for c in CRASHES.values()} == set(Failpoint), "a failpoint without its case"
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(n: int, crash: Crash) -> None:
        async with (
            slots,
            stage(control_plane, redis_url, tmp_path / str(n)) as here,
        ):
            await carry_on(here, crash)

    cases = enumerate(CRASHES.values())
    results = await asyncio.gather(*(one(n, c) for n, c in cases), return_exceptions=True)
    failed = {s: r for s, r in zip(CRASHES, results, strict=True) if r is not None}
    for result in failed.values():
        if not isinstance(result, AssertionError):
            raise result
    assert not failed, "\n\n".join(f"{sentence}: {r}" for sentence, r in failed.items())


@pytest.mark.stage(sampled=True)
async def test_a_crowd_survives_kill_after_kill(here: Stage) -> None:
    """Sixty notifications of three kinds and six kills in a row: nothing lost, all sent."""
    kills = (
        "after-send@5", "after-intent@3", "before-patch@4", "after-outcome@6",
        "after-patch@7", "after-send@2",
    )  # fmt: skip
    names = [f"n-{n:02}" for n in range(60)]
    for n, name in enumerate(names):
        here.script(name, *[(OK,), (BUSY, OK), (Step(drop="after"), BUSY, OK)][n % 3])
    policy = {**QUICK, "maxAttempts": 10}
    uids = [await here.create(name, retryPolicy=policy) for name in names]
    process = here.notifier(sharding={"shards": 16})
    for kill in kills:
        name, _, nth = kill.partition("@")
        landed = process.landed(name)
        process.start(f"{name}=kill@{nth}")
        assert await process.wait_exit(within=40) == -9, process.tail()
        assert process.landed(name) == landed + 1, f"the fault did not land; {process.tail()}"
    process.start()
    await here.wait_sent(uids)
    findings = await here.sound(uids)
    assert findings.of(Kind.EXPLAINED), "no repeat: the faults did not bite"
    # The published bound: requests of a channel <= 1 + its unknown attempts (processed ones).
    for name, uid in zip(names, uids, strict=True):
        version = here.watcher.last(uid)
        processed = [c for c in here.receiver.calls(name) if c.processed]
        assert len(processed) <= 1 + version.status.get("uncertainAttempts", 0), str(findings)


@pytest.mark.parametrize("armed", [True, False])
async def test_an_armed_process_says_so(here: Stage, armed: bool) -> None:
    """Whoever looks at a process that fails on purpose is told, in its log and in its readiness."""
    notifier = await here.notifier().start("after-ack=stop@1000000" if armed else "").wait_ready(60)
    _, page = await notifier.ask("/readyz")
    text = await asyncio.to_thread(notifier.log.read_text)
    assert ("[!] failpoints: this process fails on purpose" in page) is armed
    assert ("this process fails on purpose" in text) is armed
