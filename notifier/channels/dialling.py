"""
Connecting to a receiver's machine, for HTTP and mail: name resolution, sockets, TLS.

Names are resolved in dedicated threads: a dead name server holds a thread for many seconds, and in the
loop's shared pool it would delay everything else that needs a thread. Three rules keep the dead names of
some receivers from harming the others (docs/adr/0018):

- All callers that ask for one name share one look-up, and a zone begins a look-up only while it holds fewer
  threads than are free. So one dead zone leaves half of the threads free, two leave a third, and there is
  always one for a zone that holds none.
- A look-up that gets no thread within half of its caller's timeout is not made: `NoThread`, and the attempt
  is *not sent*.
- While a look-up hangs or fails, the last addresses are used for up to five minutes, unless the answer is
  that the name does not exist.

Every address is checked (`egress`) each time it is returned; one refused address refuses the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from notifier.channels.egress import EgressGuard
from syncer.runtime.proxies import fold

#: Milliseconds after which unacknowledged data ends the connection, whatever the kernel's default.
USER_TIMEOUT_MS: Final = 20_000
#: Maximum number of concurrent look-ups.
_THREADS: Final = 32
#: Seconds for which an answer is used before the name is looked up again, and for which it is used if that
#: look-up hangs or fails.
_FRESH: Final = 10.0
_LAST_GOOD: Final = 300.0
#: Seconds that a new look-up has before the last answer is used.
_PATIENCE: Final = 0.1
#: Maximum number of cached answers; the names come from operators' files.
_KEPT: Final = 1024
#: Errors which say that a name has no addresses.
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

#: One address as `socket.getaddrinfo` returns it.
Found = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]

_Question = tuple[str, int, socket.AddressFamily]


class NoThread(OSError):
    """A look-up was not begun: other look-ups hold all threads that it may use."""


@dataclass(frozen=True, slots=True, eq=False)
class _LookUp:
    """A look-up that waits for a thread or is running, even if no caller waits for it any more."""

    zone: str
    asked_at: float
    begun: asyncio.Future[None]
    answer: asyncio.Future[Sequence[Found]]


class Names:
    """
    Resolves names for one client; the guard checks every address.

    `threads` is the prefix of the threads' names. `clock` returns seconds, for the age of answers.
    """

    def __init__(
        self, guard: EgressGuard, threads: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix=threads)
        #: In the order in which they were asked for.
        self._lookups: dict[_Question, _LookUp] = {}
        #: Threads held by each zone.
        self._held: Counter[str] = Counter()
        #: The last answers and their times, the oldest first.
        self._good: dict[_Question, tuple[float, Sequence[Found]]] = {}

    async def look_up(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        proxy: bool = False,
    ) -> Sequence[Found]:
        """
        Return the addresses of a host, at least one.

        Args:
            host: Name or address.
            port: Port of the server.
            timeout_s: Timeout of the caller in seconds. Half of it may pass before the look-up begins; the
                caller must limit the look-up itself.
            family: Family of the addresses.
            proxy: The host is a proxy.

        Raises:
            NoThread: the look-up was not begun.
            OSError: the name did not resolve, or (`EgressDenied`) one address is refused.
        """
        found = await self._addresses((host, port, family), timeout_s)
        for *_, address in found:
            self._guard.check(str(address[0]), host=host, proxy=proxy)
        return found

    async def _addresses(self, question: _Question, timeout_s: float) -> Sequence[Found]:
        now = self._clock()
        given_at, last_good = self._good.get(question, (now - _LAST_GOOD, ()))
        if now - given_at < _FRESH:
            return last_good
        lookup = self._lookups.get(question) or self._ask(question, now)
        if now - given_at < _LAST_GOOD:
            left = lookup.asked_at + _PATIENCE - now
            await asyncio.wait([lookup.answer], timeout=max(0.0, left))
            # If the new answer is that there is no such name, the last answer has been removed.
            if not lookup.answer.done() or (lookup.answer.exception() and question in self._good):
                return last_good
        await asyncio.wait([lookup.begun], timeout=timeout_s / 2)
        if not lookup.begun.done():
            raise NoThread("no thread is free")
        return await asyncio.shield(lookup.answer)

    def _ask(self, question: _Question, now: float) -> _LookUp:
        loop = asyncio.get_running_loop()
        lookup = _LookUp(_zone_of(question[0]), now, loop.create_future(), loop.create_future())
        # Retrieve the exception here too: all callers may have gone, and asyncio would log it.
        lookup.answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._lookups[question] = lookup
        self._begin()
        return lookup

    def _begin(self) -> None:
        """Begin the look-ups that may begin, oldest first."""
        loop = asyncio.get_running_loop()
        for question, lookup in self._lookups.items():
            if lookup.begun.done() or self._held[lookup.zone] >= _THREADS - self._held.total():
                continue
            self._held[lookup.zone] += 1
            lookup.begun.set_result(None)
            running = loop.run_in_executor(self._threads, _ask, question)
            running.add_done_callback(partial(self._answered, question))

    def _answered(self, question: _Question, done: asyncio.Future[Sequence[Found]]) -> None:
        lookup = self._lookups.pop(question)
        self._held[lookup.zone] -= 1
        error = done.exception()
        if error is None:
            self._good.pop(question, None)
            self._good[question] = self._clock(), done.result()
            if len(self._good) > _KEPT:
                del self._good[next(iter(self._good))]
            lookup.answer.set_result(done.result())
        else:
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                self._good.pop(question, None)
            lookup.answer.set_exception(error)
        self._begin()

    def close(self) -> None:
        """Let the threads end, without waiting for a look-up that hangs."""
        self._threads.shutdown(wait=False)
        for question, lookup in list(self._lookups.items()):
            if not lookup.begun.done():
                del self._lookups[question]
                lookup.begun.set_result(None)
                lookup.answer.cancel()


def _zone_of(host: str) -> str:
    """Return a name's last two labels; names that share them are likely to share their name servers."""
    return ".".join(fold(host).rsplit(".", 2)[-2:])


def _ask(question: _Question) -> Sequence[Found]:
    host, port, family = question
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc


def socket_for(family: int, kind: int, protocol: int) -> socket.socket:
    """Create the socket for dialling an address; the arguments are the first three of a `Found`."""
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return made


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """
    Create a client's context: verification on, TLS 1.2 or newer.

    `ca_file` is a PEM bundle trusted besides the system's roots; empty for none.

    Raises:
        OSError: the bundle cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
