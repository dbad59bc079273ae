"""
Wake-ups about logs that other processes have appended to: one subscription, best effort.

A message is a uid on the channel `<prefix>:poke`. It only brings forward a check that a sweep makes
anyway: a message may be lost while there is no connection, and any user with the right to publish can
send one. So a message is never trusted; the log is read. All that was published while nobody listened is
lost, so each new subscription is reported like a message, by a word that is not a uid.

The connection is its own, since a subscribed one can do nothing else. It is given up when it has been
silent for too long (a regular PING keeps a healthy one from that), or when its server is not the one to
subscribe at any more.

`WakeUps` keeps uids until there is time to read their logs. Whoever may publish can send wake-ups, so it is
bounded: a uid waits once, and what comes while it is full is dropped. Nothing is lost by that, since the
sweeps find every record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from syncer.model.errors import LedgerError
from syncer.rules.backoff import exponential
from syncer.runtime.supervise import beside

logger = logging.getLogger("ledger.redis")

#: Reported in the place of a uid once a subscription is up: what was published before it was not heard.
LISTENING: Final = "listening"
#: Seconds between beats, and of silence after which the connection is given up.
_BEAT: Final = 5.0
_SILENCE: Final = 15.0
#: Seconds between tries to connect, at first and at most. A connection that ends sooner than the latter
#: counts as a failed one: each new one costs whoever has to look at everything again.
_PAUSE_FIRST: Final = 0.5
_PAUSE_MOST: Final = 30.0
#: Longer than any uid; what is longer is none.
_LONGEST: Final = 128


class Servers(Protocol):
    """The servers to subscribe at."""

    async def connect_subscriber(self) -> AbstractConnection:
        """
        Make a connection to a server that receives what is published.

        Raises:
            RedisError, OSError, TimeoutError, LedgerError: there is none now.
        """

    def serves_subscriber(self, connection: AbstractConnection) -> bool:
        """Whether the server of such a connection is still one to listen to."""


class Subscriber:
    """A subscription that is made again whenever it ends, until cancelled."""

    def __init__(
        self, servers: Servers, channel: str, on_message: Callable[[str], None], *, timeout: float
    ) -> None:
        """
        Prepare; nothing is connected yet.

        `on_message` is called with each message, and with `LISTENING`; it must not block. `timeout` is the
        seconds for the reply to the subscription.
        """
        self._servers = servers
        self._channel = channel
        self._on_message = on_message
        self._timeout = timeout
        #: Connections in a row that failed, or ended soon.
        self._failures = 0
        self._problem = ""
        #: Whether a subscription is up now.
        self.listening = False
        #: Second of the loop's clock at which the last one ended.
        self.ended = 0.0
        #: How many subscriptions there were, that one included.
        self.count = 0

    async def run(self) -> None:
        """Subscribe, again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._listen()
                problem = ""
            except (RedisError, OSError, TimeoutError, LedgerError) as error:
                problem = type(error).__name__
            finally:
                if self.listening:
                    self.listening, self.ended = False, loop.time()
            if problem and problem != self._problem:
                logger.info(
                    "wake-ups cannot be received; only sweeps find records of other processes",
                    extra={"reason": problem},
                )
            self._problem = problem
            lasted = loop.time() - began > _PAUSE_MOST
            self._failures = 1 if lasted else self._failures + 1
            await asyncio.sleep(exponential(_PAUSE_FIRST, _PAUSE_MOST, self._failures))

    async def _listen(self) -> None:
        connection = await self._servers.connect_subscriber()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_command("SUBSCRIBE", self._channel, check_health=False)
                await connection.read_response()
            self.listening, self._problem = True, ""
            self.count += 1
            self._on_message(LISTENING)
            async with beside(self._beat(connection), "redis-subscriber-beat"):
                while self._servers.serves_subscriber(connection):
                    async with asyncio.timeout(_SILENCE):
                        self._take(await connection.read_response())
        finally:
            await connection.disconnect(nowait=True)

    @staticmethod
    async def _beat(connection: AbstractConnection) -> None:
        # An error shows where the connection is read.
        with contextlib.suppress(RedisError, OSError):
            while True:
                await asyncio.sleep(_BEAT)
                await connection.send_command("PING", check_health=False)

    def _take(self, reply: Any) -> None:
        if not (isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message"):
            return
        data = bytes(reply[2])
        text = data.decode("utf-8", "replace")
        # A subscription costs a look at everything, so nobody may report one by a message.
        if 0 < len(data) <= _LONGEST and text != LISTENING:
            self._on_message(text)


#: Uids that may wait.
MAX_WAITING: Final = 4096


class WakeUps:
    """A buffer of uids, each at most once, oldest first."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._waiting: dict[str, None] = {}
        self._some = asyncio.Event()

    def add(self, uid: str) -> None:
        """Request that the log of a uid is read again."""
        if len(self._waiting) < self._limit or uid in self._waiting:
            self._waiting[uid] = None
            self._some.set()

    async def get(self) -> str:
        """Wait for the next uid."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        uid = next(iter(self._waiting))
        del self._waiting[uid]
        return uid
