"""The server: who is answered, with which headers, and what others can make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from syncer.cli.doctor import Grade, Result
from syncer.cli.known import Asker, Known, know
from syncer.cli.web import server
from syncer.cli.web.index import Follower, Index
from syncer.cli.web.server import MOST, Explorer, Updates, asked_from_here, host_allowed
from syncer.model.hold import Hold
from syncer.runtime.connections import Connections
from tests.unit.syncer.cli.samples import NOW
from tests.unit.syncer.cli.web.made import made
from tests.unit.syncer.cli.web.reading import lines_of
from tests.unit.syncer.cli.world import Objects, World

HOSTILE = "\"'><script>alert(1)</script>"


def explorer_of(world: World, index: Index) -> Explorer:
    """A server that is not followed."""
    follower = Follower(world.at, index, ())
    return Explorer(world.at, index, follower, namespaces=(), home="")


@pytest.fixture
async def site() -> AsyncIterator[tuple[str, Index]]:
    """A server with one notification whose every text is hostile; there is no API server."""
    index, world = Index(), World(Objects())
    index.put(made("n", phase=HOSTILE, error=HOSTILE, hold=HOSTILE, channel=HOSTILE))
    world.warnings = (HOSTILE,)
    explorer = explorer_of(world, index)
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
            "/list?q=" + "x" * 5000,
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
            "/health",
            "/list",
            f"/list?q={HOSTILE}&group=event&after={HOSTILE}",
            f"/list?namespace={HOSTILE}",
            f"/n/ns/{HOSTILE}",
        ):
            async with session.get(url + path) as answer:
                text = await answer.text()
                assert "<script>alert" not in text
                assert "'><script" not in text
        async with session.get(f"{url}/list") as answer:
            assert "&lt;script&gt;alert(1)" in await answer.text()


async def test_who_has_asked_stays_where_others_only_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the bound a connection without a request is closed for a new one, not a reader's."""
    monkeypatch.setattr(server, "Connections", partial(Connections, 3))
    index, world = Index(), World(Objects())
    explorer = explorer_of(world, index)
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
    explorer = explorer_of(world, index)
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
    monkeypatch.setattr(server, "HEARTBEAT", 30.0)
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
        for _ in range(server.MOST + 1):
            streams.append(await session.get(f"{url}/events"))  # noqa: PERF401 - one after the other
        assert [s.status for s in streams[:-1]] == [200] * server.MOST
        assert streams[-1].status == 503
        for stream in streams:
            stream.close()


async def until_free(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until every place is free but for those that this takes, and gives back."""
    streams: list[aiohttp.ClientResponse] = []
    while [s.status for s in streams] != [200] * server.MOST:
        for stream in streams:
            stream.close()
        await asyncio.sleep(0.05)
        streams = [await session.get(f"{url}/events") for _ in range(server.MOST)]
    for stream in streams:
        stream.close()
    await asyncio.sleep(0.2)


async def test_a_sign_of_life_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes; and a burst is one event."""
    monkeypatch.setattr(server, "HEARTBEAT", 0.01)
    monkeypatch.setattr(server, "GATHERED", 0.01)
    monkeypatch.setattr(server, "PAUSE", 0.02)
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


class Follows:
    """A follower that follows nothing."""

    def __init__(self) -> None:
        self.complete, self.problem, self.since = True, "", 0.0


@dataclass
class Stub:
    """A server, what it shows, and the errors of what it asks."""

    url: str
    index: Index
    follows: Follows
    holds: tuple[tuple[Hold, ...], str] = ((), "")
    failure: Exception | None = None


@pytest.fixture
async def stubbed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stub]:
    """A server whose queries are stubs."""
    index, follows = Index(), Follows()
    index.put(made("n"))
    world = World(Objects())
    world.objects.kept["ns/n"] = made("n")
    explorer = Explorer(world.at, index, cast("Follower", follows), namespaces=(), home="")
    stub = Stub("", index, follows)

    async def known(_at: Any, key: str, _asker: Any, **_: str) -> Known | None:
        if stub.failure is not None:
            raise stub.failure
        return await know(world.at, key, Asker(1)) if key == "ns/n" else None

    async def examined(*_: Any, **__: Any) -> tuple[list[Result], dict[str, list[int]]]:
        if stub.failure is not None:
            raise stub.failure
        found = [Result("redis", Grade.OK, "answers"), Result("api", Grade.FAIL, "away", "look")]
        return found, {"a": [0], "": [1]}

    async def holds(_at: Any) -> tuple[tuple[Hold, ...], str]:
        return stub.holds

    monkeypatch.setattr(server, "know", known)
    monkeypatch.setattr(server, "examine", examined)
    monkeypatch.setattr(server, "read_holds", holds)
    monkeypatch.setattr(server, "now_here", lambda: NOW)
    monkeypatch.setattr(server, "_FRESH", 0.0)
    port = await explorer.listen(0)
    stub.url = f"http://127.0.0.1:{port}"
    try:
        yield stub
    finally:
        await explorer.close()


async def got(url: str) -> tuple[int, list[str]]:
    """The code of an answer, and its lines."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, lines_of(await answer.text())


#: A path, the code, and a line of the page.
ANSWERS: Final = {
    "/": (200, "# Now"),
    "/list": (200, "# Notifications"),
    "/n/ns/n": (200, "# ns/n"),
    "/n/ns/m": (404, "# No such notification"),
    "/receivers": (200, "# Receivers"),
    "/health": (200, "| fail (bad) | api | away | look |"),
    "/shards": (404, "# No such page"),
    "/assets/nothing": (404, "# No such page"),
}


@pytest.mark.parametrize("path", ANSWERS)
async def test_each_address_has_its_page(path: str, stubbed: Stub) -> None:
    """What is not there is said with its own code; the navigation shows where one is."""
    code, line = ANSWERS[path]
    found = await got(stubbed.url + path)
    assert found[0] == code
    assert line in found[1]
    if path == "/health":
        assert found[1].index(line) < found[1].index("| ok (good) | redis | answers | |")
        assert "| a | 0 |" in found[1]
        assert "| no owner (bad) | 1 |" in found[1]
    async with aiohttp.ClientSession() as session, session.get(stubbed.url + path) as answer:
        text = await answer.text()
    marked = [part.split('"')[1] for part in text.split("<a ") if 'aria-current="page"' in part]
    assert marked == ([path] if code == 200 and not path.startswith("/n/") else [])


async def test_holds_in_force_are_shown(stubbed: Stub) -> None:
    """On the first page with what they are about, and in the list; one that is over holds nothing."""
    pending = made("n", phase="Pending")
    stubbed.index.put(replace(pending, status=replace(pending.status, channels=())))
    for until, held in ((NOW + 60_000, True), (NOW - 1, False)):
        hold = Hold("h-1", "1", NOW - 2, until, "alice", "it is mended", namespaces=("ns",))
        stubbed.holds = ((hold,), "")
        _, lines = await got(f"{stubbed.url}/list?state=held")
        assert any("/n/ns/n" in line for line in lines) is held, lines
        _, lines = await got(stubbed.url)
        assert any("--namespace ns | it is mended" in line for line in lines) is held, lines
        assert any("ns/n </n/ns/n>" in line for line in lines) is held, "it needs attention"


async def test_the_list_is_grouped_and_limited(stubbed: Stub) -> None:
    """By event or receiver, each with the way to its notifications; in a range of time; page by page."""
    stubbed.index.drop("ns", "n")
    for n in range(60):
        stubbed.index.put(made(f"n{n:02}", age=n * 120, event=f"e{n % 2}", phase="Failed"))
    stubbed.index.put(made("m", age=9000, event="e0", phase="Pending", channel="slack:m"))
    _, lines = await got(f"{stubbed.url}/list?group=event&q=e")
    assert lines[-2:] == [
        "| e0 </list?q=e0> | 31 | 1 | 30 | 0s |",
        "| e1 </list?q=e1> | 30 | 0 | 30 | 2m |",
    ]
    _, lines = await got(f"{stubbed.url}/list?group=receiver&since=1h")
    assert lines[-1] == ("| slack:ops </list?since=1h&receiver=slack%3Aops> | 31 | 0 | 31 | 0s |")
    _, lines = await got(f"{stubbed.url}/list?phase=failed")
    assert sum("/n/ns/n" in line for line in lines) == server.ROWS
    assert "Phase any /none /pending /sending /retrying /sent /partiallysent /failed*" in [
        line.replace("/any", "any") for line in lines
    ]
    older = lines[-1].partition("<")[2].partition(">")[0]
    assert lines[-1].startswith("Further notifications: Older </list?phase=failed&after=")
    _, lines = await got(stubbed.url + older)
    assert sum("/n/ns/n" in line for line in lines) == 10
    assert lines[-1] == "Further notifications: The newest </list?phase=failed>"


async def test_what_may_be_old_is_said_with_its_age(stubbed: Stub) -> None:
    """On each page that shows what is followed."""
    stubbed.follows.problem, stubbed.follows.since = "no answer", NOW / 1000 - 60
    for path in ("/", "/list", "/health"):
        _, lines = await got(stubbed.url + path)
        assert lines[1] == "- Notifications are as they were 1 minute ago: no answer"
    stubbed.holds = ((), "no API server")
    _, lines = await got(f"{stubbed.url}/list")
    assert "- The holds are not known: no API server" in lines
    stubbed.failure = TimeoutError()
    _, lines = await got(f"{stubbed.url}/health")
    assert "- Notifications are as they were 1 minute ago: no answer" in lines


async def test_a_page_that_cannot_be_made_ends_no_other(stubbed: Stub) -> None:
    """A defect and a lack of time have a page each, and the next page comes."""
    page = f"{stubbed.url}/n/ns/n"
    stubbed.failure = ValueError("a defect")
    assert (await got(page))[0] == 500
    assert (await got(f"{stubbed.url}/health"))[1][0] == "# Internal error"
    stubbed.failure = TimeoutError()
    code, lines = await got(page)
    assert (code, lines[:2]) == (503, ["# Not in time", "There was no answer within 25 s."])
    stubbed.failure = None
    assert (await got(page))[0] == 200


async def test_a_page_that_is_closed_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is found closed when something is sent over it is no error."""
    index, world = Index(), World(Objects())
    explorer = explorer_of(world, index)

    async def closed(_answer: web.StreamResponse, _event: bytes) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(web.StreamResponse, "write", closed)
    answer = await explorer._events(make_mocked_request("GET", "/events"))
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    with explorer._updates.join("") as client:
        assert client is not None
    await explorer.close()


async def test_the_head_of_the_stream_ends(site: tuple[str, Index]) -> None:
    """It has the headers and takes no place."""
    url, _ = site
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        for _ in range(server.MOST + 1):
            async with session.head(f"{url}/events") as answer:
                assert (answer.status, answer.content_type) == (200, "text/event-stream")
