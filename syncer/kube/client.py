"""
The client of the API server: one call, one deadline, one error tree.

Requests go straight to a session made here (`syncer.kube.session`), bodies through orjson.
kubernetes-asyncio's calls are not used: they have no timeouts and send a dict as a JSON patch. Nor are
its `Watch`, which spins, and its leader election, which lets two replicas lead.

Invariants:

- Every call ends by its timeout, which includes a renewal of the credentials and the repeat after it.
- A write ends in success, in an error that means "not executed", or in `Ambiguous`. It is repeated
  only after a 401. Writes are POST and PATCH: aiohttp repeats PUT and DELETE by itself when a kept
  connection turns out to be dead, and after a lost reply the repeat would conflict with the first write.
  DELETE is available to callers that name uid and version and accept "gone" as an answer; PUT is not.
- Each answer carries the server's time (`on_time`).
- The vendor's texts never reach an error or a log, since they may hold addresses and tokens.
- A client that `yields` sends nothing for as long as a 429 or 503 of the server asked for: it has many
  callers, and each would retry on its own.
- Credentials are read again after a 401 and when one of their files has changed. Calls under way end
  on the old session. While the same credentials stay refused, they are read again at growing intervals;
  a changed file is noticed by the next call that fails.

A client belongs to its creator and shares nothing. Leases have a client of their own, so that status
writes cannot starve a renewal.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Self

import aiohttp
import orjson
from yarl import URL

from syncer.kube.answers import Mapped, body_of, lines_of, refusal_of
from syncer.kube.errors import no_answer
from syncer.kube.session import Session, SessionSource
from syncer.kube.transport import ConfigException
from syncer.model.errors import (
    ConfigError,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.rules.backoff import exponential

Json = dict[str, Any]
#: No PUT, which aiohttp would repeat without asking.
Method = Literal["GET", "POST", "PATCH", "DELETE"]

MERGE_PATCH: Final = "application/merge-patch+json"

#: Share of a timeout that connecting may use. If it is used up, the request was not executed.
_CONNECT_SHARE: Final = 0.75
#: Seconds between renewals after a 401, at first and at most: refused credentials must not start a plugin
#: for each call.
_RENEW_FIRST: Final = 2.0
_RENEW_MOST: Final = 30.0
_FILE_CHECK_PERIOD: Final = 10.0
#: Calls at once, each on a connection of its own; further ones wait.
_CALLS: Final = 100
#: Longest time in seconds for which a client yields: the answer may come from an intermediary.
_YIELD_MOST: Final = 30.0

logger = logging.getLogger("ledger.kube")


@dataclass(frozen=True, slots=True)
class _Call:
    method: Method
    path: str
    params: Mapping[str, str] | None
    data: bytes | None
    content_type: str
    timeout: float
    accept: str = "application/json"
    max_bytes: int = 0

    @property
    def write(self) -> bool:
        return self.method != "GET"


class KubeClient:
    """
    A connection pool to one API server under one identity.

    Made by `connect`, ended by `close` or by leaving the context. Safe to share between tasks of
    one event loop.
    """

    def __init__(
        self,
        source: SessionSource,
        user_agent: str,
        session: Session,
        *,
        file_check_period: float,
        on_time: Callable[[int], None],
        yields: bool,
    ) -> None:
        self._source = source
        self._user_agent = user_agent
        self._session = session
        self._file_check_period = file_check_period
        self._rebuilding = asyncio.Lock()
        #: Loop time (seconds) before which credentials that stay refused are not read again.
        self._renew_at = float("-inf")
        #: Renewals since a call last succeeded.
        self._renewals = 0
        #: Whether the server refuses the credentials in the files, which was logged.
        self._refused = False
        #: State of the files when they were last read, and why reading failed; empty if it did not.
        self._read_state = session.state
        self._unreadable = ""
        self._checked_at = asyncio.get_running_loop().time()
        #: Whether a call has failed since the files were last checked.
        self._failed = False
        self._on_time = on_time
        self._yields = yields
        #: Loop time (seconds) before which nothing is sent.
        self._resume_at = float("-inf")
        self._date = ""

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None,
        *,
        user_agent: str,
        context: str = "",
        file_check_period: float = _FILE_CHECK_PERIOD,
        on_time: Callable[[int], None] = lambda _now: None,
        yields: bool = False,
        watches: int = 1,
    ) -> Self:
        """
        Read the configuration; no request is sent.

        Args:
            kubeconfig: Path of a kubeconfig, or several joined by `:`. None takes `$KUBECONFIG`,
                else the service account of the pod.
            user_agent: Names this program in the server's audit log.
            context: Context of the kubeconfig; empty for its current one.
            file_check_period: Seconds between checks of the configuration's files.
            on_time: Called with the server's time (Unix milliseconds) whenever an answer brings
                another second.
            yields: Whether a wait that the server asks of one call applies to all calls except watches.
            watches: Watches that stay open at once, each on a connection that no call can use.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        # At DEBUG the first logger prints response bodies, at ERROR the second an exec plugin's output.
        for name, level in (
            ("kubernetes_asyncio.client.rest", logging.INFO),
            ("kubernetes_asyncio.config.kube_config", logging.CRITICAL),
        ):
            logging.getLogger(name).setLevel(level)
        source = SessionSource(
            kubeconfig or os.environ.get("KUBECONFIG") or "", context, _CALLS + watches
        )
        return cls(
            source,
            user_agent,
            await source.build(),
            file_check_period=file_check_period,
            on_time=on_time,
            yields=yields,
        )

    @property
    def address(self) -> str:
        """Scheme, host and port of the server, without anything else in its URL."""
        url = URL(self._session.api.configuration.host or "")
        return f"{url.scheme}://{url.host or '?'}:{url.port or '?'}"

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close the pool; calls under way fail."""
        await self._session.close()

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
        """
        Send one request and return the JSON object of the answer.

        Args:
            method: HTTP method; the module's docstring explains why there is no PUT.
            path: Absolute path, already quoted.
            params: Query.
            body: Object to send, or bytes that are sent as they are.
            content_type: Media type of the body.
            accept: Media types that the answer may have.
            timeout: Seconds for the whole call, including the wait for a free connection.
            max_bytes: Largest answer; 0 for no limit. A larger one is not read to its end.

        Raises:
            Rejected: the answer is larger (`OVERSIZED`).
            Unavailable: nothing was sent, since the client yields.
            PortError: see `error_of`. A write whose answer was lost is `Ambiguous`.
        """
        left = self._resume_at - asyncio.get_running_loop().time()
        if left > 0:
            raise Unavailable("the API server asks for a pause", retry_after=left)
        try:
            data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        except TypeError as error:
            raise Rejected("the body cannot be written as JSON") from error
        call = _Call(method, path, params, data, content_type, timeout, accept, max_bytes)
        try:
            async with asyncio.timeout(timeout), AsyncExitStack() as stack:
                response = await self._answer(stack, call)
                with Mapped(write=call.write):
                    found = await body_of(response, call.max_bytes)
        except TimeoutError as error:
            raise no_answer(f"no answer within {timeout:g} s", write=call.write) from error
        try:
            answer = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            raise no_answer("the answer is not JSON", write=call.write) from error
        if not isinstance(answer, dict):
            raise no_answer("the answer is not a JSON object", write=call.write)
        return answer

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
        Open a watch and yield its lines, without line ends.

        The status is checked before a line is read, so entering raises what a request would. The
        iterator ends when the server ends the stream in an orderly way. Leaving closes the
        connection at once.

        Args:
            path: Absolute path, already quoted.
            params: Query.
            connect_timeout: Seconds within which the headers of the answer must arrive.
            idle_timeout: Seconds within which each complete line must arrive.

        Raises:
            OversizedLine: a line is longer than 4 MiB.
            Unavailable: the stream broke, fell silent, or ended inside a line.
            PortError: see `error_of`.
        """
        call = _Call("GET", path, params, None, "", connect_timeout)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(connect_timeout):
                    opened = await self._answer(stack, call)
            except TimeoutError as error:
                raise Unavailable(f"no answer within {connect_timeout:g} s") from error
            yield lines_of(opened, idle_timeout)

    async def _answer(self, stack: AsyncExitStack, call: _Call) -> aiohttp.ClientResponse:
        """Send a call, once more with other credentials if they are refused; `stack` closes the answer."""
        session = await self._current()
        try:
            return await stack.enter_async_context(self._open(session, call))
        except Unauthorised as error:
            if not await self._renew(session, error):
                raise
        return await stack.enter_async_context(self._open(self._session, call))

    @asynccontextmanager
    async def _open(self, session: Session, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        async with session as http:
            response = await self._send(http, session, call)
            try:
                await self._check(response, call)
                yield response
            finally:
                response.close()

    async def _send(
        self, http: aiohttp.ClientSession, session: Session, call: _Call
    ) -> aiohttp.ClientResponse:
        """
        Send a request; the caller closes the answer.

        If the body was read to its end, the connection is back in the pool and closing does nothing.
        Otherwise closing ends the connection, because the rest of the body, endless for a watch, is not
        waited for.
        """
        configuration = session.api.configuration
        headers = {"Accept": call.accept, "User-Agent": self._user_agent}
        if call.data is not None:
            headers["Content-Type"] = call.content_type
        try:
            token = await configuration.get_api_key_with_prefix("BearerToken")
        except (OSError, ConfigException) as error:
            raise Unavailable("the token of the service account cannot be read") from error
        if token:
            headers["Authorization"] = token.strip()  # a token file may end with a newline
        try:
            with Mapped(write=call.write):
                return await http.request(
                    call.method,
                    _url_of(session.base, call),
                    data=call.data,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(None, connect=call.timeout * _CONNECT_SHARE),
                    server_hostname=configuration.tls_server_name,
                    proxy=session.proxy,
                )
        except Unavailable:
            # The server may have a new authority, whose file has changed too: the next call checks.
            self._failed = True
            raise

    async def _check(self, response: aiohttp.ClientResponse, call: _Call) -> None:
        """Raise the error for an answer that is not a success."""
        if not 200 <= response.status <= 299:
            error = await refusal_of(response, write=call.write)
            self._yield(error)
            raise error
        if self._renewals:
            self._accepted()
        self._report_time(response.headers.get("Date", ""))

    def _yield(self, error: PortError) -> None:
        # A resource type that is not served yet says nothing about load.
        if self._yields and isinstance(error, Unavailable) and not isinstance(error, KindMissing):
            wait = min(error.retry_after or 0.0, _YIELD_MOST)
            # The longest wait counts: calls under way may be answered with a shorter one, or with none.
            self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + wait)

    def _report_time(self, date: str) -> None:
        # The header has whole seconds: the first answer of each second comes closest to the true time.
        if date == self._date:
            return
        self._date = date
        with suppress(ValueError, OverflowError):
            self._on_time(round(parsedate_to_datetime(date).timestamp() * 1000))

    async def _current(self) -> Session:
        session, now = self._session, asyncio.get_running_loop().time()
        due = now - self._checked_at >= self._file_check_period
        if due or self._failed:
            self._failed = False
            if due:
                self._checked_at = now
            state = session.current_state
            # Files that could not be read are read again when they change, and once per check period.
            if state != session.state and (due or state != self._read_state):
                async with self._rebuilding:
                    if self._session is session:
                        await self._rebuild()
        return self._session

    async def _renew(self, refused: Session, error: Unauthorised) -> bool:
        """Replace refused credentials if possible; return whether others are in use now."""
        if error.reason != "Unauthorised":
            return False
        async with self._rebuilding:
            if self._session is not refused:
                return True
            now = asyncio.get_running_loop().time()
            if now >= self._renew_at or refused.current_state != self._read_state:
                self._renewals += 1
                self._renew_at = now + exponential(_RENEW_FIRST, _RENEW_MOST, self._renewals)
                if await self._rebuild():
                    return True
                if not self._refused:
                    self._refused = True
                    logger.warning(
                        "the API server refuses the credentials; they are read again when one of"
                        " their files changes, and periodically",
                        extra={"client": self._user_agent, "error": str(error)},
                    )
            return False

    def _accepted(self) -> None:
        """Note that the credentials work. A short pause stays: one of several servers may refuse them."""
        soon = asyncio.get_running_loop().time() + _RENEW_FIRST
        self._renewals, self._renew_at = 0, min(self._renew_at, soon)
        if self._refused:
            self._refused = False
            logger.info(
                "the API server accepts the credentials again", extra={"client": self._user_agent}
            )

    async def _rebuild(self) -> bool:
        """Read the configuration again; return whether it differs from the one in use."""
        old = self._session
        self._read_state = old.current_state
        try:
            new = await self._source.build()
        except ConfigError as error:
            if self._unreadable != str(error):
                self._unreadable = str(error)
                logger.warning(
                    "credentials cannot be reloaded, the old ones stay in use: %s", error
                )
            return False
        self._unreadable = ""
        if new.equals(old):
            await new.close()
            return False
        self._session, self._read_state = new, new.state
        logger.info("credentials and configuration for the API server were reloaded")
        await old.retire()
        return True


def _url_of(base: URL, call: _Call) -> URL:
    """URL of a call; its path is already quoted, so the library need not parse it."""
    url = base.with_path(base.raw_path.rstrip("/") + call.path, encoded=True)
    return url.with_query(call.params) if call.params else url
