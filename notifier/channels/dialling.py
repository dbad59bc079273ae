"""
The way to a receiver's machine, for HTTP and mail alike: addresses of its name, a socket, TLS.

Names are resolved in threads of their own: a dead name server holds a thread for many seconds, and with the
loop's shared threads it would hold up everything else that needs one. All that ask for one name wait for
one answer, or the attempts of one receiver would hold all of these threads. Every address is checked
(`egress`), and one that is refused refuses the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from notifier.channels.egress import EgressGuard

#: Unacknowledged data kills the connection after this time, whatever the kernel's defaults.
USER_TIMEOUT_MS: Final = 20_000

#: As `socket.getaddrinfo` gives it.
Found = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]

_Question = tuple[str, int, socket.AddressFamily]


class Names:
    """Resolves names for one client, in threads of this name; the guard checks every address."""

    def __init__(self, guard: EgressGuard, threads: str) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix=threads)
        #: Lookups under way, those included that nobody waits for any more.
        self._asked: dict[_Question, asyncio.Future[Sequence[Found]]] = {}

    async def look_up(
        self,
        host: str,
        port: int,
        *,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        proxy: bool = False,
    ) -> Sequence[Found]:
        """
        Return the addresses of a host, one at least.

        Args:
            host: Name or address.
            port: Of the server.
            family: Of the addresses.
            proxy: The host is a proxy.

        Raises:
            OSError: the name did not resolve, or (`EgressDenied`) one address is refused.
        """
        try:
            found = await asyncio.shield(self._answer((host, port, family)))
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no addresses")
        for *_, address in found:
            self._guard.check(str(address[0]), host=host, proxy=proxy)
        return found

    def _answer(self, question: _Question) -> asyncio.Future[Sequence[Found]]:
        """The lookup of a name that is under way, or one that begins now."""
        asked = self._asked.get(question)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[question] = loop.run_in_executor(self._threads, _ask, question)
            asked.add_done_callback(lambda done: self._answered(question, done))
        return asked

    def _answered(self, question: _Question, done: asyncio.Future[Sequence[Found]]) -> None:
        del self._asked[question]
        if not done.cancelled():
            done.exception()  # read here too: all who waited may have gone

    def close(self) -> None:
        """Let the threads end, without waiting for a lookup that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask(question: _Question) -> Sequence[Found]:
    host, port, family = question
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)


def socket_for(family: int, kind: int, protocol: int) -> socket.socket:
    """Make the socket by which an address is dialled; the arguments are the first three of a `Found`."""
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return made


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """
    Make a client's context: verification on, TLS 1.2 or newer.

    `ca_file` is a PEM bundle trusted besides the system's roots; empty for none.

    Raises:
        OSError: the bundle cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
