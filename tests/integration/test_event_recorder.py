"""Events reach the API server if they can, and disturb nobody if they cannot."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from syncer.kube.client import KubeClient
from syncer.kube.events import EventRecorder, event_name
from syncer.model.resource import NotificationRequest, parse_object
from tests.beside import beside
from tests.integration.scripted import ScriptedServer, always, status, write_kubeconfig
from tests.servers.controlplane import ControlPlane


def request(namespace: str = "ns", name: str = "a") -> NotificationRequest:
    """Return a NotificationRequest to speak about."""
    return parse_object(
        {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": "0b6c7a6e-uid",
                "resourceVersion": "7",
            },
            "spec": {"type": "Simple", "subject": "s", "body": "b"},
        }
    )


@asynccontextmanager
async def recording(kubeconfig: str | Path, **pace: int) -> AsyncIterator[EventRecorder]:
    """Run a recorder for the time of the context."""
    async with await KubeClient.connect(str(kubeconfig), user_agent="t") as client:
        recorder = EventRecorder(client, instance="pod-0", **pace)
        async with beside(recorder.run()):
            yield recorder


async def test_event_is_written_as_the_replaced_controller_did(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A real API server takes the event, with the controller's rights, and shows it in full."""
    async with recording(control_plane.controller_kubeconfig) as recorder:
        recorder.emit(
            request(namespace),
            "Warning",
            "NotificationFailed",
            "All delivery attempts failed or exhausted retries",
            discriminator="final",
        )
        assert await recorder.drain(30) == 0
    _, found = await control_plane.request("GET", f"/api/v1/namespaces/{namespace}/events")
    (event,) = found["items"]
    assert event == event | {
        "type": "Warning",
        "reason": "NotificationFailed",
        "message": "All delivery attempts failed or exhausted retries",
        "source": {"component": "notification-controller", "host": "pod-0"},
        "reportingComponent": "notification-controller",
        "reportingInstance": "pod-0",
        "involvedObject": {
            "apiVersion": "kubernaut.ai/v1alpha1",
            "kind": "NotificationRequest",
            "namespace": namespace,
            "name": "a",
            "uid": "0b6c7a6e-uid",
            "resourceVersion": "7",
        },
        "count": 1,
        "firstTimestamp": event["lastTimestamp"],
    }


async def test_repeat_is_the_same_event(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The same event again, by another recorder too, is there already; another one is added.

    A long message is cut to one KiB, which every version of the API takes.
    """
    caplog.set_level(logging.DEBUG, "ledger.kube")
    for repeats in (1, 3):
        async with recording(control_plane.kubeconfig) as recorder:
            for discriminator in ("x", "x", "y"):
                recorder.emit(
                    request(namespace), "Normal", "Sent", "ü" * 5000, discriminator=discriminator
                )
            caplog.clear()
            assert await recorder.drain(30) == 0
            assert caplog.messages.count("the event already exists") == repeats
            assert not [m for m in caplog.messages if "cannot be written" in m]
    _, found = await control_plane.request("GET", f"/api/v1/namespaces/{namespace}/events")
    assert len(found["items"]) == 2
    assert all(1000 < len(event["message"].encode()) <= 1024 for event in found["items"])


async def test_ending_and_absent_namespaces_are_tolerated(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Events for a namespace that is ending or gone are refused, which is no warning; others still go."""
    caplog.set_level(logging.DEBUG, "ledger.kube")
    await asyncio.to_thread(control_plane.api.create_namespace, f"{namespace}-2")
    await control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}-2")
    async with recording(control_plane.kubeconfig) as recorder:
        for where in (f"{namespace}-2", "no-such-namespace", namespace):
            recorder.emit(request(where), "Normal", "Sent", "m", discriminator="x")
        assert await recorder.drain(30) == 0
    assert sum(m.startswith("an event was refused because") for m in caplog.messages) == 2
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    _, found = await control_plane.request("GET", f"/api/v1/namespaces/{namespace}/events")
    assert len(found["items"]) == 1


async def test_missing_permission_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A 403 costs one request an event; a warning names the right, once until its namespace takes some."""
    caplog.set_level(logging.DEBUG, "ledger.kube")
    granted = False

    async def forbid(http: web.Request) -> web.StreamResponse:
        if granted and "/namespaces/ns/" in http.path:
            return web.json_response({}, status=201)
        return status(403, "Forbidden", 'User "c" cannot create resource "events"')

    async with (
        ScriptedServer(forbid) as server,
        recording(write_kubeconfig(tmp_path / "k", server.url)) as recorder,
    ):
        for right, dropped, warnings in ((False, 3, 1), (True, 4, 2), (False, 7, 2)):
            granted = right
            for n, namespace in enumerate(("ns", "other" if right else "ns", "ns")):
                where = request(namespace)
                recorder.emit(where, "Normal", "Sent", "m", discriminator=f"{dropped}-{n}")
            assert await recorder.drain(30) == 0
            assert recorder.dropped == dropped
            told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
            assert len(told) == warnings
            assert 'cannot create resource "events"' in told[-1]
        assert len(server.seen) == 9


async def test_rate_is_bounded_behind_the_burst(tmp_path: Path) -> None:
    """The burst goes at once, what follows at the rate."""
    async with (
        ScriptedServer(always(lambda: web.json_response({}, status=201))) as server,
        recording(write_kubeconfig(tmp_path / "k", server.url), burst=5, rate=20) as recorder,
    ):
        began = time.monotonic()
        for n in range(15):
            recorder.emit(request(), "Normal", "Sent", "m", discriminator=str(n))
        assert await recorder.drain(30) == 0
        assert len(server.seen) == 15
        assert time.monotonic() - began >= 0.45


NAMES: dict[str, tuple[Any, ...]] = {
    "a plain name": ("a", "u", "Sent", "x"),
    "a name of the longest kind": ("a" * 253, "u", "Sent", "x"),
    "a name that is cut at a dot": ("a" * 199 + ".b", "u", "Sent", "x"),
    "a discriminator of any text": ("a", "u", "Sent", "slack:ops \ud800 / ü"),
}


@pytest.mark.parametrize("sentence", NAMES)
def test_name_is_a_dns_name(sentence: str) -> None:
    """Whatever the parts, the name is valid and the same each time."""
    name = event_name(*NAMES[sentence])
    assert name == event_name(*NAMES[sentence])
    assert len(name) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)


def test_names_differ_with_each_part() -> None:
    """Uid, reason and discriminator are kept apart: a letter may not move between them."""
    names = {
        event_name("a", *parts)
        for parts in (("u", "R", "x"), ("u", "Rx", ""), ("uR", "x", ""), ("u", "R", "y"))
    }
    assert len(names) == 4
