"""
Which connections serve again.

A connection that its receiver closes just as a request goes out on it leaves an outcome that nobody
knows. So the door uses one again only while it is young, after a rest, and with a silent socket; what
a receiver does against that must cost a new connection and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest

from notifier.channels import http
from notifier.channels.base import WITHHELD
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from notifier.contract import Outcome
from syncer.model.attempt import AttemptState, FailureClass
from tests.channels.receiver import Certificates
from tests.servers.listening import listening

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSAL = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
NONE = b"HTTP/1.1 204 No Content\r\n\r\n"
BROKEN = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
#: Longer than the rest that a connection needs.
BREATH = 0.05


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a second is no reason for a new connection here."""
    monkeypatch.setattr(http, "IDLE_SECONDS", 60.0)


async def post(http_client: HttpClient, url: str) -> Outcome:
    """One request."""
    return await http_client.post(Target(url), b"{}", {}, timeout_s=5.0, kind="slack")


@dataclass
class Keeper:
    """A receiver that keeps its connections."""

    #: What it writes for each request; the last one again and again.
    answers: tuple[bytes, ...]
    #: What it writes a little later, unasked, behind each answer.
    afterthought: bytes = b""
    requests: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the other side has enough."""
        self.connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(self.answers[min(self.requests, len(self.answers) - 1)])
            self.requests += 1
            await writer.drain()
            if self.afterthought:
                await asyncio.sleep(BREATH / 5)
                writer.write(self.afterthought)


@asynccontextmanager
async def keeping(
    *answers: bytes, afterthought: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Keeper, str]]:
    """A `Keeper` that listens, and its URL."""
    keeper = Keeper(answers, afterthought)
    async with listening(keeper.serve, tls=tls) as port:
        yield keeper, f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook"


@contextmanager
def closing(
    after: float = 0.0, closed: threading.Semaphore | None = None
) -> Iterator[tuple[list[int], str]]:
    """
    A receiver that closes behind each answer without a word.

    Args:
        after: Seconds behind it.
        closed: Released whenever a connection was closed.

    Yields:
        Its peers' ports, and its URL.
    """
    peers: list[int] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = listener.accept()
                peers.append(address[1])
                with connection:
                    received = b""
                    while not received.endswith(b"{}"):
                        received += connection.recv(4096)
                    connection.sendall(FINE)
                    time.sleep(after)
                if closed is not None:
                    closed.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield peers, f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("answer", [FINE, CHUNKED, EMPTY, NONE, b"HTTP/1.1 100 Go\r\n\r\n" + FINE])
async def test_one_after_another_share_a_connection(
    certificates: Certificates, answer: bytes, tls: bool
) -> None:
    """With a breath between them, five requests have one connection, whatever TLS sends by itself."""
    http_client = HttpClient(ca_file=str(certificates.ca))
    context = certificates.context("kept") if tls else None
    async with keeping(answer, tls=context) as (keeper, url), aclosing(http_client):
        for _ in range(5):
            assert (await post(http_client, url)).state is AttemptState.SUCCESS
            await asyncio.sleep(BREATH)
    assert (keeper.requests, keeper.connections) == (5, 1)


async def test_not_before_a_rest(http_client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes without a word does so behind the answer: that is waited for."""
    monkeypatch.setattr(http, "REST_SECONDS", 60.0)
    with closing(after=BREATH) as (peers, url):
        outcomes = [await post(http_client, url) for _ in range(3)]
    assert [o.state for o in outcomes] == [AttemptState.SUCCESS] * 3
    assert len(set(peers)) == 3


async def test_not_after_its_end(http_client: HttpClient) -> None:
    """The end lies at the socket, and the loop has had no turn to read it."""
    closed = threading.Semaphore(0)
    with closing(closed=closed) as (peers, url):
        for _ in range(2):
            assert (await post(http_client, url)).state is AttemptState.SUCCESS
            # The loop is not to have a turn.
            assert closed.acquire(timeout=30)
            time.sleep(BREATH)  # noqa: ASYNC251 - the rest that a connection needs
    assert len(set(peers)) == 2


async def test_not_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited longer than a connection is kept has a new one."""
    monkeypatch.setattr(http, "IDLE_SECONDS", BREATH / 2)
    async with keeping(FINE) as (keeper, url), aclosing(HttpClient()) as http_client:
        for _ in range(2):
            assert (await post(http_client, url)).state is AttemptState.SUCCESS
            await asyncio.sleep(BREATH)
    assert (keeper.requests, keeper.connections) == (2, 2)


@pytest.mark.parametrize("late", [False, True])
async def test_what_nobody_asked_for_answers_nothing(http_client: HttpClient, late: bool) -> None:
    """A second answer, with the first or after it, is not that to the next request."""
    twice = ((FINE, REFUSAL), FINE) if late else ((FINE + FINE, REFUSAL), b"")
    async with keeping(*twice[0], afterthought=twice[1]) as (keeper, url):
        assert (await post(http_client, url)).state is AttemptState.SUCCESS
        await asyncio.sleep(BREATH)
        assert (await post(http_client, url)).failure is FailureClass.TRANSIENT
    assert (keeper.requests, keeper.connections) == (2, 2)


@pytest.mark.parametrize("first", [FINE, CHUNKED, EMPTY, NONE])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("part", "rest"),
    [(b"\r\n", FINE), *((FINE[:n], FINE[n:]) for n in (1, 17, len(FINE) - 1))],
)
async def test_the_rest_of_what_nobody_asked_for_answers_nothing(
    http_client: HttpClient, first: bytes, late: bool, part: bytes, rest: bytes
) -> None:
    """A part of a second answer has come, with the first or after it: the rest answers nothing."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"{}")
        writer.write((first if late else first + part) if connections == 1 else REFUSAL)
        await asyncio.sleep(BREATH / 5)
        writer.write(part if late and connections == 1 else b"")
        await reader.readuntil(b"{}")
        writer.write(rest + REFUSAL)

    async with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/hook"
        assert (await post(http_client, url)).state is AttemptState.SUCCESS
        await asyncio.sleep(BREATH)
        outcome = await post(http_client, url)
        await http_client.aclose()
    assert outcome.code == 500
    assert connections == 2


async def test_each_answer_is_read_anew(http_client: HttpClient) -> None:
    """The code of a broken answer is this one's, not an earlier one's on the same connection."""
    async with keeping(FINE, BROKEN) as (keeper, url):
        assert (await post(http_client, url)).state is AttemptState.SUCCESS
        await asyncio.sleep(BREATH)
        outcome = await post(http_client, url)
    assert outcome.failure is FailureClass.TRANSIENT
    assert "slack webhook returned 503" in outcome.error
    assert (keeper.requests, keeper.connections) == (2, 1)


async def test_a_request_is_withheld_on_a_kept_connection(http_client: HttpClient) -> None:
    """The lease is over: no byte leaves, the connection is closed, and the next request gets another."""
    async with keeping(FINE) as (keeper, url):
        for holds, connections, requests in ((True, 1, 1), (False, 1, 1), (True, 2, 2)):
            held = iter([holds])
            outcome = await http_client.post(
                Target(url), b"{}", {}, timeout_s=5.0, kind="slack", may_leave=held.__next__
            )
            assert (outcome == WITHHELD) is not holds
            assert (keeper.connections, keeper.requests) == (connections, requests)
            await asyncio.sleep(BREATH)
