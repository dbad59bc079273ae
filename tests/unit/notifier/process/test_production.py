"""The outside of a real process: what it is made of, what refuses a start, what is taken down again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from notifier.audit.sinks import Result, Written
from notifier.channels.email import MailClient
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.content.sanitise import sanitise
from notifier.outside import Outside
from notifier.process.production import production
from notifier.router import LiveRouter
from notifier.settings import Loaded, load
from notifier.version import __version__
from syncer.ledger.client import LedgerClient
from syncer.model.errors import ConfigError, Unavailable
from syncer.runtime.health import AdminServer
from syncer.runtime.places import spare
from syncer.runtime.stalls import LoopWatch
from tests.servers.ports import free_port

ROUTING = """
route: {receiver: ops}
receivers:
- name: ops
  slackConfigs: [{credentialRef: ops}]
  fileConfigs: [{}]
  logConfigs: [{}]
  pagerdutyConfigs: [{credentialRef: duty}]
  webhookConfigs: [{url: 'https://hooks.example.com/x'}]
  emailConfigs: [{to: ops@example.com, from: ledger@example.com, smarthost: 'mail.example.com:25'}]
"""


class Files:
    """What a process reads at its start; a test changes what it is about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = "http://127.0.0.1:1"
        self.routing = ROUTING
        credentials = folder / "credentials"
        credentials.mkdir()
        (credentials / "ops").write_text("https://hooks.example.com/services/T/B/x")
        (credentials / "duty").write_text("0123456789abcdef0123456789abcdef")
        self.settings: dict[str, Any] = {
            "redis": {"url": "redis://127.0.0.1:1"},
            "controller": {"metricsAddr": "127.0.0.1:0", "healthProbeAddr": "127.0.0.1:0"},
            "delivery": {"credentials": {"dir": str(credentials)}},
        }

    def loaded(self) -> Loaded:
        """What `notifier run` would go by."""
        cluster, user = {"server": self.api}, {"token": "t"}
        context = {"cluster": "c", "user": "u"}
        files = {
            "config.yaml": yaml.safe_dump(self.settings),
            "routing.yaml": self.routing,
            "namespace": "here",
            "kubeconfig": yaml.safe_dump(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "x",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": user}],
                    "contexts": [{"name": "x", "context": context}],
                }
            ),
        }  # fmt: skip
        for name, text in files.items():
            (self.folder / name).write_text(text)
        environment = {
            "ROUTING_CONFIG_PATH": str(self.folder / "routing.yaml"),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "LEDGER_TESTING": str(self.folder / "config.yaml"),
        }
        return load(
            self.folder / "config.yaml", environment, namespace_file=self.folder / "namespace"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Outside]:
        """A process that has made its outside."""
        async with production(self.loaded(), LoopWatch()) as outside:
            yield outside

    async def refused(self) -> ConfigError:
        """The reason for which it is not made."""
        with pytest.raises(ConfigError) as caught:
            async with self.running():
                pytest.fail("it started")
        return caught.value


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files of a process that can start."""
    return Files(tmp_path)


async def get(port: int | str, path: str) -> tuple[int, str]:
    """Ask the admin server."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers={"Connection": "close"}) as answer,
    ):
        return answer.status, await answer.text()


@asynccontextmanager
async def served(
    files: Files, answer: Callable[[web.Request], Awaitable[web.Response]]
) -> AsyncIterator[None]:
    """Something that answers `/version` in the place of the API server."""
    app = web.Application()
    app.router.add_get("/version", answer)
    async with TestServer(app) as server:
        files.api = str(server.make_url("")).rstrip("/")
        yield


# -- what it is made of ---------------------------------------------------------------------------


async def test_what_is_made_is_closed_again(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch over the loop first, since what closing costs the loop is no stall; and it all."""
    done: list[str] = []

    class Watch(LoopWatch):
        def close(self) -> None:
            done.append("watch")
            super().close()

    def noted(kind: Any, closing: str = "close") -> None:
        real = getattr(kind, closing)

        def call(each: Any) -> Any:
            done.append(kind.__name__)
            return real(each)

        monkeypatch.setattr(kind, closing, call)

    noted(HttpClient, "aclose")
    for kind in (FileChannel, MailClient, AdminServer):
        noted(kind)
    files.settings["delivery"] |= {
        "file": {"outputDir": str(tmp_path / "out")},
        "email": {"enabled": True},
    }
    async with production(files.loaded(), Watch()):
        assert done == []
    assert done[0] == "watch"
    assert sorted(done[1:]) == ["AdminServer", "FileChannel", "HttpClient", "MailClient", "watch"]


async def test_its_identity_is_the_host_and_the_port_of_its_probes(files: Files) -> None:
    """Readiness says from the first moment what is missing; its clock is in UTC; its end frees the port."""
    async with files.running() as outside:
        host, _, port = outside.identity.rpartition("_")
        assert host == socket.gethostname()
        assert outside.wall().tzinfo is UTC
        assert abs((datetime.now(UTC) - outside.wall()).total_seconds()) < 60
        assert await get(port, "/healthz") == (200, "ok\n")
        assert (await get(port, "/metrics"))[0] == 200, "the file gives both the same address"
        assert await get(port, "/readyz") == (
            503,
            (
                "[-] redis: not connected yet\n[-] cluster: not connected yet\n"
                "[-] shards: not connected yet\n[+] shutdown: ok\n"
            ),
        )
        outside.stop.requested.set()
        assert "[-] shutdown: draining\n" in (await get(port, "/readyz"))[1]
        outside.admin.check("redis", lambda: None)
        assert "[+] redis: ok\n" in (await get(port, "/readyz"))[1]
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(port, "/healthz")


async def test_metrics_have_an_address_of_their_own(files: Files) -> None:
    """Each port answers what is its own alone; those of the process and of Python are there."""
    metrics = free_port()
    files.settings["controller"]["metricsAddr"] = f"127.0.0.1:{metrics}"
    async with files.running() as outside:
        health = outside.identity.rpartition("_")[2]
        assert (await get(health, "/metrics"))[0] == 404
        assert (await get(metrics, "/healthz"))[0] == 404
        status, text = await get(metrics, "/metrics")
    assert status == 200
    for name in ("process_resident_memory_bytes", "python_info", "python_gc_collections_total"):
        assert f"\n{name}" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_it_to_end(files: Files, number: signal.Signals) -> None:
    """The signal of the kubelet, and that of a terminal."""
    async with files.running() as outside:
        assert not outside.stop.requested.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            await outside.stop.requested.wait()
        assert outside.stop.refusal is None


async def test_api_clients_have_names_and_tell_the_time(files: Files) -> None:
    """The audit log of the API server tells both clients apart; each answer brings its time."""
    agents: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        agents.append(request.headers["User-Agent"])
        return web.json_response({}, headers={"Date": "Fri, 27 Nov 2026 04:00:00 GMT"})

    async with served(files, answer), files.running() as outside:
        assert outside.api_time.now() is None
        for client in (outside.objects, outside.leases):
            outside.api_time.offset = None
            await client.request("GET", "/version", timeout=20)
            now = outside.api_time.now()
            wanted = datetime(2026, 11, 27, 4, tzinfo=UTC).timestamp() * 1000
            assert now is not None
            assert wanted <= now < wanted + 60_000
    name = f"notification-ledger/{__version__}"
    assert agents == [f"{name} (objects)", f"{name} (leases)"]


async def test_leases_are_renewed_though_the_api_server_asks_for_a_pause(files: Files) -> None:
    """A wait that it asks of one call holds for all, but for those of Leases: they would be lost."""

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "20"})

    async with served(files, busy), files.running() as outside:
        for client, second in ((outside.objects, "asks for a pause"), (outside.leases, "429")):
            with pytest.raises(Unavailable, match="429"):
                await client.request("GET", "/version", timeout=20)
            with pytest.raises(Unavailable, match=second):
                await client.request("GET", "/version", timeout=20)


@pytest.mark.parametrize(("durability", "confirming"), [("strict", True), ("relaxed", False)])
async def test_clients_of_redis_are_made_by_the_settings(
    files: Files, durability: str, confirming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefix, timeout and durability are the file's; what the product wants to know, it is told."""
    close = AsyncMock()
    monkeypatch.setattr(LedgerClient, "close", close)
    files.settings["redis"] |= {"keyPrefix": "here", "timeout": "7s", "durability": durability}
    async with files.running() as outside:
        told: list[str] = []
        client = outside.redis(
            fitness=lambda info: info.get("reason"),
            on_change=lambda: told.append("change"),
            on_wake_up=told.append,
        )
        assert client.prefix == "here"
        assert client.confirming is confirming
        assert client.fitness({"reason": "too old"}) == "too old"
        client.on_change()
        assert client.on_wake_up is not None
        client.on_wake_up("uid-a")
        assert told == ["change", "uid-a"]
        close.assert_not_awaited()
    close.assert_awaited_once_with()


def router_of(outside: Outside) -> LiveRouter:
    """The router of a process."""
    assert isinstance(outside.router, LiveRouter)
    return outside.router


async def test_channels_are_made_by_the_settings(files: Files, tmp_path: Path) -> None:
    """What is switched on is there with its own time limit, and what routing names can be sent to."""
    files.settings["delivery"] |= {
        "file": {"outputDir": str(tmp_path / "out"), "format": "yaml", "timeout": "3s"},
        "log": {"enabled": True, "format": "text"},
        "slack": {"timeout": "4s"},
        "email": {"enabled": True, "timeout": "6s"},
        "webhook": {"enabled": True},
        "pagerduty": {"dedupNamespace": True},
    }
    async with files.running() as outside:
        router = router_of(outside)
        assert (router.problem, router.doubts) == (None, 0)
        limits = {}
        for name in ("console", "file", "log", "slack:ops", "webhook:ops", "email:ops"):
            channel = router.channel(name)
            assert channel is not None, name
            limits[name.partition(":")[0]] = channel.timeout_s
    assert limits == {
        "console": 1.0, "file": 3.0, "log": 1.0, "slack": 4.0, "webhook": 4.0, "email": 6.0,
    }  # fmt: skip


async def test_channels_that_are_not_switched_on_are_not_there(files: Files) -> None:
    """The console always is, and what needs nothing but routing."""
    async with files.running() as outside:
        router = router_of(outside)
        assert router.channel("slack:ops") is not None
        assert router.channel("console") is not None
        names = ("file", "log", "webhook:ops", "email:ops")
        assert [router.channel(name) for name in names] == [None] * 4


async def test_refused_addresses_are_counted(files: Files) -> None:
    """By the mode of the file: a strict guard lets nothing through that it does not list."""
    files.settings["egress"] = {"mode": "strict", "allow": ["hooks.example.com"]}
    files.settings["datastorage"] = {"url": "http://127.0.0.1:1"}
    async with files.running() as outside:
        assert outside.egress_denied() == 0
        assert outside.audit is not None
        (store,) = outside.audit.sinks
        assert "egress denied" in (await store.write([b"{}"])).reason
        assert outside.egress_denied() == 1


async def test_the_start_is_logged_with_what_operators_ask_for(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """Who it is, which version, which namespaces, how long a takeover takes."""
    caplog.set_level(logging.INFO, "ledger")
    async with files.running() as outside:
        pass
    files.settings["controller"]["namespaces"] = "*"
    async with files.running():
        pass
    here, everywhere = [r.__dict__ for r in caplog.records if r.message == "starting"]
    assert here["version"] == __version__
    assert here["identity"] == outside.identity
    assert here["namespaces"] == ("here",)
    assert here["lease_seconds"] == 18.0
    assert here["loop"] in ("asyncio", "uvloop")
    assert everywhere["namespaces"] == "*"


async def test_audit_events_go_where_the_file_says(files: Files, tmp_path: Path) -> None:
    """Without a sink there are no outlets; with one it is open while the process runs."""
    async with files.running() as outside:
        assert outside.audit is None
    files.settings["audit"] = {"file": str(tmp_path / "audit.jsonl")}
    files.settings["datastorage"] = {"url": "http://127.0.0.1:1"}
    async with files.running() as outside:
        audit = outside.audit
        assert audit is not None
        file, store = audit.sinks
        assert await file.write([b"{}"]) == Written(Result.STORED)
        assert "ECONNREFUSED" in (await store.write([b"{}"])).reason
    with pytest.raises(RuntimeError):
        await file.write([b"{}"])
    assert "RuntimeError" in (await store.write([b"{}"])).reason


# -- what refuses a start -------------------------------------------------------------------------


async def test_a_refused_start_leaves_no_thread(files: Files) -> None:
    """The watch over the loop ends although nothing was built yet."""
    files.routing = "route: []\n"
    watch, others = LoopWatch(), set(threading.enumerate())
    watch.look_from_outside()
    (thread,) = set(threading.enumerate()) - others
    with pytest.raises(ConfigError):
        async with production(files.loaded(), watch):
            pytest.fail("it started")
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("member", ["healthProbeAddr", "metricsAddr"])
async def test_a_port_that_is_taken_is_named(files: Files, member: str) -> None:
    """Which address it was, why it cannot be had, and where it is set."""
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        files.settings["controller"][member] = f"127.0.0.1:{port}"
        error = await files.refused()
    assert error.path == f"controller.{member}"
    said = f"controller.{member}: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert spare(str(error), sanitise) == said, "the log shows it as well"


#: A group of the settings, what it says, and the key and reason that are named.
UNUSABLE: dict[str, tuple[str, dict[str, object], str, str]] = {
    "authorities that cannot be read": (
        "egress", {"caBundle": "/nowhere/ca.pem"},
        "egress.caBundle", "cannot be read: No such file or directory",
    ),
    "an option of Redis that nobody knows": (
        "redis", {"url": "rediss://127.0.0.1:1?bogus=1"},
        "redis.url", "option bogus of the URL is not known",
    ),
    "a directory that cannot be written": (
        "delivery", {"file": {"outputDir": "/proc/nowhere"}}, "delivery.file.outputDir", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
async def test_a_setting_that_cannot_be_used_is_named(files: Files, case: str) -> None:
    """For HTTP and mail alike; before any server is asked, and before anything is sent."""
    group, members, path, reason = UNUSABLE[case]
    files.settings.setdefault(group, {}).update(members)
    error = await files.refused()
    assert error.path == path
    assert str(error).startswith(f"{path}: {reason}")
