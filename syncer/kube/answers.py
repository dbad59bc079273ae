"""
The answers of the API server as they arrive: bodies, lines of a watch, refusals, lost connections.

The vendor's texts never reach an error, since they may hold addresses and tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from syncer.kube.errors import OVERSIZED, OversizedLine, error_of, no_answer
from syncer.model.errors import Expired, PortError, Rejected, Unavailable
from syncer.runtime.causes import cause_of
from syncer.runtime.places import own

#: A refusal may quote the object, which the server limits to 3 MiB.
_ERROR_BODY_BYTES: Final = 4 * 2**20
#: One event of a watch holds an object of up to 3 MiB.
_LINE_BYTES: Final = 4 * 2**20
_NOT_CONNECTED: Final = (
    aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError,
)  # fmt: skip


async def body_of(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """
    Read a body to its end; a `max_bytes` of 0 means no limit.

    Raises:
        Rejected: the body is larger (`OVERSIZED`).
    """
    if not max_bytes:
        return await response.read()
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > max_bytes:
            raise Rejected(f"the answer is larger than {max_bytes} bytes", reason=OVERSIZED)
    return bytes(body)


def event_of(line: bytes) -> tuple[str, Any]:
    """
    Return the type and object of a watch event, which may be a bookmark.

    Raises:
        Expired: the line is not an event, or is an error event; a new list is always a correct reaction.
    """
    try:
        event = orjson.loads(line)
        kind, document = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Expired("a line of the watch is not an event") from None
    if kind not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
        code = document.get("code") if isinstance(document, dict) else None
        raise Expired(f"{kind} {code} in the watch")
    return kind, document


async def lines_of(response: aiohttp.ClientResponse, idle_timeout: float) -> AsyncIterator[bytes]:
    """
    Yield the lines of a stream, without line ends, until the stream ends in an orderly way.

    All data that has arrived is taken at once, because a timer per line is expensive.

    Args:
        response: The answer; nothing of its body was read yet.
        idle_timeout: Seconds within which each complete line must arrive.

    Raises:
        OversizedLine: a line is longer than 4 MiB.
        Unavailable: the stream broke, fell silent, or ended inside a line.
    """
    loop = asyncio.get_running_loop()
    rest, until = b"", 0.0
    while True:
        until = until or loop.time() + idle_timeout
        try:
            with Mapped(write=False):
                async with asyncio.timeout_at(until):
                    data = await response.content.readany()
        except TimeoutError as error:
            raise Unavailable(f"no data for {idle_timeout:g} s") from error
        if not data:
            if rest:
                raise Unavailable("the stream ended inside a line")
            return
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            until = 0.0
        for line in (*lines, rest):
            # Complete lines are checked too: from a fast peer, a whole long line may arrive in one read.
            if len(line) > _LINE_BYTES:
                raise OversizedLine("a line is too long to be read")
        for line in lines:
            yield line


async def refusal_of(response: aiohttp.ClientResponse, *, write: bool) -> PortError:
    """Return the error for an answer other than 2xx; a `write` may have changed something."""
    try:
        body = await body_of(response, _ERROR_BODY_BYTES)
    except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, Rejected):
        body = b""  # the status is known; an explanation that breaks off changes nothing
    return error_of(response.status, body, response.headers.get("Retry-After"), write=write)


class Mapped:
    """Raises the project's error in place of aiohttp's; a generator would cost three times as much."""

    __slots__ = ("_write",)

    def __init__(self, *, write: bool) -> None:
        """Prepare; a `write` is a call that may have changed something if its answer is lost."""
        self._write = write

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the project's error for one of aiohttp's; any other error passes."""
        if isinstance(error, _NOT_CONNECTED):
            cause = cause_of(error) or type(error).__name__
            raise Unavailable(f"cannot connect{_whereto(error)} ({cause})") from error
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            raise Rejected("the address of the API server is not a URL", reason="BadURL") from None
        if isinstance(error, aiohttp.ClientError) or (
            isinstance(error, (HttpProcessingError, OSError))
            and not isinstance(error, TimeoutError)
        ):
            raise no_answer(
                f"connection lost ({type(error).__name__})", write=self._write
            ) from error


def _whereto(error: BaseException) -> str:
    """Host and port of a connection that failed, without the URL, which may hold credentials."""
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    return f" to {own(f'{host}:{port}')}" if host and port else ""
