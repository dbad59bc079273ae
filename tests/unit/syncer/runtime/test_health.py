"""The admin server's answers: alive, ready or not and why, and the metrics, on one address or two."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable

import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.registry import Collector

from syncer.runtime import health
from syncer.runtime.health import AdminServer
from syncer.runtime.offload import SMALL, offload

Answer = tuple[int, dict[str, str], str]


async def get(port: int, path: str, *, accept: str = "*/*") -> Answer:
    """Ask; returns the code, the headers and the body."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split(" ")[1]), headers, body


class World:
    """A server, with a gauge that is brought up to date when it is scraped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.gauge = Gauge("waiting", "How many wait.", registry=registry)
        self.waiting = 0
        self.scrapes = 0
        self.refreshing = 0.0
        self.server = AdminServer(registry)
        self.server.on_scrape(self._refresh)
        self.said: dict[str, str | None] = {"lease": None, "redis": None, "note": None}

    async def _refresh(self) -> float:
        self.scrapes += 1
        self.gauge.set(self.waiting)
        return self.refreshing

    async def bind(self, *, port: int = 0, health: bool = True, metrics: bool = True) -> int:
        """Listen."""
        return await self.server.bind("127.0.0.1", port, health=health, metrics=metrics)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A server with two checks and a detail."""
    made = World()
    for name in ("lease", "redis"):
        made.server.check(name, lambda name=name: made.said[name])  # type: ignore[misc]  # the default binds it
    made.server.detail("note", lambda: made.said["note"])
    yield made
    await made.server.close()


async def test_ready(world: World) -> None:
    """Without a problem each check is named as passed, and the answer is 200."""
    port = await world.bind()
    code, headers, body = await get(port, "/readyz")
    assert (code, body) == (200, "[+] lease: ok\n[+] redis: ok\n")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert world.server.problems() == {}


async def test_not_ready(world: World) -> None:
    """One problem is enough for 503; it comes first, with its reason, and the process still lives."""
    port = await world.bind()
    world.said["redis"] = "no answer for 7 s"
    code, _, body = await get(port, "/readyz")
    assert (code, body) == (503, "[-] redis: no answer for 7 s\n[+] lease: ok\n")
    assert world.server.problems() == {"redis": "no answer for 7 s"}
    assert (await get(port, "/healthz"))[::2] == (200, "ok\n")
    world.said["redis"] = None
    assert (await get(port, "/readyz"))[0] == 200


async def test_a_detail_keeps_nobody_from_being_ready(world: World) -> None:
    """It is mentioned last, and only while there is something to say."""
    port = await world.bind()
    world.said["note"] = "persistence is off"
    code, _, body = await get(port, "/readyz")
    assert (code, body) == (200, "[+] lease: ok\n[+] redis: ok\n[!] note: persistence is off\n")
    world.said["note"] = None
    assert "[!]" not in (await get(port, "/readyz"))[2]


async def test_metrics_are_those_of_the_moment(world: World) -> None:
    """Gauges are brought up to date by the scrape, in the format that it asks for."""
    port = await world.bind()
    for waiting in (3, 5):
        world.waiting = waiting
        code, headers, body = await get(port, "/metrics")
        assert code == 200
        assert headers["content-type"].startswith("text/plain")
        assert f"waiting {waiting}.0" in body.splitlines()
    _, headers, body = await get(port, "/metrics", accept="application/openmetrics-text")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=x", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=7.3", "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=x", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
async def test_a_version_that_nobody_knows(world: World, accept: str, wanted: str) -> None:
    """What a client writes is neither an error of ours nor repeated; there are two formats."""
    code, headers, _ = await get(await world.bind(), "/metrics", accept=accept)
    assert code == 200
    assert headers["content-type"].startswith(wanted)


async def test_who_asks_without_end_does_not_hold_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little they take, they are made as often as their share of time lets them, in each format."""
    monkeypatch.setattr(health, "_SHARE", 1e-9, raising=False)
    port = await world.bind()
    world.waiting = 3
    asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((asked + b"\r\n") * 20 + asked + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(20):
        answers = (await reader.read()).decode().split("HTTP/1.1 200 OK")[1:]
    writer.close()
    assert [a for a in answers if "waiting 3.0" not in a] == []
    assert (len(answers), world.scrapes) == (21, 1)
    world.waiting = 5
    _, _, body = await get(port, "/metrics", accept="application/openmetrics-text")
    assert "waiting 5.0" in body
    assert world.scrapes == 2
    monkeypatch.setattr(health, "_SHARE", 1e9)
    world.server._made.clear()
    for waiting in range(7, 17):
        world.waiting = waiting
        assert f"waiting {waiting}.0" in (await get(port, "/metrics"))[2]


async def test_probes_are_answered_while_metrics_are_written(world: World) -> None:
    """Those of a thousand receivers take a third of a second, in which the loop has other things to do."""
    started, answered = threading.Event(), threading.Event()

    class Slow(Collector):
        def collect(self) -> Iterable[Metric]:
            started.set()
            assert answered.wait(20)
            return ()

    world.registry.register(Slow())
    port = await world.bind()
    scrape = asyncio.create_task(get(port, "/metrics"))
    while not started.is_set():
        await asyncio.sleep(0.01)
    assert (await get(port, "/healthz"))[0] == 200
    answered.set()
    assert (await scrape)[0] == 200


async def test_waiting_for_other_work_makes_no_metrics_old(world: World) -> None:
    """Only what they took themselves counts: a busy process is the one that is looked at."""
    done = threading.Event()
    work = asyncio.create_task(offload(lambda: done.wait(20), size=SMALL + 1, seconds=20))
    port = await world.bind()
    scrape = asyncio.create_task(get(port, "/metrics"))
    while not world.scrapes:
        await asyncio.sleep(0.01)
    # A tenth of the time: ten times as long, they would be those of before.
    await asyncio.sleep(0.2)
    done.set()
    assert await work
    assert (await scrape)[0] == 200
    world.waiting = 5
    assert "waiting 5.0" in (await get(port, "/metrics"))[2]


async def test_what_gauges_took_counts(world: World) -> None:
    """Those of a hundred thousand notifications take a second: who asks again gets them once more."""
    port = await world.bind()
    world.refreshing = 1.0
    for waiting in (3, 5):
        world.waiting = waiting
        assert "waiting 3.0" in (await get(port, "/metrics"))[2]
    assert world.scrapes == 1


async def test_an_address_serves_what_it_is_for(world: World) -> None:
    """With an address each, neither answers for the other."""
    probes = await world.bind(metrics=False)
    metrics = await world.bind(health=False)
    codes = {
        (port, path): (await get(port, path))[0]
        for port in (probes, metrics)
        for path in ("/healthz", "/readyz", "/metrics")
    }
    assert codes == {
        (probes, "/healthz"): 200, (probes, "/readyz"): 200, (probes, "/metrics"): 404,
        (metrics, "/healthz"): 404, (metrics, "/readyz"): 404, (metrics, "/metrics"): 200,
    }  # fmt: skip


async def test_a_port_that_is_taken(world: World) -> None:
    """It cannot be bound a second time: whoever holds it is the living process."""
    port = await world.bind()
    other = World()
    with pytest.raises(OSError, match="in use"):
        await other.bind(port=port)
    await other.server.close()


async def test_close_gives_the_port_back(world: World) -> None:
    """Nothing is answered afterwards, and a successor may have the port at once."""
    port = await world.bind()
    await get(port, "/healthz")
    await world.server.close()
    with pytest.raises(ConnectionRefusedError):
        await get(port, "/healthz")
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", port))


async def test_close_ends_what_is_open(world: World) -> None:
    """A connection that is kept for the next request ends with the server."""
    port = await world.bind()
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"ok\n")
        await world.server.close()
        assert await reader.read() == b""
        writer.close()
