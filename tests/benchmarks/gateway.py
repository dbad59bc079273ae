"""
The gateway under load, among connections that want nothing, and in an outage.

Load: groups of five alerts at a steady rate, each of which becomes a notification; the API server is a
stand-in that answers at once, so that what is measured is the gateway, whose CPU and memory the kernel
tells. A crowd: connections that send nothing, half a head or half a body are opened until there are ten
thousand, and stay; meanwhile a valid request is sent every quarter of a second, each on a new connection.
Outage: real parts, as `tests/e2e/gateway_outage.py` has them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.goals import FLAT, GATEWAY_CPU, GATEWAY_RATE, NONE_LOST
from tests.benchmarks.load import pid_of, plane_of, programs, progress
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.benchmarks.soak import growth
from tests.benchmarks.webhooks import Crowd, Load, Sent, child, exchange, request_of
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.gateway_outage import Tale, play
from tests.integration.scripted import write_kubeconfig
from tests.servers.redis import RedisServer, find_binary

_CREATED: Final = "notification_ledger_gateway_notifications_total"
_EVERY: Final = 0.25
#: Seconds within which a valid request must be answered: how long Alertmanager waits is up to its file.
_ANSWER: Final = 30.0


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        per_second: Webhooks.
        seconds: Of load.
        warm: Seconds of load before it.
        crowd: Connections that want nothing.
        crowd_per_second: How fast they are opened.
        after: Seconds of valid requests once all are open.
        groups: Of the outage; 0 leaves it out.
        away: Its seconds.
    """

    per_second: float
    seconds: float
    warm: float
    crowd: int
    crowd_per_second: float
    after: float
    groups: int
    away: float


FULL: Final = Scale(500, 60, 5, 10_000, 1000, 15, 600, 60)
QUICK: Final = Scale(500, 10, 2, 10_000, 1000, 5, 60, 10)


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    The gateway under load.

    Attributes:
        sent: What the sender saw.
        created: Notifications that were made.
        cpu: CPU seconds of the gateway.
        memory: Resident MiB by second.
    """

    sent: Sent
    created: int
    cpu: float
    memory: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Crowded:
    """
    Valid requests among many connections.

    Attributes:
        refused: Those that were not answered 200.
        seconds: Until each was answered.
        kept: Connections that were still open when the last one was opened.
        resident: MiB of the gateway at the end.
    """

    refused: int
    seconds: tuple[float, ...]
    kept: int
    resident: float


async def under_load(gateway: GatewayProcess, scale: Scale) -> Loaded:
    """Send at a steady rate, and look on."""
    pid = pid_of(gateway)

    async def send(seconds: float, first: int) -> Sent:
        load = Load(gateway.port, TOKEN, scale.per_second, seconds, first=first)
        async with child("sender", load) as sender:
            return Sent(**await sender.said())

    async def created() -> int:
        return int(await gateway.metric(_CREATED, source="am", result="created"))

    await send(scale.warm, 50_000_000)
    before, used, began = await created(), cpu_seconds(pid), time.monotonic()
    memory: list[tuple[float, float]] = []
    sending = asyncio.create_task(send(scale.seconds, 0))
    while not sending.done():
        memory.append((time.monotonic() - began, resident_mib(pid)))
        await asyncio.wait({sending}, timeout=1.0)
    return Loaded(await sending, await created() - before, cpu_seconds(pid) - used, tuple(memory))


async def in_a_crowd(gateway: GatewayProcess, scale: Scale) -> Crowded:
    """Send valid requests while connections are opened, and for a while beside them."""
    orders = Crowd(gateway.port, TOKEN, scale.crowd, scale.crowd_per_second)
    seconds: list[float] = []
    refused = 0

    async def one(number: int) -> None:
        nonlocal refused
        request = request_of(gateway.port, TOKEN, 5).replace(b"########", f"9{number:07}".encode())
        began = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                try:
                    refused += await exchange(reader, writer, request) != 200
                finally:
                    writer.close()
        except (OSError, EOFError):
            refused += 1
        seconds.append(time.monotonic() - began)

    async with child("crowd", orders) as crowd, asyncio.TaskGroup() as group:
        opened = asyncio.create_task(crowd.said())
        number, ends = 0, float("inf")
        while time.monotonic() < ends:
            group.create_task(one(number))
            number += 1
            await asyncio.sleep(_EVERY)
            if opened.done() and ends == float("inf"):
                ends = time.monotonic() + scale.after
        kept = int(await opened)
    return Crowded(refused, tuple(seconds), kept, resident_mib(pid_of(gateway)))


async def measure(folder: Path, scale: Scale) -> tuple[Loaded, Crowded]:
    """Measure the parts that need no real API server, each on a gateway of its own."""
    async with child("server") as server:
        kubeconfig = folder / "kubeconfig"
        write_kubeconfig(kubeconfig, f"http://127.0.0.1:{await server.said()}")

        @asynccontextmanager
        async def gateway(name: str) -> AsyncIterator[GatewayProcess]:
            progress("gateway", name)
            source = {"name": "am", "kind": "alertmanager", "namespace": "alerts"}
            process = GatewayProcess(folder / name, kubeconfig, [source])
            process.start()
            try:
                await process.wait_ready()
                yield process
            finally:
                await asyncio.to_thread(process.kill)

        async with gateway("load") as one:
            loaded = await under_load(one, scale)
        async with gateway("crowd") as one:
            return loaded, await in_a_crowd(one, scale)


async def run(*, quick: bool) -> Report:
    """Measure all parts, each in full or a little of it."""
    scale = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        loaded, crowded = await measure(folder, scale)
        async with (
            plane_of(await programs()) as plane,
            RedisServer(find_binary("redis-server")) as redis,
        ):
            tale = await play(
                plane, redis.url, folder / "outage", groups=scale.groups, away=scale.away,
                say=lambda text: progress("gateway", text),
            )  # fmt: skip
    return told(loaded, crowded, [tale], scale)


def told(loaded: Loaded, crowded: Crowded, tales: Sequence[Tale], scale: Scale) -> Report:
    """The report of one run."""
    report, sent = Report("gateway"), loaded.sent
    report.notes.append(
        f"load: {scale.per_second:g} webhooks/s for {scale.seconds:g} s, 5 alerts and {sent.size} bytes "
        "each, 64 connections, one replica; the API server is a stand-in that answers at once"
    )
    report.notes.append(
        f"crowd: {scale.crowd:,} connections, {scale.crowd_per_second:,.0f} a second: a third each sends "
        f"nothing, half a head, half a body; {crowded.kept:,} of them were open at the end; "
        f"{len(crowded.seconds)} valid requests meanwhile, each on a new connection"
    )
    good = sent.codes.get("200", 0)
    report.add("load: webhooks answered 200", "/s", [good / sent.elapsed], GATEWAY_RATE)
    report.add("load: webhooks not answered 200", "", [sum(sent.codes.values()) - good], NONE_LOST)
    each = loaded.cpu / max(loaded.created, 1) * 1000
    report.add("load: CPU of the gateway per notification", "ms", [each], GATEWAY_CPU)
    report.add("load: due to answered, p50", "ms", [sent.p50])
    report.add("load: due to answered, p99", "ms", [sent.p99])
    half = [point for point in loaded.memory if point[0] >= scale.seconds / 2]
    report.add("load: resident memory", "MiB", [value for _, value in half])
    name = "load: resident memory: growth in the second half, share of the median"
    report.add(name, "", [growth(half)[1]], FLAT)
    report.add("crowd: valid requests not answered 200", "", [crowded.refused], NONE_LOST)
    report.add("crowd: valid requests, until answered", "s", crowded.seconds)
    report.add("crowd: resident memory at the end", "MiB", [crowded.resident])
    if tales:
        report.notes.append(
            f"outage: {scale.groups} groups of a real Alertmanager in three parts, before, in and after "
            f"{scale.away:g} s without API server; the gateway is killed in each part and every 5 s of "
            "the outage; real API server, controller, receiver with its own book"
        )
    for tale in tales:
        report.add("outage: groups not delivered", "", [tale.lost], NONE_LOST)
        report.add("outage: groups delivered twice", "", [tale.twice], NONE_LOST)
        report.add("outage: notifications made", "", [tale.objects])
        report.add("outage: SIGKILLs of the gateway", "", [tale.kills])
        report.add("outage: requests of Alertmanager", "", [tale.requests])
        report.add("outage: requests that failed", "", [tale.failed])
        report.add(
            "outage: requests that met the notification of an earlier one", "", [tale.collapsed]
        )
        report.add("outage: first alert to last delivery", "s", [tale.seconds])
    return report
