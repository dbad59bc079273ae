"""The bound on connections of an address: who goes first, and when a silent one ends."""

from __future__ import annotations

import asyncio
import gzip
import logging
import resource
import ssl
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from syncer.runtime.connections import (
    _DESCRIPTORS,
    Connections,
    _Arrival,
    listen,
    raise_descriptor_limit,
)
from tests.channels.receiver import Certificates
from tests.virtual import on_virtual_time


class Stream:
    """A connection."""

    def __init__(self) -> None:
        self.closed = self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Leave what comes to the handshake."""
        self.paused = True


def made(count: int) -> list[Any]:
    """Connections."""
    return [cast("asyncio.Transport", Stream()) for _ in range(count)]


def open_of(streams: list[Any]) -> list[int]:
    """Places of those that are open."""
    return [n for n, stream in enumerate(streams) if not stream.closed]


def full() -> tuple[Connections, list[Any]]:
    """Four places, all taken, and two that come later."""
    connections, streams = Connections(4, first=600.0, idle=600.0), made(6)
    for stream in streams[:4]:
        connections.add(stream)
    return connections, streams


async def test_the_longest_silent_goes_first() -> None:
    """At the bound a new connection takes the place of the oldest without a request."""
    connections, streams = full()
    connections.on_request(streams[0])
    assert open_of(streams[:4]) == [0, 1, 2, 3]
    connections.add(streams[4])
    connections.add(streams[5])
    assert open_of(streams) == [0, 3, 4, 5]


async def test_those_with_a_request_hold_half_of_the_places() -> None:
    """Beyond that the one among them whose request is longest ago makes space."""
    connections, streams = full()
    for stream in (*streams[:3], streams[0]):
        connections.on_request(stream)
    connections.add(streams[4])
    assert open_of(streams[:5]) == [0, 2, 3, 4]
    connections.add(streams[5])
    assert open_of(streams) == [0, 2, 4, 5]


async def test_a_place_is_free_once_its_connection_has_ended() -> None:
    """Nobody is closed for one that left by itself; a request that comes too late counts nothing."""
    connections = Connections(2, first=600.0, idle=600.0)
    streams = made(4)
    connections.add(streams[0])
    connections.add(streams[1])
    connections.on_request(streams[1])
    for stream in streams[:2]:
        stream.closed = True
    connections.on_request(streams[0])
    connections.on_request(None)
    connections.add(streams[2])
    connections.add(streams[3])
    assert open_of(streams) == [2, 3]


@on_virtual_time
async def test_when_silence_ends_a_connection() -> None:
    """Not a moment before its time, which begins with it, and anew with each request; nor after the end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    connections = Connections(9, first=10.0, idle=60.0)
    silent, active = made(2)
    connections.add(silent)
    connections.add(active)
    connections.on_request(active)
    for until, wanted in ((9.9, [0, 1]), (10.1, [1]), (59.9, [1])):
        await asyncio.sleep(began + until - loop.time())
        assert open_of([silent, active]) == wanted
    connections.on_request(active)
    for until, wanted in ((119.8, [1]), (125.1, [])):
        await asyncio.sleep(began + until - loop.time())
        assert open_of([silent, active]) == wanted
    (late,) = made(1)
    connections.add(late)
    await asyncio.sleep(11)
    assert late.closed, "the clock runs again"
    (last,) = made(1)
    connections.add(last)
    connections.close()
    await asyncio.sleep(600)
    assert not last.closed


@on_virtual_time
async def test_a_held_one_is_closed_for_nobody_until_its_request_has_ended() -> None:
    """Neither a crowd nor the clock ends it; afterwards it is one among those with a request."""
    connections = Connections(4, first=0.02, idle=0.02)
    held, *others = made(9)
    connections.add(held)
    connections.on_request(held)
    connections.hold(held)
    for stream in others:
        connections.add(stream)
    assert open_of(others) == [5, 6, 7]
    await asyncio.sleep(9)
    assert not held.closed
    connections.on_request(held)
    await asyncio.sleep(9)
    assert held.closed


_MANY: Final = _DESCRIPTORS
NO_LIMIT: Final = resource.RLIM_INFINITY
LIMITS: Final = {
    "raised to what the hard one allows": ((1_024, 4_096), 4_096, (4_096, 4_096)),
    "raised to what is wanted": ((1_024, 10 * _MANY), _MANY, (_MANY, 10 * _MANY)),
    "raised where there is no hard one": ((1_024, NO_LIMIT), _MANY, (_MANY, NO_LIMIT)),
    "high enough": ((_MANY, NO_LIMIT), _MANY, None),
    "one more than enough": ((_MANY + 1, NO_LIMIT), _MANY + 1, None),
    "none": ((NO_LIMIT, NO_LIMIT), NO_LIMIT, None),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limit_of_descriptors(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised as far as need be and may be, never lowered."""
    before, now, wanted = LIMITS[case]
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    assert raise_descriptor_limit() == now
    assert done == ([] if wanted is None else [wanted])


def raised_in(name: str) -> Exception:
    """What a function of this name raises of a text that is no UTF-8."""

    def encode() -> None:
        "\udcff".encode()

    with pytest.raises(UnicodeEncodeError) as caught:
        FunctionType(encode.__code__.replace(co_name=name), {})()
    return caught.value


#: What a request leads to, and whether that is an error of ours.
ERRORS: Final[dict[str, tuple[Exception, bool]]] = {
    "a line that is no HTTP": (BadHttpMessage("GET /secret"), False),
    "a header `Expect` that is no text": (raised_in("_default_expect_handler"), False),
    "a text of ours that is none": (raised_in("of_our_own"), True),
    "anything else": (ValueError("x"), True),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_a_sender_has_done_is_not_logged(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """His line may hold a secret, and what trips aiohttp is no error of ours; that is logged."""
    error, logged = ERRORS[case]
    logging.getLogger("ledger.http").error("Error handling request", exc_info=error)
    assert bool(caplog.records) is logged


# -- TLS ------------------------------------------------------------------------------------------


#: What a handshake comes to.
HANDSHAKES: Final[dict[str, object]] = {
    "it ends well": "another stream",
    "the other side speaks no TLS": ssl.SSLError("no TLS"),
    "the other side goes": ConnectionResetError(),
    "it was closed meanwhile": None,
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_connection_is_handed_over_once_it_is_encrypted(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as silent from the beginning; one whose handshake fails is ended."""
    connections = Connections(4, first=600.0, idle=600.0)
    raw, secured, context = Stream(), Stream(), object()
    tasks: set[asyncio.Task[None]] = set()
    handed: list[object] = []
    protocol = cast("Any", SimpleNamespace(connection_made=handed.append))

    found = HANDSHAKES[case]
    start_tls = AsyncMock(side_effect=[secured if found == "another stream" else found])
    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
    _Arrival(connections, protocol, cast("Any", lambda: context), tasks).connection_made(
        cast("Any", raw)
    )
    (until,) = connections._silent.values()
    assert raw.paused
    (task,) = tasks
    await task
    await asyncio.sleep(0)
    assert not tasks, "nothing is kept of a handshake that is over"
    (asked,) = start_tls.await_args_list
    assert (asked.args, asked.kwargs["server_side"]) == ((raw, protocol, context), True)
    if case == "it ends well":
        assert (handed, raw.closed) == ([secured], False)
        assert connections._silent == {cast("Any", secured): until}
    else:
        assert (handed, raw.closed) == ([], True)


async def test_a_connection_that_is_no_longer_silent_is_not_counted_twice() -> None:
    """It gave its place to another one during its handshake."""
    connections = Connections(4, first=600.0, idle=600.0)
    before, after = made(2)
    connections.replace(before, after)
    assert not connections._silent


async def test_an_address_with_tls_answers_who_speaks_it(tmp_path: Path) -> None:
    """Anybody else gets nothing."""
    authority = Certificates(tmp_path)
    context = authority.context("server")
    app = web.Application()

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=b"hello " + await request.read())

    app.router.add_post("/", hello)
    connections = Connections(8, first=600.0, idle=600.0)
    listener = await listen(app, "127.0.0.1", 0, connections, tls=lambda: context)
    try:
        # A signature is of the bytes as they came, so they come as they were sent.
        body = gzip.compress(b"x")
        head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
        asked = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        trusting = ssl.create_default_context(cafile=authority.ca)
        async with asyncio.timeout(60):
            for tls, answered in ((trusting, True), (None, False)):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=tls)
                writer.write(asked)
                assert (b"hello " + body in await reader.read()) is answered
                writer.close()
    finally:
        await listener.close()
