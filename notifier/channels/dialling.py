"""
The way to a receiver's machine, for HTTP and mail alike: addresses of its name, a socket, TLS.

Names are resolved in threads of their own: a dead name server holds a thread for many seconds, and with the
loop's shared threads it would hold up everything else that needs one. Three rules keep the dead names of
some receivers from harming the others (docs/adr/0018):

- All that ask for one name wait for one answer, and a zone begins a look-up only while it holds fewer
  threads than are free. So one dead zone takes half of them, the next a third of the rest, and there is
  always one for a zone that has none.
- What has got no thread in half of its caller's time was never asked: `NoThread`, an attempt that was not
  sent.
- While a look-up hangs or fails, the addresses that the last one gave serve for five minutes more, unless
  it says that there is no such name.

Every address is checked (`egress`) each time it is given out, and one that is refused refuses the name.
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

#: Unacknowledged data kills the connection after this time, whatever the kernel's defaults.
USER_TIMEOUT_MS: Final = 20_000
#: Look-ups at once.
_THREADS: Final = 32
#: Seconds for which an answer serves before the name is looked up again, and for which it serves where
#: that hangs or fails.
_FRESH: Final = 10.0
_LAST_GOOD: Final = 300.0
#: Seconds for which the last answer leaves a new one its time.
_PATIENCE: Final = 0.1
#: Answers that are kept; names are those of operators' files.
_KEPT: Final = 1024
#: Answers to the effect that a name has no addresses.
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

#: As `socket.getaddrinfo` gives it.
Found = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]

_Question = tuple[str, int, socket.AddressFamily]


class NoThread(OSError):
    """A look-up of a name was not begun: all threads that it may have are held by others."""


@dataclass(frozen=True, slots=True, eq=False)
class _LookUp:
    """A look-up that waits for a thread or is under way, also if nobody waits for it any more."""

    zone: str
    asked_at: float
    begun: asyncio.Future[None]
    answer: asyncio.Future[Sequence[Found]]


class Names:
    """
    Resolves names for one client, in threads of this name; the guard checks every address.

    `clock` gives seconds, by which answers grow old.
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
        #: The last answers, the oldest first, and when they were given.
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
        Return the addresses of a host, one at least.

        Args:
            host: Name or address.
            port: Of the server.
            timeout_s: Seconds that the caller has. Half of them may pass before the look-up begins; how
                long it then takes is for the caller to bound.
            family: Of the addresses.
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
            # An answer to the effect that there is no such name has removed it.
            if not lookup.answer.done() or (lookup.answer.exception() and question in self._good):
                return last_good
        await asyncio.wait([lookup.begun], timeout=timeout_s / 2)
        if not lookup.begun.done():
            raise NoThread("no thread is free")
        return await asyncio.shield(lookup.answer)

    def _ask(self, question: _Question, now: float) -> _LookUp:
        loop = asyncio.get_running_loop()
        lookup = _LookUp(_zone_of(question[0]), now, loop.create_future(), loop.create_future())
        # Read here too: all who waited may have gone.
        lookup.answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._lookups[question] = lookup
        self._begin()
        return lookup

    def _begin(self) -> None:
        """Begin what may begin, oldest first."""
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
        """Let the threads end, without waiting for a lookup that hangs."""
        self._threads.shutdown(wait=False)
        for question, lookup in list(self._lookups.items()):
            if not lookup.begun.done():
                del self._lookups[question]
                lookup.begun.set_result(None)
                lookup.answer.cancel()


def _zone_of(host: str) -> str:
    """The part of a name that is likely to share its servers with others: its last two labels."""
    return ".".join(fold(host).rsplit(".", 2)[-2:])


def _ask(question: _Question) -> Sequence[Found]:
    host, port, family = question
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc


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
