"""
Addresses of a host name, each of which may be dialled.

Names are resolved in threads of their own: a dead name server holds a thread for many seconds, and with the
loop's shared threads it would hold up everything else that needs one. Every address is checked (`egress`),
and one that is refused refuses the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from notifier.channels.egress import EgressGuard

#: As `socket.getaddrinfo` gives it.
Found = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


class Names:
    """Resolves names for one client, in threads of this name; the guard checks every address."""

    def __init__(self, guard: EgressGuard, threads: str) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix=threads)

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
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads,
                lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM),
            )
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no addresses")
        for *_, address in found:
            self._guard.check(str(address[0]), host=host, proxy=proxy)
        return found

    def close(self) -> None:
        """Let the threads end, without waiting for a lookup that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
