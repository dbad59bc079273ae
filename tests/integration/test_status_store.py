"""Reading and writing the status of NotificationRequests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import (
    NotificationRequestClient,
    ObjectPage,
    Unreadable,
    list_path,
)
from syncer.model.errors import (
    DENIED,
    Ambiguous,
    Conflict,
    ContractError,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.rendering import render_status
from syncer.model.resource import NotificationRequest, version_key
from tests.integration.playing import connect
from tests.integration.scripted import ScriptedServer, abort, always, status, write_kubeconfig
from tests.servers.controlplane import ControlPlane
from tests.servers.webhook import webhook
from tests.unit.syncer.model.documents import ODD_TIMES


def manifest(name: str, namespace: str = "ns", **metadata: Any) -> dict[str, Any]:
    """Return a NotificationRequest as its creator writes it."""
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"type": "Simple", "priority": "Medium", "subject": "s", "body": "b"},
    }


@pytest.fixture
async def store(
    control_plane: ControlPlane, namespace: str
) -> AsyncIterator[NotificationRequestClient]:
    """The store of a real server."""
    async with await connect(control_plane.kubeconfig) as client:
        yield NotificationRequestClient(client)


async def create(plane: ControlPlane, document: dict[str, Any]) -> None:
    """Create an object as administrator."""
    code, made = await plane.request("POST", list_path(document["metadata"]["namespace"]), document)
    assert code == 201, made


async def test_status_is_written_against_a_version(
    control_plane: ControlPlane, namespace: str, store: NotificationRequestClient
) -> None:
    """A patch with the version that was read succeeds, and with an older one conflicts."""
    await create(control_plane, manifest("a", namespace))
    first = await store.get(namespace, "a")
    assert (first.status.phase, first.name, first.namespace) == ("", "a", namespace)
    version = first.resource_version
    second = await store.patch(
        namespace, "a", {"phase": "Pending", "message": "m"}, resource_version=version
    )
    assert (second.status.phase, second.uid) == ("Pending", first.uid)
    assert version_key(second.resource_version) > version_key(version)
    with pytest.raises(Conflict, match="409"):
        await store.patch(namespace, "a", {"phase": "Sending"}, resource_version=version)
    third = await store.patch(
        namespace, "a", {"message": None}, resource_version=second.resource_version
    )
    assert (third.status.phase, third.status.message) == ("Pending", "")
    assert (await store.get(namespace, "a")).resource_version == third.resource_version


async def test_odd_values_that_the_server_takes(
    control_plane: ControlPlane, namespace: str, store: NotificationRequestClient
) -> None:
    """What its schema lets through as a time is read, and what was read may be written again."""
    taken = 0
    await create(control_plane, manifest("a", namespace))
    found = await store.get(namespace, "a")
    for text in ODD_TIMES:
        condition = {
            "type": "T", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": text,
        }  # fmt: skip
        odd = {"queuedAt": text, "conditions": [condition], "log": {"epoch": text}}
        found = await store.patch(namespace, "a", odd, resource_version=found.resource_version)
        assert found.status.queued_at == ODD_TIMES[text]
        again = render_status(found.status)
        found = await store.patch(namespace, "a", again, resource_version=found.resource_version)
        taken += 1
    assert taken == len(ODD_TIMES)


async def test_refusals_keep_their_kinds(
    control_plane: ControlPlane, namespace: str, store: NotificationRequestClient
) -> None:
    """An invalid status, an absent object and a re-created one are told apart."""
    with pytest.raises(Gone):
        await store.get(namespace, "a")
    with pytest.raises(Gone):
        await store.patch(namespace, "a", {"phase": "Sent"}, resource_version="1")
    body = manifest("a", namespace)
    await create(control_plane, body)
    old = await store.get(namespace, "a")
    with pytest.raises(Rejected) as caught:
        await store.patch(namespace, "a", {"phase": "Odd"}, resource_version=old.resource_version)
    assert caught.value.reason == "Invalid"
    await control_plane.request("DELETE", f"{list_path(namespace)}/a")
    await create(control_plane, body)
    with pytest.raises(Conflict):
        await store.patch(namespace, "a", {"phase": "Sent"}, resource_version=old.resource_version)
    assert (await store.get(namespace, "a")).status.phase == ""


#: What a webhook answers: what that is taken for.
DENIALS: dict[str, tuple[dict[str, Any], type[PortError]]] = {
    "a code that asks for other credentials": ({"code": 401}, Unauthorised),
    "a code of what does not exist": (
        {"code": 404, "reason": "NotFound", "details": {"name": "a"}},
        Unauthorised,
    ),
    "a code of a conflict": ({"code": 409, "reason": "Conflict"}, Unauthorised),
    "a code of overload": ({"code": 429, "details": {"retryAfterSeconds": 30}}, Unavailable),
    "a code of overload elsewhere": (
        {"code": 503, "details": {"retryAfterSeconds": 30}},
        Unavailable,
    ),
    "a code of a failure": ({"code": 500, "reason": "InternalError"}, Unavailable),
    "no code": ({"message": "no"}, Rejected),
}


async def test_a_webhook_that_refuses_an_object_says_nothing_else(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Whatever its code: the object exists, the credentials hold, and no other call waits."""
    answer = AsyncMock(return_value=None)
    async with (
        await KubeClient.connect(
            str(control_plane.kubeconfig), user_agent="t", yields=True
        ) as client,
        webhook(control_plane, namespace, tmp_path, answer),
    ):
        store = NotificationRequestClient(client)
        await client.request("POST", list_path(namespace), body=manifest("a", namespace), timeout=5)
        found = await store.get(namespace, "a")
        answer.return_value = {"code": 403}
        refused = False
        while not refused:
            try:
                found = await store.patch(
                    namespace, "a", {"message": "m"}, resource_version=found.resource_version
                )
            except Unauthorised as error:
                refused = error.reason == DENIED
            await asyncio.sleep(0.1)
        session = client._session
        for sentence, (said, wanted) in DENIALS.items():
            answer.return_value = said
            with pytest.raises(PortError, match="denied the request") as caught:
                await store.patch(
                    namespace, "a", {"phase": "Sent"}, resource_version=found.resource_version
                )
            taken = caught.value
            assert type(taken) is wanted, sentence
            assert not isinstance(taken, Unauthorised) or taken.reason == DENIED, sentence
            assert (await store.get(namespace, "a")).uid == found.uid
        assert client._session is session, "no credentials were read again"


async def test_write_without_a_version_is_not_sent(tmp_path: Path) -> None:
    """An empty resourceVersion, which would make the write unconditional, is a mistake."""
    async with await connect(write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1")) as client:
        with pytest.raises(ValueError, match="needs a resourceVersion"):
            await NotificationRequestClient(client).patch("ns", "a", {}, resource_version="")


async def _pages(
    store: NotificationRequestClient, namespace: str | None = None, **options: Any
) -> AsyncIterator[ObjectPage]:
    page = await store.list_page(namespace, **options)
    yield page
    while page.continue_token:
        page = await store.list_page(namespace, continue_token=page.continue_token, **options)
        yield page


async def test_list_comes_in_pages(
    control_plane: ControlPlane, namespace: str, store: NotificationRequestClient
) -> None:
    """Pages follow each other by their token and share one resourceVersion."""
    for n in range(5):
        body = manifest(f"n{n}", namespace)
        await create(control_plane, body)
    pages = [p async for p in _pages(store, namespace, limit=2)]
    assert [[o.name for o in p.objects] for p in pages] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    assert len({p.resource_version for p in pages}) == 1
    # Other tests' objects fill pages of their own.
    everywhere = [o.namespace async for p in _pages(store) for o in p.objects]
    assert everywhere.count(namespace) == 5


async def test_a_list_may_be_of_a_label_alone(
    control_plane: ControlPlane, namespace: str, store: NotificationRequestClient
) -> None:
    """The API server selects: only what bears the label is sent, however many others there are."""
    for n in range(3):
        body = manifest(f"n{n}", namespace)
        body["metadata"]["labels"] = {"notification-ledger/event": f"e{n}"}
        await create(control_plane, body)
    page = await store.list_page(namespace, labels="notification-ledger/event=e1")
    assert [o.name for o in page.objects if isinstance(o, NotificationRequest)] == ["n1"]


async def test_reads_never_ask_for_a_cached_state(tmp_path: Path) -> None:
    """Neither a get nor a list names a resourceVersion, so both are quorum reads."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/a"):
            return web.json_response(manifest("a", uid="u", resourceVersion="1"))
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async with (
        ScriptedServer(handle) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        store = NotificationRequestClient(client)
        await store.get("ns", "a")
        await store.list_page("ns")
        await store.list_page()
        assert len(server.seen) == 3
        assert not [line for line in server.seen if "resourceVersion" in line]


async def test_patch_is_a_merge_patch_with_version_and_manager(tmp_path: Path) -> None:
    """The request holds the version, the status and nothing else, under a stable manager."""
    async with (
        ScriptedServer(
            always(lambda: web.json_response(manifest("a", uid="u", resourceVersion="8")))
        ) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        await NotificationRequestClient(client).patch(
            "ns", "a", {"phase": "Sent"}, resource_version="7"
        )
        path = f"{list_path('ns')}/a/status"
        query = "fieldManager=notification-controller&fieldValidation=Ignore"
        assert server.seen == [f"PATCH {path}?{query}"]
        assert server.headers[0]["Content-Type"] == "application/merge-patch+json"
        assert json.loads(server.bodies[0]) == {
            "metadata": {"resourceVersion": "7"},
            "status": {"phase": "Sent"},
        }


async def test_lost_answer_to_a_patch_is_ambiguous(tmp_path: Path) -> None:
    """A status write whose answer is lost is neither repeated nor called a failure."""
    async with (
        ScriptedServer(abort) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        with pytest.raises(Ambiguous):
            await NotificationRequestClient(client).patch("ns", "a", {}, resource_version="7")
        assert len(server.seen) == 1


@pytest.mark.parametrize("exists", [True, False], ids=["object is there", "object is gone"])
async def test_missing_status_subresource_is_not_a_missing_object(
    tmp_path: Path, exists: bool
) -> None:
    """The same 404 to a status write means `Gone` only if the object cannot be read either."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and exists:
            return web.json_response(manifest("a", uid="u", resourceVersion="1"))
        return status(404, "NotFound", "not found", name="a")

    async with (
        ScriptedServer(handle) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        match, kind = ("subresource", KindMissing) if exists else ("404", Gone)
        with pytest.raises(kind, match=match):
            await NotificationRequestClient(client).patch("ns", "a", {}, resource_version="1")


async def test_object_that_does_not_parse_is_named_but_not_quoted(tmp_path: Path) -> None:
    """An unreadable object stays in the list with its identity, and its content out of texts."""
    odd = manifest("odd", uid="u2", resourceVersion="3")
    odd["spec"]["retentionDays"] = "secret-text"

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/odd"):
            return web.json_response(odd)
        items = [manifest("a", uid="u1", resourceVersion="2"), odd, {"metadata": {}}, "x"]
        return web.json_response({"metadata": {"resourceVersion": "9"}, "items": items})

    async with (
        ScriptedServer(handle) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        store = NotificationRequestClient(client)
        page = await store.list_page("ns")
        first, second = page.objects
        assert isinstance(first, NotificationRequest)
        assert isinstance(second, Unreadable)
        assert (second.uid, second.problem, page.anonymous) == ("u2", "ValueError", 2)
        with pytest.raises(ContractError, match="ValueError") as caught:
            await store.get("ns", "odd")
        assert "secret-text" not in str(caught.value)


async def test_answer_that_is_no_list_is_unavailable(tmp_path: Path) -> None:
    """A 200 that is no list is never taken for an empty one."""
    async with (
        ScriptedServer(always(lambda: web.json_response({"kind": "Hello"}))) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        with pytest.raises(Unavailable, match="not a list"):
            await NotificationRequestClient(client).list_page("ns")
