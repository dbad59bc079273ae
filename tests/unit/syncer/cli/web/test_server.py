"""The server: who is answered, with which headers, and what others can make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Final, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from syncer.cli.doctor.leases import LeaseFacts
from syncer.cli.doctor.result import ok
from syncer.cli.web import server, updates
from syncer.cli.web.entries import Entry
from syncer.cli.web.follow import Follower
from syncer.cli.web.index import Index
from syncer.cli.web.server import Explorer, asked_from_here, host_allowed
from syncer.cli.web.source import Heads, Known, Overview, Source
from syncer.cli.web.updates import MOST, Updates
from syncer.model.hold import Hold
from syncer.runtime.connections import Connections
from tests.unit.syncer.cli.samples import NOW
from tests.unit.syncer.cli.web.made import made
from tests.unit.syncer.cli.web.reading import lines_of
from tests.unit.syncer.cli.world import Objects, World

HOSTILE = "\"'><script>alert(1)</script>"


@pytest.fixture
async def site() -> AsyncIterator[tuple[str, Index]]:
    """A server with one notification whose every text is hostile; there is no API server."""
    index, world = Index(), World(Objects())
    index.put(made("n", phase=HOSTILE, error=HOSTILE, hold=HOSTILE, channel=HOSTILE))
    world.warnings = (HOSTILE,)
    source = Source(world.at, index, namespaces=(), home="")
    explorer = Explorer(source, index, Follower(world.at, index, ()))
    port = await explorer.listen(0)
    try:
        yield f"http://127.0.0.1:{port}", index
    finally:
        await explorer.close()


HOSTS = {
    "127.0.0.1": True, "127.0.0.1:8088": True, "localhost:40123": True, "[::1]:8088": True,
    "LOCALHOST": True, "evil.example": False, "evil.example:8088": False, "127.0.0.1.evil.example": False,
    "localhost@evil.example": False, "evil.example@localhost": False, "": False, "10.0.0.1:8088": False,
    "127.0.0.1:99999999": True, "[::1": False,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: str) -> None:
    """Loopback by its names, with any port; a name that was bound to it by somebody is none of them."""
    assert host_allowed(host) is HOSTS[host]
    assert not host_allowed(None)


#: Where a request comes from, as browsers tell it, and whether it is answered.
ORIGINS = {
    "our own page": ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, True),
    "an address that was typed": ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
    "no browser": ({}, True),
    "a link that was followed": (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True,
    ),
    "a stream of another site": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, False),
    "an image in one": (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False,
    ),
    "a frame in one": (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False,
    ),
    "another port of this machine": ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, False),
    "our own, by an older browser": ({"Origin": "http://127.0.0.1:9"}, True),
    "another, by an older browser": ({"Origin": "https://evil.example"}, False),
    "another port, by an older browser": ({"Origin": "http://127.0.0.1:8"}, False),
    "nobody's": ({"Origin": "null"}, False),
}  # fmt: skip


@pytest.mark.parametrize("case", ORIGINS)
def test_whose_requests_are_answered(case: str) -> None:
    """What a page of another site has a browser ask for is not carried out."""
    headers, answered = ORIGINS[case]
    assert asked_from_here({"Host": "127.0.0.1:9", **headers}) is answered


async def test_a_rebound_name_gets_nothing(site: tuple[str, Index]) -> None:
    """Whatever it asks for, the stream and the assets included."""
    url, _ = site
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/n/ns/n", "/events", "/assets/explorer.js", "/nothing"):
            async with session.get(url + path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 421
                assert "ns/n" not in await answer.text()


async def test_another_site_takes_no_stream(site: tuple[str, Index]) -> None:
    """However many it asks for, the owner's page stays live."""
    url, _ = site
    async with aiohttp.ClientSession() as session:
        for _ in range(MOST + 1):
            async with session.get(
                url + "/events", headers={"Origin": "https://evil.example"}
            ) as answer:
                assert answer.status == 403
        async with session.get(
            url + "/events", headers={"Sec-Fetch-Site": "same-origin"}
        ) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_but_reading(site: tuple[str, Index], method: str) -> None:
    """Another method is refused, also where there is no page, and its body is not read."""
    url, _ = site
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/nothing"):
            async with session.request(method, url + path, data=b"x" * 4096) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
                assert answer.headers["Connection"] == "close"


async def test_every_answer_is_locked_up(site: tuple[str, Index]) -> None:
    """The policy allows this server's own files alone, and no answer has a script or a style in it."""
    url, _ = site
    policy = ""
    async with aiohttp.ClientSession() as session:
        for path in (
            "/",
            "/?q=" + "x" * 5000,
            "/receivers",
            "/nothing",
            "/assets/explorer.css",
            "/assets/x",
        ):
            for method in ("GET", "HEAD"):
                async with session.request(method, url + path) as answer:
                    policy = answer.headers["Content-Security-Policy"]
                    assert "unsafe" not in policy
                    assert policy.startswith(
                        "default-src 'none'; script-src 'self'; style-src 'self'"
                    )
                    assert "frame-ancestors 'none'" in policy
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                    text = await answer.text()
                    if "html" in answer.headers["Content-Type"]:
                        assert text.count("<script") == (method == "GET")
                        assert "style=" not in text


async def test_hostile_texts_stay_texts(site: tuple[str, Index]) -> None:
    """In every field of a row, in a filter and in the address of a page."""
    url, _ = site
    async with aiohttp.ClientSession() as session:
        for path in (
            "/",
            "/receivers",
            f"/?q={HOSTILE}",
            f"/?namespace={HOSTILE}",
            f"/n/ns/{HOSTILE}",
        ):
            async with session.get(url + path) as answer:
                text = await answer.text()
                assert "<script>alert" not in text
                assert "'><script" not in text
        async with session.get(url) as answer:
            assert "&lt;script&gt;alert(1)" in await answer.text()


async def test_who_has_asked_stays_where_others_only_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the bound a connection without a request is closed for a new one, not a reader's."""
    monkeypatch.setattr(server, "Connections", partial(Connections, 3))
    index, world = Index(), World(Objects())
    source = Source(world.at, index, namespaces=(), home="")
    explorer = Explorer(source, index, Follower(world.at, index, ()))
    port = await explorer.listen(0)
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for turn in range(2):
                writer.write(b"GET /assets/explorer.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
                if turn == 0:
                    others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
                    assert await others[0][0].read() == b""
    finally:
        await explorer.close()


async def test_probes_see_no_page() -> None:
    """The address for probes, which others can reach, says that the process lives, and nothing else."""
    index, world = Index(), World(Objects())
    source = Source(world.at, index, namespaces=(), home="")
    explorer = Explorer(source, index, Follower(world.at, index, ()))
    port = await explorer.listen_for_probes("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            for path, code in (("/healthz", 200), ("/", 404), ("/events", 404)):
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    assert answer.status == code
    finally:
        await explorer.close()


async def test_open_pages_are_told_and_bounded(
    site: tuple[str, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change reaches who looks at it within half a second, and nobody else; the bound is kept."""
    url, index = site
    monkeypatch.setattr(updates, "HEARTBEAT", 30.0)
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        async with (
            session.get(f"{url}/events?key=ns/m") as one,
            session.get(f"{url}/events") as all_,
        ):
            for stream in (one, all_):
                assert await stream.content.readuntil(b"\n\n")
            index.put(made("n", phase="Sent", version=2))
            assert b"change" in await all_.content.readuntil(b"\n\n")
            index.put(made("m"))
            assert b"change" in await one.content.readuntil(b"\n\n")
            assert not one.content._buffer
        # Those that were closed give up their places.
        await until_free(session, url)
        streams = []
        for _ in range(updates.MOST + 1):
            streams.append(await session.get(f"{url}/events"))  # noqa: PERF401 - one after the other
        assert [s.status for s in streams[:-1]] == [200] * updates.MOST
        assert streams[-1].status == 503
        for stream in streams:
            stream.close()


async def until_free(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until every place is free but for those that this takes, and gives back."""
    streams: list[aiohttp.ClientResponse] = []
    while [s.status for s in streams] != [200] * updates.MOST:
        for stream in streams:
            stream.close()
        await asyncio.sleep(0.05)
        streams = [await session.get(f"{url}/events") for _ in range(updates.MOST)]
    for stream in streams:
        stream.close()
    await asyncio.sleep(0.2)


async def test_a_sign_of_life_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes; and a burst is one event."""
    monkeypatch.setattr(updates, "HEARTBEAT", 0.01)
    monkeypatch.setattr(updates, "GATHERED", 0.01)
    monkeypatch.setattr(updates, "PAUSE", 0.02)
    all_ = Updates(most=1)
    with all_.join("") as client, all_.join("") as another:
        assert another is None
        assert client is not None
        events = client.events()
        assert b"hello" in await anext(events)
        assert b"tick" in await anext(events)
        for _ in range(100):
            all_.tell("ns/n")
        assert b"change" in await anext(events)
        assert b"tick" in await anext(events)
        await events.aclose()  # type: ignore[attr-defined]  # a generator
    with all_.join("") as client:
        assert client is not None


class Stub:
    """A source and a follower: what was read, or an error of the reading."""

    def __init__(self) -> None:
        self.complete, self.problem, self.since = True, "", 0.0
        self.closed = False
        self.index = Index()
        self.placed: tuple[Hold, ...] = ()
        self.failure: Exception | None = None
        self.unread = ""
        self.receivers = self._shared(Overview({}, more=False, missing="", now=NOW))
        self.leases = self._shared(LeaseFacts(problem="no Leases"))
        self.examination = self._shared([ok("redis", "answers")])

    def _shared(self, found: object) -> SimpleNamespace:
        async def get() -> object:
            return await self._found(found)

        return SimpleNamespace(get=get)

    async def _found(self, found: object) -> object:
        if self.failure is not None:
            raise self.failure
        return found

    async def heads(self, _entries: Sequence[Entry]) -> Heads:
        return Heads({})

    async def now(self) -> int:
        return NOW

    async def holds(self) -> tuple[tuple[Hold, ...], str]:
        return self.placed, self.unread

    async def known(self, namespace: str, name: str) -> object:
        known = Known(f"{namespace}/{name}", "u", None, None, None, (), (), gone=False, now=NOW)
        return await self._found(known if name == "n" else None)

    async def close(self) -> None:
        """Note it."""
        self.closed = True


@pytest.fixture
async def stubbed() -> AsyncIterator[tuple[str, Stub]]:
    """A server whose source is a stub."""
    stub = Stub()
    stub.index.put(made("n"))
    explorer = Explorer(cast("Source", stub), stub.index, cast("Follower", stub))
    port = await explorer.listen(0)
    try:
        yield f"http://127.0.0.1:{port}", stub
    finally:
        await explorer.close()


async def got(url: str) -> tuple[int, list[str]]:
    """The code of an answer, and its lines."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, lines_of(await answer.text())


#: A path, the code, and a line of the page.
ANSWERS: Final = {
    "/": (200, "# Notifications"),
    "/n/ns/n": (200, "# ns/n"),
    "/n/ns/m": (404, "# No such notification"),
    "/receivers": (200, "# Receivers"),
    "/shards": (200, "- the owners of the shards are not known: no Leases"),
    "/health": (200, "| ok (good) | redis | answers | |"),
    "/assets/nothing": (404, "# No such page"),
}


@pytest.mark.parametrize("path", ANSWERS)
async def test_each_address_has_its_page(path: str, stubbed: tuple[str, Stub]) -> None:
    """What is not there is said with its own code."""
    code, line = ANSWERS[path]
    found = await got(stubbed[0] + path)
    assert found[0] == code
    assert line in found[1]


async def test_holds_in_force_are_shown(stubbed: tuple[str, Stub]) -> None:
    """One that is over holds nothing back."""
    url, stub = stubbed
    for until, held in ((NOW + 60_000, True), (NOW - 1, False)):
        stub.placed = (
            Hold("00000001", "1", NOW - 2, until, "alice", "it is mended", namespaces=("ns",)),
        )
        pending = made("n", phase="Pending")
        stub.index.put(replace(pending, status=replace(pending.status, channels=())))
        _, lines = await got(f"{url}/?state=held")
        assert any("/n/ns/n" in line for line in lines) is held, lines


async def test_what_may_be_old_is_said_with_its_age(stubbed: tuple[str, Stub]) -> None:
    """On each page that shows the list's entries."""
    url, stub = stubbed
    stub.problem, stub.since = "no answer", NOW / 1000 - 60
    for path in ("/", "/receivers", "/health"):
        _, lines = await got(url + path)
        assert lines[1] == "- Notifications are as they were 1 minute ago: no answer"
    stub.unread = "no Redis"
    _, lines = await got(url)
    assert lines[2] == "- The holds are not known: no Redis"
    stub.failure = TimeoutError()
    _, lines = await got(f"{url}/health")
    assert lines[1:3] == [
        "- Notifications are as they were 1 minute ago: no answer", "- The checks did not end in time.",
    ]  # fmt: skip


async def test_a_page_that_cannot_be_made_ends_no_other(stubbed: tuple[str, Stub]) -> None:
    """A defect and a lack of time have a page each, and the next page comes."""
    url, stub = stubbed
    stub.failure = ValueError("a defect")
    assert (await got(f"{url}/n/ns/n"))[0] == 500
    assert (await got(f"{url}/shards"))[1][0] == "# Internal error"
    stub.failure = TimeoutError()
    code, lines = await got(f"{url}/n/ns/n")
    assert (code, lines[:2]) == (503, ["# Not in time", "There was no answer within 25 s."])
    stub.failure = None
    assert (await got(f"{url}/n/ns/n"))[0] == 200


async def test_a_page_that_is_closed_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is found closed when something is sent over it is no error."""
    index, world = Index(), World(Objects())
    source = Source(world.at, index, namespaces=(), home="")
    explorer = Explorer(source, index, Follower(world.at, index, ()))

    async def closed(_answer: web.StreamResponse, _event: bytes) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(web.StreamResponse, "write", closed)
    answer = await explorer._events(make_mocked_request("GET", "/events"))
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    with explorer._updates.join("") as client:
        assert client is not None
    await explorer.close()


async def test_a_source_is_closed_with_its_server() -> None:
    """Its connections are not left to whoever started both."""
    stub = Stub()
    explorer = Explorer(cast("Source", stub), Index(), cast("Follower", stub))
    await explorer.close()
    assert stub.closed


async def test_the_head_of_the_stream_ends(site: tuple[str, Index]) -> None:
    """It has the headers and takes no place."""
    url, _ = site
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        for _ in range(updates.MOST + 1):
            async with session.head(f"{url}/events") as answer:
                assert (answer.status, answer.content_type) == (200, "text/event-stream")
