"""The faults of the stand-in: each does what it says, to whom it says, as often as it says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.fakes.faults import (
    Match,
)
from tests.integration.api import Api, Event
from tests.servers.definition import load_crd

PATCH = Match("PATCH", "*/a/status")


@pytest.fixture
async def standin() -> AsyncIterator[FakeApiServer]:
    """Return a running stand-in whose bookmarks come often."""
    async with FakeApiServer(bookmark_every=0.2) as server:
        yield server


@pytest.fixture
async def api(standin: FakeApiServer) -> AsyncIterator[Api]:
    """Return a client of it; an object `a` is there."""
    async with Api(standin.url) as client:
        await client.create()
        yield client


async def test_compaction(standin: FakeApiServer, api: Api) -> None:
    """After a compaction older watches and pages have expired, newer ones have not."""
    await api.create("b")
    page = (await api.ask("GET", f"{api.requests}?limit=1")).body["metadata"]["continue"]
    old = str(standin.state.revision - 1)
    await api.create("c")
    standin.state.compact()
    (seen,) = [e async for e in (await _watch_all(api, old))]
    assert seen.object["message"] == f"too old resource version: {old} ({standin.state.revision})"
    gone = await api.ask("GET", f"{api.requests}?limit=1&continue={page}")
    assert (gone.code, gone.reason) == (410, "Expired")
    exact = f"resourceVersion={old}&resourceVersionMatch=Exact"
    assert (await api.ask("GET", f"{api.requests}?{exact}")).code == 410
    now = str(standin.state.revision)
    assert [e async for e in (await _watch_all(api, now))] == []


async def _watch_all(api: Api, revision: str) -> AsyncIterator[Event]:
    async with api.watch(api.requests, resourceVersion=revision, timeoutSeconds="1") as events:
        seen = [e async for e in events]

    async def replay() -> AsyncIterator[Event]:
        for event in seen:
            yield event

    return replay()


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        pytest.param("PATCH", "/a", "application/json-patch+json", id="JSON patch"),
        pytest.param("PATCH", "/a", "application/apply-patch+yaml", id="server-side apply"),
        pytest.param("GET", "?labelSelector=x", "", id="label selectors"),
    ],
)
async def test_unsupported_is_said_so(api: Api, method: str, path: str, form: str) -> None:
    """What only a real server can do is answered 501, so that no test passes by accident."""
    body = "[]" if method == "PATCH" else None
    answer = await api.ask(method, f"{api.requests}{path}", body, form=form)
    assert (answer.code, answer.reason) == (501, "NotImplemented")


def test_rule_without_counterpart_is_refused() -> None:
    """A definition with a rule that the stand-in does not know cannot be installed."""
    document = load_crd()
    (version,) = document["spec"]["versions"]
    rule = {"rule": "true", "message": "new rule"}
    version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = [rule]
    with pytest.raises(NotImplementedError, match="new rule"):
        ApiState(crd=document)
