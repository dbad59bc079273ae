"""
Connections to the master that Redis Sentinels name.

Connecting is redis-py's; three things are ours. Its connection turns READONLY into a lost connection,
which would make a plain refusal look like an unknown result, so the reply is passed on as it is.
A connection that is up stays up when the Sentinels name another master, so `current` compares its
address with the newest answer, and `confirm` reads one every few seconds: behind a partition the old
master would go on accepting writes that are lost later.
And redis-py believes the first Sentinel that answers. One that was cut off with the old master, or
remembers an address that is another's by now, would take replicas of this product to different servers,
where a claim in one does not fence the other. So all are asked at once, and the answer of the latest
failover counts (`config-epoch`, by which Sentinels themselves decide), then that of most Sentinels. An
answer from before a failover that was seen is none, where those who know of it are out of reach. That of
most Sentinels is one all the same: they count from nothing once they are set up anew.

If two answers are equal in both, the first Sentinel decides; `distrust` puts it behind the others, so that
the next connection goes to the other address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from syncer.ledger.connection import connection_options, option_problem
from syncer.ledger.url import RedisTarget
from syncer.model.errors import ConfigError, Unavailable

#: Options of a Redis connection that one to a Sentinel has too.
_SHARED: Final = ("ssl_", "socket_")


class _Master(SentinelManagedConnection):
    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        return await Connection.read_response(self, *args, **kwargs)


class _MasterOverTls(_Master, SSLConnection):
    pass


class _Sentinels(Sentinel):
    #: The latest failover that an answer was believed for.
    _failover = 0

    async def discover_master(self, service_name: str) -> tuple[str, int]:  # noqa: V105 (for the pool)
        """
        Return the address of the master.

        Raises:
            RedisError: none is known, or the credentials are refused.
        """
        replies = await asyncio.gather(
            *(s.sentinel_masters() for s in self.sentinels), return_exceptions=True
        )
        known = [r[service_name] for r in replies if isinstance(r, dict) and service_name in r]
        healthy = [m for m in known if self.check_master_state(m, service_name)]
        if healthy:
            newest = max(m["config-epoch"] for m in healthy)
            named = [(m["ip"], m["port"]) for m in healthy if m["config-epoch"] == newest]
            most = max(named, key=named.count)
            if newest >= self._failover or named.count(most) * 2 > len(self.sentinels):
                self._failover = newest
                return most
        for reply in replies:
            # Otherwise a refused password would be taken for a Sentinel that is away.
            if isinstance(reply, AuthenticationError | AuthorizationError | ResponseError):
                raise reply
        raise RedisConnectionError("no master") from Unavailable(
            "the Sentinels know no healthy master of that service since its last failover, or do not answer"
        )


class Master:
    """The master of one service, wherever it is now."""

    def __init__(
        self,
        target: RedisTarget,
        on_connect: Callable[[AbstractConnection], Awaitable[None]],
        *,
        timeout: float,
    ) -> None:
        """
        Prepare, and connect to nothing yet; ConfigError if the URL's options cannot be used.

        `on_connect` is called on each new connection to the master. `timeout` is the seconds for
        connecting to it and for each reply, and for all Sentinels together.
        """
        try:
            options = dict(parse_url(target.server))
        except ValueError:
            raise ConfigError(option_problem(target), path="redis.url") from None
        for name in ("host", "port", "connection_class"):
            options.pop(name, None)
        # An option in the URL wins, as for one server.
        options = connection_options(timeout) | options
        # One that does not answer holds up what the others say.
        share = max(0.2, timeout / len(target.nodes))
        own = {k: v for k, v in options.items() if k.startswith(_SHARED)}
        own |= {
            "protocol": 2,
            "retry": options["retry"],
            "retry_on_error": [],
            "socket_timeout": share,
            "socket_connect_timeout": share,
            "username": target.sentinel_username or None,
            "password": target.sentinel_password or None,
            "ssl": target.tls,
        }
        self._sentinel = _Sentinels(target.nodes, sentinel_kwargs=own)  # type: ignore[no-untyped-call]  # vendor
        self.pool = SentinelConnectionPool(
            target.service,
            self._sentinel,
            connection_class=_MasterOverTls if target.tls else _Master,
            redis_connect_func=on_connect,
            **options,
        )  # type: ignore[no-untyped-call]  # vendor

    def current(self, connection: AbstractConnection) -> bool:
        """Whether a connection goes to the address that the Sentinels named last."""
        named = self.pool.master_address
        return named is None or named == (
            getattr(connection, "host", None), getattr(connection, "port", None)
        )  # fmt: skip

    async def confirm(self) -> None:
        """Read the address again; without an answer the last one stays valid."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self.pool.get_master_address()  # type: ignore[no-untyped-call]  # vendor

    def distrust(self) -> None:
        """Ask another Sentinel first next time."""
        sentinels = self._sentinel.sentinels
        sentinels.append(sentinels.pop(0))

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self._sentinel.aclose()
