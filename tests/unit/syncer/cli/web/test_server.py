"""The server: who is answered, with which headers, and what others can make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from syncer.cli.doctor import Grade, Result
from syncer.cli.known import Known, know
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


@dataclass
class Site:
    """A server, what it shows, and the errors of what it asks; nothing is followed."""

    index: Index = field(default_factory=Index)
    world: World = field(default_factory=lambda: World(Objects()))
    follows: Any = field(
        default_factory=lambda: SimpleNamespace(complete=True, problem="", since=0.0)
    )
    holds: tuple[tuple[Hold, ...], str] = ((), "")
    failure: Exception | None = None
    url: str = ""

    def __post_init__(self) -> None:
        """Make the server."""
        follower = cast("Follower", self.follows)
        self.explorer = Explorer(self.world.at, self.index, follower, namespaces=(), home="")

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        try:
            self.url = f"http://127.0.0.1:{await self.explorer.listen(0)}"
            yield
        finally:
            await self.explorer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server with one notification whose every text is hostile; there is no API server."""
    site = Site()
    site.index.put(made("n", phase=HOSTILE, error=HOSTILE, hold=HOSTILE, channel=HOSTILE))
    site.world.warnings = (HOSTILE,)
    async with site.served():
        yield site


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    code: int
    headers: Mapping[str, str]
    text: str

    @property
    def lines(self) -> list[str]:
        """As a person reads it."""
        return lines_of(self.text)


async def ask(url: str, method: str = "GET", **headers: str) -> Answer:
    """Send one request, with a body where it should have none."""
    data = None if method in {"GET", "HEAD"} else b"x" * 4096
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, url, data=data) as answer,
    ):
        return Answer(answer.status, answer.headers, await answer.text())


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


#: Method and headers of a request that gets nothing, and the code.
REFUSED: Final[dict[str, tuple[str, dict[str, str], int]]] = {
    "a rebound name": ("GET", {"Host": "evil.example"}, 421),
    "another site": ("GET", {"Origin": "https://evil.example"}, 403),
    **{
        method: (method, {}, 405)
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    },
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused(site: Site, case: str) -> None:
    """Whatever is asked for, also where there is no page; no body is read, and no stream is taken."""
    method, headers, code = REFUSED[case]
    for path in ("/", "/n/ns/n", "/assets/explorer.js", "/nothing", *["/events"] * (MOST + 1)):
        answer = await ask(site.url + path, method, **headers)
        assert (answer.code, answer.headers["Connection"]) == (code, "close")
        assert answer.headers.get("Allow") == ("GET, HEAD" if code == 405 else None)
        assert "ns/n" not in answer.text


async def test_every_answer_is_locked_up(site: Site) -> None:
    """The policy allows this server's own files alone, and no answer has a script or a style in it."""
    for path in (
        "/", "/list?q=" + "x" * 5000, "/receivers", "/nothing", "/assets/explorer.css", "/assets/x",
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = await ask(site.url + path, method)
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            if "html" in answer.headers["Content-Type"]:
                assert answer.text.count("<script") == (method == "GET")
                assert "style=" not in answer.text


async def test_hostile_texts_stay_texts(site: Site) -> None:
    """In every field of a row, in a filter and in the address of a page."""
    for path in (
        "/", "/receivers", "/health", f"/list?q={HOSTILE}&group=event&after={HOSTILE}",
        "/list", f"/list?namespace={HOSTILE}", f"/n/ns/{HOSTILE}",
    ):  # fmt: skip
        text = (await ask(site.url + path)).text
        assert "<script>alert" not in text
        assert "'><script" not in text
    assert "&lt;script&gt;alert(1)" in (await ask(f"{site.url}/list")).text


async def test_who_has_asked_stays_where_others_only_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the bound a connection without a request is closed for a new one, not a reader's."""
    monkeypatch.setattr(server, "Connections", partial(Connections, 3))
    site = Site()
    async with site.served(), asyncio.timeout(30):
        port = int(site.url.rpartition(":")[2])
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


async def test_probes_see_no_page(site: Site) -> None:
    """The address for probes, which others can reach, says that the process lives, and nothing else."""
    port = await site.explorer.listen_for_probes("127.0.0.1", 0)
    for path, code in (("/healthz", 200), ("/", 404), ("/events", 404)):
        assert (await ask(f"http://127.0.0.1:{port}{path}")).code == code


async def test_open_pages_are_told_and_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change reaches who looks at it within half a second, and nobody else; the bound is kept."""
    monkeypatch.setattr(server, "HEARTBEAT", 30.0)
    async with aiohttp.ClientSession(site.url) as session, asyncio.timeout(20):
        async with session.get("/events?key=ns/m") as one, session.get("/events") as all_:
            for stream in (one, all_):
                assert await stream.content.readuntil(b"\n\n")
            site.index.put(made("n", phase="Sent", version=2))
            assert b"change" in await all_.content.readuntil(b"\n\n")
            site.index.put(made("m"))
            assert b"change" in await one.content.readuntil(b"\n\n")
            assert not one.content._buffer
        # Those that were closed give up their places.
        while site.explorer._updates._pages:
            await asyncio.sleep(0.05)
        streams = [await session.get("/events") for _ in range(MOST + 1)]
        assert [s.status for s in streams] == [200] * MOST + [503]
        for stream in streams:
            stream.close()


async def test_a_sign_of_life_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes; and a burst is one event."""
    monkeypatch.setattr(server, "HEARTBEAT", 0.01)
    monkeypatch.setattr(server, "GATHERED", 0.01)
    monkeypatch.setattr(server, "PAUSE", 0.02)
    updates = Updates()
    with updates.join("") as events:
        assert events is not None
        assert b"hello" in await anext(events)
        assert b"tick" in await anext(events)
        for _ in range(100):
            updates.tell("ns/n")
        assert b"change" in await anext(events)
        assert b"tick" in await anext(events)
        await events.aclose()  # type: ignore[attr-defined]  # a generator


@pytest.fixture
async def stubbed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server whose queries are stubs."""
    stub = Site()
    stub.index.put(made("n"))
    stub.world.objects.kept["ns/n"] = made("n")

    async def known(*asked: Any, **options: Any) -> Known | None:
        if stub.failure is not None:
            raise stub.failure
        return await know(*asked, **options)

    async def examined(*_: Any, **__: Any) -> tuple[list[Result], dict[str, list[int]]]:
        if stub.failure is not None:
            raise stub.failure
        found = [Result("redis", Grade.OK, "answers"), Result("api", Grade.FAIL, "away", "look")]
        return found, {"a": [0], "": [1]}

    monkeypatch.setattr(server, "know", known)
    monkeypatch.setattr(server, "examine", examined)
    monkeypatch.setattr(server, "read_holds", AsyncMock(side_effect=lambda _: stub.holds))
    monkeypatch.setattr(server, "now_here", lambda: NOW)
    monkeypatch.setattr(server, "_FRESH", 0.0)
    async with stub.served():
        yield stub


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
async def test_each_address_has_its_page(path: str, stubbed: Site) -> None:
    """What is not there is said with its own code; the navigation shows where one is."""
    code, line = ANSWERS[path]
    answer = await ask(stubbed.url + path)
    assert (answer.code, line in answer.lines) == (code, True)
    if path == "/health":
        lines = answer.lines
        assert lines.index(line) < lines.index("| ok (good) | redis | answers | |")
        assert {"| a | 0 |", "| no owner (bad) | 1 |"} < set(lines)
    links = answer.text.split("<a ")
    marked = [part.split('"')[1] for part in links if 'aria-current="page"' in part]
    assert marked == ([path] if code == 200 and not path.startswith("/n/") else [])


async def test_holds_in_force_are_shown(stubbed: Site) -> None:
    """On the first page with what they are about, and in the list; one that is over holds nothing."""
    pending = made("n", phase="Pending")
    stubbed.index.put(replace(pending, status=replace(pending.status, channels=())))
    for until, held in ((NOW + 60_000, True), (NOW - 1, False)):
        hold = Hold("h-1", "1", NOW - 2, until, "alice", "it is mended", namespaces=("ns",))
        stubbed.holds = ((hold,), "")
        lines = (await ask(f"{stubbed.url}/list?state=held")).lines
        assert any("/n/ns/n" in line for line in lines) is held, lines
        lines = (await ask(stubbed.url)).lines
        assert any("--namespace ns | it is mended" in line for line in lines) is held, lines
        assert any("ns/n </n/ns/n>" in line for line in lines) is held, "it needs attention"


async def test_the_list_is_grouped_and_limited(stubbed: Site) -> None:
    """By event or receiver, each with the way to its notifications; in a range of time; page by page."""
    stubbed.index.drop("ns", "n")
    for n in range(60):
        stubbed.index.put(made(f"n{n:02}", age=n * 120, event=f"e{n % 2}", phase="Failed"))
    stubbed.index.put(made("m", age=9000, event="e0", phase="Pending", channel="slack:m"))
    lines = (await ask(f"{stubbed.url}/list?group=event&q=e")).lines
    assert lines[-2:] == [
        "| e0 </list?q=e0> | 31 | 1 | 30 | 0s |",
        "| e1 </list?q=e1> | 30 | 0 | 30 | 2m |",
    ]
    lines = (await ask(f"{stubbed.url}/list?group=receiver&since=1h")).lines
    assert lines[-1] == ("| slack:ops </list?since=1h&receiver=slack%3Aops> | 31 | 0 | 31 | 0s |")
    lines = (await ask(f"{stubbed.url}/list?phase=failed")).lines
    assert sum("/n/ns/n" in line for line in lines) == server.ROWS
    assert "Phase any /none /pending /sending /retrying /sent /partiallysent /failed*" in [
        line.replace("/any", "any") for line in lines
    ]
    older = lines[-1].partition("<")[2].partition(">")[0]
    assert lines[-1].startswith("Further notifications: Older </list?phase=failed&after=")
    lines = (await ask(stubbed.url + older)).lines
    assert sum("/n/ns/n" in line for line in lines) == 10
    assert lines[-1] == "Further notifications: The newest </list?phase=failed>"


async def test_what_may_be_old_is_said_with_its_age(stubbed: Site) -> None:
    """On each page that shows what is followed."""
    stubbed.follows.problem, stubbed.follows.since = "no answer", NOW / 1000 - 60
    for path in ("/", "/list", "/health"):
        lines = (await ask(stubbed.url + path)).lines
        assert lines[1] == "- Notifications are as they were 1 minute ago: no answer"
    stubbed.holds = ((), "no API server")
    lines = (await ask(f"{stubbed.url}/list")).lines
    assert "- The holds are not known: no API server" in lines
    stubbed.failure = TimeoutError()
    lines = (await ask(f"{stubbed.url}/health")).lines
    assert "- Notifications are as they were 1 minute ago: no answer" in lines


async def test_a_page_that_cannot_be_made_ends_no_other(stubbed: Site) -> None:
    """A defect and a lack of time have a page each, and the next page comes."""
    page = f"{stubbed.url}/n/ns/n"
    stubbed.failure = ValueError("a defect")
    assert (await ask(page)).code == 500
    assert (await ask(f"{stubbed.url}/health")).lines[0] == "# Internal error"
    stubbed.failure = TimeoutError()
    answer = await ask(page)
    assert answer.code == 503
    assert answer.lines[:2] == ["# Not in time", "There was no answer within 25 s."]
    stubbed.failure = None
    assert (await ask(page)).code == 200


async def test_a_page_that_is_closed_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is found closed when something is sent over it is no error."""
    monkeypatch.setattr(web.StreamResponse, "write", AsyncMock(side_effect=ConnectionResetError))
    explorer = Site().explorer
    answer = await explorer._events(make_mocked_request("GET", "/events"))
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert not explorer._updates._pages


async def test_the_head_of_the_stream_ends(site: Site) -> None:
    """It has the headers and takes no place."""
    for _ in range(MOST + 1):
        answer = await ask(f"{site.url}/events", "HEAD")
        assert (answer.code, answer.headers["Content-Type"]) == (200, "text/event-stream")
