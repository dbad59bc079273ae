"""
Notifies open pages of changes, by server-sent events.

An event has no content: a page that receives one fetches itself again. Changes are gathered for a
moment, so a burst costs each page at most two fetches a second. The number of clients is bounded; a
page that is refused asks again every few seconds. The server's bound on silent connections ends a
client that does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from syncer.runtime.supervise import elapse

#: Pages that may follow changes at the same time.
MOST: Final = 32
#: Seconds for which changes are gathered, and after which a sign of life is sent.
GATHERED: Final = 0.25
PAUSE: Final = 0.5
HEARTBEAT: Final = 15.0


class Client:
    """One open page; `key` is the only notification that it is about, empty for all."""

    def __init__(self, key: str) -> None:
        """Nothing has changed yet."""
        self._key = key
        self._changed = asyncio.Event()

    def tell(self, key: str) -> None:
        """Note a change of one notification, or of any with an empty key."""
        if not (self._key and key) or key == self._key:
            self._changed.set()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield what is sent, without end."""
        yield b"retry: 3000\nevent: hello\ndata: {}\n\n"
        while True:
            await elapse(HEARTBEAT, self._changed)
            if not self._changed.is_set():
                # Times on a page grow old, and logs grow without a change of the object.
                yield b"event: tick\ndata: {}\n\n"
                continue
            await asyncio.sleep(GATHERED)
            self._changed.clear()
            yield b"event: change\ndata: {}\n\n"
            await asyncio.sleep(PAUSE - GATHERED)


class Updates:
    """The open pages."""

    def __init__(self, most: int = MOST) -> None:
        """Begin without any; it keeps `most` of them."""
        self._most = most
        self._clients: set[Client] = set()

    def tell(self, key: str) -> None:
        """Notify the pages about a notification that it has changed; all pages with an empty key."""
        for client in self._clients:
            client.tell(key)

    @contextmanager
    def join(self, key: str) -> Iterator[Client | None]:
        """Follow changes while the block runs; None if there are too many clients."""
        if len(self._clients) >= self._most:
            yield None
            return
        client = Client(key)
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)
