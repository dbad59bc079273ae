"""
The door to the API server: one call, one deadline, one error tree.

kubernetes-asyncio supplies configuration and authentication (kubeconfig, in-cluster, exec plugins,
client certificates) and the aiohttp session made from them. Its calls are not used: they have no
timeouts and send a dict as a JSON patch; nor are its `Watch` and leader election, which spin and
split the brain. Requests go straight to the session, bodies through orjson.

Invariants:

- Every call ends at its timeout, a renewal of credentials and the one repeat after it included.
- A write is answered by success, by an error that says "not executed", or by `Ambiguous`. Nothing is
  repeated except after a 401. PUT and DELETE are not repeated by aiohttp either: its repeat on a
  dropped keep-alive connection is what would turn our own lost reply into a conflict with ourselves.
- No text of the vendor reaches an error or a log. Its errors show addresses, the kubeconfig's show
  the user entry with the token in it, an exec plugin's its standard error. Only the message of a
  Status object is quoted, bounded.
- Credentials are rebuilt after a 401 and when one of their files changes. Calls under way finish on
  the old session, which is closed when the last of them has ended.

A client belongs to its creator and shares nothing; leases get one of their own, so that status
writes cannot starve a renewal.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import load_incluster_config, load_kube_config
from kubernetes_asyncio.config.config_exception import ConfigException

from syncer.api.conditions import bounded
from syncer.api.errors import (
    Ambiguous,
    ConfigError,
    Conflict,
    Expired,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Self

Json = dict[str, Any]

MERGE_PATCH: Final = "application/merge-patch+json"

_ERROR_CHARS: Final = 256
#: A refusal may quote the whole object, which the server itself limits to 3 MiB.
_ERROR_BODY_BYTES: Final = 4 * 2**20
_RETRY_AFTER_MAX: Final = 300.0
_CONNECT_SHARE: Final = 0.75
#: Pause after a rebuild that was asked for by a 401: wrong credentials must not fork a plugin per call.
_RENEW_PAUSE: Final = 2.0
_FILE_CHECK_PERIOD: Final = 10.0
_READS: Final = frozenset({"GET", "HEAD"})

_log = logging.getLogger(__name__)


class OversizedLine(Expired):
    """A line of a watch was too long to read: what it said is lost, list again."""


@dataclass(slots=True, eq=False)
class _Transport:
    """One session with the configuration it was made from; closed when retired and unused."""

    api: ApiClient
    configuration: Configuration
    files: tuple[tuple[str, int, int, int], ...]
    users: int = 0
    retired: bool = False

    @property
    def session(self) -> aiohttp.ClientSession:
        return self.api.rest_client.pool_manager

    @asynccontextmanager
    async def use(self) -> AsyncIterator[aiohttp.ClientSession]:
        self.users += 1
        try:
            yield self.session
        finally:
            self.users -= 1
            if self.retired and not self.users:
                await self.api.close()

    async def retire(self) -> None:
        self.retired = True
        if not self.users:
            await self.api.close()


class KubeClient:
    """
    A connection pool to one API server under one identity.

    Made by `connect`, ended by `close` or by leaving the context. Safe to share between tasks of
    one event loop.
    """

    def __init__(self, kubeconfig: str | None, user_agent: str, transport: _Transport) -> None:
        """Use `connect`."""
        self._kubeconfig = kubeconfig
        self._user_agent = user_agent
        self._transport = transport
        self._rebuilding = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._checked_at = asyncio.get_running_loop().time()
        self._file_check_period = _FILE_CHECK_PERIOD
        self.rebuilds = 0

    @classmethod
    async def connect(cls, kubeconfig: str | None, *, user_agent: str) -> Self:
        """
        Read the configuration; no request is sent.

        Args:
            kubeconfig: Path of a kubeconfig, or several joined by `:`. None takes `$KUBECONFIG`,
                else the service account of the pod.
            user_agent: Names this program in the server's audit log.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        # At DEBUG the first prints whole bodies; the second prints what an exec plugin said.
        for name, level in (
            ("kubernetes_asyncio.client.rest", logging.INFO),
            ("kubernetes_asyncio.config.kube_config", logging.CRITICAL),
        ):
            logging.getLogger(name).setLevel(level)
        source = kubeconfig or os.environ.get("KUBECONFIG") or None
        return cls(source, user_agent, await _build(source))

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close the pool; calls under way fail."""
        self._transport.retired = True
        await self._transport.api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | bytes | None = None,
        content_type: str = "application/json",
        timeout: float,
    ) -> Json:
        """
        Send one request and return the answer's JSON object.

        Args:
            method: HTTP method.
            path: Absolute path, already quoted.
            params: Query.
            body: Object to send, or bytes that are sent as they are.
            content_type: Of the body.
            timeout: Seconds for everything, waiting for a connection included.

        Raises:
            PortError: see `error_of`. A write whose answer was lost is `Ambiguous`.
        """
        try:
            data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        except TypeError as error:
            raise Rejected("the body cannot be encoded as JSON") from error
        write = method not in _READS
        try:
            async with asyncio.timeout(timeout):
                transport = await self._current()
                send = _Call(method, path, params, data, content_type, timeout, write=write)
                try:
                    return await self._once(transport, send)
                except Unauthorised as error:
                    if not await self._renew(transport, error):
                        raise
                return await self._once(self._transport, send)
        except TimeoutError as error:
            raise _lost(f"no answer within {timeout:g} s", write=write) from error

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        idle_timeout: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        Open a watch and hand out its lines, without line ends.

        The status is checked before the first line is read, so entering raises what a request
        would. The iterator ends when the server ends the stream in an orderly way.

        Args:
            path: Absolute path, already quoted.
            params: Query.
            connect_timeout: Seconds until the headers of the answer.
            idle_timeout: Seconds without a complete line.

        Raises:
            OversizedLine: a line exceeded the read buffer (4 MiB).
            Unavailable: the stream broke, stalled, or ended inside a line.
            PortError: see `error_of`.
        """
        call = _Call("GET", path, params, None, "", connect_timeout, write=False)
        transport = await self._within(self._current(), connect_timeout)
        try:
            opened = self._open(transport, call)
            response = await self._within(opened.__aenter__(), connect_timeout)
        except Unauthorised as error:
            if not await self._within(self._renew(transport, error), connect_timeout):
                raise
            opened = self._open(self._transport, call)
            response = await self._within(opened.__aenter__(), connect_timeout)
        try:
            yield _lines(response, idle_timeout)
        finally:
            response.close()  # never drained: the rest of a watch may be endless
            with suppress(aiohttp.ClientError):
                await opened.__aexit__(None, None, None)

    async def _within[T](self, awaitable: Any, seconds: float) -> T:
        raise NotImplementedError
