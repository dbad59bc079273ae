"""The door to the API server: one call, one deadline, one error tree.

kubernetes-asyncio supplies configuration and authentication (kubeconfig, in-cluster, exec plugins,
client certificates) and the aiohttp connector made from them. Its calls are not used: they have no
timeouts and send a dict as a JSON patch; nor are its `Watch` and leader election, which spin and
split the brain. Requests go straight to a session of our own, bodies through orjson.

Invariants:

- Every call ends at its timeout, a renewal of the credentials and the repeat after it included.
- A write ends in success, in an error that says "not executed", or in `Ambiguous`. It is repeated
  only after a 401. Writes are POST and PATCH: aiohttp repeats PUT and DELETE by itself when a kept
  connection turns out dead, and a lost reply would come back as a conflict with ourselves. DELETE
  is there for those who name what they delete and take "gone" for an answer; PUT is not.
- Each answer tells the server's time (`on_time`).
- No text of the vendor reaches an error or a log. Its errors show addresses, those about a
  kubeconfig the user entry with its token, those about an exec plugin what the plugin printed. Only
  the message of a Status object is quoted, bounded.
- Credentials are rebuilt after a 401 and when one of their files has changed. Calls under way end
  on the old session; it is closed after the last of them.

A client belongs to its creator and shares nothing. Leases get a client of their own, so that status
writes cannot starve a renewal.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from yarl import URL

from syncer.kube.transport import (
    ApiClient,
    ConfigException,
    Configuration,
    load_incluster_config,
    load_kube_config,
)
from syncer.model.conditions import bounded
from syncer.model.errors import (
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
from syncer.runtime.proxies import proxy_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from typing import Self

Json = dict[str, Any]
Method = Literal["GET", "POST", "PATCH", "DELETE"]

MERGE_PATCH: Final = "application/merge-patch+json"

#: Of a stream; a line may be twice as long. One event of a watch holds a whole object, of up to 3 MiB.
_READ_BYTES: Final = 2 * 2**20
_ERROR_BYTES: Final = 256
#: A refusal may quote the whole object, which the server itself limits to 3 MiB.
_ERROR_BODY_BYTES: Final = 4 * 2**20
_RETRY_AFTER_MAX: Final = 300.0
#: Connecting may use up this share of a timeout. Running out of it is known to be "not executed".
_CONNECT_SHARE: Final = 0.75
#: Between rebuilds that a 401 asked for: refused credentials must not start a plugin per call.
_RENEW_PAUSE: Final = 2.0
_FILE_CHECK_PERIOD: Final = 10.0
_REQUEST_TOO_LARGE: Final = ("request is too large", "larger than max")
_PLUGIN_EXIT: Final = re.compile(r"exec: process returned -?\d+")

_log = logging.getLogger(__name__)


#: Reason of a refusal to read on in an answer that is too large.
OVERSIZED: Final = "Oversized"


class OversizedLine(Expired):
    """A line of a watch was too long to be read: what it said is lost, list again."""


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


@dataclass(slots=True, eq=False, repr=False)
class _Transport:
    """One session and the configuration it was made from; closed when retired and unused."""

    api: ApiClient
    session: aiohttp.ClientSession
    proxy: URL | None
    files: tuple[Path, ...]
    state: tuple[tuple[int, int, int], ...]
    users: int = 0
    retired: bool = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[aiohttp.ClientSession]:
        self.users += 1
        try:
            yield self.session
        finally:
            self.users -= 1
            if self.retired and not self.users:
                await self.close()

    async def retire(self) -> None:
        self.retired = True
        if not self.users:
            await self.close()

    async def close(self) -> None:
        await self.session.close()

    @property
    def outdated(self) -> bool:
        return _state_of(self.files) != self.state


class KubeClient:
    """A connection pool to one API server under one identity.

    Made by `connect`, ended by `close` or by leaving the context. Safe to share between tasks of
    one event loop.

    Attributes:
        rebuilds: How often session and credentials were made anew.
    """

    def __init__(
        self, source: _Source, user_agent: str, transport: _Transport, file_check_period: float
    ) -> None:
        """Use `connect`."""
        self._source = source
        self._user_agent = user_agent
        self._transport = transport
        self._file_check_period = file_check_period
        self._rebuilding = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._checked_at = asyncio.get_running_loop().time()
        self.rebuilds = 0
        #: Told the server's time, in Unix milliseconds, as often as an answer brings another one.
        self.on_time: Callable[[int], None] = lambda _now: None
        self._date = ""

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None,
        *,
        user_agent: str,
        strict_x509: bool = True,
        file_check_period: float = _FILE_CHECK_PERIOD,
    ) -> Self:
        """Read the configuration; no request is sent.

        Args:
            kubeconfig: Path of a kubeconfig, or several joined by `:`. None takes `$KUBECONFIG`,
                else the service account of the pod.
            user_agent: Names this program in the server's audit log.
            strict_x509: False accepts certificates without the key identifiers that RFC 5280
                demands, which Python 3.13 and later refuse and some clusters still have.
            file_check_period: Seconds between looks at the files of the configuration.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        # At DEBUG the one prints whole bodies, at ERROR the other prints what an exec plugin said.
        for name, level in (
            ("kubernetes_asyncio.client.rest", logging.INFO),
            ("kubernetes_asyncio.config.kube_config", logging.CRITICAL),
        ):
            logging.getLogger(name).setLevel(level)
        source = _Source(kubeconfig or os.environ.get("KUBECONFIG") or "", strict_x509)
        return cls(source, user_agent, await source.build(), file_check_period)

    @property
    def address(self) -> str:
        """Scheme, host and port of the server, without whatever else its URL holds."""
        url = URL(self._transport.api.configuration.host or "")
        return f"{url.scheme}://{url.host or '?'}:{url.port or '?'}"

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close the pool; calls under way fail."""
        await self._transport.close()

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
        """Send one request and return the JSON object of the answer.

        Args:
            method: HTTP method; why there is no PUT is said at the top.
            path: Absolute path, already quoted.
            params: Query.
            body: Object to send, or bytes that are sent as they are.
            content_type: Of the body.
            accept: Forms of the answer to choose from.
            timeout: Seconds for everything, waiting for a free connection included.
            max_bytes: Of the answer, 0 for no bound. A larger one is not read to its end.

        Raises:
            Rejected: the answer is larger (`OVERSIZED`).
            PortError: see `error_of`. A write whose answer was lost is `Ambiguous`.
        """
        try:
            data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        except TypeError as error:
            raise Rejected("the body cannot be written as JSON") from error
        call = _Call(method, path, params, data, content_type, timeout, accept, max_bytes)
        try:
            async with asyncio.timeout(timeout):
                transport = await self._current()
                try:
                    return await self._once(transport, call)
                except Unauthorised as error:
                    if not await self._renew(transport, error):
                        raise
                return await self._once(self._transport, call)
        except TimeoutError as error:
            raise _lost(f"no answer within {timeout:g} s", write=call.write) from error

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        idle_timeout: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch and hand out its lines, without their ends.

        The status is checked before a line is read, so entering raises what a request would. The
        iterator ends when the server ends the stream in an orderly way. Leaving closes the
        connection at once.

        Args:
            path: Absolute path, already quoted.
            params: Query.
            connect_timeout: Seconds until the headers of the answer are there.
            idle_timeout: Seconds within which each complete line must arrive.

        Raises:
            OversizedLine: a line did not fit the read buffer (4 MiB).
            Unavailable: the stream broke, fell silent, or ended inside a line.
            PortError: see `error_of`.
        """
        call = _Call("GET", path, params, None, "", connect_timeout)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(connect_timeout):
                    transport = await self._current()
                    try:
                        opened = await stack.enter_async_context(self._open(transport, call))
                    except Unauthorised as error:
                        if not await self._renew(transport, error):
                            raise
                        opened = await stack.enter_async_context(self._open(self._transport, call))
            except TimeoutError as error:
                raise Unavailable(f"no answer within {connect_timeout:g} s") from error
            yield _lines(opened, idle_timeout)

    async def _once(self, transport: _Transport, call: _Call) -> Json:
        async with self._open(transport, call) as response:
            with _mapped(write=call.write):
                body = await _body_of(response, call.max_bytes)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _lost("the answer is not JSON", write=call.write) from error
        if not isinstance(answer, dict):
            raise _lost("the answer is not a JSON object", write=call.write)
        return answer

    @asynccontextmanager
    async def _open(
        self, transport: _Transport, call: _Call
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if call.method not in ("GET", "POST", "PATCH", "DELETE"):
            raise ValueError(f"method {call.method} would be repeated without asking")
        configuration = transport.api.configuration
        headers = {"Accept": call.accept, "User-Agent": self._user_agent}
        if call.data is not None:
            headers["Content-Type"] = call.content_type
        try:
            token = await configuration.get_api_key_with_prefix("BearerToken")
        except (OSError, ConfigException) as error:
            raise Unavailable("the token of the service account cannot be read") from error
        if token:
            headers["Authorization"] = token.strip()  # a token file may end in a line end
        async with transport.use() as session:
            with _mapped(write=call.write):
                response = await session.request(
                    call.method,
                    f"{configuration.host}{call.path}",
                    params=call.params,
                    data=call.data,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None, connect=call.timeout * _CONNECT_SHARE
                    ),
                    server_hostname=configuration.tls_server_name,
                    proxy=transport.proxy,
                    proxy_headers=configuration.proxy_headers,
                )
            try:
                if not 200 <= response.status <= 299:
                    raise await _refusal(response, write=call.write)
                self._tell_time(response.headers.get("Date", ""))
                yield response
            finally:
                # Once the body was read to its end the connection is back in the pool, and this
                # does nothing; else the rest, endless for a watch, is not waited for.
                response.close()

    def _tell_time(self, date: str) -> None:
        # Whole seconds: the first answer of each is the one that comes closest.
        if date == self._date:
            return
        self._date = date
        with suppress(ValueError, OverflowError):
            self.on_time(round(parsedate_to_datetime(date).timestamp() * 1000))

    async def _current(self) -> _Transport:
        now = asyncio.get_running_loop().time()
        if now - self._checked_at >= self._file_check_period:
            self._checked_at = now
            transport = self._transport
            if transport.outdated:
                async with self._rebuilding:
                    if self._transport is transport:
                        await self._rebuild()
        return self._transport

    async def _renew(self, refused: _Transport, error: Unauthorised) -> bool:
        """Whether credentials other than the refused ones are in place now."""
        if error.reason != "Unauthorised":
            return False
        async with self._rebuilding:
            if self._transport is not refused:
                return True
            now = asyncio.get_running_loop().time()
            if now - self._renewed_at < _RENEW_PAUSE:
                return False
            self._renewed_at = now
            return await self._rebuild()

    async def _rebuild(self) -> bool:
        old = self._transport
        try:
            self._transport = await self._source.build()
        except ConfigError as error:
            _log.warning("credentials cannot be read again, the old ones stay: %s", error)
            return False
        self.rebuilds += 1
        await old.retire()
        return True


@dataclass(frozen=True, slots=True)
class _Source:
    """Where configuration comes from; an empty kubeconfig means the pod's service account."""

    kubeconfig: str
    strict_x509: bool

    async def build(self) -> _Transport:
        configuration = Configuration()
        configuration.disable_strict_ssl_verification = not self.strict_x509
        try:
            files = await self._load(configuration)
            for name in (
                configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file,
            ):  # fmt: skip
                if name:
                    files.append(Path(name))
            # Taken before the files are read into the TLS context: a change in between is seen.
            state = _state_of(tuple(files))
            proxy = _proxy_of(configuration)
            api = ApiClient(configuration)
            return _Transport(api, _session_of(api), proxy, tuple(files), state)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - the vendor raises anything for a file that is wrong
            # The vendor raises whatever a malformed file leads to (TypeError, AssertionError, ...).
            raise ConfigError(f"{self._name} cannot be used ({_kind_of(error)})") from None

    @property
    def _name(self) -> str:
        return "the kubeconfig" if self.kubeconfig else "the service account"

    async def _load(self, configuration: Configuration) -> list[Path]:
        if not self.kubeconfig:
            try:
                load_incluster_config(  # type: ignore[no-untyped-call]  # vendor
                    client_configuration=configuration
                )
            except ConfigException:
                raise ConfigError(
                    "no access to a cluster is configured: no kubeconfig is named, "
                    "and this is not a pod with a service account"
                ) from None
            return []
        files = _existing(self.kubeconfig)
        if not files:
            raise ConfigError("the kubeconfig does not exist")
        # A daemon does not write to its configuration, hence not persist_config.
        await load_kube_config(
            config_file=os.pathsep.join(map(str, files)),
            client_configuration=configuration,
            persist_config=False,
        )
        return files


def _session_of(api: ApiClient) -> aiohttp.ClientSession:
    """
    A session on the vendor's connector, which holds the TLS context.

    The vendor's own session looks for a proxy and for `.netrc` at each request, each time in a thread:
    that is half the CPU of a small request, and what `.netrc` has for the host would be sent.
    """
    vendor = api.rest_client.pool_manager
    connector = vendor.connector
    vendor.detach()
    session = aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BYTES,
    )
    api.rest_client.pool_manager = session
    return session


def _proxy_of(configuration: Configuration) -> URL | None:
    """
    The proxy that the kubeconfig names, else the environment's.

    Raises:
        ValueError: it is no URL.
    """
    host = URL(configuration.host or "")
    proxy = configuration.proxy or proxy_for(
        host.scheme, host.raw_host or "", host.port or 0, os.environ
    )
    return URL(proxy) if proxy else None


def _existing(paths: str) -> list[Path]:
    named = (Path(p).expanduser() for p in paths.split(os.pathsep) if p)
    return [p for p in named if p.exists()]


def _state_of(files: tuple[Path, ...]) -> tuple[tuple[int, int, int], ...]:
    # Links are followed: mounted secrets change by a change of a link.
    out = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            out.append((0, 0, 0))
        else:
            out.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(out)


def _kind_of(error: Exception) -> str:
    found = _PLUGIN_EXIT.match(str(error)) if isinstance(error, ConfigException) else None
    return found.group() if found else type(error).__name__


async def _body_of(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    if not max_bytes:
        return await response.read()
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > max_bytes:
            raise Rejected(f"the answer is larger than {max_bytes} bytes", reason=OVERSIZED)
    return bytes(body)


async def _lines(response: aiohttp.ClientResponse, idle_timeout: float) -> AsyncIterator[bytes]:
    while True:
        try:
            with _mapped(write=False):
                async with asyncio.timeout(idle_timeout):
                    line = await response.content.readline()
        except TimeoutError as error:
            raise Unavailable(f"silence for {idle_timeout:g} s") from error
        if not line:
            return
        if not line.endswith(b"\n"):
            raise Unavailable("the stream ended inside a line")
        yield line[:-1]


async def _refusal(response: aiohttp.ClientResponse, *, write: bool) -> PortError:
    body = b""
    try:
        while len(body) < _ERROR_BODY_BYTES and (
            chunk := await response.content.read(_ERROR_BODY_BYTES - len(body))
        ):
            body += chunk
    except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError):
        body = b""  # the status has been said; an explanation that breaks off changes nothing
    return error_of(response.status, body, response.headers.get("Retry-After"), write=write)


@contextmanager
def _mapped(*, write: bool) -> Iterator[None]:
    try:
        yield
    except (
        aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError,
    ) as error:  # fmt: skip
        word = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
        raise Unavailable(f"cannot connect{_whereto(error)} ({word})") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise Rejected("the address of the API server is not a URL", reason="BadURL") from None
    except LineTooLong:
        raise OversizedLine("a line is too long to be read") from None  # it quotes the line
    except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            raise
        raise _lost(f"connection lost ({type(error).__name__})", write=write) from error


def _whereto(error: BaseException) -> str:
    """Host and port that a connection was to go to; a URL, which may hold credentials, is no part of it."""
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    return f" to {host}:{port}" if host and port else ""


def _lost(text: str, *, write: bool) -> PortError:
    return Ambiguous(text) if write else Unavailable(text)


def error_of(  # noqa: C901, PLR0911, PLR0912 (a table)
    status: int, body: bytes, retry_after: str | None, *, write: bool
) -> PortError:
    """Return the error that an answer other than 2xx amounts to.

    A 404 is `Gone` only if a Status object names what is missing; all else (the plain text that
    unknown paths get, a collection that is not served) is `KindMissing`, and says nothing about
    objects. An overloaded or failing server has not executed a read; whether it has executed a
    write is known only where it says so.

    Args:
        status: HTTP status.
        body: Body of the answer, of any kind.
        retry_after: The header, or None.
        write: Whether the request may have changed something.
    """
    said = _Said.read(body)
    text = bounded(
        f"{status} {said.reason}: {said.message}".rstrip(": ") if said.known else str(status),
        _ERROR_BYTES,
    )
    wait = _seconds(retry_after, said)
    match status:
        case 401:
            return Unauthorised(text)
        case 403 if "NamespaceTerminating" in said.causes:
            return Rejected(text, reason="NamespaceTerminating")
        case 403:
            return Unauthorised(text, reason="Forbidden")
        case 404:
            return Gone(text) if said.name else KindMissing(text)
        case 409:
            return Conflict(text)
        case 410:
            return Expired(text)
        case 413:
            return Rejected(text, reason="TooLarge")
        case 422:
            return Rejected(text, reason="Invalid")
        case 429 if "storage is (re)initializing" in said.message:
            return KindMissing(text, retry_after=wait)
        case 429:
            return Unavailable(text, retry_after=wait)
        case 500 if any(words in said.message for words in _REQUEST_TOO_LARGE):
            return Rejected(text, reason="TooLarge")
        case 503 if wait is not None:
            return Unavailable(text, retry_after=wait)
        case _ if status == 408 or status >= 500:
            return Ambiguous(text) if write else Unavailable(text, retry_after=wait)
        case _:
            return Rejected(text, reason=said.reason or f"HTTP{status}")


@dataclass(frozen=True, slots=True)
class _Said:
    """What a Status object says; empty for a body that is none."""

    known: bool = False
    reason: str = ""
    message: str = ""
    name: str = ""
    causes: frozenset[str] = frozenset()
    retry_after: object = None

    @classmethod
    def read(cls, body: bytes) -> _Said:
        try:
            status = orjson.loads(body)
        except orjson.JSONDecodeError:
            return cls()
        if not isinstance(status, dict) or status.get("kind") != "Status":
            return cls()
        details = status.get("details")
        details = details if isinstance(details, dict) else {}
        causes = details.get("causes")
        return cls(
            known=True,
            reason=str(status.get("reason") or ""),
            message=str(status.get("message") or ""),
            name=str(details.get("name") or ""),
            causes=frozenset(
                str(c.get("reason")) for c in causes if isinstance(c, dict)
            ) if isinstance(causes, list) else frozenset(),
            retry_after=details.get("retryAfterSeconds"),
        )  # fmt: skip


def _seconds(header: str | None, said: _Said) -> float | None:
    for given in (header, said.retry_after):
        try:
            seconds = float(given)  # type: ignore[arg-type]  # None raises as well, and is caught
        except (TypeError, ValueError):
            continue  # absent, or a date, which the API server does not send
        if seconds >= 0:  # also refuses "nan"
            return min(seconds, _RETRY_AFTER_MAX)
    return None
