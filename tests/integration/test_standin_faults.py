"""The faults of the stand-in: each does what it says, to whom it says, as often as it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.fakes.faults import (
    Answer,
    ApplyThen,
    CloseWatch,
    Delay,
    DropEvent,
    DropReply,
    DuplicateEvent,
    ExpireWatch,
    Hang,
    HoldEvent,
    Match,
    RequestAction,
    Reset,
    SendLine,
    StaleRead,
    StallWatch,
    StreamAction,
)
from tests.integration.api import Api, Event
from tests.servers.definition import load_crd

WATCH = Match(verb="watch")
PATCH = Match("PATCH", "*/a/status")
SENT = {"status": {"phase": "Sent"}}
BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)


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


async def phase(api: Api) -> str | None:
    """Return the phase of `a` as it is stored."""
    stored = await api.ask("GET", f"{api.requests}/a")
    found = (stored.body.get("status") or {}).get("phase")
    return None if found is None else str(found)


async def test_answer_instead_of_doing_it(standin: FakeApiServer, api: Api) -> None:
    """A given answer is sent as often as asked for, and nothing is done."""
    standin.faults.add(PATCH, Answer(429, "TooManyRequests", "slow down", retry_after=7), times=2)
    for _ in range(2):
        answer = await api.ask("PATCH", f"{api.requests}/a/status", SENT)
        assert (answer.code, answer.reason, answer.message) == (
            429,
            "TooManyRequests",
            "slow down",
        )
        assert answer.headers["Retry-After"] == "7"
        assert answer.body["details"] == {"retryAfterSeconds": 7}
        assert await phase(api) is None
    assert (await api.ask("PATCH", f"{api.requests}/a/status", SENT)).code == 200
    counted = standin.state.requests
    assert counted["patch", "notificationrequests", "status", 429] == 2
    assert counted["patch", "notificationrequests", "status", 200] == 1


async def test_answer_in_another_form(standin: FakeApiServer, api: Api) -> None:
    """A gateway's page comes as it is, with its type."""
    page = Answer(502, body="<html>bad gateway</html>", content_type="text/html")
    standin.faults.add(Match(), page)
    answer = await api.ask("GET", api.requests)
    assert (answer.code, answer.body) == (502, "<html>bad gateway</html>")
    assert answer.headers["Content-Type"] == "text/html"


async def test_match_is_narrow(standin: FakeApiServer, api: Api) -> None:
    """A fault strikes only what fits method, path and verb."""
    standin.faults.add(Match("PATCH", "*/b/status"), Answer(500))
    standin.faults.add(Match(verb="list"), Answer(503))
    assert (await api.ask("PATCH", f"{api.requests}/a/status", SENT)).code == 200
    assert (await api.ask("GET", f"{api.requests}/a")).code == 200
    assert (await api.ask("GET", api.requests)).code == 503
    assert [s.split(" on ")[1] for s in standin.faults.struck] == [f"list {api.requests}"]
    standin.faults.clear()
    assert (await api.ask("PATCH", f"{api.requests}/b/status", SENT)).code == 404


@pytest.mark.parametrize(
    ("action", "done"),
    [
        pytest.param(DropReply(), "Sent", id="the reply is lost after the write"),
        pytest.param(Reset(), None, id="the connection is reset before the write"),
    ],
)
async def test_no_answer(
    standin: FakeApiServer, api: Api, action: RequestAction, done: str | None
) -> None:
    """A connection breaks without an answer; whether it was done is the fault's choice."""
    # aiohttp repeats idempotent requests on a connection that it has used before; a patch is none.
    standin.faults.add(PATCH, action)
    with pytest.raises(BROKEN):
        await api.ask("PATCH", f"{api.requests}/a/status", SENT)
    assert await phase(api) == done


async def test_gateway_timeout_after_the_write(standin: FakeApiServer, api: Api) -> None:
    """The write is done and the answer says 504."""
    standin.faults.add(PATCH, ApplyThen())
    answer = await api.ask("PATCH", f"{api.requests}/a/status", SENT)
    assert (answer.code, answer.reason) == (504, "Timeout")
    assert await phase(api) == "Sent"
    assert sum(standin.state.status_writes.values()) == 1


@pytest.mark.parametrize("applied", [True, False])
async def test_hang(standin: FakeApiServer, api: Api, applied: bool) -> None:
    """No answer comes, and the server can still be stopped."""
    standin.faults.add(PATCH, Hang(applied=applied))
    call = asyncio.create_task(api.ask("PATCH", f"{api.requests}/a/status", SENT))
    done, _ = await asyncio.wait({call}, timeout=0.3)
    assert not done
    assert await phase(api) == ("Sent" if applied else None)
    async with asyncio.timeout(20):
        await standin.stop()
    with pytest.raises(BROKEN):
        await call


async def test_delay(standin: FakeApiServer, api: Api) -> None:
    """A delayed request is answered as usual, later."""
    standin.faults.add(PATCH, Delay(0.3))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await api.ask("PATCH", f"{api.requests}/a/status", SENT)).code == 200
    assert loop.time() - begun >= 0.3


async def test_stale_reads(standin: FakeApiServer, api: Api) -> None:
    """A get or list shows an earlier state, with its resourceVersion."""
    before = standin.state.revision
    await api.ask("PATCH", f"{api.requests}/a/status", SENT)
    await api.create("b")
    standin.faults.add(Match("GET"), StaleRead(before), times=2)
    listed = await api.ask("GET", api.requests)
    assert [o["metadata"]["name"] for o in listed.body["items"]] == ["a"]
    assert listed.revision == str(before)
    assert "status" not in listed.body["items"][0]
    assert "status" not in (await api.ask("GET", f"{api.requests}/a")).body
    assert len((await api.ask("GET", api.requests)).body["items"]) == 2


async def watched(standin: FakeApiServer, api: Api, *actions: StreamAction) -> list[str]:
    """Watch three writes with faults in the stream; return phases in the order they were told."""
    for action in actions:
        standin.faults.add(WATCH, action)
    query = {"resourceVersion": str(standin.state.revision), "timeoutSeconds": "1"}
    async with asyncio.timeout(20), api.watch(api.requests, **query) as events:
        for word in ("Pending", "Sending", "Sent"):
            await api.ask("PATCH", f"{api.requests}/a/status", {"status": {"phase": word}})
        return [e.object.get("status", {}).get("phase", e.type) async for e in events]


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        pytest.param((), ["Pending", "Sending", "Sent"], id="no fault"),
        pytest.param((DropEvent(),), ["Sending", "Sent"], id="an event is left out"),
        pytest.param(
            (DuplicateEvent(),), ["Pending", "Pending", "Sending", "Sent"], id="one comes twice"
        ),
        pytest.param((HoldEvent(),), ["Sending", "Pending", "Sent"], id="two change places"),
        pytest.param((StallWatch(),), [], id="the stream falls silent and ends in time"),
    ],
)
async def test_streams(
    standin: FakeApiServer, api: Api, actions: tuple[StreamAction, ...], told: list[str]
) -> None:
    """Events are dropped, doubled, reordered or held back as the script says."""
    assert await watched(standin, api, *actions) == told


async def test_faults_strike_an_idle_stream(standin: FakeApiServer, api: Api) -> None:
    """A fault that is added while a watch is open and idle strikes it at once."""
    query = {"resourceVersion": str(standin.state.revision), "timeoutSeconds": "30"}
    async with asyncio.timeout(20), api.watch(api.requests, **query) as events:
        standin.faults.add(WATCH, ExpireWatch())
        seen = [e async for e in events]
    assert [(e.type, e.object["code"]) for e in seen] == [("ERROR", 410)]
    async with asyncio.timeout(20), api.watch(api.requests, **query) as events:
        standin.faults.add(WATCH, CloseWatch())
        assert [e async for e in events] == []


async def test_stream_breaks_in_the_middle_of_a_line(standin: FakeApiServer, api: Api) -> None:
    """An abrupt end is an error to the client, not the end of a stream."""
    standin.faults.add(WATCH, CloseWatch(abruptly=True))
    with pytest.raises(BROKEN):
        async with asyncio.timeout(20), api.watch(api.requests) as events:
            _ = [e async for e in events]


async def test_garbage_line(standin: FakeApiServer, api: Api) -> None:
    """Bytes of the test's own appear in the stream."""
    standin.faults.add(WATCH, SendLine(b'{"type":"WEIRD","object":{}}\n'))
    standin.faults.add(WATCH, CloseWatch())
    async with asyncio.timeout(20), api.watch(api.requests) as events:
        assert Event("WEIRD", {}) in [e async for e in events]


async def test_bookmarks(standin: FakeApiServer, api: Api) -> None:
    """A watch that asks for bookmarks is told how far it has come, writes elsewhere included."""
    query = {"resourceVersion": str(standin.state.revision), "timeoutSeconds": "1"}
    await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
    async with asyncio.timeout(20), api.watch(api.requests, **query) as events:
        assert [e async for e in events] == []
    async with (
        asyncio.timeout(20),
        api.watch(api.requests, allowWatchBookmarks="true", **query) as events,
    ):
        seen = [e async for e in events]
    assert {e.type for e in seen} == {"BOOKMARK"}
    assert len(seen) >= 3
    assert seen[-1].object["metadata"]["resourceVersion"] == str(standin.state.revision)


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


async def test_history_is_bounded() -> None:
    """The history of a type is cut by itself; a watch from before the cut has expired."""
    state = ApiState(history=10)
    async with FakeApiServer(state) as server, Api(server.url) as api:
        start = str(state.revision)
        for number in range(30):
            await api.create(f"n{number}")
        (seen,) = [e async for e in (await _watch_all(api, start))]
        assert seen.object["code"] == 410
        assert len(state.changes_since("notificationrequests", 0)) <= 10


async def test_restart_keeps_state_and_port(standin: FakeApiServer, api: Api) -> None:
    """A server that was killed breaks its watches, and comes back where it was."""
    url = standin.url
    async with asyncio.timeout(20), api.watch(api.requests) as events:
        await anext(events)
        await standin.kill()
        with pytest.raises(BROKEN):
            await anext(events)
    with pytest.raises(aiohttp.ClientConnectorError):
        await api.ask("GET", api.requests)
    await standin.start()
    assert standin.url == url
    assert (await api.ask("GET", f"{api.requests}/a")).code == 200


async def test_books(standin: FakeApiServer, api: Api) -> None:
    """Every status of an object is kept for the checkers, also after it is gone."""
    stored = await api.ask("GET", f"{api.requests}/a")
    uid = stored.body["metadata"]["uid"]
    for word in ("Pending", "Pending", "Sent"):
        await api.ask("PATCH", f"{api.requests}/a/status", {"status": {"phase": word}})
    await api.ask("DELETE", f"{api.requests}/a")
    phases = [status["phase"] for status in standin.state.status_history[uid]]
    assert phases == ["Pending", "Sent"]
    assert standin.state.status_writes[uid] == 2
    counted = standin.state.requests
    assert counted["patch", "notificationrequests", "status", 200] == 3
    assert counted["create", "notificationrequests", "", 201] == 1
    assert counted["delete", "notificationrequests", "", 200] == 1


async def test_revisions_grow_in_length(standin: FakeApiServer, api: Api) -> None:
    """The first few writes pass from three digits to four, so that text comparisons are found."""
    assert len(str(standin.state.revision)) == 3
    for number in range(12):
        await api.create(f"n{number}")
    assert len(str(standin.state.revision)) == 4


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
