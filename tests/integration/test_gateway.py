"""The gateway on real sockets: webhooks in, objects on an API server out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
import tracemalloc
from functools import partial
from typing import Any, Final
from unittest.mock import Mock

import pytest

from notifier.gateway.kinds import KINDS
from notifier.gateway.server import Gateway
from notifier.gateway.translation import Source, translate
from syncer.kube.client import MERGE_PATCH
from syncer.kube.notification_requests import object_path
from syncer.model.incident import AT, STATE
from syncer.model.resource import Json
from syncer.runtime.connections import Connections
from syncer.runtime.offload import SMALL
from tests.beside import eventually
from tests.fakes.apianswers import Request
from tests.fakes.faults import Answer, Match
from tests.integration.running_gateway import (
    TOKEN,
    Outside,
    Running,
    ended,
    gateway,
    group,
    outside,
    source,
    stamp,
    stored,
    token,
)
from tests.servers.controlplane import ControlPlane
from tests.unit.notifier.gateway.payloads import (
    ARGOCD,
    CLOUDEVENT,
    FLUX,
    GITHUB,
    NOTIFICATION,
    grafana,
)

__all__ = ["outside", "token"]


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
    outside: Outside,
) -> None:
    """
    Flux, Argo CD and Grafana at their defaults, with their back-off as it was measured on them.

    Only Argo CD is told to come again sooner than by default, for the sake of the test.
    """
    kinds = ("flux", "argocd", "grafana")
    sources = [outside.source(name=kind, kind=kind, retryAfter=3) for kind in kinds]
    async with outside.gateway(*sources) as here:
        await outside.server.stop()
        sending = [
            asyncio.create_task(_as_flux(here, FLUX)),
            asyncio.create_task(_as_argo_cd(here, ARGOCD)),
            asyncio.create_task(_as_grafana(here, grafana())),
        ]
        await asyncio.sleep(10)
        assert not any(task.done() for task in sending)
        await outside.server.start()
        assert await asyncio.gather(*sending) == [True] * 3
        assert here.count("requests_total", source="flux", code="503") == 1
    assert len(stored(outside.server)) == 3


async def test_at_the_end_of_the_patience_the_sender_is_to_try_again(outside: Outside) -> None:
    """503 with the source's Retry-After, in time, and nothing was created; the retry then succeeds."""
    payload = group(("a", "firing", stamp()))
    async with outside.gateway(outside.source(patience="1s", retryAfter=7)) as here:
        outside.server.faults.add(CREATE, Answer(503), times=None)
        async with asyncio.timeout(60):
            code, answer, headers = await here.send("am", payload)
        assert code == 503
        assert 4 <= int(headers["Retry-After"]) <= 7
        assert "503" in answer["error"]
        assert stored(outside.server) == []
        outside.server.faults.clear()
        code, _, _ = await here.send("am", payload)
        assert code == 200
        assert len(stored(outside.server)) == 1


async def test_what_the_api_server_says_becomes_what_the_sender_understands(
    outside: Outside,
) -> None:
    """Rights that are missing may come: 503. An object that is refused will never be taken: 4xx."""
    async with outside.gateway(outside.source(patience="1s")) as here:
        for fault, expected in (
            (Answer(403, "Forbidden", "notificationrequests is forbidden"), 503),
            (Answer(500, "InternalError"), 503),
            (Answer(429, "TooManyRequests", retry_after=1), 503),
            (Answer(422, "Invalid", "spec.type: Unsupported value"), 422),
            (Answer(413, "RequestEntityTooLarge"), 413),
        ):
            outside.server.faults.add(CREATE, fault, times=None)
            code, answer, _ = await here.send("am", group(("a", "firing", stamp())))
            assert code == expected, answer
            outside.server.faults.clear()
    async with outside.gateway(outside.source(namespace="nowhere", patience="1s")) as here:
        code, answer, _ = await here.send("am", group(("a", "firing", stamp())))
        assert code == 503, answer
    assert stored(outside.server) == []


async def test_a_name_that_is_taken_is_said(
    outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    """Who changes the mark of an alert's object has no peer's copy refused, and does not go unnoticed."""
    payload = group(("a", "firing", stamp()))
    async with outside.gateway() as here:
        _, answer, _ = await here.send("am", payload)
        name = answer["notifications"][0]["name"]
        change = {"metadata": {"annotations": {"notification-ledger/identity": "another"}}}
        body = json.dumps(change).encode()
        patch = Request("PATCH", object_path("default", name), {}, body, MERGE_PATCH)
        assert outside.server.state.answer(patch).code == 200
        code, answer, _ = await here.send("am", payload)
        (said,) = answer["notifications"]
        assert (code, said["name"], said["duplicate"], said["taken"]) == (200, name, True, True)
        assert here.count("notifications_total", source="am", result="taken") == 1
    assert len(outside.server.state.objects("notificationrequests")) == 1
    assert "an event has no object, another one has its name" in caplog.text


async def test_who_may_not_send_is_refused_before_anything_is_read(outside: Outside) -> None:
    """401 without the token, whatever the body; 404, 405, 413 and 415 say what to change."""
    async with outside.gateway() as here:
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
    assert len(stored(outside.server)) == 1


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


async def test_a_hostile_payload_is_answered_with_the_path_of_the_member(outside: Outside) -> None:
    """A 422 of every source names the member at fault; what is no JSON, 400, the line and the column."""
    kinds = {
        "am": "alertmanager", "grafana": "grafana", "flux": "flux", "argocd": "argocd",
        "events": "cloudevents", "github": "github", "plain": "json", "own": "notification",
    }  # fmt: skip
    assert set(kinds.values()) == set(KINDS) - {"heartbeat"}
    mapping = {"mapping": {"subject": "{{ lower(title) }}", "body": "{{ text }}"}}
    sources = [
        outside.source(name=name, kind=kind, **mapping if kind == "json" else {})
        for name, kind in kinds.items()
    ]
    event = {"X_GitHub_Event": "workflow_run", "Content_Type": "application/json"}
    async with outside.gateway(*sources) as here:
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
    assert len(stored(outside.server)) == len(HOSTILE)


async def test_too_many_requests_in_flight_are_told_at_once(outside: Outside) -> None:
    """What is above the bound gets 503 at once; what is within it is taken when the server is back."""
    limits = {"limits": {"requests": 3}}
    async with outside.gateway(outside.source(patience="20s"), more=limits) as here:
        await outside.server.stop()
        waiting = [
            asyncio.create_task(here.send("am", group((f"w{n}", "firing", stamp()))))
            for n in range(3)
        ]
        await eventually(lambda: here.count("requests_in_flight") >= 3)
        code, answer, _ = await here.send("am", group(("late", "firing", stamp())))
        assert (code, answer["error"]) == (503, "too many requests are in flight")
        await outside.server.start()
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200] * 3


async def test_who_waits_when_it_ends_is_answered(outside: Outside) -> None:
    """A replica that is replaced takes what it has begun to its end: most senders try once."""
    async with outside.gateway(outside.source(patience="20s")) as here:
        await outside.server.stop()
        waiting = asyncio.create_task(here.send("am", group(("w", "firing", stamp()))))
        await eventually(lambda: here.serving.in_flight >= 1)
        ending = asyncio.create_task(here.serving.close())
        await asyncio.sleep(0.2)
        await outside.server.start()
        code, answer, _ = await waiting
        assert (code, len(answer["notifications"])) == (200, 1)
        await ending


#: The head of a request that is let in, but for its length.
PROVEN: Final = f"POST /v1/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
#: That of a request to a source which asks for no proof.
OPEN: Final = "POST /v1/am HTTP/1.1\r\nHost: x\r\n"


async def test_a_body_that_ends_early_is_the_senders_fault(outside: Outside) -> None:
    """It is not translated as far as it came, and counts among what was refused."""
    body = json.dumps(group(("cut", "firing", stamp()))).encode()
    head = f"{PROVEN}Content-Length: {len(body) + 1}\r\n\r\n"
    async with outside.gateway() as here:
        _, writer = await here.raw(head.encode() + body)
        await eventually(lambda: here.serving._arriving)
        writer.close()
        await eventually(lambda: here.count("requests_total", source="am", code="400"))
    assert stored(outside.server) == []


async def test_many_refusals_are_one_line(
    outside: Outside,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is refused again and again fills no log: the next line counts those that had none."""
    async with outside.gateway() as here:
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


async def test_a_line_about_a_refusal_is_short(caplog: pytest.LogCaptureFixture) -> None:
    """The reason may quote what a sender wrote."""
    Gateway._log(Mock(_quiet={}), "am", 422, "a request was refused", "x" * 5000)
    assert len(vars(caplog.records[-1])["error"]) == 500


async def test_one_source_leaves_places_for_requests_of_others(outside: Outside) -> None:
    """A source whose namespace takes nothing has half of the places, and another one is served."""
    stuck = outside.source(namespace="nowhere", name="stuck", patience="25s")
    limits = {"limits": {"requests": 4}}
    async with outside.gateway(stuck, outside.source(), more=limits) as here:
        waiting = [
            asyncio.create_task(here.send("stuck", group((f"w{n}", "firing", stamp()))))
            for n in range(2)
        ]
        await eventually(lambda: here.serving.in_flight == 2)
        code, answer, _ = await here.send("stuck", group(("late", "firing", stamp())))
        assert (code, answer["error"]) == (503, "too many requests are in flight")
        code, answer, _ = await here.send("am", group(("other", "firing", stamp())))
        assert (code, len(answer["notifications"])) == (200, 1)
        made = json.dumps({"metadata": {"name": "nowhere"}}).encode()
        outside.server.state.answer(Request("POST", "/api/v1/namespaces", {}, made))
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200, 200]


async def test_connections_that_say_nothing_or_half_stop_nobody(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten times the connections that are kept, the oldest are closed, and a good request is served."""
    # None of them ends by time: what is closed is closed for another one.
    lasting = partial(Connections, first=600.0, idle=600.0)
    monkeypatch.setattr("notifier.gateway.server.Connections", lasting)
    limits = {
        "requests": 50, "connections": 50, "bufferedBytes": 16 << 20, "bodySeconds": "60s",
    }  # fmt: skip
    halves = {
        "nothing": "", "half a head": f"{OPEN}X: ",
        "half a body": f"{OPEN}Content-Length: 100\r\n\r\n{{",
    }  # fmt: skip
    open_to_all = outside.source(auth={"insecure": True})
    async with outside.gateway(open_to_all, more={"limits": limits}) as here:
        opened, ends = [], []
        for half in halves.values():
            for _ in range(170):
                reader, writer = await here.raw(half.encode())
                opened.append(writer)
                ends.append(asyncio.create_task(ended(reader)))
            await eventually(lambda: sum(not end.done() for end in ends) <= 50)
            code, _, _ = await here.send("am", group((f"g{len(opened)}", "firing", stamp())))
            assert code == 200
        for writer in opened:
            writer.transport.abort()
        await asyncio.gather(*ends)
    assert len(stored(outside.server)) == 3


async def test_a_request_that_waits_keeps_its_connection(outside: Outside) -> None:
    """A crowd of connections closes none whose request waits for the API server."""
    limits = {"limits": {"requests": 16, "connections": 16}}
    async with outside.gateway(outside.source(patience="20s"), more=limits) as here:
        await outside.server.stop()
        waiting = asyncio.create_task(here.send("am", group(("a", "firing", stamp()))))
        await eventually(lambda: here.count("requests_in_flight"))
        # Who has proven nothing keeps no connection.
        crowd = f"{PROVEN}Content-Length: 1\r\n\r\nx".encode()
        opened = [await here.raw(crowd) for _ in range(80)]
        await asyncio.sleep(0.2)
        await outside.server.start()
        code, answer, _ = await waiting
        assert code == 200, answer
        for _, writer in opened:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("request_line", "kept"),
    [
        ("GET /v1/am HTTP/1.1", False),
        ("POST /v1/am HTTP/1.1\r\nContent-Encoding: gzip", False),
        ("OPTIONS /v1/events HTTP/1.1", False),
        ("POST /v1/am HTTP/1.1", False),
        (f"POST /v1/am HTTP/1.1\r\nAuthorization: Bearer {TOKEN}", True),
    ],
)
async def test_who_proves_nothing_keeps_no_connection(
    outside: Outside, request_line: str, kept: bool
) -> None:
    """Whatever is refused before a proof ends its connection; after one, that may be used again."""
    events = outside.source(name="events", kind="cloudevents")
    head = f"{request_line}\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    async with outside.gateway(outside.source(), events) as here:
        reader, writer = await here.raw(head.encode())
        async with asyncio.timeout(30):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert (b"Connection: close" not in answer) is kept, answer
        writer.transport.abort()


async def test_a_source_has_one_large_body_translated(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many one source sends, the large body of another one is the next."""
    going, order = threading.Event(), []

    def watched(of: Source, *given: Any) -> Any:
        order.append(of.name)
        assert going.wait(30)
        return translate(of, *given)

    monkeypatch.setattr("notifier.gateway.server.translate", watched)
    payload = json.dumps(group(("a", "firing", stamp()))).encode()
    payload += b" " * SMALL
    sources = [outside.source(name=name) for name in ("many", "one")]
    async with outside.gateway(*sources) as here:
        sent: list[asyncio.Task[Any]] = []

        def buffered() -> bool:
            return here.serving._buffered >= len(sent) * len(payload)

        for count, name in ((4, "many"), (1, "one")):
            sent += [asyncio.create_task(here.send(name, payload)) for _ in range(count)]
            await eventually(buffered)
        going.set()
        assert {code for code, _, _ in await asyncio.gather(*sent)} == {200}
    assert order == ["many", "one", "many", "many", "many"]


async def test_what_waits_for_the_api_server_is_bounded(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away objects of a source fill its share of the bytes, and another one has its own."""
    monkeypatch.setattr("notifier.gateway.server._SHARE", 1e-4)
    limits = {"limits": {"bufferedBytes": 16 << 20}}
    sources = [outside.source(name=name, patience="20s") for name in ("a", "b")]
    large = group(("a", "firing", stamp()), commonAnnotations={"summary": "x" * 4000})
    async with outside.gateway(*sources, more=limits) as here:
        await outside.server.stop()
        waiting = []
        for name in ("a", "b"):
            waiting.append(asyncio.create_task(here.send(name, large)))
            await eventually(lambda: here.serving.in_flight == len(waiting))
            code, answer, _ = await here.send(name, large)
            assert (code, answer["error"]) == (503, "too many requests are in flight")
        assert here.serving._buffered > 2000
        await outside.server.start()
        assert [code for code, _, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert here.serving._buffered == 0


async def test_a_body_that_does_not_arrive_is_given_up(outside: Outside) -> None:
    """A body that takes too long may be quicker again: 503. One that is cut off takes nothing with it."""
    head = f"{PROVEN}Content-Length: 100\r\n\r\n{{".encode()
    async with outside.gateway(more={"limits": {"bodySeconds": "300ms"}}) as here:
        reader, writer = await here.raw(head)
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        writer.close()
        _, writer = await here.raw(head)
        await writer.drain()
        writer.transport.abort()
        code, _, _ = await here.send("am", group(("a", "firing", stamp())))
        assert code == 200


async def test_a_body_that_is_lost_is_in_memory_no_more(outside: Outside) -> None:
    """It goes with its request, and not with a later collection: whoever proves nothing could send many."""
    size, count = 2 << 20, 8
    body = f"{OPEN}Content-Length: {size + 1}\r\n\r\n".encode() + b" " * size
    async with outside.gateway(outside.source(auth={"insecure": True})) as here:
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(count):
                _, writer = await here.raw(body)
                await eventually(lambda: here.serving._buffered >= size)
                writer.transport.abort()
                await eventually(lambda: not here.serving._buffered)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept < size * count / 2


async def test_bodies_share_what_may_be_buffered(outside: Outside) -> None:
    """Where unfinished bodies fill the bound, the oldest is given up for one that is being sent now."""
    limits = {"limits": {"bufferedBytes": 16 << 20, "bodySeconds": "30s"}}
    size = 7 << 20
    body = f"{OPEN}Content-Length: {size + 1}\r\n\r\n".encode() + b" " * size
    async with outside.gateway(outside.source(auth={"insecure": True}), more=limits) as here:
        opened = []
        for _ in range(2):
            opened.append(await here.raw(body))
            await opened[-1][1].drain()
        await eventually(lambda: here.serving._buffered >= 2 * size)
        payload = json.dumps(group(("a", "firing", stamp()))).encode() + b" " * (4 << 20)
        code, answer, _ = await here.send("am", payload)
        assert code == 200, answer
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(30):
                assert await opened[0][0].read() == b"", "it is closed without an answer"
        assert not opened[1][0].at_eof()
        for _, writer in opened:
            writer.transport.abort()


async def test_one_body_is_given_up_for_another(outside: Outside) -> None:
    """A body that was given up is freed by its reader, and until then no second one is given up for it."""
    async with outside.gateway(more={"limits": {"bufferedBytes": 16 << 20}}) as here:
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
    outside: Outside,
    header: bytes,
    code: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bytes that are no text are no server's error, wherever they are, and reach no log."""
    mapping = {"subject": "s", "body": "b"}
    async with outside.gateway(
        outside.source(kind="json", namespace="default", mapping=mapping)
    ) as here:
        reader, writer = await here.raw(
            b"%sConnection: close\r\n%s\r\nContent-Length: 2\r\n\r\n{}" % (OPEN.encode(), header)
        )
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == code, answer
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text


async def test_who_may_send_is_heard_and_nobody_else(outside: Outside) -> None:
    """A sign of life becomes no notification; it counts with the proof alone, and if it can be read."""
    heartbeat = outside.source(name="dog", kind="heartbeat", expectEvery="10m")
    heard: list[str] = []
    async with outside.gateway(heartbeat, outside.source(), heard=heard.append) as here:
        for name, payload, code in (
            ("dog", b"whatever", 200),
            ("am", b"whatever", 400),
            ("am", group(("a", "firing", stamp())), 200),
        ):
            found, answer, _ = await here.send(name, payload)
            assert found == code, answer
        assert (await here.send("dog", b"", Authorization="Bearer other"))[0] == 401
    assert heard == ["dog", "am"]
    assert len(stored(outside.server)) == 1


async def test_a_cloudevents_sender_may_ask_first(outside: Outside) -> None:
    """OPTIONS with an origin is allowed where the kind has that handshake, for who may send."""
    async with outside.gateway(outside.source(kind="cloudevents")) as here:
        code, answer, headers = await here.send(
            "am", b"", method="OPTIONS", WebHook_Request_Origin="events.example"
        )
        assert (code, answer["notifications"]) == (200, [])
        assert headers["WebHook-Allowed-Origin"] == "events.example"
        *_, headers = await here.send("am", b"", method="OPTIONS", WebHook_Request_Origin="e" * 999)
        assert headers["WebHook-Allowed-Origin"] == "e" * 256


async def test_a_storm_becomes_one_page(outside: Outside) -> None:
    """Above the rate, groups share a digest; a source that refuses answers in its program's words."""
    rate = {"perMinute": 1, "burst": 3}
    sources = [
        outside.source(patience="1s", rate=rate),
        outside.source(name="events", kind="cloudevents", rate={**rate, "over": "refuse"}),
    ]
    async with outside.gateway(*sources) as here:
        answers = await asyncio.gather(
            *(here.send("am", group((f"f{n}", "firing", stamp()))) for n in range(20))
        )
        assert {code for code, _, _ in answers} == {200}
        names = [answer["notifications"][0]["name"] for _, answer, _ in answers]
        assert len(set(names)) == 4
        assert len(stored(outside.server)) == 4
        (digest,) = {name for name in names if name.startswith("dg-")}
        assert names.count(digest) == 17
        assert here.count("notifications_total", source="am", result="digested") == 17
        event = {"specversion": "1.0", "source": "s", "type": "t"}
        codes = [(await here.send("events", {**event, "id": str(n)})) for n in range(4)]
        assert [code for code, _, _ in codes] == [200, 200, 200, 429]
        assert 5 <= int(codes[-1][2]["Retry-After"]) <= 10


async def test_a_mapping_of_each_alert_does_not_hold_the_loop(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expressions over all alerts, a hundred times for one small body, are evaluated beside the loop."""
    mapping = {"body": "{{ join(',', alerts[?status == 'firing'].status) }}"}
    alerts = ",".join(['{"status":"firing"}'] * 740)
    head = '{"version":"4","groupKey":"k","status":"firing","receiver":"r","alerts":'
    body = f"{head}[{alerts}]}}".encode()
    assert len(body) < SMALL
    threads = []

    def watched(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return translate(*given)

    monkeypatch.setattr("notifier.gateway.server.translate", watched)
    async with outside.gateway(outside.source(per="alert", mapping=mapping)) as here:
        code, answer, _ = await here.send("am", body)
    # Equal labels and starts: the hundred are one event, and the rest is another one.
    assert (code, {len(answer["notifications"])}) == (200, {101})
    assert threads != [threading.main_thread()]


async def test_what_was_made_of_a_refused_request_is_counted(outside: Outside) -> None:
    """One alert's object is refused: the answer is 4xx, and the other one's counts as created."""
    outside.server.faults.add(
        CREATE, Answer(422, "Invalid", "spec.type: Unsupported value"), times=1
    )
    async with outside.gateway(outside.source(per="alert")) as here:
        starts = stamp()
        code, answer, _ = await here.send(
            "am", group(("a", "firing", starts), ("b", "firing", starts))
        )
        assert code == 422, answer
        assert here.count("notifications_total", source="am", result="created") == 1
        last = here.count("last_request_timestamp_seconds", source="am")
        assert 0 <= time.time() - last < 300
    assert len(stored(outside.server)) == 1


async def test_an_end_among_many_is_of_what_is_open(outside: Outside) -> None:
    """More than a hundred alerts ended later, which nobody was told of; when repeated they make nothing."""
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
            (o["spec"]["extensions"] for o in outside.server.state.objects("notificationrequests")),
            key=lambda extensions: int(extensions[AT]),
        )
        return {extensions.get("instance", "group"): extensions[STATE] for extensions in told}

    async with outside.gateway(outside.source(per="alert")) as here:
        assert (await here.send("am", fire))[0] == 200
        assert set(newest().values()) == {"firing"}
        assert len(newest()) == 101, "a hundred, and the group"
        code, answer, _ = await here.send("am", over)
        assert (code, len(answer["notifications"])) == (200, 101 + 100)
        assert set(newest().values()) == {"resolved"}
        assert (await here.send("am", over))[1] == {"notifications": []}
