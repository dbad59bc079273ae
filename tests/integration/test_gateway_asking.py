"""What became of a notification, asked of the gateway by who sent it and by who did not."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from pathlib import Path
from typing import Any, Final

import pytest
from yarl import URL

from notifier.gateway import asking
from notifier.gateway.manifest import SOURCE_LABEL
from syncer.kube.notification_requests import object_path
from syncer.model.resource import Json
from syncer.model.trace import TRACE
from tests.integration.running_gateway import (
    TOKEN,
    Running,
    gateway,
    group,
    source,
    stamp,
    token,
)
from tests.servers.controlplane import ControlPlane

__all__ = ["token"]

TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER: Final = "another-s3cret"
SENT: Final = {
    "phase": "Sent", "totalAttempts": 1, "successfulDeliveries": 1,
    "deliveryAttempts": [{
        "channel": "slack:ops", "attempt": 1, "timestamp": "2026-11-27T04:00:00Z", "status": "success",
    }],
}  # fmt: skip


async def ask(
    here: Running, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, Json, dict[str, str]]:
    """Ask for a path; by default with the token of the sources."""
    given = {"Authorization": f"Bearer {TOKEN}"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    url = URL(f"http://127.0.0.1:{here.port}{path}", encoded=True)
    async with here.session.request(method, url, headers=given) as answer:
        return answer.status, await answer.json(), dict(answer.headers)


async def made(here: Running, name: str = "am", **headers: str) -> str:
    """Have a source make a notification; returns where to ask for it."""
    code, answer, got = await here.send(name, group(("a", "firing", stamp())), **headers)
    assert code == 200, answer
    (one,) = answer["notifications"]
    assert got["Location"] == f"/v1/{name}/{one['namespace']}/{one['name']}"
    return got["Location"]


async def finish(plane: ControlPlane, path: str) -> None:
    """Have the notification at a path be sent."""
    _, _, _, namespace, name = path.split("/")
    code, answer = await plane.request(
        "PATCH", f"{object_path(namespace, name)}/status", {"status": SENT}
    )
    assert code == 200, answer


async def test_a_source_learns_what_became_of_its_own(
    control_plane: ControlPlane, namespace: str, token: str
) -> None:
    """A question waits for the end; the trace of the request is on the object."""
    document = {"sources": [source(token, namespace=namespace)]}
    async with gateway(control_plane.kubeconfig, document) as here:
        path = await made(here, traceparent=TRACEPARENT)
        code, answer, headers = await ask(here, path)
        assert (code, answer["phase"], answer["outcome"]) == (200, "Pending", "pending")
        assert headers["Cache-Control"] == "no-store"
        waiting = asyncio.create_task(ask(here, f"{path}?wait=60s"))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        await finish(control_plane, path)
        code, answer, _ = await waiting
        assert (code, answer["finished"], answer["outcome"]) == (200, True, "delivered")
        assert [c["outcome"] for c in answer["channels"]] == ["delivered"]
        assert here.count("requests_total", source="am", code="200") == 3
        assert here.count("request_seconds_count", source="am") == 1, "no question is a delivery"
        _, found = await control_plane.request("GET", object_path(*path.split("/")[3:]))
        assert found["metadata"]["annotations"][TRACE] == TRACEPARENT


async def test_who_did_not_send_it_is_told_nothing(
    control_plane: ControlPlane, namespace: str, token: str, tmp_path: Path
) -> None:
    """What is another source's, a person's, elsewhere or nothing at all gets one answer, byte for byte."""
    (tmp_path / "other").write_text(OTHER)
    other = source(str(tmp_path / "other"), name="other", namespace=namespace)
    document = {"sources": [source(token, namespace=namespace), other]}
    # One without a source's name where the source writes, and one with it where it does not.
    for where, name, labels in (
        (namespace, "by-hand", {}),
        ("default", namespace, {SOURCE_LABEL: "other"}),
    ):
        manual: Json = {
            "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
            "metadata": {"name": name, "labels": labels},
            "spec": {"type": "Simple", "priority": "Low", "subject": "s", "body": "b"},
        }  # fmt: skip
        collection = object_path(where, "x").rpartition("/")[0]
        assert (await control_plane.request("POST", collection, manual))[0] == 201
    async with gateway(control_plane.kubeconfig, document) as here:
        path = await made(here)
        name = path.rpartition("/")[2]
        for wrong in ("", OTHER):
            code, answer, _ = await ask(here, path, Authorization=f"Bearer {wrong}")
            assert (code, answer["error"]) == (401, "one of this source's tokens is required")
        theirs = {"Authorization": f"Bearer {OTHER}"}
        answers = [
            await ask(here, where, **theirs)
            for where in (
                f"/v1/other/{namespace}/{name}", f"/v1/other/{namespace}/by-hand",
                f"/v1/other/{namespace}/none", f"/v1/other/default/{namespace}",
                f"/v1/other/{namespace}/..%2Fsecrets", f"/v1/other/{namespace}/%2E%2E?wait=9s",
            )
        ]  # fmt: skip
        assert {(code, str(answer)) for code, answer, _ in answers} == {
            (404, str({"error": "this source has made no notification of this name", "path": ""}))
        }
        assert (await ask(here, path.replace("/am/", "/none/")))[0] == 404
        assert (await ask(here, path))[0] == 200


REFUSED: Final[dict[str, tuple[str, str, int, str]]] = {
    "too long a wait": ("GET", "?wait=61s", 400, "wait"),
    "no seconds": ("GET", "?wait=1m", 400, "wait"),
    "another method": ("DELETE", "", 405, ""),
}


async def test_questions_that_have_no_answer(
    control_plane: ControlPlane, namespace: str, token: str
) -> None:
    """They name the member at fault, and the method that there is."""
    document = {"sources": [source(token, namespace=namespace)]}
    async with gateway(control_plane.kubeconfig, document) as here:
        path = await made(here)
        for what, (method, query, status, member) in REFUSED.items():
            code, answer, headers = await ask(here, path + query, method=method)
            assert (code, answer["path"]) == (status, member), what
            assert headers.get("Allow") == ("GET" if status == 405 else None)


async def test_who_signs_signs_the_question(
    control_plane: ControlPlane, namespace: str, token: str
) -> None:
    """The signature covers the path with its query, so that it is for no other notification."""
    key = base64.b64encode(b"k" * 32).decode()
    Path(token).write_text(key)  # noqa: ASYNC240 (a few bytes)
    auth = {"signature": {"scheme": "standard-webhooks", "keyFiles": [token]}}
    mapping = {"subject": "s", "body": "b"}
    document = {"sources": [
        source(token, kind="json", namespace=namespace, auth=auth, mapping=mapping)
    ]}  # fmt: skip

    def signed(text: str) -> dict[str, str]:
        moment = str(int(time.time()))
        found = hmac.digest(b"k" * 32, f"q.{moment}.{text}".encode(), "sha256")
        signature = "v1," + base64.b64encode(found).decode()
        return {"webhook_id": "q", "webhook_timestamp": moment, "webhook_signature": signature}

    async with gateway(control_plane.kubeconfig, document) as here:
        code, answer, got = await here.send("am", {}, **signed("{}"))
        assert code == 200, answer
        path = got["Location"]
        assert (await ask(here, path, **signed(path)))[0] == 200
        assert (await ask(here, f"{path}?wait=9s", **signed(path)))[0] == 401
        assert (await ask(here, path, **signed("")))[0] == 401


async def test_few_wait_and_the_end_of_the_gateway_ends_their_wait(
    control_plane: ControlPlane, namespace: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound a question is answered at once; a gateway that goes answers those that wait."""
    monkeypatch.setattr(asking, "_OF_ONE", 2)
    document: dict[str, Any] = {"sources": [source(token, namespace=namespace)]}
    async with gateway(control_plane.kubeconfig, document) as here:
        path = await made(here)
        waiting = [asyncio.create_task(ask(here, f"{path}?wait=60s")) for _ in range(2)]
        async with asyncio.timeout(30):
            while here.count("requests_in_flight") != 2:
                await asyncio.sleep(0.01)
            code, answer, _ = await ask(here, f"{path}?wait=60s")
            assert (code, answer["finished"]) == (200, False)
            assert not any(task.done() for task in waiting)
            await here.serving.close()
            answers = await asyncio.gather(*waiting)
        assert [(code, answer["finished"]) for code, answer, _ in answers] == [(200, False)] * 2
