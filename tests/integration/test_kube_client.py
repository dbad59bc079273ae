"""The door to the API server: what is raised, when, and what never leaks."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml
from aiohttp import web
from yarl import URL

from notifier.content.sanitise import sanitise
from syncer.kube import client as client_module
from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.errors import OversizedLine
from syncer.kube.session import Session, SessionSource
from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    Conflict,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.runtime.places import spare
from tests.beside import eventually
from tests.integration.scripted import (
    ScriptedServer,
    abort,
    always,
    end,
    hang,
    send_lines,
    status,
    write_kubeconfig,
)
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port

CANARY = "canary-0d1f-secret"
RELOADED = "credentials and configuration for the API server were reloaded"
REFUSED = "the API server refuses the credentials"
ACCEPTED = "the API server accepts the credentials again"


async def connect(kubeconfig: str | Path, **more: Any) -> KubeClient:
    """Return a client for a kubeconfig."""
    return await KubeClient.connect(str(kubeconfig), user_agent="ledger-test/1", **more)


@asynccontextmanager
async def served(
    folder: Path,
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    user: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[ScriptedServer, KubeClient]]:
    """A server that answers like this, and a client of it."""
    async with ScriptedServer(handle) as server:
        file = write_kubeconfig(folder / "k", server.url, user=user)
        async with await connect(file, **more) as client:
            yield server, client


def rebuilds(caplog: pytest.LogCaptureFixture) -> int:
    """How often credentials were read again."""
    return caplog.messages.count(RELOADED)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_real_server_answers_are_told_apart(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A real API server's refusals arrive as the types that callers decide on."""
    base = f"/api/v1/namespaces/{namespace}/configmaps"
    async with await connect(control_plane.kubeconfig) as client:
        made = await client.request("POST", base, body={"metadata": {"name": "a"}}, timeout=5)
        version = made["metadata"]["resourceVersion"]

        async def refused(method: Any, path: str, **more: Any) -> PortError:
            with pytest.raises(PortError) as caught:
                await client.request(method, path, timeout=10, **more)
            return caught.value

        assert type(await refused("GET", f"{base}/nope")) is Gone
        assert type(await refused("GET", "/apis/nobody.example/v1/things")) is KindMissing
        assert type(await refused("GET", f"/api/v1/namespaces/{namespace}/things")) is KindMissing
        assert type(await refused("POST", base, body={"metadata": {"name": "a"}})) is Conflict
        stale = {"metadata": {"resourceVersion": "1"}, "data": {"k": "v"}}
        patch = {"body": stale, "content_type": MERGE_PATCH}
        assert type(await refused("PATCH", f"{base}/a", **patch)) is Conflict
        bad = await refused("POST", base, body={"metadata": {"name": "A_b"}})
        assert isinstance(bad, Rejected)
        assert bad.reason == "Invalid"
        huge = {"metadata": {"name": "b"}, "data": {"k": "x" * (4 * 2**20)}}
        large = await refused("POST", base, body=huge)
        assert isinstance(large, Rejected)
        assert large.reason == "TooLarge"
        again = await client.request("GET", f"{base}/a", timeout=5)
        assert again["metadata"]["resourceVersion"] == version
    async with await connect(control_plane.controller_kubeconfig) as client:
        with pytest.raises(Unauthorised) as caught:
            await client.request("GET", "/api/v1/secrets", timeout=5)
        assert caught.value.reason == "Forbidden"


async def test_answers_tell_the_servers_time(control_plane: ControlPlane, namespace: str) -> None:
    """Of a real API server, in milliseconds, once for each second in which something is asked."""
    told: list[int] = []
    async with await connect(control_plane.kubeconfig, on_time=told.append) as client:
        began = time.time() * 1000
        for _ in range(20):
            await client.request("GET", f"/api/v1/namespaces/{namespace}", timeout=10.0)
        ended = time.time() * 1000
    assert told == sorted(set(told))
    assert began - 1000 <= told[0] <= told[-1] <= ended


@pytest.mark.parametrize("date", ["Thu, 26 Nov 2026 99999999999:00:00 GMT", "", "soon"])
async def test_a_time_that_none_can_tell_is_no_time(tmp_path: Path, date: str) -> None:
    """Whatever stands in the header, the answer is taken."""
    told: list[int] = []
    async with (
        ScriptedServer(
            always(lambda: web.json_response({"kind": "Status"}, headers={"Date": date}))
        ) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url), on_time=told.append) as client,
    ):
        assert await client.request("GET", "/x", timeout=5) == {"kind": "Status"}
    assert not told


async def test_silent_server_ends_each_call_at_its_timeout(tmp_path: Path) -> None:
    """A server that never answers costs the timeout; a write may have been executed."""
    async with (
        ScriptedServer(hang) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        for method, kind in (("GET", Unavailable), ("PATCH", Ambiguous), ("POST", Ambiguous)):
            began = time.monotonic()
            with pytest.raises(kind, match=r"no answer within 0\.3 s"):
                await client.request(method, "/x", body={}, timeout=0.3)  # type: ignore[arg-type]  # a JSON object
            assert 0.29 < time.monotonic() - began < 10
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            async with client.stream("/x", {}, connect_timeout=0.3, idle_timeout=9):
                pass
        assert time.monotonic() - began < 10


async def test_lost_connection_makes_a_write_ambiguous_and_does_not_repeat_it(
    tmp_path: Path,
) -> None:
    """A connection that breaks after a write was sent leaves it unclear, and sent once."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and len(server.seen) == 1:
            return web.json_response({})  # so that the next call finds a kept connection
        return await abort(request)

    async with (
        ScriptedServer(handle) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        await client.request("GET", "/warm", timeout=2)
        with pytest.raises(Ambiguous, match="connection lost"):
            await client.request("PATCH", "/x", body={}, timeout=2)
        with pytest.raises(Unavailable, match="connection lost"):
            await client.request("GET", "/y", timeout=2)
        assert server.seen.count("PATCH /x") == 1


async def test_a_wait_that_the_server_asks_for_holds_for_all_calls(tmp_path: Path) -> None:
    """A 429 names it: a client that yields then sends nothing, another one asks all the same."""
    busy = True

    async def handle(_: web.Request) -> web.StreamResponse:
        if not busy:
            return web.json_response({})
        code = "429" if len(server.seen) == 1 else "404 page not found"
        return web.Response(status=int(code[:3]), text=code, headers={"Retry-After": "1"})

    async with ScriptedServer(handle) as server:
        file = write_kubeconfig(tmp_path / "k", server.url)
        async with await connect(file, yields=True) as objects, await connect(file) as leases:
            with pytest.raises(Unavailable, match="429"):
                await objects.request("GET", "/a", timeout=5)
            with pytest.raises(Unavailable, match="asks for a pause") as refused:
                await objects.request("PATCH", "/b", timeout=5)
            assert 0 < (refused.value.retry_after or 0) <= 1
            assert len(server.seen) == 1
            with pytest.raises(KindMissing):
                await leases.request("GET", "/c", timeout=5)
            await asyncio.sleep(refused.value.retry_after or 0)
            with pytest.raises(KindMissing):
                await objects.request("GET", "/not-served-yet", timeout=5)
            busy = False
            await objects.request("GET", "/a", timeout=5)
    assert len(server.seen) == 4


async def test_a_call_under_way_shortens_no_wait(tmp_path: Path) -> None:
    """It may be answered later than the one that was asked to wait, and name none; none is for long."""
    answer = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/late":
            await answer.wait()
            return web.Response(status=503)
        return web.Response(status=429, headers={"Retry-After": "200"})

    async with served(tmp_path, handle, yields=True) as (server, client):
        late = asyncio.create_task(client.request("GET", "/late", timeout=5))
        await eventually(lambda: server.seen)
        with pytest.raises(Unavailable, match="429"):
            await client.request("GET", "/a", timeout=5)
        answer.set()
        with pytest.raises(Unavailable, match="503"):
            await late
        with pytest.raises(Unavailable, match="asks for a pause") as refused:
            await client.request("GET", "/b", timeout=5)
        assert 15 < (refused.value.retry_after or 0) <= 30


async def test_answer_that_is_no_object_is_no_success(tmp_path: Path) -> None:
    """A 200 whose body is not a JSON object is unclear for a write and unavailable for a read."""
    async with (
        ScriptedServer(
            always(lambda: web.Response(text="<html>login</html>", content_type="text/html"))
        ) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        with pytest.raises(Ambiguous, match="not JSON"):
            await client.request("POST", "/x", body={}, timeout=2)
        with pytest.raises(Unavailable, match="not JSON"):
            await client.request("GET", "/x", timeout=2)


@pytest.mark.parametrize("end", ["", "/"])
async def test_address_of_the_server_may_have_a_path(tmp_path: Path, end: str) -> None:
    """Paths are appended to it as they are quoted, and the query is quoted."""
    async with ScriptedServer(always(lambda: web.json_response({}))) as server:
        config = write_kubeconfig(tmp_path / "k", f"{server.url}/k8s/clusters/c-1{end}")
        async with await connect(config) as client:
            selector = {"fieldSelector": "status.phase!=Sent,a=b c&d"}
            await client.request("GET", "/apis/a/b%20c", params=selector, timeout=5)
            await client.request("GET", "/apis", timeout=5)
    assert server.seen == [
        "GET /k8s/clusters/c-1/apis/a/b%20c?fieldSelector=status.phase!%3DSent,a%3Db+c%26d",
        "GET /k8s/clusters/c-1/apis",
    ]


async def test_redirect_does_not_carry_the_token_away(tmp_path: Path) -> None:
    """A redirect is refused; its target never sees the token."""

    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(target.url + "/taken")

    async with (
        ScriptedServer(always(lambda: web.json_response({}))) as target,
        served(tmp_path, redirect, user={"token": CANARY}) as (server, client),
    ):
        with pytest.raises(Rejected) as caught:
            await client.request("GET", "/x", timeout=2)
        assert caught.value.reason == "HTTP307"
        assert server.headers[0]["Authorization"] == f"Bearer {CANARY}"
        assert server.headers[0]["User-Agent"] == "ledger-test/1"
        assert target.seen == []


def accept(token: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that accepts one token and answers 401 to others."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            return status(401, "Unauthorized", "Unauthorized")
        if "watch" in request.query:
            return await send_lines(request, [{"n": 1}])
        return web.json_response({"ok": True})

    return handle


async def test_rotated_token_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a 401 the token is read from its file again, once for all calls that were refused."""
    caplog.set_level(logging.INFO, "ledger.kube")
    token = tmp_path / "token"
    token.write_text("old\n")
    async with served(tmp_path, accept("new"), user={"tokenFile": str(token)}) as (_, client):
        token.write_text("new\n")
        answers = await asyncio.gather(
            *(client.request("POST", "/x", body={}, timeout=3) for _ in range(5))
        )
        assert answers == [{"ok": True}] * 5
        assert rebuilds(caplog) == 1


async def test_stream_renews_credentials_too(tmp_path: Path) -> None:
    """A watch that is answered with 401 is opened again with the new token."""
    token = tmp_path / "token"
    token.write_text("old")
    async with served(tmp_path, accept("new"), user={"tokenFile": str(token)}) as (server, client):
        token.write_text("new")
        params = {"watch": "1"}
        async with client.stream("/w", params, connect_timeout=2, idle_timeout=2) as lines:
            assert [line async for line in lines] == [b'{"n": 1}']
        assert server.seen == ["GET /w?watch=1"] * 2


async def test_refused_token_is_told_once_and_a_new_one_is_taken_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While a token stays refused nothing is replaced and one line says it; the next one serves at once."""
    caplog.set_level(logging.INFO, "ledger.kube")
    token = tmp_path / "token"
    token.write_text(CANARY)
    async with served(tmp_path, accept("other"), user={"tokenFile": str(token)}) as (
        server,
        client,
    ):
        for _ in range(5):
            with pytest.raises(Unauthorised) as caught:
                await client.request("GET", "/x", timeout=2)
            assert caught.value.reason == "Unauthorised"
            assert CANARY not in str(caught.value)
        assert [m.partition(";")[0] for m in caplog.messages] == [REFUSED]
        # Not tried again with what was refused.
        assert len(server.seen) == 5
        assert CANARY not in repr(client)
        caplog.clear()
        token.write_text("another")
        with pytest.raises(Unauthorised):
            await client.request("GET", "/x", timeout=2)
        token.unlink()
        for _ in range(3):
            with pytest.raises(Unauthorised):
                await client.request("GET", "/x", timeout=2)
        token.write_text("other")
        for _ in range(2):
            assert await client.request("GET", "/x", timeout=2) == {"ok": True}
    reloaded, unreadable, again, accepted = caplog.messages
    assert reloaded == again == RELOADED
    assert unreadable.startswith("credentials cannot be reloaded")
    assert accepted == ACCEPTED


def plugin(token: str, does: str = "pass") -> dict[str, Any]:
    """Return a user whose token comes from a program, which does something else before."""
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    words = ["-c", f"{does}; print({json.dumps(answer)!r})"]
    called = {"apiVersion": version, "command": sys.executable, "args": words}
    return {"exec": called | {"interactiveMode": "Never"}}


async def test_plugin_is_not_started_for_each_refusal(tmp_path: Path) -> None:
    """One whose token stays refused is asked at first and then after a pause, not by each call."""
    asked = tmp_path / "asked"
    user = plugin("old", f"open({str(asked)!r}, 'a').write('x')")
    async with served(tmp_path, accept("new"), user=user) as (server, client):
        for _ in range(10):
            with pytest.raises(Unauthorised):
                await client.request("GET", "/x", timeout=20)
    assert len(server.seen) == 10
    assert len(asked.read_text()) <= 4


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each reading of the configuration; what stays refused is read again in an hour."""
    made: list[object] = []
    build = SessionSource.build

    async def count(source: SessionSource) -> Session:
        made.append(source)
        return await build(source)

    monkeypatch.setattr(SessionSource, "build", count)
    monkeypatch.setattr(client_module, "_RENEW_FIRST", 3600.0)
    monkeypatch.setattr(client_module, "_RENEW_MOST", 3600.0)
    return made


def refusing(*turns: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that refuses by turns, again and again."""
    refuses = itertools.cycle(turns)
    return always(lambda: status(401, "Unauthorized") if next(refuses) else web.json_response({}))


async def test_one_of_several_servers_that_refuses_starts_no_plugin_for_each_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, builds: list[object]
) -> None:
    """What another server accepts ends neither the pause between renewals, nor is each change logged."""
    caplog.set_level(logging.INFO, "ledger.kube")
    async with served(tmp_path, refusing(True, False), user={"token": "t"}) as (_, client):
        for _ in range(5):
            with pytest.raises(Unauthorised):
                await client.request("GET", "/x", timeout=2)
            await client.request("GET", "/x", timeout=2)
    assert len(builds) == 2
    assert [m.partition(";")[0] for m in caplog.messages] == [REFUSED, ACCEPTED]


async def test_the_pause_between_renewals_ends_with_the_refusals(
    tmp_path: Path, builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long credentials were refused: what is refused after a success is read again soon."""
    handle = refusing(True, True, False, True)
    async with served(tmp_path, handle, user={"token": "t"}) as (_, client):
        for _ in range(2):
            with pytest.raises(Unauthorised):
                await client.request("GET", "/x", timeout=2)
        assert len(builds) == 2
        monkeypatch.setattr(client_module, "_RENEW_FIRST", 0.0)
        await client.request("GET", "/x", timeout=2)
        with pytest.raises(Unauthorised):
            await client.request("GET", "/x", timeout=2)
    assert len(builds) == 3


async def test_files_of_new_credentials_are_no_change(tmp_path: Path, builds: list[object]) -> None:
    """Refused credentials in other files than the ones before are not read again for that."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    async with served(tmp_path, accept("three"), user={"tokenFile": str(tmp_path / "one")}) as (
        server,
        client,
    ):
        write_kubeconfig(tmp_path / "k", server.url, user={"tokenFile": str(tmp_path / "two")})
        for _ in range(4):
            with pytest.raises(Unauthorised):
                await client.request("GET", "/x", timeout=2)
    assert len(builds) == 2


async def test_an_unreadable_file_is_not_read_for_each_call_that_fails(
    tmp_path: Path, builds: list[object]
) -> None:
    """While the server is away, a file that cannot be read is tried when it changes, not by each call."""
    config = write_kubeconfig(
        tmp_path / "k", f"http://127.0.0.1:{free_port()}", user={"token": "t"}
    )
    async with await connect(config, file_check_period=3600) as client:
        for text in ("clusters: [", "clusters: [[["):
            (tmp_path / "k").write_text(text)
            for _ in range(4):
                with pytest.raises(Unavailable):
                    await client.request("GET", "/x", timeout=2)
    assert len(builds) == 3


def with_authority(plane: ControlPlane, folder: Path) -> Path:
    """Write a kubeconfig of a server whose authority is in a file; returns the file."""
    authority = folder / "ca.crt"
    config = yaml.safe_load(plane.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster.pop("certificate-authority-data", None)
    cluster["certificate-authority"] = str(authority)
    (folder / "k").write_text(yaml.safe_dump(config))
    return authority


async def test_new_authority_is_used_and_open_watches_go_on(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed CA file leads to a new session; the old one lives until its last watch ends."""
    caplog.set_level(logging.INFO, "ledger.kube")
    authority = with_authority(control_plane, tmp_path)
    authority.write_bytes(control_plane.ca_file.read_bytes())
    base = f"/api/v1/namespaces/{namespace}/configmaps"
    async with await connect(tmp_path / "k", file_check_period=0.05) as client:
        watch = client.stream(base, {"watch": "1"}, connect_timeout=5, idle_timeout=5)
        other = client.stream(base, {"watch": "1"}, connect_timeout=5, idle_timeout=5)
        async with watch as lines:
            async with other:
                authority.write_bytes(await asyncio.to_thread(certifi.contents().encode))
                await asyncio.sleep(0.1)
                with pytest.raises(
                    Unavailable, match=r"cannot connect.*certificate is not accepted"
                ):
                    await client.request("GET", base, timeout=5)
                authority.write_bytes(control_plane.ca_file.read_bytes())
                await asyncio.sleep(0.1)
            await client.request("POST", base, body={"metadata": {"name": "late"}}, timeout=5)
            assert rebuilds(caplog) == 2
            assert json.loads(await anext(lines))["object"]["metadata"]["name"] == "late"


async def test_a_refused_certificate_has_its_authority_read_again(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The server may have a new certificate before its authority's file is there: the next call serves."""
    authority = with_authority(control_plane, tmp_path)
    authority.write_bytes(await asyncio.to_thread(certifi.contents().encode))
    base = f"/api/v1/namespaces/{namespace}/configmaps"
    async with await connect(tmp_path / "k", file_check_period=3600) as client:
        with pytest.raises(Unavailable, match="certificate is not accepted"):
            await client.request("GET", base, timeout=5)
        authority.write_bytes(control_plane.ca_file.read_bytes())
        await client.request("GET", base, timeout=5)


async def test_mounted_token_is_followed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pod, what the kubelet puts there serves the next call, however young the old token is."""
    url = URL(control_plane.server)
    for name, value in (("HOST", url.host), ("PORT", url.port)):
        monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", str(value))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    vendor = "kubernetes_asyncio.config.incluster_config"
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    monkeypatch.setattr(f"{vendor}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{vendor}.SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setattr("syncer.kube.session.SERVICE_TOKEN_FILENAME", str(token))

    def mount(version: str, text: str) -> None:
        # As it is done there: one link is exchanged, under which all files lie.
        folder = tmp_path / version
        folder.mkdir()
        (folder / "token").write_text(text)
        (folder / "ca.crt").write_bytes(control_plane.ca_file.read_bytes())
        (tmp_path / "..tmp").symlink_to(folder)
        (tmp_path / "..tmp").rename(tmp_path / "..data")

    for file in (token, authority):
        file.symlink_to(tmp_path / "..data" / file.name)
    await asyncio.to_thread(mount, "..1", "old")
    base = f"/api/v1/namespaces/{namespace}/configmaps"
    async with await KubeClient.connect(None, user_agent="t", file_check_period=3600) as client:
        for _ in range(3):
            with pytest.raises(Unauthorised):
                await client.request("GET", base, timeout=5)
        await asyncio.to_thread(mount, "..2", control_plane.admin_token)
        await client.request("GET", base, timeout=5)


async def test_half_written_configuration_keeps_the_old_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A kubeconfig that cannot be read any more leaves the client working as before."""
    caplog.set_level(logging.INFO, "ledger.kube")
    async with served(tmp_path, accept("t"), user={"token": "t"}, file_check_period=0.05) as (
        _,
        client,
    ):
        (tmp_path / "k").write_text("clusters: [")
        await asyncio.sleep(0.1)
        assert await client.request("GET", "/x", timeout=2) == {"ok": True}
        assert rebuilds(caplog) == 0


async def test_broken_kubeconfig_is_named_without_its_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unusable configuration is a ConfigError that shows neither token nor plugin output."""
    caplog.set_level(logging.DEBUG)
    plugin = {
        "command": sys.executable,
        "args": ["-c", f"import sys; print('{CANARY}', file=sys.stderr); sys.exit(3)"],
        "apiVersion": "client.authentication.k8s.io/v1",
    }
    for user, said_ in (
        ({"token": CANARY, "exec": plugin}, "exec: process returned 3"),
        ({"token": CANARY, "exec": {"command": "x"}}, "exec.apiVersion must be a string"),
    ):
        config = write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1", user=user)
        with pytest.raises(ConfigError, match=said_) as caught:
            await connect(config)
        assert CANARY not in str(caught.value)
    assert CANARY not in caplog.text


async def test_exec_plugin_supplies_the_token(tmp_path: Path) -> None:
    """A kubeconfig with a credential plugin gets its token from there."""
    async with served(tmp_path, accept("made"), user=plugin("made")) as (_, client):
        assert await client.request("GET", "/x", timeout=2) == {"ok": True}


async def test_configuration_is_found_in_the_environment_or_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path $KUBECONFIG is taken; without that and outside of a pod there is an error."""
    async with ScriptedServer(accept("t")) as server:
        config = write_kubeconfig(tmp_path / "k", server.url, user={"token": "t"})
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}{os.pathsep}{config}")
        async with await KubeClient.connect(None, user_agent="t") as client:
            assert await client.request("GET", "/x", timeout=2) == {"ok": True}
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="no access to a cluster"):
        await KubeClient.connect(None, user_agent="t")


async def reset(request: web.Request) -> web.StreamResponse:
    """Answer with a watch that is cut off behind its first line."""
    response = await send_lines(request, [b'{"a":1}\n'])
    await abort(request)
    return response


@pytest.mark.parametrize(
    ("handle", "error", "words"),
    [
        pytest.param(
            always(lambda: web.Response(status=502, text="<html>\nbad\ngateway\n</html>\n")),
            Unavailable, "502", id="an error page",
        ),
        pytest.param(
            end(b'{"a":1}\n', b'{"b":'), Unavailable, "ended inside a line", id="half an object",
        ),
        pytest.param(reset, Unavailable, "connection lost", id="a reset"),
        pytest.param(
            end(CANARY.encode() * (5 * 2**20 // len(CANARY)) + b"\n"), OversizedLine, "line",
            id="a line above 4 MiB",
        ),
    ],
)  # fmt: skip
async def test_stream_that_is_none_or_breaks_is_no_orderly_end(
    tmp_path: Path,
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    error: type[PortError],
    words: str,
) -> None:
    """An error page, or what is no line, is raised as an error, never handed out, and not quoted."""
    async with served(tmp_path, handle) as (_, client):
        with pytest.raises(error, match=words) as caught:
            async with client.stream("/w", {}, connect_timeout=2, idle_timeout=5) as lines:
                assert [line async for line in lines] in ([], [b'{"a":1}'])
    assert CANARY not in str(caught.value)


async def test_a_server_that_is_gone_without_a_word_is_noticed_by_the_kernel(
    tmp_path: Path,
) -> None:
    """A connection ends within 30 s, sooner than a watch is too silent, whether anything is sent or not."""

    async def silent(request: web.Request) -> web.StreamResponse:
        begun = await send_lines(request, [b"{}\n"])
        await asyncio.sleep(60)
        return begun

    async with ScriptedServer(silent) as server:
        session = await SessionSource(str(write_kubeconfig(tmp_path / "k", server.url))).build()
        async with session as http, http.get(server.url) as answer:
            assert answer.connection is not None
            assert answer.connection.transport is not None
            sock = answer.connection.transport.get_extra_info("socket")
            idle, every, times, unacknowledged = (
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )  # fmt: skip
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert idle + every * times <= 30
            assert 10_000 <= unacknowledged <= 30_000
        await session.close()


@pytest.mark.parametrize("byte", [b"", b" "], ids=["silence", "bytes without a line end"])
async def test_stream_without_a_complete_line_ends_at_the_idle_timeout(
    tmp_path: Path, byte: bytes
) -> None:
    """The timer of a watch is for complete lines: dripping bytes do not keep it alive."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = await send_lines(request, [b'{"a":1}\n'])
        while True:
            await asyncio.sleep(0.05)
            if byte:
                await response.write(byte)

    async with (
        ScriptedServer(drip) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"no data for 0\.3 s"):
            async with client.stream("/w", {}, connect_timeout=2, idle_timeout=0.3) as lines:
                assert [line async for line in lines] == []
        assert 0.25 < time.monotonic() - began < 30


async def test_left_stream_is_closed_at_once(tmp_path: Path) -> None:
    """Leaving a watch closes its connection; the server need not wait for its timeout."""
    left = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        await send_lines(request, [b"{}\n"])
        try:
            await asyncio.sleep(60)
        finally:
            left.set()
        return web.Response()

    async with (
        ScriptedServer(endless) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        async with client.stream("/w", {}, connect_timeout=2, idle_timeout=9) as lines:
            assert await anext(lines) == b"{}"
        await eventually(left.is_set)


async def test_cancelled_call_is_cancelled(tmp_path: Path) -> None:
    """A cancellation passes through a call as itself."""
    async with (
        ScriptedServer(hang) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        task = asyncio.create_task(client.request("PATCH", "/x", body={}, timeout=30))
        await eventually(lambda: server.seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_body_that_is_no_json_is_refused(tmp_path: Path) -> None:
    """A text that no encoder takes is refused before anything is sent."""
    config = write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1")
    async with await connect(config) as client:
        with pytest.raises(Rejected) as caught:
            await client.request("POST", "/x", body={"a": "\ud800"}, timeout=1)
        assert caught.value.reason == "Invalid"


async def test_nothing_of_netrc_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `.netrc` holds for the host stays there; a kubeconfig without a user sends nothing."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login admin password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async with (
        ScriptedServer(always(lambda: web.json_response({}))) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        await client.request("GET", "/x", timeout=2)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("no_proxy", "asks"),
    [("", "the proxy"), ("api.test", "nobody"), ("10.0.0.0/8", "the proxy")],
)
async def test_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str, asks: str
) -> None:
    """The environment's proxy is asked unless `NO_PROXY` names the server, as kubectl would."""
    config = write_kubeconfig(tmp_path / "k", "http://api.test:8001")
    async with ScriptedServer(always(lambda: web.json_response({"by": "proxy"}))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        async with await connect(config) as client:
            if asks == "the proxy":
                assert await client.request("GET", "/x", timeout=2) == {"by": "proxy"}
            else:
                with pytest.raises(Unavailable, match=r"cannot connect to api\.test:8001 \("):
                    await client.request("GET", "/x", timeout=2)
        assert bool(proxy.seen) is (asks == "the proxy")


async def test_no_proxy_may_name_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server inside a network of `NO_PROXY` is asked directly; the kubeconfig's proxy wins."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/12")
    plain = write_kubeconfig(tmp_path / "a", "https://10.96.0.1:443")
    named = write_kubeconfig(
        tmp_path / "b", "https://10.96.0.1:443", cluster={"proxy-url": "http://127.0.0.1:2"}
    )
    for config, wanted in ((plain, None), (named, "http://127.0.0.1:2")):
        async with await connect(config) as client:
            proxy = client._session.proxy
            assert (str(proxy) if proxy else None) == wanted


async def test_a_proxy_is_told_who_asks(tmp_path: Path) -> None:
    """User and password in the URL of the kubeconfig's proxy go to the proxy."""
    async with ScriptedServer(always(lambda: web.json_response({}))) as proxy:
        url = proxy.url.replace("://", f"://me:{CANARY}@")
        config = write_kubeconfig(tmp_path / "k", "http://api.test", cluster={"proxy-url": url})
        async with await connect(config) as client:
            await client.request("GET", "/x", timeout=2)
    known = base64.b64encode(f"me:{CANARY}".encode()).decode()
    assert proxy.headers[0]["Proxy-Authorization"] == f"Basic {known}"


async def test_the_server_may_have_another_name(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The certificate has to be for `tls-server-name`, where the kubeconfig gives one."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    for name, works in (("127.0.0.1", True), ("bastion.example", False)):
        config["clusters"][0]["cluster"]["tls-server-name"] = name
        (tmp_path / "k").write_text(yaml.safe_dump(config))
        async with await connect(tmp_path / "k") as client:
            ask = client.request("GET", f"/api/v1/namespaces/{namespace}", timeout=5)
            if works:
                await ask
            else:
                with pytest.raises(Unavailable, match="certificate is not accepted"):
                    await ask


async def test_proxy_that_is_no_url_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that cannot be used is an error of the configuration, and is not quoted."""
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{CANARY}@[oops")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        await connect(write_kubeconfig(tmp_path / "k", "http://api.test"))
    assert CANARY not in str(caught.value)


async def test_a_refused_connection_names_where_it_was_to_go(tmp_path: Path) -> None:
    """
    Where nobody listens even a write is known not to be executed.

    Host and port are told, also in the log, and the system's word; nothing else of the kubeconfig.
    """
    port = free_port()
    config = write_kubeconfig(tmp_path / "k", f"http://user:canary@127.0.0.1:{port}")
    async with await connect(config) as client:
        with pytest.raises(Unavailable) as caught:
            await client.request("PATCH", "/x", body={}, timeout=2)
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port} (ECONNREFUSED)"
    assert spare(str(caught.value), sanitise) == str(caught.value)
