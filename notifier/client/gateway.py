"""
A client of a gateway: the program needs the URL of a source of the kind `notification`, and its token.

A request whose answer is lost is sent again with the same key, so it creates no second notification.
Redirects are not followed, because the token is meant for one address.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any, Final, Self

import aiohttp
import orjson

from notifier.client.base import Client, Made
from notifier.version import USER_AGENT
from syncer.model.errors import Ambiguous, Gone, PortError, Rejected, Unauthorised, Unavailable
from syncer.model.resource import Json

#: Seconds for one request, including the longest time for which a gateway may wait for the API server.
_REQUEST: Final = 65.0
#: Longest wait at the gateway, in seconds; proxies in between give up a connection silent for a minute.
_WAIT: Final = 30
_ANSWER_BYTES: Final = 1 << 20
#: Seconds between two tries, at first and at most.
_PAUSE: Final = 0.25
_PAUSE_MOST: Final = 10.0


class Gateway(Client):
    """Talks to one source of a gateway; use it as an async context manager."""

    def __init__(
        self, url: str, token: str | Callable[[], str], *, tls: ssl.SSLContext | None = None
    ) -> None:
        """
        Talk to `url`, the address of a source: `https://gateway.example.org/v1/jobs`.

        `token` is the token, or a function that reads it for each request: Kubernetes replaces a projected
        token within the hour. `tls` is for your own certificate authorities or a client certificate.
        """
        self._url = url.rstrip("/")
        self._token = token
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the HTTP session."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()

    async def _make(self, given: Json, traceparent: str, until: float) -> Made:
        headers = {"Content-Type": "application/json"}
        if traceparent:
            headers["traceparent"] = traceparent
        pause = _PAUSE
        while True:
            try:
                answer = await self._request("POST", "", headers, data=orjson.dumps(given))
                (one,) = answer["notifications"]
                if one.get("taken"):
                    raise Rejected("key: an object that is not this event's has its name")
                return Made(one["name"], one["namespace"], one["uid"], one["duplicate"])
            except (Unavailable, Ambiguous) as error:
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.5, 1.0))  # noqa: S311 (pause)
                if asyncio.get_running_loop().time() + wait >= until:
                    raise
                await asyncio.sleep(wait)
                pause = min(pause * 2, _PAUSE_MOST)

    async def _look(self, namespace: str, name: str, seconds: float) -> Json:
        wait = min(_WAIT, int(seconds))
        return await self._request("GET", f"/{namespace}/{name}?wait={wait}", {})

    async def _request(self, method: str, path: str, headers: dict[str, str], **more: Any) -> Json:
        if self._session is None:
            raise RuntimeError("use the client as a context: `async with Gateway(…) as ledger`")
        token = self._token if isinstance(self._token, str) else self._token()
        try:
            async with self._session.request(
                method, self._url + path, allow_redirects=False,
                headers={
                    **headers, "Authorization": f"Bearer {token.strip()}", "User-Agent": USER_AGENT,
                },
                ssl=True if self._tls is None else self._tls, **more,
            ) as answer:  # fmt: skip
                body = b""
                # One read returns what has arrived so far.
                while len(body) < _ANSWER_BYTES and (
                    part := await answer.content.read(_ANSWER_BYTES)
                ):
                    body += part
                return _answer(method, answer.status, body, answer.headers.get("Retry-After", ""))
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"the gateway cannot be reached ({type(error).__name__})") from None
        except aiohttp.InvalidURL:
            raise Rejected("url: is none") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Ambiguous(f"the gateway did not answer ({type(error).__name__})") from None


def _answer(method: str, status: int, body: bytes, retry_after: str) -> Json:
    """Return the content of a good answer; raises a PortError with the gateway's text for any other."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    known = isinstance(content, dict)
    if status == 200 and known:
        found: Json = content
        return found
    said = str(content.get("error", "")) if known else ""
    if known and content.get("path"):
        said = f"{content['path']}: {said}"
    raise _error(method, status, said or f"the gateway answered {status}", retry_after)


def _error(method: str, status: int, text: str, retry_after: str) -> PortError:
    if status in (200, 429) or status >= 500:
        return Unavailable(
            text, retry_after=float(retry_after) if retry_after.isdecimal() else None
        )
    if status in (401, 403):
        return Unauthorised(text)
    if status == 404 and method == "GET":
        return Gone(text)
    return Rejected(text, reason=f"HTTP{status}")
