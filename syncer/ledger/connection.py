"""
Connections to Redis: their options, one command on one of them, and what their errors mean.

Before a connection is used nothing has been executed, so whatever prevents or ends it is one of the
project's errors here, with the place and the system's name of the cause and no text of the vendor. Those
about the options of a URL name no option, or quote values; a whole URL is a secret, so only the name of an
option is shown, and only where it cannot be part of a password.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from syncer.ledger.replies import classify_reply, is_malformed
from syncer.ledger.url import RedisTarget
from syncer.model.errors import ConfigError, LedgerError, Unavailable, reason_of
from syncer.runtime.causes import bad_pem, cause_of
from syncer.runtime.clock import monotonic_clock
from syncer.runtime.places import own

#: Connections of one pool.
_CONNECTIONS: Final = 4
#: What a server says, and the vendor passes on, before it closes a connection that is one too many.
_FULL: Final = "max number of clients reached"
#: What the vendor says where a server, or what stands in its place, ends a connection without a word.
_CLOSED: Final = "Connection closed by server"
_NAME: Final = re.compile(r"[a-z_]{2,32}")
#: Options that name files.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_BAD_PEM: Final = {
    "": "",
    "authority": "option ssl_ca_certs of the URL names a file that holds no certificate in PEM",
    "certificate": "options ssl_certfile and ssl_keyfile of the URL name files that are not a certificate"
    " and its key in PEM",
}
#: Member added to INFO: milliseconds between the server's clock and our monotonic clock.
CLOCK: Final = "clock_offset_ms"


def with_clock(info: dict[str, str]) -> dict[str, str]:
    """
    Add to INFO the offset between the server's clock and our monotonic clock (`CLOCK`).

    It is computed when the reply arrives, so it stays right however late it is read.
    """
    micros = info.get("server_time_usec", "")
    if micros.isdigit():
        info[CLOCK] = str(round(int(micros) / 1000 - monotonic_clock() * 1000))
    return info


def refuse_sentinel(info: dict[str, str]) -> None:
    """Check that INFO is that of a server which holds keys, and raise ConfigError for a Sentinel."""
    if info.get("redis_mode") == "sentinel":
        raise ConfigError(
            "this is a Sentinel, not a server; begin the URL with redis+sentinel:// and name the service",
            path="redis.url",
        )


@contextlib.contextmanager
def once_open() -> Iterator[None]:
    """Raise Unavailable for ConfigError, which ends a start alone: a call waits for its servers."""
    try:
        yield
    except ConfigError as error:
        raise Unavailable(str(error)) from error


async def ask(connection: AbstractConnection, *command: bytes | str | int) -> Any:
    """Send one command on a connection that only the caller uses, and read its reply."""
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


def lost_connection(
    error: BaseException, place: str, kind: type[AbstractConnection]
) -> LedgerError:
    """Map the error of a connection of that kind to `place` that could not be made, or was lost."""
    at = f" at {own(place)}" if place else ""
    # The vendor takes LOADING for a lost connection.
    if isinstance(
        error, ResponseError | AuthenticationError | AuthorizationError | BusyLoadingError
    ):
        return classify_reply(error)
    if isinstance(error, RedisConnectionError) and isinstance(error.__cause__, LedgerError):
        return error.__cause__
    if isinstance(error, RedisTimeoutError | TimeoutError):
        # A server without TLS waits for the rest of what is none of its commands.
        over = " over TLS (rediss://)" if issubclass(kind, SSLConnection) else ""
        return Unavailable(f"Redis does not answer in time{at}{over}")
    cause = error.__cause__ if isinstance(error, RedisConnectionError) else error
    if is_malformed(cause):
        return Unavailable(f"the server{at} is not Redis")
    word = _FULL if _FULL in str(error) else cause_of(error)
    if not word and _CLOSED in str(error):
        word = "it closes the connection"
    return Unavailable(f"Redis cannot be reached{at}{f' ({word})' if word else ''}")


def connection_options(timeout: float) -> dict[str, Any]:
    """The vendor's options of every connection: no retries, and no limits but ours."""
    return {
        "protocol": 2,
        # Not the vendor's limit: on Python 3.11 its `wait_for` around a write can lose a
        # cancellation, and a pipeline that cannot be cancelled does not end. The pipeline sets limits.
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        # The vendor would send its name by CLIENT SETINFO, which Redis 7.0 does not know, not even in
        # a user's rule; a server counts and logs what it refuses.
        "driver_info": None,
        "max_connections": _CONNECTIONS,
    }


def file_problem(target: RedisTarget) -> str:
    """Return which file that is needed for TLS cannot be used and why, empty if all can."""
    options = dict(parse_qsl(urlsplit(target.server).query)) if target.tls else {}
    for name in _FILES:
        try:
            if name in options:
                with open(options[name], "rb") as file:  # noqa: PTH123 - a path may hold what Path refuses
                    file.read(1)
        except (OSError, ValueError) as error:
            return f"option {name} of the URL names a file that cannot be read: {reason_of(error)}"
    authority, certificate, key = map(options.get, _FILES)
    return _BAD_PEM[bad_pem(authority, certificate, key, options.get("ssl_password", ""))]


def option_problem(target: RedisTarget) -> str:
    """Return which option cannot be used, as far as that is known and may be shown."""
    parts = urlsplit(target.server)
    for name, value in parse_qsl(parts.query):
        alone = f"{'rediss' if target.tls else 'redis'}://h?{urlencode({name: value})}"
        try:
            pool = ConnectionPool.from_url(alone, **connection_options(1.0))
            pool.make_connection()  # type: ignore[no-untyped-call]  # vendor
        except (ValueError, TypeError, OSError, RedisError) as error:
            if "@" in parts.query or not _NAME.fullmatch(name):
                break
            if isinstance(error, TypeError):
                return f"option {name} of the URL is not known"
            return f"option {name} of the URL has a value that cannot be used"
    return "an option in the URL cannot be used"
