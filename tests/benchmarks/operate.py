"""
How long an operator waits: `explain` of one log, `--records` too, `verify` and the explorer's pages of all.

The notifications are those of `recovery`, put where they belong without the controller. `verify` runs as a
process of its own and is watched from outside: its time, its memory all the while. `explain` and `inspect`,
which is `explain --records`, are timed as whole processes, which is what an operator waits for, `explain`
with a settings file, as in a pod; `inspect` once more without its imports, which is what is ours. Compiled
modules are kept, as an installation has them; the first start, which compiles, is not counted. `explore`
asks the explorer.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from syncer.model.attempt import Attempt, AttemptState, FailureClass, make_attempt_id
from syncer.model.record import Header, Plan, Record, attempt_record, intent_record, plan_record
from tests.benchmarks.explore import explore
from tests.benchmarks.load import servers
from tests.benchmarks.recovery import EPOCH, FirstCall, encoded, fill, put_in
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.benchmarks.watching import unwatched
from tests.e2e.harness import CHANNEL, ROOT, Stage, until

_RECORDS: Final = 1_000
#: Of a log as they usually are at their end: ten attempts.
_USUAL: Final = 21
_IMPORTS: Final = (
    "import syncer.cli.main, syncer.cli.explain, syncer.ledger.client, syncer.ledger.log,"
    " syncer.settings, syncer.kube.client, syncer.kube.notification_requests, syncer.cli.installation,"
    " io, sys, time"
)


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


async def verify(here: Stage, env: dict[str, str], n: int) -> dict[str, float]:
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
    return {
        "time": seconds,
        "CPU": cpu,
        "resident, largest": max(sizes),
        "resident, half-way": sizes[len(sizes) // 2],
    }


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
        identity, at = make_attempt_id(EPOCH, n), now - 600_000 + n * 1000
        records.append(intent_record(identity, CHANNEL, at=at, by="bench"))
        failed = Attempt(
            identity, CHANNEL, AttemptState.FAILED, ended=at + 20, due=at + 900, duration=20,
            failure=FailureClass.TRANSIENT, error="503 Service Unavailable", code=503,
        )  # fmt: skip
        records.append(attempt_record(failed))
    if count % 2 == 0:
        records.append(intent_record(make_attempt_id(EPOCH, count), CHANNEL, at=now, by="bench"))
    elements, _ = encoded(records)
    assert len(elements) == count
    pipeline = here.redis.pipeline(transaction=False)
    pipeline.rpush(f"{here.prefix}:{{{uid}}}", Header(key, EPOCH).encode(), *elements)
    await pipeline.execute()
    return key


async def timed(
    env: dict[str, str], rounds: int, *words: str
) -> tuple[list[float], list[float], str]:
    """Seconds and CPU seconds of a command as a whole, and what it prints; the first run compiles."""
    whole, cpu, out = [], [], ""
    for n in range(rounds + 1):
        began, used = time.perf_counter(), _children()
        out = (await _python(env, "-m", "syncer", *words))[1]
        spent, used = time.perf_counter() - began, _children() - used
        if n:
            whole.append(spent)
            cpu.append(used)
    return whole, cpu, out


async def inspect(report: Report, here: Stage, env: dict[str, str], rounds: int) -> None:
    """Time `explain --records` as a whole process, and what is left of it after the imports."""
    long = await log_of(here, "long", _RECORDS)
    words = ["explain", long, "--records", "--output", "json", *where(here)]
    whole, cpu, out = await timed(env, rounds, *words)
    assert json.loads(out)["log"]["length"] == _RECORDS
    program = (
        f"{_IMPORTS}\nout, sys.stdout = sys.stdout, io.StringIO()\nbegan = time.perf_counter()\n"
        f"code = syncer.cli.main.main({words!r})\nprint(time.perf_counter() - began, file=out)"
    )
    ours = [float((await _python(env, "-c", program))[1]) for _ in range(rounds + 1)]
    report.add("inspect, 1,000 records: whole process", "s", whole)
    report.add("inspect, 1,000 records: CPU", "s", cpu)
    report.add("inspect, 1,000 records: after imports", "s", ours[1:])


async def explain(
    report: Report, here: Stage, env: dict[str, str], folder: Path, rounds: int
) -> None:
    """Time `explain` as a whole process."""
    config = folder / "config.yaml"
    config.write_text(
        json.dumps({
            "redis": {"url": here.redis_url, "keyPrefix": here.prefix},
            "controller": {"namespaces": [here.namespace]},
        })
    )  # fmt: skip
    usual = await log_of(here, "usual", _USUAL)
    files = ["--config", str(config), "--kubeconfig", str(here.plane.kubeconfig)]
    whole, cpu, out = await timed(env, rounds, "explain", usual, *files)
    assert "Exhausted (attempts used up)" in out, out
    report.add("explain, 10 attempts: whole process", "s", whole)
    report.add("explain, 10 attempts: CPU", "s", cpu)


def _children() -> float:
    """CPU seconds of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def run(*, quick: bool) -> Report:
    """Measure on two sizes, or on one small one."""
    sizes: Sequence[int] = (1_000,) if quick else (10_000, 100_000)
    rounds = 3 if quick else 9
    report = Report("operate")
    report.notes.append(
        "95 % finished, ten attempts (21 records) in each log; objects are put straight into etcd,"
        " logs into Redis; nothing diverges, so `verify` reads everything once"
    )
    walks: list[dict[str, float]] = []
    for n in sizes:
        async with (
            servers() as (plane, redis, folder),
            unwatched(plane, redis.url, folder / "stage", FirstCall()) as here,
        ):
            env = environment(folder)
            await used(here)
            if not walks:
                await inspect(report, here, env, rounds)
                await explain(report, here, env, folder, rounds)
                for made in ("long", "usual"):
                    await here.api.ask("DELETE", f"{here.api.requests}/{made}")
                await here.redis.flushdb()
                await used(here)
            await _python(env, "-c", "import syncer.cli.scan, syncer.cli.installation")
            await fill(here, n)
            await until(
                partial(put_in, here, n), f"the API server has taken in {n}", within=900, every=2
            )
            walks.append(await verify(here, env, n))
            if n == sizes[-1]:
                await explore(here, env, where(here), sys.executable, report, n, rounds)
        units = {"time": "s", "CPU": "s", "resident, largest": "MiB", "resident, half-way": "MiB"}
        report.rows(units, walks[-1:], f"verify, {n:,} notifications: ")
    if len(walks) > 1:
        few, many = (walk["resident, largest"] for walk in walks)
        report.add("verify: memory of ten times the notifications", "", [many / few])
    return report
