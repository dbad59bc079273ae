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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.child import child
from tests.benchmarks.load import pid_of, progress, servers
from tests.benchmarks.report import Json, Report, cpu_seconds, resident_mib
from tests.benchmarks.soak import growth
from tests.benchmarks.webhooks import Orders, exchange, request_of
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.gateway_outage import play
from tests.integration.scripted import write_kubeconfig

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
        groups: Of the outage.
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


async def under_load(report: Report, gateway: GatewayProcess, scale: Scale) -> None:
    """Send at a steady rate, and look on."""
    pid = pid_of(gateway)

    async def send(seconds: float, first: int) -> Json:
        orders = Orders(gateway.port, TOKEN, scale.per_second, seconds=seconds, first=first)
        async with child("tests.benchmarks.webhooks", "sender") as sender:
            return dict(await sender.ask(asdict(orders)))

    async def created() -> int:
        return int(await gateway.metric(_CREATED, source="am", result="created"))

    await send(scale.warm, 50_000_000)
    before, used, began = await created(), cpu_seconds(pid), time.monotonic()
    memory: list[tuple[float, float]] = []
    sending = asyncio.create_task(send(scale.seconds, 0))
    while not sending.done():
        memory.append((time.monotonic() - began, resident_mib(pid)))
        await asyncio.wait({sending}, timeout=1.0)
    sent, used = await sending, cpu_seconds(pid) - used
    report.notes.append(
        f"load: {scale.per_second:g} webhooks/s for {scale.seconds:g} s, 5 alerts and {sent['size']} bytes "
        "each, 64 connections, one replica; the API server is a stand-in that answers at once"
    )
    good = sent["codes"].get("200", 0)
    report.add("load: webhooks answered 200", "/s", [good / sent["elapsed"]])
    report.add("load: webhooks not answered 200", "", [sum(sent["codes"].values()) - good])
    each = used / max(await created() - before, 1) * 1000
    report.add("load: CPU of the gateway per notification", "ms", [each])
    report.add("load: due to answered, p50", "ms", [sent["p50"]])
    report.add("load: due to answered, p99", "ms", [sent["p99"]])
    half = [point for point in memory if point[0] >= scale.seconds / 2]
    report.add("load: resident memory", "MiB", [value for _, value in half])
    name = "load: resident memory: growth in the second half, share of the median"
    report.add(name, "", [growth(half)[1]])


async def in_a_crowd(report: Report, gateway: GatewayProcess, scale: Scale) -> None:
    """Send valid requests while connections are opened, and for a while beside them."""
    orders = Orders(gateway.port, TOKEN, scale.crowd_per_second, connections=scale.crowd)
    seconds: list[float] = []
    refused = 0

    async def one(number: int) -> None:
        nonlocal refused
        request = request_of(orders).replace(b"########", f"9{number:07}".encode())
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

    async with (
        child("tests.benchmarks.webhooks", "crowd") as crowd,
        asyncio.TaskGroup() as group,
    ):
        opened = asyncio.create_task(crowd.ask(asdict(orders)))
        number, ends = 0, float("inf")
        while time.monotonic() < ends:
            group.create_task(one(number))
            number += 1
            await asyncio.sleep(_EVERY)
            if opened.done() and ends == float("inf"):
                ends = time.monotonic() + scale.after
        kept = int(await opened)
    report.notes.append(
        f"crowd: {scale.crowd:,} connections, {scale.crowd_per_second:,.0f} a second: a third each sends "
        f"nothing, half a head, half a body; {kept:,} of them were open at the end; "
        f"{len(seconds)} valid requests meanwhile, each on a new connection"
    )
    report.add("crowd: valid requests not answered 200", "", [refused])
    report.add("crowd: valid requests, until answered", "s", seconds)
    report.add("crowd: resident memory at the end", "MiB", [resident_mib(pid_of(gateway))])


async def measure(report: Report, folder: Path, scale: Scale) -> None:
    """Measure the parts that need no real API server, each on a gateway of its own."""
    async with child("tests.benchmarks.webhooks", "server") as server:
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
            await under_load(report, one, scale)
        async with gateway("crowd") as one:
            await in_a_crowd(report, one, scale)


#: Of an outage: names and units, by what is known of it.
_OUTAGE: Final = {
    "lost": ("groups not delivered", ""),
    "twice": ("groups delivered twice", ""),
    "objects": ("notifications made", ""),
    "kills": ("SIGKILLs of the gateway", ""),
    "requests": ("requests of Alertmanager", ""),
    "failed": ("requests that failed", ""),
    "collapsed": ("requests that met the notification of an earlier one", ""),
    "seconds": ("first alert to last delivery", "s"),
}


async def run(*, quick: bool) -> Report:
    """Measure all parts, each in full or a little of it."""
    scale, report = QUICK if quick else FULL, Report("gateway")
    # On a machine of its own, before there are other servers.
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        await measure(report, Path(name), scale)
    async with servers() as (plane, redis, folder):
        tale = await play(
            plane, redis.url, folder / "outage", groups=scale.groups, away=scale.away,
            say=lambda text: progress("gateway", text),
        )  # fmt: skip
    report.notes.append(
        f"outage: {scale.groups} groups of a real Alertmanager in three parts, before, in and after "
        f"{scale.away:g} s without API server; the gateway is killed in each part and every 5 s of "
        "the outage; real API server, controller, receiver with its own book"
    )
    for member, (name, unit) in _OUTAGE.items():
        report.add(f"outage: {name}", unit, [getattr(tale, member)])
    return report
