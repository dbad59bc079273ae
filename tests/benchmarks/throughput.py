"""
How many notifications pass per second, and what each costs, beside controllers that decide nothing.

So many notifications are created as fast as the API server takes them, each to one Slack receiver
that answers 200 after 5 ms. The clock runs from the first creation until an independent watch has
seen the last final phase, so creating, watching and the two other processes are part of it, for all
that take turns here: the product with Events off, the product with Events on, the null controller, which
writes one member, and the reference, which writes the very status that the product wrote before (both
`null.py`); each time in a namespace of its own on the same servers. Ratios are taken within each turn.

What one notification costs is the CPU time of controller, API server, etcd and Redis over the whole
run, divided by their number; creating and both watches are in it. A further run has some bare watches
beside the replica: that shows what another replica costs the API server. What it spends itself is another
suite's (`replicas`).

Requests and commands are counted by the servers themselves (`counters.py`).

The figures of the replaced controller are not of this run. They were taken in another hour on the
same kind of machine, under the same load, and with Events, which it always writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.benchmarks import goals
from tests.benchmarks.child import child
from tests.benchmarks.counters import api_metrics, redis_commands, requests_in
from tests.benchmarks.load import (
    SteadyReceiver,
    create_all,
    notifier_of,
    pid_of,
    pids_of,
    servers,
    serving,
)
from tests.benchmarks.report import Report, cpu_seconds, in_ms
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.harness import Stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer

#: Who is measured.
Way = Literal["off", "on", "null", "reference", "watched", "hold", "journal"]

_QUIET: Final = 1.0
#: Bare watches beside the replica: one more is lost in the noise.
_WATCHES: Final = 7
#: Events are written after the record, at their own pace.
_EVENTS_WITHIN: Final = 60.0
#: Leases are nobody's in particular.
_RESOURCES: Final = ("notificationrequests", "events")
#: The load is not the controller's; lists and watches do not belong to any one notification.
_OTHERS: Final = ("WATCH", "LIST", "POST notificationrequests")
_RARE: Final = 0.005
_STATUS: Final = "PATCH notificationrequests/status"
_ON: Final = "Events on: "


@dataclass(frozen=True, slots=True)
class Scale:
    """Notifications at once, and rounds."""

    notifications: int
    rounds: int


FULL: Final = Scale(1000, 5)
QUICK: Final = Scale(200, 3)


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of one controller; everything but rate and waits is per notification.

    Attributes:
        rate: Notifications per second.
        waits: Seconds from the begin of its creation until the final phase was seen, of each.
        cpu: CPU in ms by process: `controller`, `kube-apiserver`, `etcd`, `redis`, and `load`, the
            benchmark's own with creator, receiver and watch.
        requests: Of the controller to the API server, by verb and resource; leases left out.
        commands: Redis commands by name.
        object_bytes: Size of one object at the end, as JSON.
        status: Of that object.
    """

    rate: float
    waits: Sequence[float]
    cpu: dict[str, float]
    requests: dict[str, float]
    commands: dict[str, float]
    object_bytes: int
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def all_cpu(self) -> float:
        """CPU in ms of all processes but the benchmark's own."""
        return sum(ms for process, ms in self.cpu.items() if process != "load")

    @property
    def busy(self) -> float:
        """Cores that all of it kept busy while it ran."""
        return sum(self.cpu.values()) * self.rate / 1000


# -- one run ---------------------------------------------------------------------------------------


async def _requests(here: Stage) -> Counter[str]:
    return requests_in(await api_metrics(here), *_RESOURCES)


def _each(after: Counter[str], before: Counter[str], n: int) -> dict[str, float]:
    """Growth of counters, divided by the number of notifications."""
    return {name: count / n for name, count in (after - before).items()}


async def _measure(
    here: Stage, watcher: FinalWatcher, pids: dict[str, int], scale: Scale, *, events: bool
) -> Run:
    n = scale.notifications
    names = [f"n-{i}" for i in range(n)]
    # A look at the metrics costs the API server CPU: it stays outside of what is measured.
    before = await _requests(here), await redis_commands(here)
    used = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    created: dict[str, float] = {}
    await create_all(here.api, names, began=created)

    def ended() -> bool:
        alive = Path(f"/proc/{pids['controller']}/cmdline").read_bytes()
        assert alive, "the controller has ended"
        return len(watcher.ended) == n

    await until(
        ended,
        lambda: f"{len(watcher.ended)} of {n} end; {''.join(p.tail() for p in here.processes)}",
        within=120, every=0.01,
    )  # fmt: skip
    seconds = max(watcher.ended.values()) - began
    if events:
        await _events_written(here)
    # What is due after the last final phase (marks, acknowledgements) belongs to the cost.
    await asyncio.sleep(_QUIET)
    cpu = {name: (cpu_seconds(pid) - used[name]) * 1000 / n for name, pid in pids.items()}
    commands = _each(await redis_commands(here), before[1], n)
    requests = _each(await _requests(here), before[0], n)
    requests = {k: v for k, v in requests.items() if not k.startswith(_OTHERS)}
    assert not watcher.gaps, "the watch has missed versions"
    last = (await here.api.ask("GET", f"{here.api.requests}/{names[-1]}")).body
    size = len(json.dumps(last, separators=(",", ":")))
    waits = [watcher.ended[name] - created[name] for name in names]
    return Run(n / seconds, waits, cpu, requests, commands, size, last["status"])


async def _events_written(here: Stage) -> None:
    """Wait until the number of Events stands still."""
    count, since = -1, time.monotonic()
    deadline = since + _EVENTS_WITHIN
    while time.monotonic() - since < _QUIET:
        assert time.monotonic() < deadline, "Events are written without end"
        reply = await here.api.ask("GET", f"{here.api.events}?limit=1")
        now = len(reply.body["items"]) + reply.body["metadata"].get("remainingItemCount", 0)
        if now != count:
            count, since = now, time.monotonic()
        await asyncio.sleep(_QUIET / 4)


async def _product(
    plane: ControlPlane, redis: RedisServer, folder: Path, scale: Scale, way: Way
) -> Run:
    events = way == "on"
    receiver = SteadyReceiver()
    async with watched(plane, redis.url, folder, receiver) as (here, watcher):
        outage = {"delivery": {"logOutage": way}} if way in ("hold", "journal") else {}
        process = await serving(notifier_of(here, events={"enabled": events}, **outage))
        pids = pids_of(plane, redis, pid_of(process))
        more = _null_process(plane, here.namespace, str(_WATCHES))
        async with more if way == "watched" else contextlib.nullcontext():
            run = await _measure(here, watcher, pids, scale, events=events)
        assert receiver.count == scale.notifications, f"{receiver.count} calls"
        return run


@asynccontextmanager
async def _null_process(plane: ControlPlane, *arguments: str) -> AsyncIterator[int]:
    kubeconfig = {"KUBECONFIG": str(plane.controller_kubeconfig)}
    async with child("tests.benchmarks.null", *arguments, env=kubeconfig) as null:
        async with asyncio.timeout(40):
            await null.said()
        yield null.process.pid
        assert null.process.returncode is None, "the null controller has ended"


async def _bare(
    plane: ControlPlane, redis: RedisServer, folder: Path, scale: Scale, *arguments: str
) -> Run:
    """Run a controller that decides nothing; arguments as `null.py` takes them."""
    receiver = SteadyReceiver()
    async with (
        watched(plane, redis.url, folder, receiver) as (here, watcher),
        _null_process(plane, here.namespace, *arguments) as pid,
    ):
        return await _measure(here, watcher, pids_of(plane, redis, pid), scale, events=False)


async def measure(
    plane: ControlPlane,
    redis: RedisServer,
    folder: Path,
    way: Way,
    scale: Scale,
    status: dict[str, Any] | None = None,
) -> Run:
    """
    Run one controller once, in a namespace of its own.

    Args:
        plane: The API server.
        redis: The store of the log.
        folder: Is made.
        way: Who is measured.
        scale: How many notifications.
        status: What the reference writes.
    """
    if way == "null":
        return await _bare(plane, redis, folder, scale)
    if way == "reference":
        file = folder.with_suffix(".json")
        file.write_text(json.dumps(status))
        return await _bare(plane, redis, folder, scale, str(file))
    return await _product(plane, redis, folder, scale, way)


async def run(*, quick: bool) -> Report:
    """Run all in turn; the first of a turn is another one each time."""
    scale = QUICK if quick else FULL
    ways: list[Way] = ["off", "null", "on", "reference"]
    rounds: list[dict[Way, Run]] = []
    watched_more: list[Run] = []
    async with servers() as (plane, redis, folder):
        # What comes first warms the servers and is thrown away, but for one status.
        warm = await measure(plane, redis, folder / "warm-off", "off", scale)
        if not quick:
            await measure(plane, redis, folder / "warm-null", "null", scale)
        for n in range(scale.rounds):
            rounds.append(
                {
                    w: await measure(plane, redis, folder / f"{w}-{n}", w, scale, warm.status)
                    for w in ways
                }
            )
            ways.append(ways.pop(0))
            # Not held against a goal, so once is enough for a quick look.
            if not quick or n == 0:
                watched_more.append(
                    await measure(plane, redis, folder / f"watched-{n}", "watched", scale)
                )
    return told(rounds, watched_more, scale)


# -- what is said ----------------------------------------------------------------------------------


def told(rounds: Sequence[dict[Way, Run]], watched_more: Sequence[Run], scale: Scale) -> Report:
    """
    The report of some rounds.

    Args:
        rounds: Each with a run of the product with Events off and on, of the null controller and of the
            reference.
        watched_more: Runs with bare watches.
        scale: What a run was.
    """
    ways: dict[str, Way] = {"": "off", "null: ": "null", "reference: ": "reference", _ON: "on"}
    by_way = {label: [r[way] for r in rounds] for label, way in ways.items()}
    off, null, reference, on = by_way.values()
    report = Report("throughput")
    report.notes.append(
        f"{scale.notifications} notifications at once, one channel, 200 after 5 ms, audit off, "
        "Events off unless the row says on (then as many are written as the default lets "
        "through, the others dropped); default settings; etcd without fsync; receiver, creator "
        "and watch run in the benchmark's process; what the servers use when idle is in their CPU"
    )
    report.notes.append(
        "null: a watch and one status patch of one member per object, same client library; reference: "
        "the same with a whole status, as the product wrote it: nobody who writes down what happened "
        "can be quicker"
    )
    report.notes.append(
        f"upstream: the replaced controller under the same load, {goals.UPSTREAM_RATE_LOW:g} to "
        f"{goals.UPSTREAM_RATE:g} notifications/s (the ratio is to the larger), "
        f"{goals.UPSTREAM_CONTROLLER_CPU:g} ms of controller and {goals.UPSTREAM_SERVER_CPU:g} ms of "
        f"API server and etcd CPU, {goals.UPSTREAM_REQUESTS:g} API requests for each; reference "
        "figures of another hour on the same kind of machine, always with Events"
    )
    for label, runs in by_way.items():
        report.add(f"{label}notifications/s", "1/s", [r.rate for r in runs])
    report.add("notifications/s, product / reference", "", _ratios(off, reference))
    report.add("notifications/s, product / null", "", _ratios(off, null))
    for label, runs in (("", off), (_ON, on)):
        ratios = [r.rate / goals.UPSTREAM_RATE for r in runs]
        report.add(f"{label}notifications/s, product / upstream", "", ratios)
    report.add("notifications/s, Events on / off", "", _ratios(on, off))
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        for label in ("", _ON, "null: "):
            waits = in_ms([r.waits for r in by_way[label]], share)
            report.add(f"{label}create to final phase {word}, all at once", "ms", waits)
    _costs(report, by_way)
    alone = statistics.median(r.cpu["kube-apiserver"] for r in off)
    more = [(r.cpu["kube-apiserver"] - alone) / _WATCHES for r in watched_more]
    report.add("API server CPU per notification and further watch", "ms", more)
    _counts(report, off, on)
    return report


def _ratios(these: Sequence[Run], those: Sequence[Run]) -> list[float]:
    return [a.rate / b.rate for a, b in zip(these, those, strict=True)]


def _costs(report: Report, by_way: Mapping[str, Sequence[Run]]) -> None:
    parts = {"controller": "controller", "kube-apiserver": "API server", "etcd": "etcd"}
    for process, words in parts.items():
        for label, runs in by_way.items():
            each = [r.cpu[process] for r in runs]
            report.add(f"{label}{words} CPU per notification", "ms", each)
    off = by_way[""]
    ratios = [
        a.cpu["controller"] / b.cpu["controller"]
        for a, b in zip(off, by_way["null: "], strict=True)
    ]
    report.add("controller CPU, product / null", "", ratios)
    report.add("Redis CPU per notification", "ms", [r.cpu["redis"] for r in off])
    for label in ("", _ON):
        costs = [r.all_cpu for r in by_way[label]]
        report.add(f"{label}all CPU per notification", "ms", costs)
        shares = [cost / goals.UPSTREAM_CPU for cost in costs]
        report.add(f"{label}all CPU per notification, product / upstream", "", shares)
    report.add(
        "creator's, receiver's and watch's CPU per notification", "ms", [r.cpu["load"] for r in off]
    )
    report.add("cores busy, with creator, receiver and watch", "", [r.busy for r in off])


def _counts(report: Report, off: Sequence[Run], on: Sequence[Run]) -> None:
    writes = [r.requests.get(_STATUS, 0.0) for r in off]
    report.add("status writes per notification", "", writes)
    for label, runs in (("", off), (_ON, on)):
        requests = [sum(r.requests.values()) for r in runs]
        report.add(f"{label}API requests per notification", "", requests)
    each = [sum(v for k, v in r.requests.items() if k.endswith(" events")) for r in on]
    report.add(f"{_ON}Event writes per notification", "", each)
    scripts = [r.commands.get("evalsha", 0) + r.commands.get("eval", 0) for r in off]
    report.add("Redis scripts per notification", "", scripts)
    report.add("Redis commands per notification", "", [sum(r.commands.values()) for r in off])
    report.add("bytes of an object at the end", "B", [r.object_bytes for r in off])
    for label, runs in (("Events off", off), ("Events on", on)):
        requests_of = [r.requests for r in runs]
        report.notes.append(f"API requests per notification, {label}: {_listed(requests_of)}")
    report.notes.append(
        "Redis commands per notification, those within scripts included: "
        + _listed([r.commands for r in off])
    )


def _listed(each: Sequence[Mapping[str, float]]) -> str:
    """Counters of all runs, the mean of each; what is rarer than one in two hundred is left out."""
    names = {name for counts in each for name in counts}
    means = {name: sum(c.get(name, 0.0) for c in each) / len(each) for name in names}
    ordered = sorted(means.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {mean:.2f}" for name, mean in ordered if mean >= _RARE)
