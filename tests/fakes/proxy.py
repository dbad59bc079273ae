"""
A TCP proxy that fails on purpose.

It stands between a client and any server on loopback. What goes wrong is a script: a list of
faults, each with the bytes that a request must hold to be struck, and how often. A request is what
one read brings; a client that writes a request at once (as those under test do) is matched whole.
`struck` lists what happened, in order, so that a test can prove that its fault landed.

What is encrypted is opened in between, if the proxy is given the server's certificate and key, so that
requests can be told apart by what they hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

_READ: Final = 65_536


@dataclass(frozen=True, slots=True)
class DropReply:
    """
    Pass the request on, swallow what the server answers, reset the connection.

    With `refuse`, every other connection is cut as well and new ones are refused from then on: a
    client that connects anew at once would else be faster than the test that looks at `struck`.
    """

    refuse: bool = False


@dataclass(frozen=True, slots=True)
class DropRequest:
    """Reset the connection; the server never sees the request."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Pass the request on after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ResetAfter:
    """Pass the request on and so many bytes of the answer, then reset the connection."""

    replied: int


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Swallow the request and everything after it; the connection stays open and silent."""


@dataclass(frozen=True, slots=True)
class SwallowReply:
    """Pass the request on; from then on the connection stays open and silent in both directions."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with these bytes; the server never sees the request."""

    reply: bytes


Action = DropReply | DropRequest | Delay | ResetAfter | BlackHole | SwallowReply | Answer


#: As often as there are requests.
ALWAYS: Final = 1_000_000_000


@dataclass(slots=True)
class Fault:
    """
    What happens to the next `times` requests that hold `match`, after `skip` such requests.

    Only those of more than `above` bytes are struck, as by a path that loses large packets.
    """

    action: Action
    match: bytes = b""
    times: int = 1
    skip: int = 0
    above: int = 0


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client, with its counterpart to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    silent: bool = False
    #: Bytes so far: of the client, and of the server.
    requested: int = 0
    replied: int = 0
    #: Bytes of the answer that may still pass; None: all.
    left: int | None = None
    #: Whether the proxy refuses connections once these have passed.
    last: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            # An encrypted connection that has ended has no socket any more, and says so by its errors.
            with contextlib.suppress(OSError, AttributeError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@dataclass(eq=False)
class Proxy:
    """
    The proxy; use it with `async with`.

    Attributes:
        target: Port of the server behind it.
        faults: The script; the first fault that fits and has times left is used.
        struck: Names of the faults that struck, in order.
        port: Where clients connect.
        certificate: File with the server's certificate, if what passes is to be opened.
        key: File with its key.
    """

    target: int
    faults: list[Fault] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    _listener: asyncio.Server | None = None
    _links: set[_Link] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, cut every connection, end every task."""
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self) -> None:
        """Listen (again), on the same port."""
        if self._listener is None:
            served = None
            if self.certificate is not None:
                served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                served.load_cert_chain(self.certificate, self.key)
            self._listener = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=served
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and cut the present ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()

    def traffic(self) -> dict[int, tuple[int, int]]:
        """Bytes so far of the client and of the server, by open connection."""
        return {id(link): (link.requested, link.replied) for link in self._links}

    def cut(self) -> None:
        """Reset every connection."""
        for link in list(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link: _Link | None = None
        try:
            dialled = None
            if self.certificate is not None:
                dialled = ssl.create_default_context(cafile=self.certificate)
            theirs, ours = await asyncio.open_connection("127.0.0.1", self.target, ssl=dialled)
            link = _Link(writer, ours)
            self._links.add(link)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(link, reader))
                group.create_task(self._replies(link, theirs))
        except* OSError:
            writer.transport.abort()
        finally:
            if link is not None:
                link.reset()
                self._links.discard(link)
            self._tasks.discard(task)

    def _strike(self, data: bytes) -> Action | None:
        for fault in self.faults:
            if fault.times < 1 or fault.match not in data or len(data) <= fault.above:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            self.struck.append(type(fault.action).__name__)
            return fault.action
        return None

    async def _requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ):
            link.requested += len(data)
            if link.silent:
                continue
            match self._strike(data):
                case DropReply(refuse):
                    link.left = 0
                    link.last = refuse
                case DropRequest():
                    link.reset()
                    return
                case Delay(seconds):
                    await asyncio.sleep(seconds)
                case ResetAfter(replied):
                    link.left = replied
                case BlackHole():
                    link.silent = True
                    continue
                case SwallowReply():
                    link.silent = True
                case Answer(reply):
                    link.client.write(reply)
                    continue
                case None:
                    pass
            link.server.write(data)
            await link.server.drain()
        link.reset()

    async def _replies(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ):
            link.replied += len(data)
            if link.silent:
                continue
            if link.left is not None:
                data, whole = data[: link.left], data
                link.left -= len(data)
                link.client.write(data)
                if len(data) < len(whole) or link.left == 0:
                    if link.last:
                        await self.refuse()
                        return
                    await link.client.drain()
                    await asyncio.sleep(0.01)  # let the bytes out: a reset would discard them
                    link.reset()
                    return
                continue
            link.client.write(data)
            await link.client.drain()
        link.reset()
