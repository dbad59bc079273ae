"""A client of the stand-in API server without a network: for tests that run many replicas in one loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson

from syncer.kube.client import Json, KubeClient, Method
from syncer.kube.errors import error_of
from syncer.model.errors import Unavailable
from tests.fakes.apianswers import Request, Response
from tests.fakes.apistate import ApiState, Watch


class DirectKube(KubeClient):
    """
    One replica's client.

    Attributes:
        requests: Method and last part of the path of each request, watches left out.
        fail: Asked before each request; raises what is to go wrong.
        deaf: Events of watches do not arrive.
        lose: Whether an event of a watch is lost.
    """

    def __init__(self, state: ApiState) -> None:
        # Nothing of the real one's transport is made; every method that would use it is replaced.
        self._state = state
        self.requests: list[str] = []
        self.fail: Callable[[Request], None] = lambda _: None
        self.deaf = False
        self.lose: Callable[[Json], bool] = lambda _: False

    async def request(
        self,
        method: Method,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float,
        max_bytes: int = 0,
    ) -> Json:
        """Send one request; see `KubeClient.request`."""
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        request = Request(method, path, dict(params or {}), data, content_type, accept)
        self.requests.append(f"{method} {path.rsplit('/', 1)[-1]}")
        self.fail(request)
        return _read(self._state.answer(request), write=method != "GET")

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        idle_timeout: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; see `KubeClient.stream`."""
        opened = self._state.watch(Request("GET", path, dict(params)))
        if isinstance(opened, Response):
            _read(opened, write=False)
            return
        news = asyncio.Event()
        self._state.listeners.append(news.set)
        try:
            yield self._lines(opened, news, idle_timeout)
        finally:
            self._state.listeners.remove(news.set)

    async def _lines(
        self, opened: Watch, news: asyncio.Event, idle_timeout: float
    ) -> AsyncIterator[bytes]:
        while True:
            news.clear()
            for event in [] if self.deaf else opened.take():
                if not self.lose(event):
                    yield orjson.dumps(event)
            if opened.closed:
                return
            try:
                async with asyncio.timeout(idle_timeout):
                    await news.wait()
                    while self.deaf:
                        await asyncio.sleep(0.01)
            except TimeoutError as error:
                raise Unavailable(f"no data for {idle_timeout:g} s") from error


def _read(response: Response, *, write: bool) -> Json:
    raw = response.body.encode() if isinstance(response.body, str) else orjson.dumps(response.body)
    if not 200 <= response.code <= 299:
        raise error_of(response.code, raw, response.headers.get("Retry-After"), write=write)
    document: Json = orjson.loads(raw)
    return document
