"""
How long an operator waits: `explain` and `inspect` of one log, `verify` and the explorer's pages of all.

The notifications are those of `recovery`, put where they belong without the controller. `verify` runs as a
process of its own and is watched from outside: its time, its memory all the while. `explain` and `inspect`
are timed as whole processes, which is what an operator waits for, `explain` with a settings file, as in a
pod; `inspect` once more without its imports, which is what is ours. Compiled modules are kept, as an
installation has them; the first start, which compiles, is not counted. `explore` asks the explorer.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.ledger.codec import encode_element, stored
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass, make_attempt_id
from syncer.model.record import Header, Plan, Record, attempt_record, intent_record, plan_record
from syncer.rules.fold import ROOT_CHAIN
from tests.benchmarks.explore import explore
from tests.benchmarks.goals import VERIFY_FLAT, VERIFY_SECONDS
from tests.benchmarks.load import SteadyReceiver, plane_of, programs
from tests.benchmarks.recovery import FirstCall, _stage, fill, put_in
from tests.benchmarks.report import Goal, Report, cpu_seconds, resident_mib
from tests.e2e.harness import CHANNEL, ROOT, Stage, until
from tests.servers.redis import RedisServer, find_binary

INSPECT: Final = Goal(1.5)
EXPLAIN: Final = Goal(0.4)
OURS: Final = Goal(0.3)
_RECORDS: Final = 1_000
#: Of a log as they usually are at their end: ten attempts.
_USUAL: Final = 21
_EPOCH: Final = Epoch("0.1")
_IMPORTS: Final = (
    "import syncer.cli.main, syncer.cli.explain, syncer.ledger.client, syncer.ledger.log,"
    " syncer.settings, syncer.kube.client, syncer.kube.notification_requests, syncer.cli.installation,"
    " sys, time"
)


@dataclass(frozen=True, slots=True)
class Walk:
    """One `verify`: its seconds, CPU seconds, largest memory, and memory at half of its time."""

    seconds: float
    cpu: float
    peak: float
    half: float


def environment(folder: Path) -> dict[str, str]:
    """The environment of an installed program: compiled modules are kept."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return env | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def where(here: Stage) -> list[str]:
    """Where a command looks."""
    return [
        "--redis-url", here.redis_url, "--key-prefix", here.prefix, "--kubeconfig",
        str(here.plane.kubeconfig),
    ]  # fmt: skip


async def _python(env: dict[str, str], *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def verify(here: Stage, env: dict[str, str], n: int) -> Walk:
    """Verify so many notifications; AssertionError if anything is found, or not all were seen."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "syncer", "verify", "-o", "json", "-n", here.namespace, *where(here),
        cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    reading = asyncio.create_task(process.communicate())
    sizes: list[float] = []
    cpu = 0.0
    while not reading.done():
        try:
            sizes.append(resident_mib(process.pid))
            cpu = cpu_seconds(process.pid)
        except (OSError, ValueError):
            break
        await asyncio.sleep(0.1)
    out, _ = await reading
    seconds = time.monotonic() - began
    summary = json.loads(out.decode().splitlines()[-1])["summary"]
    assert (process.returncode, summary["objects"], summary["diverging"]) == (0, n, 0), summary
    return Walk(seconds, cpu, max(sizes), sizes[len(sizes) // 2])


async def used(here: Stage) -> None:
    """Have the store say that the installation of this cluster uses it, as a controller would."""
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{here.namespace}/leases"
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "notification-ledger-map",
            "annotations": {"notification-ledger/shards": "1-fnv1a"},
        },
    }  # fmt: skip
    reply = await here.api.ask("GET", f"{leases}/notification-ledger-map")
    if reply.code != 200:
        reply = await here.api.ask("POST", leases, lease)
    uid = reply.body["metadata"]["uid"]
    meta = f"format=1 installation={here.namespace}/notification-ledger@{uid} store=bench"
    await here.redis.set(f"{here.prefix}:meta", meta)


async def log_of(here: Stage, name: str, count: int) -> str:
    """
    Make an object and a log of failures for it, the last one still open where the count is even.

    Args:
        here: The installation.
        name: Of the object.
        count: Records.

    Returns:
        `namespace/name`.
    """
    made = await here.api.create(name, subject=name)
    uid, key = str(made["metadata"]["uid"]), f"{here.namespace}/{name}"
    now = round(time.time() * 1000)
    records: list[Record] = [plan_record(Plan((CHANNEL,), "RoutingFallback", "bench", now))]
    for n in range(1, (count + 1) // 2):
        identity, at = make_attempt_id(_EPOCH, n), now - 600_000 + n * 1000
        records.append(intent_record(identity, CHANNEL, at=at, by="bench"))
        failed = Attempt(
            identity, CHANNEL, AttemptState.FAILED, ended=at + 20, due=at + 900, duration=20,
            failure=FailureClass.TRANSIENT, error="503 Service Unavailable", code=503,
        )  # fmt: skip
        records.append(attempt_record(failed))
    if count % 2 == 0:
        records.append(intent_record(make_attempt_id(_EPOCH, count), CHANNEL, at=now, by="bench"))
    elements, chain = [Header(key, _EPOCH).encode()], ROOT_CHAIN
    for position, record in enumerate(records, 1):
        elements.append(encode_element(record, chain))
        chain = stored(record, chain, position).chain
    assert len(elements) == count + 1
    pipeline = here.redis.pipeline(transaction=False)
    pipeline.rpush(f"{here.prefix}:{{{uid}}}", *elements)
    await pipeline.execute()
    return key


async def inspect(
    here: Stage, env: dict[str, str], rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of `inspect` as a whole process, CPU seconds of it, and seconds after the imports."""
    words = ["inspect", await log_of(here, "long", _RECORDS), "--json", *where(here)]
    timed = (
        f"{_IMPORTS}\nbegan = time.perf_counter()\ncode = syncer.cli.main.main({words!r})\n"
        "print(time.perf_counter() - began, file=sys.stderr)"
    )
    whole, cpu, ours = [], [], []
    for n in range(rounds + 1):
        began, used = time.perf_counter(), _children()
        _, out = await _python(env, "-m", "syncer", *words)
        spent, used = time.perf_counter() - began, _children() - used
        found = json.loads(out)
        assert found["log"]["length"] == _RECORDS
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", timed, cwd=ROOT, env=env, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, err = await process.communicate()
        if n:
            # The first of each compiles.
            whole.append(spent)
            cpu.append(used)
            ours.append(float(err.decode().splitlines()[-1]))
    return whole, cpu, ours


async def explain(
    here: Stage, env: dict[str, str], folder: Path, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of `explain` as a whole process, and CPU seconds of it."""
    config = folder / "config.yaml"
    config.write_text(
        json.dumps({
            "redis": {"url": here.redis_url, "keyPrefix": here.prefix},
            "controller": {"namespaces": [here.namespace]},
        })
    )  # fmt: skip
    words = [
        "explain", await log_of(here, "usual", _USUAL), "--config", str(config), "--kubeconfig",
        str(here.plane.kubeconfig),
    ]  # fmt: skip
    whole, cpu = [], []
    for n in range(rounds + 1):
        began, used = time.perf_counter(), _children()
        code, out = await _python(env, "-m", "syncer", *words)
        spent, used = time.perf_counter() - began, _children() - used
        assert (code, "Exhausted (attempts used up)" in out) == (0, True), out
        if n:
            whole.append(spent)
            cpu.append(used)
    return whole, cpu


def _children() -> float:
    """CPU seconds of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def run(*, quick: bool) -> Report:
    """Measure on two sizes, or on one small one."""
    sizes: Sequence[int] = (1_000,) if quick else (10_000, 100_000)
    report = Report("operate")
    report.notes.append(
        "95 % finished, ten attempts (21 records) in each log; objects are put straight into etcd,"
        " logs into Redis; nothing diverges, so `verify` reads everything once"
    )
    assets = await programs()
    walks: list[Walk] = []
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            env = environment(folder)
            async with (
                plane_of(assets) as plane,
                RedisServer(find_binary("redis-server")) as redis,
            ):
                receiver: SteadyReceiver = FirstCall()
                await receiver.start()
                assert isinstance(receiver, FirstCall)
                async with _stage(plane, redis.url, folder / "stage", receiver) as here:
                    await used(here)
                    if not walks:
                        rounds = 3 if quick else 9
                        whole, cpu, ours = await inspect(here, env, rounds)
                        report.add("inspect, 1,000 records: whole process", "s", whole, INSPECT)
                        report.add("inspect, 1,000 records: CPU", "s", cpu)
                        report.add("inspect, 1,000 records: after imports", "s", ours, OURS)
                        whole, cpu = await explain(here, env, folder, rounds)
                        report.add("explain, 10 attempts: whole process", "s", whole, EXPLAIN)
                        report.add("explain, 10 attempts: CPU", "s", cpu)
                        for made in ("long", "usual"):
                            await here.api.ask("DELETE", f"{here.api.requests}/{made}")
                        await here.redis.flushdb()
                        await used(here)
                    await _python(env, "-c", "import syncer.cli.scan, syncer.cli.installation")
                    await fill(here, n)
                    await until(
                        lambda h=here, m=n: put_in(h, m),  # type: ignore[misc]  # bound now
                        f"the API server has taken in {n}", within=900, every=2,
                    )  # fmt: skip
                    walk = await verify(here, env, n)
                    if n == sizes[-1]:
                        rounds = 3 if quick else 9
                        await explore(here, env, where(here), sys.executable, report, n, rounds)
        walks.append(walk)
        at = f"verify, {n:,} notifications"
        report.add(f"{at}: time", "s", [walk.seconds], VERIFY_SECONDS if n == 100_000 else None)
        report.add(f"{at}: CPU", "s", [walk.cpu])
        report.add(f"{at}: resident, largest", "MiB", [walk.peak])
        report.add(f"{at}: resident, half-way", "MiB", [walk.half])
    if len(walks) > 1:
        growth = walks[-1].peak / walks[0].peak
        report.add("verify: memory of ten times the notifications", "", [growth], VERIFY_FLAT)
    return report
