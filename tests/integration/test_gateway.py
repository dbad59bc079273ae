"""The gateway on real sockets: webhooks in, objects on an API server out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import pytest

from notifier.gateway.kinds import KINDS
from notifier.gateway.server import Gateway
from notifier.gateway.translation import Source, translate
from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.notification_requests import object_path
from syncer.model.incident import AT, STATE
from syncer.model.resource import Json
from syncer.runtime.connections import Connections
from syncer.runtime.offload import SMALL
from tests.beside import eventually
from tests.fakes.apianswers import Request
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.faults import Answer, Match
from tests.integration.running_gateway import (
    TOKEN,
    Running,
    gateway,
    group,
    source,
    stamp,
    stored,
    token,
)
from tests.integration.scripted import write_kubeconfig
from tests.servers.controlplane import ControlPlane
from tests.unit.notifier.gateway.payloads import (
    ARGOCD,
    CLOUDEVENT,
    FLUX,
    GITHUB,
    NOTIFICATION,
    grafana,
)

__all__ = ["token"]


async def test_a_webhook_becomes_one_notification(
    control_plane: ControlPlane, namespace: str, token: str
) -> None:
    """A real API server takes the object; a retry and a twin meet it, growth and resolution do not."""
    starts = stamp()
    fires = group(("aaaa", "firing", starts))
    async with gateway(
        control_plane.kubeconfig, {"sources": [source(token, namespace=namespace)]}
    ) as here:
        code, answer, _ = await here.send("am", fires)
        assert code == 200, answer
        (made,) = answer["notifications"]
        assert made["duplicate"] is False
        code, document = await control_plane.request("GET", object_path(namespace, made["name"]))
        assert code == 200
        assert document["metadata"]["uid"] == made["uid"]
        spec = document["spec"]
        assert (spec["type"], spec["priority"], spec["severity"]) == (
            "Escalation", "Critical", "critical",
        )  # fmt: skip
        assert spec["subject"] == "[FIRING:1] Disk: disk is full"
        assert spec["extensions"]["team"] == "storage"

        twin = {**fires, "externalURL": "http://am-1:9093"}
        for again in (fires, twin):
            code, answer, _ = await here.send("am", again)
            assert (code, answer["notifications"]) == (200, [{**made, "duplicate": True}])
        names = {made["name"]}
        for other in (
            group(("aaaa", "firing", starts), ("bbbb", "firing", starts)),
            group(("aaaa", "resolved", starts)),
        ):
            code, answer, _ = await here.send("am", other)
            assert code == 200
            assert answer["notifications"][0]["duplicate"] is False
            names.add(answer["notifications"][0]["name"])
        assert len(names) == 3
        assert here.count("notifications_total", source="am", result="created") == 3
        assert here.count("notifications_total", source="am", result="duplicate") == 2


@pytest.fixture
async def standin(tmp_path: Path) -> AsyncIterator[tuple[FakeApiServer, str]]:
    """A stand-in for the API server, and a kubeconfig for it."""
    async with FakeApiServer() as server:
        yield server, write_kubeconfig(tmp_path / "kubeconfig", server.url)


CREATE: Final = Match(verb="create", path="*notificationrequests*")


async def _as_flux(here: Running, payload: Json) -> bool:
    """Send as Flux does by default: within 15 s, up to four retries, as Retry-After says."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            for tries in range(5):
                code, _, headers = await here.send("flux", payload)
                if code == 200:
                    return True
                await asyncio.sleep(float(headers.get("Retry-After", 2 * 2**tries)))
    return False


async def _as_argo_cd(here: Running, payload: Json) -> bool:
    """Send as Argo CD does by default: up to three retries, as Retry-After says, at most 30 s apart."""
    for tries in range(4):
        code, _, headers = await here.send("argocd", payload)
        if code == 200:
            return True
        await asyncio.sleep(min(30.0, float(headers.get("Retry-After", 2**tries))))
    return False


async def _as_grafana(here: Running, payload: Json) -> bool:
    """Send as Grafana does: once, with 30 s of patience."""
    async with asyncio.timeout(30):
        code, _, _ = await here.send("grafana", payload)
    return code == 200


async def test_an_outage_of_ten_seconds_loses_nothing_of_who_gives_up_soon(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """
    Flux, Argo CD and Grafana at their defaults, with their back-off as it was measured on them.

    Only Argo CD is told to come again sooner than by default, for the sake of the test.
    """
    server, kubeconfig = standin
    kinds = ("flux", "argocd", "grafana")
    document = {
        "sources": [
            source(token, name=kind, kind=kind, namespace="default", retryAfter=3) for kind in kinds
        ]
    }
    async with gateway(kubeconfig, document) as here:
        await server.stop()
        sending = [
            asyncio.create_task(_as_flux(here, FLUX)),
            asyncio.create_task(_as_argo_cd(here, ARGOCD)),
            asyncio.create_task(_as_grafana(here, grafana())),
        ]
        await asyncio.sleep(10)
        assert not any(task.done() for task in sending)
        await server.start()
        assert await asyncio.gather(*sending) == [True] * 3
        assert here.count("requests_total", source="flux", code="503") == 1
    assert len(stored(server)) == 3


async def test_at_the_end_of_the_patience_the_sender_is_to_try_again(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """503 with the source's Retry-After, in time, and nothing was created; the retry then succeeds."""
    server, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", patience="1s", retryAfter=7)]}
    payload = group(("a", "firing", stamp()))
    async with gateway(kubeconfig, document) as here:
        server.faults.add(CREATE, Answer(503), times=None)
        async with asyncio.timeout(60):
            code, answer, headers = await here.send("am", payload)
        assert code == 503
        assert 4 <= int(headers["Retry-After"]) <= 7
        assert "503" in answer["error"]
        assert stored(server) == []
        server.faults.clear()
        code, _, _ = await here.send("am", payload)
        assert code == 200
        assert len(stored(server)) == 1


async def test_what_the_api_server_says_becomes_what_the_sender_understands(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """Rights that are missing may come: 503. An object that is refused will never be taken: 4xx."""
    server, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", patience="1s")]}
    async with gateway(kubeconfig, document) as here:
        for fault, expected in (
            (Answer(403, "Forbidden", "notificationrequests is forbidden"), 503),
            (Answer(500, "InternalError"), 503),
            (Answer(429, "TooManyRequests", retry_after=1), 503),
            (Answer(422, "Invalid", "spec.type: Unsupported value"), 422),
            (Answer(413, "RequestEntityTooLarge"), 413),
        ):
            server.faults.add(CREATE, fault, times=None)
            code, answer, _ = await here.send("am", group(("a", "firing", stamp())))
            assert code == expected, answer
            server.faults.clear()
        elsewhere = {"sources": [source(token, namespace="nowhere", patience="1s")]}
    async with gateway(kubeconfig, elsewhere) as here:
        code, answer, _ = await here.send("am", group(("a", "firing", stamp())))
        assert code == 503, answer
    assert stored(server) == []


async def test_a_name_that_is_taken_is_said(
    standin: tuple[FakeApiServer, str], token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who changes the mark of an alert's object has no peer's copy refused, and does not go unnoticed."""
    server, kubeconfig = standin
    payload = group(("a", "firing", stamp()))
    async with gateway(kubeconfig, {"sources": [source(token, namespace="default")]}) as here:
        _, answer, _ = await here.send("am", payload)
        name = answer["notifications"][0]["name"]
        change = {"metadata": {"annotations": {"notification-ledger/identity": "another"}}}
        async with KubeSession(kubeconfig) as client:
            await client.request(
                "PATCH",
                object_path("default", name),
                body=change,
                content_type=MERGE_PATCH,
                timeout=5,
            )
        code, answer, _ = await here.send("am", payload)
        (said,) = answer["notifications"]
        assert (code, said["name"], said["duplicate"], said["taken"]) == (200, name, True, True)
        assert here.count("notifications_total", source="am", result="taken") == 1
    assert len(server.state.objects("notificationrequests")) == 1
    assert "an event has no object, another one has its name" in caplog.text


@contextlib.asynccontextmanager
async def KubeSession(kubeconfig: str) -> AsyncIterator[KubeClient]:  # noqa: N802 (reads as a class)
    """A client of our own."""
    async with await KubeClient.connect(kubeconfig, user_agent="test/1") as client:
        yield client


async def test_who_may_not_send_is_refused_before_anything_is_read(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """401 without the token, whatever the body; 404, 405, 413 and 415 say what to change."""
    server, kubeconfig = standin
    async with gateway(kubeconfig, {"sources": [source(token, namespace="default")]}) as here:
        for header in ("", "Bearer wrong", "Basic x"):
            code, answer, headers = await here.send("am", b"no json", Authorization=header)
            assert code == 401, answer
            assert headers["WWW-Authenticate"].startswith("Bearer")
        payload = group(("a", "firing", stamp()))
        assert (await here.send("nobody", payload))[0] == 404
        code, answer, headers = await here.send("am", payload, method="GET")
        assert (code, headers["Allow"]) == (405, "POST, PUT")
        assert (await here.send("am", payload, Content_Encoding="gzip"))[0] == 415
        code, answer, _ = await here.send("am", b"x" * (8 * 2**20 + 1))
        assert (code, answer["error"]) == (413, "the body is larger than 8388608 bytes")
        code, answer, _ = await here.send("am", {**payload, "alerts": [{"status": "odd"}]})
        assert code == 422
        assert answer["path"] == "alerts[0].status"
        assert (await here.send("am", payload, method="PUT"))[0] == 200
    assert len(stored(server)) == 1


_DEEP: Final[Any] = json.loads("[" * 600 + "]" * 600)
_LONG: Final = "x" * 70_000
#: By source: what a good payload gets in place of its own, and the path and status of the answer.
HOSTILE: Final[dict[str, tuple[Json, tuple[tuple[Json, str], ...]]]] = {
    "am": (
        group(("a", "firing", "2026-11-27T04:00:00Z")),
        (
            ({"version": None}, "version"), ({"version": 4}, "version"), ({"version": "3"}, "version"),
            ({"status": "odd"}, "status"), ({"status": ["firing"]}, "status"),
            ({"groupKey": None}, "groupKey"), ({"groupKey": {"a": 1}}, "groupKey"),
            ({"receiver": 1}, "receiver"), ({"externalURL": []}, "externalURL"),
            ({"truncatedAlerts": -1}, "truncatedAlerts"), ({"truncatedAlerts": 1e300}, "truncatedAlerts"),
            ({"commonLabels": [1]}, "commonLabels"), ({"commonLabels": {"a": None}}, "commonLabels.a"),
            ({"groupLabels": {"a": 1}, "commonLabels": {}}, "groupLabels.a"),
            ({"commonAnnotations": "x"}, "commonAnnotations"),
            ({"alerts": None}, "alerts"), ({"alerts": []}, "alerts"), ({"alerts": {}}, "alerts"),
            ({"alerts": [None]}, "alerts[0]"), ({"alerts": _DEEP}, "alerts[0]"),
            ({"alerts": [{}]}, "alerts[0].status"),
            ({"alerts": [{"status": "firing", "labels": {_LONG: 1}}]}, f"alerts[0].labels.{_LONG}"[:200]),
            ({"alerts": [{"status": "firing", "startsAt": "9" * 99}]}, "alerts[0].startsAt"),
            ({"alerts": [{"status": "firing", "fingerprint": {}}]}, "alerts[0].fingerprint"),
            ({"alerts": [{"status": "firing", "generatorURL": 0}]}, "alerts[0].generatorURL"),
        ),
    ),
    "grafana": (
        grafana(),
        (
            ({"version": "4"}, "version"), ({"orgId": "1"}, "orgId"), ({"orgId": True}, "orgId"),
            ({"orgId": -1}, "orgId"), ({"alerts": "x"}, "alerts"),
            ({"alerts": [{"status": "firing", "panelURL": []}]}, "alerts[0].panelURL"),
        ),
    ),
    "flux": (
        FLUX,
        (
            ({"involvedObject": None}, "involvedObject"), ({"involvedObject": "x"}, "involvedObject"),
            ({"involvedObject": {"kind": "K"}}, "involvedObject.name"),
            ({"involvedObject": {"kind": "K", "name": ["n"]}}, "involvedObject.name"),
            ({"severity": "bad"}, "severity"), ({"reason": ""}, "reason"), ({"message": 1}, "message"),
            ({"metadata": []}, "metadata"), ({"metadata": {"a": {}}}, "metadata.a"),
            ({"timestamp": "yesterday"}, "timestamp"), ({"timestamp": 5}, "timestamp"),
            ({"reportingController": {}}, "reportingController"),
        ),
    ),
    "argocd": (
        ARGOCD,
        (
            ({"id": None}, "id"), ({"id": ""}, "id"), ({"source": 1}, "source"), ({"type": []}, "type"),
            ({"data": "x"}, "data"), ({"data": {"app": 1}}, "data.app"),
            ({"data": {"phase": _DEEP}}, "data.phase"),
        ),
    ),
    "events": (
        CLOUDEVENT,
        (
            ({"specversion": "0.3"}, "specversion"), ({"specversion": None}, "specversion"),
            ({"id": {}}, "id"), ({"source": ""}, "source"), ({"type": 1}, "type"),
            ({"subject": []}, "subject"), ({"data": _DEEP}, "data"),
        ),
    ),
    "github": (
        GITHUB,
        (
            ({"action": 1}, "action"), ({"repository": []}, "repository"),
            ({"repository": {"full_name": {}}}, "repository.full_name"),
            ({"sender": {"login": 1}}, "sender.login"),
            ({"workflow_run": {"name": []}}, "workflow_run.name"),
            ({"workflow_run": {"conclusion": 1}}, "workflow_run.conclusion"),
        ),
    ),
    "plain": (
        {"title": "t", "text": "x"},
        (
            ({"title": None}, "sources[6].mapping.subject"), ({"title": " "}, "sources[6].mapping.subject"),
            ({"text": None}, "sources[6].mapping.body"),
            ({"title": 1}, "sources[6].mapping.subject"),
        ),
    ),
    "own": (
        NOTIFICATION,
        (
            ({"subject": ""}, "subject"), ({"body": None}, "body"), ({"key": 7}, "key"),
            ({"priority": "high"}, "priority"), ({"type": "Page"}, "type"), ({"state": "over"}, "state"),
            ({"prioritty": "High"}, "prioritty"), ({"extensions": {"a": 1}}, "extensions.a"),
            ({"links": "x"}, "links"), ({"links": [{"url": 1}]}, "links[0].url"),
        ),
    ),
}  # fmt: skip


async def test_a_hostile_payload_is_answered_with_the_path_of_the_member(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A 422 of every source names the member at fault; what is no JSON, 400, the line and the column."""
    server, kubeconfig = standin
    kinds = {
        "am": "alertmanager", "grafana": "grafana", "flux": "flux", "argocd": "argocd",
        "events": "cloudevents", "github": "github", "plain": "json", "own": "notification",
    }  # fmt: skip
    assert set(kinds.values()) == set(KINDS) - {"heartbeat"}
    mapping = {"mapping": {"subject": "{{ lower(title) }}", "body": "{{ text }}"}}
    document = {
        "sources": [
            source(token, name=name, kind=kind, namespace="default", **mapping if kind == "json" else {})
            for name, kind in kinds.items()
        ]
    }  # fmt: skip
    event = {"X_GitHub_Event": "workflow_run", "Content_Type": "application/json"}
    async with gateway(kubeconfig, document) as here:
        for name, (good, cases) in HOSTILE.items():
            for change, path in cases:
                code, answer, _ = await here.send(name, {**good, **change}, **event)
                assert (code, answer["path"]) == (422, path), (name, path, answer)
                assert answer["error"], "what is wrong with it"
            for body in (b"", b"{", b"\xff", b'{"a": 1e999}', b'{"a": "\\ud800"}', b"[" * 2000):
                code, answer, _ = await here.send(name, body, **event)
                assert code == 400, (name, body[:9], answer)
                assert "line 1, column" in answer["error"]
            for body in (b"[]", b"null", b'"x"', b"1"):
                code, answer, _ = await here.send(name, body, **event)
                assert (code, answer["error"]) == (400, "the body must be a JSON object"), name
            assert (await here.send(name, good, **event))[0] == 200, "what the others are made of"
        code, answer, _ = await here.send("github", GITHUB, Content_Type="application/json")
        assert (code, answer["path"]) == (400, "x-github-event")
    assert len(stored(server)) == len(HOSTILE)


async def test_too_many_requests_in_flight_are_told_at_once(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """What is above the bound gets 503 at once; what is within it is taken when the server is back."""
    server, kubeconfig = standin
    document = {
        "limits": {"requests": 3},
        "sources": [source(token, namespace="default", patience="20s")],
    }
    async with gateway(kubeconfig, document) as here:
        await server.stop()
        waiting = [
            asyncio.create_task(here.send("am", group((f"w{n}", "firing", stamp()))))
            for n in range(3)
        ]
        await eventually(lambda: here.count("requests_in_flight") >= 3)
        code, answer, _ = await here.send("am", group(("late", "firing", stamp())))
        assert (code, answer["error"]) == (503, "too many requests are in flight")
        await server.start()
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200] * 3


async def test_who_waits_when_it_ends_is_answered(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A replica that is replaced takes what it has begun to its end: most senders try once."""
    server, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", patience="20s")]}
    async with gateway(kubeconfig, document) as here:
        await server.stop()
        waiting = asyncio.create_task(here.send("am", group(("w", "firing", stamp()))))
        await eventually(lambda: here.serving.in_flight >= 1)
        ending = asyncio.create_task(here.serving.close())
        await asyncio.sleep(0.2)
        await server.start()
        code, answer, _ = await waiting
        assert (code, len(answer["notifications"])) == (200, 1)
        await ending


async def test_a_body_that_ends_early_is_the_senders_fault(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """It is not translated as far as it came, and counts among what was refused."""
    server, kubeconfig = standin
    body = json.dumps(group(("cut", "firing", stamp()))).encode()
    head = (
        "POST /v1/am HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    )
    document = {"sources": [source(token, namespace="default")]}
    async with gateway(kubeconfig, document) as here, asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(head.encode() + body)
        await writer.drain()
        while not here.serving._arriving:
            await asyncio.sleep(0.01)
        writer.close()
        while not here.count("requests_total", source="am", code="400"):
            await asyncio.sleep(0.01)
    assert stored(server) == []


async def test_many_refusals_are_one_line(
    standin: tuple[FakeApiServer, str],
    token: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is refused again and again fills no log: the next line counts those that had none."""
    _, kubeconfig = standin
    document = {"sources": [source(token, namespace="default")]}
    async with gateway(kubeconfig, document) as here:
        for every in (600.0, 600.0, 600.0, 0.0):
            monkeypatch.setattr("notifier.gateway.server._LOG_EVERY", every)
            assert (await here.send("am", {}, Authorization="Bearer wrong"))[0] == 401
        assert (await here.send("am", {}, method="GET"))[0] == 405
    lines = [vars(r) for r in caplog.records if r.getMessage() == "a request was refused"]
    shown = [(li["source"], li["status"], li["peer"], li["left_out"]) for li in lines]
    assert shown == [
        ("am", status, "127.0.0.1", n) for status, n in ((401, None), (401, 2), (405, None))
    ]
    assert all(li["error"] and TOKEN not in li["error"] for li in lines)


def test_a_line_about_a_refusal_is_short(caplog: pytest.LogCaptureFixture) -> None:
    """The reason may quote what a sender wrote."""
    here = Mock(_quiet={})

    async def log() -> None:
        Gateway._log(here, "am", 422, "a request was refused", "x" * 5000)

    asyncio.run(log())
    assert len(vars(caplog.records[-1])["error"]) == 500


async def test_one_source_leaves_places_for_requests_of_others(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A source whose namespace takes nothing has half of the places, and another one is served."""
    server, kubeconfig = standin
    document = {
        "limits": {"requests": 4},
        "sources": [
            source(token, namespace="nowhere", name="stuck", patience="25s"),
            source(token, namespace="default", name="am"),
        ],
    }
    async with gateway(kubeconfig, document) as here:
        waiting = [
            asyncio.create_task(here.send("stuck", group((f"w{n}", "firing", stamp()))))
            for n in range(2)
        ]
        while here.serving.in_flight < 2:
            await asyncio.sleep(0.01)
        code, answer, _ = await here.send("stuck", group(("late", "firing", stamp())))
        assert (code, answer["error"]) == (503, "too many requests are in flight")
        code, answer, _ = await here.send("am", group(("other", "firing", stamp())))
        assert (code, len(answer["notifications"])) == (200, 1)
        made = json.dumps({"metadata": {"name": "nowhere"}}).encode()
        server.state.answer(Request("POST", "/api/v1/namespaces", {}, made))
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200, 200]


async def test_connections_that_say_nothing_or_half_stop_nobody(
    standin: tuple[FakeApiServer, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten times the connections that are kept, the oldest are closed, and a good request is served."""
    # None of them ends by time: what is closed is closed for another one.
    lasting = partial(Connections, first=600.0, idle=600.0)
    monkeypatch.setattr("notifier.gateway.server.Connections", lasting)
    server, kubeconfig = standin
    document = {
        "limits": {
            "requests": 50,
            "connections": 50,
            "bufferedBytes": 16 << 20,
            "bodySeconds": "60s",
        },
        "sources": [source(token, namespace="default", name="am", auth={"insecure": True})],
    }
    halves = {
        "nothing": b"",
        "half a head": b"POST /v1/am HTTP/1.1\r\nHost: x\r\nX: ",
        "half a body": b"POST /v1/am HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    }

    async def closed(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async with gateway(kubeconfig, document) as here, asyncio.timeout(100):
        opened, ends = [], []
        for half in halves.values():
            for _ in range(170):
                reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
                opened.append(writer)
                ends.append(asyncio.create_task(closed(reader)))
                with contextlib.suppress(OSError):
                    writer.write(half)
            while sum(not end.done() for end in ends) > 50:
                await asyncio.sleep(0.01)
            code, _, _ = await here.send("am", group((f"g{len(opened)}", "firing", stamp())))
            assert code == 200
        for writer in opened:
            writer.transport.abort()
        await asyncio.gather(*ends)
    assert len(stored(server)) == 3


async def test_a_request_that_waits_keeps_its_connection(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A crowd of connections closes none whose request waits for the API server."""
    server, kubeconfig = standin
    document = {
        "limits": {"requests": 16, "connections": 16},
        "sources": [source(token, namespace="default", patience="20s")],
    }
    async with gateway(kubeconfig, document) as here:
        await server.stop()
        waiting = asyncio.create_task(here.send("am", group(("a", "firing", stamp()))))
        await eventually(lambda: here.count("requests_in_flight"))
        opened = []
        for _ in range(80):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            # Who has proven nothing keeps no connection.
            writer.write(
                f"POST /v1/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                "Content-Length: 1\r\n\r\nx".encode()
            )
            opened.append(writer)
        await asyncio.sleep(0.2)
        await server.start()
        code, answer, _ = await waiting
        assert code == 200, answer
        for writer in opened:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("request_line", "kept"),
    [
        ("GET /v1/am", False),
        ("POST /v1/am HTTP/1.1\r\nContent-Encoding: gzip", False),
        ("OPTIONS /v1/events", False),
        ("POST /v1/am", False),
        (f"POST /v1/am HTTP/1.1\r\nAuthorization: Bearer {TOKEN}", True),
    ],
)
async def test_who_proves_nothing_keeps_no_connection(
    standin: tuple[FakeApiServer, str], token: str, request_line: str, kept: bool
) -> None:
    """Whatever is refused before a proof ends its connection; after one, that may be used again."""
    _, kubeconfig = standin
    events = source(token, namespace="default", name="events", kind="cloudevents")
    document = {"sources": [source(token, namespace="default"), events]}
    if " HTTP" not in request_line:
        request_line += " HTTP/1.1"
    async with gateway(kubeconfig, document) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"{request_line}\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".encode())
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
        assert (b"Connection: close" not in head) is kept, head
        writer.transport.abort()


async def test_a_source_has_one_large_body_translated(
    standin: tuple[FakeApiServer, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many one source sends, the large body of another one is the next."""
    _, kubeconfig = standin
    document = {
        "sources": [source(token, namespace="default", name=name) for name in ("many", "one")]
    }
    going, order = threading.Event(), []

    def watched(of: Source, *given: Any) -> Any:
        order.append(of.name)
        assert going.wait(30)
        return translate(of, *given)

    monkeypatch.setattr("notifier.gateway.server.translate", watched)
    payload = json.dumps(group(("a", "firing", stamp()))).encode()
    payload += b" " * SMALL
    async with gateway(kubeconfig, document) as here, asyncio.timeout(60):
        sent = []
        for count, name in ((4, "many"), (1, "one")):
            sent += [asyncio.create_task(here.send(name, payload)) for _ in range(count)]
            while here.serving._buffered < len(sent) * len(payload):
                await asyncio.sleep(0.01)
        going.set()
        assert {code for code, _, _ in await asyncio.gather(*sent)} == {200}
    assert order == ["many", "one", "many", "many", "many"]


async def test_what_waits_for_the_api_server_is_bounded(
    standin: tuple[FakeApiServer, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away objects of a source fill its share of the bytes, and another one has its own."""
    server, kubeconfig = standin
    monkeypatch.setattr("notifier.gateway.server._SHARE", 1e-4)
    document = {
        "limits": {"bufferedBytes": 16 << 20},
        "sources": [
            source(token, namespace="default", name=name, patience="20s") for name in ("a", "b")
        ],
    }
    large = group(("a", "firing", stamp()), commonAnnotations={"summary": "x" * 4000})
    async with gateway(kubeconfig, document) as here, asyncio.timeout(60):
        await server.stop()
        waiting = []
        for name in ("a", "b"):
            waiting.append(asyncio.create_task(here.send(name, large)))
            while here.serving.in_flight < len(waiting):
                await asyncio.sleep(0.01)
            code, answer, _ = await here.send(name, large)
            assert (code, answer["error"]) == (503, "too many requests are in flight")
        assert here.serving._buffered > 2000
        await server.start()
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert here.serving._buffered == 0


async def test_a_body_that_does_not_arrive_is_given_up(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A body that takes too long may be quicker again: 503. One that is cut off takes nothing with it."""
    _, kubeconfig = standin
    document = {
        "limits": {"bodySeconds": "300ms"},
        "sources": [source(token, namespace="default")],
    }
    head = (
        f"POST /v1/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Length: 100\r\n\r\n{"
    ).encode()
    async with gateway(kubeconfig, document) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(head)
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        writer.close()
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(head)
        await writer.drain()
        writer.transport.abort()
        code, _, _ = await here.send("am", group(("a", "firing", stamp())))
        assert code == 200


async def test_a_body_that_is_lost_is_in_memory_no_more(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """It goes with its request, and not with a later collection: whoever proves nothing could send many."""
    _, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", auth={"insecure": True})]}
    size, count = 2 << 20, 8
    head = f"POST /v1/am HTTP/1.1\r\nHost: x\r\nContent-Length: {size + 1}\r\n\r\n".encode()
    async with gateway(kubeconfig, document) as here, asyncio.timeout(60):
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(count):
                _, writer = await asyncio.open_connection("127.0.0.1", here.port)
                writer.write(head + b" " * size)
                while here.serving._buffered < size:
                    await asyncio.sleep(0.01)
                writer.transport.abort()
                while here.serving._buffered:
                    await asyncio.sleep(0.01)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept < size * count / 2


async def test_bodies_share_what_may_be_buffered(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """Where unfinished bodies fill the bound, the oldest is given up for one that is being sent now."""
    _, kubeconfig = standin
    document = {
        "limits": {"bufferedBytes": 16 << 20, "bodySeconds": "30s"},
        "sources": [source(token, namespace="default", auth={"insecure": True})],
    }
    size = 7 << 20
    head = f"POST /v1/am HTTP/1.1\r\nHost: x\r\nContent-Length: {size + 1}\r\n\r\n".encode()
    async with gateway(kubeconfig, document) as here:
        readers, writers = [], []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(head + b" " * size)
            await writer.drain()
            readers.append(reader)
            writers.append(writer)
        await eventually(lambda: here.serving._buffered >= 2 * size)
        payload = json.dumps(group(("a", "firing", stamp()))).encode() + b" " * (4 << 20)
        code, answer, _ = await here.send("am", payload)
        assert code == 200, answer
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(30):
                assert await readers[0].read() == b"", "it is closed without an answer"
        assert not readers[1].at_eof()
        for writer in writers:
            writer.transport.abort()


async def test_one_body_is_given_up_for_another(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A body that was given up is freed by its reader, and until then no second one is given up for it."""
    _, kubeconfig = standin
    document = {"limits": {"bufferedBytes": 16 << 20}, "sources": [source(token)]}
    async with gateway(kubeconfig, document) as here:
        first, second = Mock(), Mock()
        here.serving._arriving = {first: bytearray(9 << 20), second: bytearray(8 << 20)}
        here.serving._buffered = 17 << 20
        for _ in range(2):
            here.serving._make_space(None)
        assert (first.abort.call_count, second.abort.call_count) == (1, 0)
        here.serving._buffered = 0


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"Authorization: Bearer \xff\xfe", b"401"),
        (b"Authorization: Basic \xff", b"401"),
        (b"Authorization: Bearer s3cret-token\r\nwebhook-id: \xff\xfe", b"200"),
        (b"Authorization: Bearer s3cret-token\r\nX-\xff: 1", b"400"),
        (b"Authorization : Bearer s3cret-token", b"400"),
        (b"Expect: \xff\xfe", b"500"),
    ],
)
async def test_headers_may_hold_any_bytes(
    standin: tuple[FakeApiServer, str],
    token: str,
    header: bytes,
    code: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bytes that are no text are no server's error, wherever they are, and reach no log."""
    _, kubeconfig = standin
    mapping = {"subject": "s", "body": "b"}
    document = {"sources": [source(token, kind="json", namespace="default", mapping=mapping)]}
    async with gateway(kubeconfig, document) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(
            b"POST /v1/am HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header
            + b"\r\nContent-Length: 2\r\n\r\n{}"
        )  # fmt: skip
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == code, answer
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text


async def test_who_may_send_is_heard_and_nobody_else(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """A sign of life becomes no notification; it counts with the proof alone, and if it can be read."""
    server, kubeconfig = standin
    heartbeat = source(token, namespace="default", name="dog", kind="heartbeat", expectEvery="10m")
    document = {"sources": [heartbeat, source(token, namespace="default")]}
    heard: list[str] = []
    async with gateway(kubeconfig, document, heard=heard.append) as here:
        for name, payload, code in (
            ("dog", b"whatever", 200),
            ("am", b"whatever", 400),
            ("am", group(("a", "firing", stamp())), 200),
        ):
            found, answer, _ = await here.send(name, payload)
            assert found == code, answer
        assert (await here.send("dog", b"", Authorization="Bearer other"))[0] == 401
    assert heard == ["dog", "am"]
    assert len(stored(server)) == 1


async def test_a_cloudevents_sender_may_ask_first(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """OPTIONS with an origin is allowed where the kind has that handshake, for who may send."""
    _, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", kind="cloudevents")]}
    async with gateway(kubeconfig, document) as here:
        code, answer, headers = await here.send(
            "am", b"", method="OPTIONS", WebHook_Request_Origin="events.example"
        )
        assert (code, answer["notifications"]) == (200, [])
        assert headers["WebHook-Allowed-Origin"] == "events.example"
        *_, headers = await here.send("am", b"", method="OPTIONS", WebHook_Request_Origin="e" * 999)
        assert headers["WebHook-Allowed-Origin"] == "e" * 256


async def test_a_storm_becomes_one_page(standin: tuple[FakeApiServer, str], token: str) -> None:
    """Above the rate, groups share a digest; a source that refuses answers in its program's words."""
    server, kubeconfig = standin
    rate = {"perMinute": 1, "burst": 3}
    document = {
        "sources": [
            source(token, namespace="default", patience="1s", rate=rate),
            source(
                token, namespace="default", name="events", kind="cloudevents",
                rate={**rate, "over": "refuse"},
            ),
        ]
    }  # fmt: skip
    async with gateway(kubeconfig, document) as here:
        answers = await asyncio.gather(
            *(here.send("am", group((f"f{n}", "firing", stamp()))) for n in range(20))
        )
        assert {code for code, _, _ in answers} == {200}
        names = [answer["notifications"][0]["name"] for _, answer, _ in answers]
        assert len(set(names)) == 4
        assert len(stored(server)) == 4
        (digest,) = {name for name in names if name.startswith("dg-")}
        assert names.count(digest) == 17
        assert here.count("notifications_total", source="am", result="digested") == 17
        event = {"specversion": "1.0", "source": "s", "type": "t"}
        codes = [(await here.send("events", {**event, "id": str(n)})) for n in range(4)]
        assert [code for code, _, _ in codes] == [200, 200, 200, 429]
        assert 5 <= int(codes[-1][2]["Retry-After"]) <= 10


async def test_a_mapping_of_each_alert_does_not_hold_the_loop(
    standin: tuple[FakeApiServer, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expressions over all alerts, a hundred times for one small body, are evaluated beside the loop."""
    _, kubeconfig = standin
    mapping = {"body": "{{ join(',', alerts[?status == 'firing'].status) }}"}
    document = {"sources": [source(token, namespace="default", per="alert", mapping=mapping)]}
    alerts = ",".join(['{"status":"firing"}'] * 740)
    head = '{"version":"4","groupKey":"k","status":"firing","receiver":"r","alerts":'
    body = f"{head}[{alerts}]}}".encode()
    assert len(body) < SMALL
    threads = []

    def watched(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return translate(*given)

    monkeypatch.setattr("notifier.gateway.server.translate", watched)
    async with gateway(kubeconfig, document) as here:
        code, answer, _ = await here.send("am", body)
    # Equal labels and starts: the hundred are one event, and the rest is another one.
    assert (code, {len(answer["notifications"])}) == (200, {101})
    assert threads != [threading.main_thread()]


async def test_what_was_made_of_a_refused_request_is_counted(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """One alert's object is refused: the answer is 4xx, and the other one's counts as created."""
    server, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", per="alert")]}
    server.faults.add(CREATE, Answer(422, "Invalid", "spec.type: Unsupported value"), times=1)
    async with gateway(kubeconfig, document) as here:
        starts = stamp()
        code, answer, _ = await here.send(
            "am", group(("a", "firing", starts), ("b", "firing", starts))
        )
        assert code == 422, answer
        assert here.count("notifications_total", source="am", result="created") == 1
        last = here.count("last_request_timestamp_seconds", source="am")
        assert 0 <= time.time() - last < 300
    assert len(stored(server)) == 1


async def test_an_end_among_many_is_of_what_is_open(
    standin: tuple[FakeApiServer, str], token: str
) -> None:
    """More than a hundred alerts ended later, which nobody was told of; when repeated they make nothing."""
    server, kubeconfig = standin
    document = {"sources": [source(token, namespace="default", per="alert")]}
    began = [stamp(9000 - n) for n in range(101)]
    fire = group(*((f"{n:03}", "firing", began[n]) for n in range(101)))
    over = group(
        *((f"{n:03}", "resolved", began[n]) for n in range(101)),
        *((f"{n:03}", "resolved", stamp(60)) for n in range(101, 301)),
    )
    for n, one in enumerate(over["alerts"]):
        one["endsAt"] = stamp(30 if n < 101 else 10)

    def newest() -> dict[str, str]:
        told = sorted(
            (o["spec"]["extensions"] for o in server.state.objects("notificationrequests")),
            key=lambda extensions: int(extensions[AT]),
        )
        return {extensions.get("instance", "group"): extensions[STATE] for extensions in told}

    async with gateway(kubeconfig, document) as here:
        assert (await here.send("am", fire))[0] == 200
        assert set(newest().values()) == {"firing"}
        assert len(newest()) == 101, "a hundred, and the group"
        code, answer, _ = await here.send("am", over)
        assert (code, len(answer["notifications"])) == (200, 101 + 100)
        assert set(newest().values()) == {"resolved"}
        assert (await here.send("am", over))[1] == {"notifications": []}
