"""
Receivers that misbehave, each with every HTTP channel.

Whatever a receiver does, a channel answers with an outcome, within its deadline, with a bounded text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from notifier.channels.http import HttpClient
from notifier.contract import Outcome
from syncer.model.attempt import AttemptState
from tests.channels.http_payloads import MAKERS
from tests.channels.messages import message
from tests.channels.receiver import Step, receiving
from tests.servers.listening import listening

FLOOD_BYTES = 100 * 1024 * 1024
#: What the sockets of both sides may hold when we have stopped reading.
IN_FLIGHT_BYTES = 16 * 1024 * 1024


@asynccontextmanager
async def flooding(head: bytes, unit: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """
    A receiver that answers with 100 MB; gives its URL and what it got rid of, per request.

    Args:
        head: What it begins with.
        unit: What it then repeats.
    """
    sent: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        n = len(sent)
        sent.append(0)
        asked = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(asked.partition("content-length: ")[2].split("\r\n")[0]))
        writer.write(head)
        piece = unit * (60_000 // len(unit))
        while sent[n] < FLOOD_BYTES:
            writer.write(piece)
            await writer.drain()
            sent[n] += len(piece)

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/hook", sent


SIZED = b"\r\nContent-Length: %d\r\n\r\n" % FLOOD_BYTES
CHUNKED = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n"

#: What has no end, or is large, by what it is: how it begins, what is repeated, and the code that counts.
ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    "interim answers": (b"", b"HTTP/1.1 103 E\r\n\r\n", 0),
    "requests to go on": (b"", b"HTTP/1.1 100 C\r\n\r\n", 0),
    "interim answers with headers": (b"", b"HTTP/1.1 103 E\r\n" + b"a: b\r\n" * 90 + b"\r\n", 0),
    "empty lines": (b"", b"\r\n", 0),
    "a status line": (b"HTTP/1.1 503 ", b"x", 0),
    "headers": (b"HTTP/1.1 503 No\r\n", b"a: b\r\n", 503),
    "one header": (b"HTTP/1.1 503 No\r\na: ", b"x", 503),
    "chunks of a byte": (CHUNKED, b"1\r\nx\r\n", 503),
    "chunks of a byte with a long size": (CHUNKED, b"0000000000000001\r\nx\r\n", 503),
    "an extension of a chunk": (CHUNKED + b"1;", b"e=f;", 503),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"a: b\r\n", 503),
    "answers": (b"", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 503),
    "the body of a success": (b"HTTP/1.1 200 Ok" + SIZED, b"quota ", 200),
    "the body of a failure": (b"HTTP/1.1 503 No" + SIZED, b"quota ", 503),
}


@pytest.mark.parametrize("case", ENDLESS)
async def test_an_answer_without_an_end_is_given_up(http_client: HttpClient, case: str) -> None:
    """Whatever a receiver repeats, a bounded part is read, long before the deadline; its code counts."""
    head, unit, code = ENDLESS[case]
    async with flooding(head, unit) as (url, sent):
        channel = MAKERS["slack"](http_client, lambda: url)
        channel.timeout_s = 60.0
        outcome = await channel.send(message())
        await asyncio.sleep(0.05)
        assert len(sent) == 1
        assert sent[0] < IN_FLIGHT_BYTES
    assert "timeout" not in outcome.error
    assert (outcome.code, outcome.state is AttemptState.SUCCESS) == (code, code == 200)
    assert len(outcome.error) < 1200
    if not code:
        assert outcome.state is AttemptState.UNKNOWN
        assert outcome.error.endswith("malformed answer")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", MAKERS)
async def test_redirect_to_another_host_is_not_followed(
    http_client: HttpClient, kind: str, code: int
) -> None:
    """A redirect is refused for good, and the other host hears nothing, neither body nor key."""
    async with receiving() as other, receiving(
        Step(code, b"", (("Location", other.url("/elsewhere", host="localhost")),))
    ) as receiver:  # fmt: skip
        channel = MAKERS[kind](http_client, receiver.url)
        channel.timeout_s = 20.0
        outcome = await channel.send(message())
        assert (len(receiver.requests), other.connections) == (1, 0)
    assert outcome == Outcome.permanent(
        f"{kind} webhook returned {code} (permanent failure): ", code=code
    )
