"""
How long a replica's end lasts: SIGKILL and freeze, again and again, until its shards have owners.

Each installation has two replicas that share the shards; installations work side by side, since most of
the time they wait. In turn one of the replicas gets SIGKILL or SIGSTOP, at any moment of its period of
renewal, and it is taken over when the other one has acquired the last of its shards, by the stamp of the
log. Then the dead one is started again, or the frozen one wakes up, and the shards are shared out anew.

Right before, notifications were created that have had one attempt and wait for the next. So the one that
was frozen wakes up with attempts of its own that are due, and another one has made them. At the end,
everything that the receiver has booked is held against logs and statuses by the same checker as in the
end-to-end tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.idle import share_out
from tests.benchmarks.load import SHARED, at_rest, on_servers, progress
from tests.benchmarks.replicas import SHARDS, SHORT
from tests.benchmarks.report import Json, Report
from tests.e2e.checker import Kind
from tests.e2e.harness import BUSY, OK, SEND_TIMEOUT, NotifierProcess, Stage, _stamp, stage, until
from tests.servers.controlplane import ControlPlane

FAULTS: Final = ("SIGKILL", "freeze")
_POLICY: Final = {"maxAttempts": 5, "initialBackoffSeconds": 5, "backoffMultiplier": 1}
_NOTIFICATIONS: Final = 4
#: Seconds between two renewals, by default.
_PERIOD: Final = 2.0
_TAKEN_WITHIN: Final = 120.0


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        installations: Side by side.
        rounds: Of each, with one fault of each kind.
        settings: Of each replica.
    """

    installations: int
    rounds: int
    settings: Mapping[str, Json] = field(default_factory=lambda: SHARED)


FULL: Final = Scale(10, 5)
QUICK: Final = Scale(2, 1, SHORT)


@dataclass(slots=True)
class Result:
    """
    What some installations came to.

    Attributes:
        owned: By kind of fault, seconds from each to the last shard acquired.
        sent: The same to the last of the waiting notifications that is shown as sent.
        unsent: Notifications that have not ended as they should.
        violations: What book and record do not agree on.
        repeated: Calls after one that succeeded, whose result nobody could learn; these are allowed.
    """

    owned: dict[str, list[float]] = field(default_factory=lambda: {f: [] for f in FAULTS})
    sent: dict[str, list[float]] = field(default_factory=lambda: {f: [] for f in FAULTS})
    unsent: int = 0
    violations: int = 0
    repeated: int = 0


async def _taken_over(survivor: NotifierProcess, at: float) -> float:
    """Wait until a replica owns all; returns the seconds since `at` to its last acquisition."""
    await at_rest(survivor, _TAKEN_WITHIN, shards_owned=SHARDS)
    stamps = [_stamp(line) for line in survivor.lines("shard acquired")]
    after = [stamp - at for stamp in stamps if stamp > at]
    assert after, "nothing was taken over"
    return max(after)


async def _fault(
    here: Stage, kind: str, victim: NotifierProcess, survivor: NotifierProcess, phase: float
) -> tuple[float, float]:
    """End a replica for a while; returns the seconds until all is owned, and until all is sent."""
    label = f"{kind.lower()}-{len(here.watcher.versions)}"
    names = [f"{label}-{n}" for n in range(_NOTIFICATIONS)]
    for name in names:
        here.script(name, BUSY, OK)
    uids = [await here.create(name, retryPolicy=_POLICY) for name in names]
    await until(
        lambda: all(here.receiver.calls(name) for name in names),
        lambda: f"each has had a call; {survivor.tail()}",
        within=60,
    )
    await asyncio.sleep(phase)
    at = time.time()
    if kind == "freeze":
        victim.pause()
    else:
        await asyncio.to_thread(victim.kill)
    owned = await _taken_over(survivor, at)
    await here.wait_sent(uids, within=60)
    sent = time.time() - at
    if kind == "freeze":
        victim.resume()
    else:
        victim.start()
    return owned, sent


async def _installation(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale, n: int, result: Result
) -> None:
    async with stage(plane, redis_url, folder, sampled=False, send_timeout=SEND_TIMEOUT) as here:
        pair = [here.notifier(to="slack", **scale.settings) for _ in range(2)]
        for number in range(scale.rounds):
            for kind in FAULTS if n % 2 else reversed(FAULTS):
                await share_out(pair, SHARDS)
                # Who began it all and who came later take turns.
                victim, survivor = pair if number % 2 else reversed(pair)
                # Faults come at moments that are spread over the period of renewal.
                phase = _PERIOD * ((n + number / scale.rounds) / scale.installations % 1)
                owned, sent = await _fault(here, kind, victim, survivor, phase)
                result.owned[kind].append(owned)
                result.sent[kind].append(sent)
                progress("takeover", f"installation {n}, {kind}: {owned:.1f} s")
        await share_out(pair, SHARDS)
        await here.wait_acked(list(here.watcher.versions), within=60)
        findings = await here.findings()
        assert not here.watcher.gaps, "the watch has missed versions"
        result.unsent += sum(here.watcher.phase(u) != "Sent" for u in here.watcher.versions)
        result.violations += len(findings.violations)
        result.repeated += len(findings.of(Kind.EXPLAINED))
        if findings.violations:
            progress("takeover", str(findings))


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Result:
    """Run the installations side by side."""
    result = Result()
    async with asyncio.TaskGroup() as group:
        for n in range(scale.installations):
            group.create_task(_installation(plane, redis_url, folder / str(n), scale, n, result))
            # Starts are what costs.
            await asyncio.sleep(1.0)
    return result


def told(result: Result, scale: Scale) -> Report:
    """Make the report."""
    report = Report("takeover")
    sharding = scale.settings["sharding"]
    report.notes.append(
        f"{scale.installations} installations of two replicas, {SHARDS} shards, side by side;"
        f" renewDeadline {sharding['renewDeadline']}, retryPeriod {sharding['retryPeriod']},"
        f" margin {sharding['margin']}; {_NOTIFICATIONS} notifications wait for their second attempt at"
        " each fault"
    )
    for kind in FAULTS:
        report.add(f"{kind}: until the last shard is acquired", "s", result.owned[kind])
        report.add(f"{kind}: until what waited is sent", "s", result.sent[kind])
    report.add("notifications not sent", "", [result.unsent])
    report.add("what book and record do not agree on", "", [result.violations])
    words = "calls repeated after a result that nobody could learn (allowed)"
    report.add(words, "", [result.repeated])
    return report


run: Final = on_servers(measure, told, full=FULL, quick=QUICK)
