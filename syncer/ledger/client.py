"""
The connection to Redis: one interface to three topologies.

The URL selects a single server, the master that Sentinels name, or a Redis Cluster; callers
see no difference. Calls go to a pipeline (`pipeline.py`), through `standalone.py` or
`redis_cluster.py`; the client's `RedisState` has what is known of the servers.

Redis may answer and still execute no writes; `writes.py` knows that by the writes of `evaluate` alone, and
by the probes of a `probing` client.

Nothing is retried here. A write whose reply is lost is `Ambiguous`; `log.py`, which knows that each
script may be run again, repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from syncer.ledger import subscriber
from syncer.ledger.connection import file_problem, option_problem
from syncer.ledger.lua import PROBE, Script
from syncer.ledger.pipeline import Call
from syncer.ledger.standalone import Standalone
from syncer.ledger.store import RedisState, Server
from syncer.ledger.url import RedisTarget, Topology, parse_redis_url, place_of
from syncer.ledger.writes import DECIDING, PADDING
from syncer.model.errors import (
    ConfigError,
    ContractError,
    LedgerError,
    PortError,
    Unauthorised,
    Unavailable,
)
from syncer.runtime.supervise import critical, restarting

if TYPE_CHECKING:
    from syncer.ledger.redis_cluster import Cluster

logger = logging.getLogger("ledger.redis")

#: Commands that share one wait.
_TOGETHER: Final = 96
#: Seconds for which answers may still arrive of a server that has ended.
_DYING: Final = 0.5
#: Keys that are tried for one that a primary holds; one without any among them holds next to no logs.
_TRIED: Final = 2048
#: Seconds between checks for an outage, and for the end of one; and those from which on it is logged.
_OUTAGE_POLL: Final = 1.0
_OUTAGE_END_POLL: Final = 0.25
_OUTAGE_NOTICE: Final = 1.0


class LedgerClient(RedisState):
    """
    The client of one store.

    `run()` must be running for calls to be answered. All calls are safe to cancel; a cancelled call
    may still be executed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "nl",
        timeout: float = 3.0,
        confirming: bool = False,
        fitness: Callable[[dict[str, str]], str | None] = lambda _info: None,
        on_change: Callable[[], None] = lambda: None,
        on_wake_up: Callable[[str], None] | None = None,
        probing: bool = False,
    ) -> None:
        """
        Prepare a client; nothing is connected yet.

        Args:
            url: As `syncer.ledger.url` describes; never appears in a text.
            prefix: Of every key.
            timeout: Seconds for connecting, and for each reply.
            confirming: A replica must confirm intents, where there are any.
            fitness: Why a server must not be given attempts, from the members of INFO; None if it may.
            on_change: Called after another server or store has answered.
            on_wake_up: Called with the uids of logs that others have appended to; without it,
                nothing is listened to.
            probing: Make probes, which write, so that `able` is known.

        Raises:
            ConfigError: the URL cannot be used.
        """
        super().__init__(prefix, confirming=confirming, fitness=fitness, on_change=on_change)
        self._timeout = timeout
        self.on_wake_up = on_wake_up
        try:
            target = parse_redis_url(url)
        except ValueError as error:
            raise ConfigError(str(error), path="redis.url") from error
        #: Hosts and ports, for texts.
        self.place = place_of(target)
        self._probing = probing
        self._listener: subscriber.Subscriber | None = None
        #: Other scripts that the user may not run, as logged.
        self._forbidden: set[str] = set()
        self._spread = target.topology is Topology.CLUSTER
        if problem := file_problem(target):
            raise ConfigError(problem, path="redis.url")
        try:
            self._servers: Standalone | Cluster = _servers_of(target)(target, self, timeout=timeout)
        except (ValueError, TypeError, OSError, RedisError):
            # TypeError: an option that the vendor does not know. OSError: a file that is not there.
            raise ConfigError(option_problem(target), path="redis.url") from None

    async def evaluate(
        self,
        script: Script,
        key: str,
        args: Sequence[bytes | str | int],
        *,
        wait: tuple[int, int] | None = None,
    ) -> Any:
        """
        Run a script on one key.

        Args:
            script: What to run.
            key: On which key.
            args: With which arguments.
            wait: Replicas that must have the write, and milliseconds to wait for them. The result
                is then a pair: the reply, and how many replicas confirmed. Such calls share a
                connection of their own, and one WAIT for all that are on their way together.

        Raises:
            Unavailable: not executed.
            Ambiguous: may have been executed.
            Rejected: refused for good (wrong type, no permission).
            ContractError: the key holds something that is not a log of this format.
        """
        command = ("EVALSHA", script.sha, 1, key, *args)
        primary = self._servers.primary_of(key)
        try:
            reply = await self._submit(Call(command, script, wait))
        except (PortError, TimeoutError) as error:
            self.writes.on_error(primary, script, error)
            self._note_forbidden(script, error)
            raise
        answer = reply[0] if wait else reply
        if not (isinstance(answer, list) and answer and isinstance(answer[0], bytes)):
            raise ContractError("the server is not Redis: a script got an unexpected answer")
        self.writes.on_executed(primary, script)
        self._forbidden.discard(script.name)
        return reply

    def _note_forbidden(self, script: Script, error: Exception) -> None:
        """Log once that the user may not run a script; for one that decides, the outage is logged."""
        forbidden = isinstance(error, Unauthorised) and error.reason == "NOPERM"
        if forbidden and script not in DECIDING and script.name not in self._forbidden:
            self._forbidden.add(script.name)
            logger.error(
                "Redis refuses a script to the user; give it the rights of docs/install.md",
                extra={"redis": self.place, "script": script.name, "reason": str(error)},
            )

    @property
    def able(self) -> bool:
        """Whether attempts may be opened, and every primary has executed a write since it was lost last."""
        return self.unavailable_reason is None and self.writes.executed_by(self._servers.known())

    @property
    def unheard(self) -> bool:
        """
        Whether wake-ups are lost now, although the servers answer.

        Where they are away, the subscription ends before a call shows that.
        """
        listener = self._listener
        if listener is None or listener.listening:
            return False
        return self.problem is None and self.answered > listener.ended + _DYING

    @property
    def subscriptions(self) -> int:
        """How many subscriptions there were: what was appended between two of them was not heard."""
        return self._listener.count if self._listener is not None else 0

    async def _probe(self, primary: str, writing: bool) -> None:
        """Have a primary execute a write; `writes` notes what becomes of it."""
        keys = (f"{self.prefix}:{{{n}}}:able" for n in range(_TRIED))
        key = next((k for k in keys if self._servers.primary_of(k) == primary), None)
        if key is None:
            self.writes.on_executed(primary, PROBE)
            return
        with contextlib.suppress(LedgerError, TimeoutError):
            await self.evaluate(PROBE, key, [PADDING, int(writing)])

    async def _watch_writes(self) -> None:
        await self.writes.watch(self._servers.known, self._probe, lambda: self.problem is None)

    async def command(self, *args: bytes | str | int, at: str | None = None) -> Any:
        """Run one command; `at` is one of `primaries`. Errors as for `evaluate`."""
        return await self._submit(Call(args), at)

    async def _submit(self, call: Call, at: str | None = None) -> Any:
        return await self._servers.submit(call, at)

    async def gather(self, commands: Sequence[tuple[bytes | str | int, ...]]) -> list[Any]:
        """
        Run many reads and return their replies in order; errors as for `evaluate`, of any of them.

        Where one server holds all keys, many share one wait: with a call for each, reading the
        headers of a hundred thousand logs costs half a minute of CPU.
        """
        if self._spread:
            return await asyncio.gather(*(self.command(*c) for c in commands))
        groups = [commands[n : n + _TOGETHER] for n in range(0, len(commands), _TOGETHER)]
        replies = await asyncio.gather(
            *(self._submit(Call(g[0], more=tuple(g[1:]))) for g in groups)
        )
        return [
            reply
            for group, answer in zip(groups, replies, strict=True)
            for reply in (answer if len(group) > 1 else [answer])
        ]

    async def wake_up(self, what: str) -> None:
        """
        Tell the owners the uid of a notification, or another word that they know; best effort.

        A message may be lost, and the account may be refused the channel. A
        sweep finds what was written all the same, so its writer never fails for lack of a message.
        """
        with contextlib.suppress(PortError, TimeoutError):
            await self.command("PUBLISH", self.wake_ups, what)

    async def primaries(self) -> tuple[str, ...]:
        """Names of all servers that hold keys, for commands that concern each of them."""
        return await self._servers.primaries()

    @property
    def layout(self) -> int:
        """Raised whenever keys are held by other servers than before."""
        return self._servers.layout

    async def run(self) -> None:
        """
        Serve calls and watch the servers until cancelled.

        Wake-ups may be lost, so the subscriber is restarted after any error; an error of the servers'
        own tasks ends this one.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(critical("redis", self._servers.run), name="redis")
                if self._probing:
                    group.create_task(
                        critical("redis-writes", self._watch_writes), name="redis-writes"
                    )
                group.create_task(critical("outage", self._log_outage), name="redis-outage")
                if self.on_wake_up is not None:
                    self._listener = subscriber.Subscriber(
                        self._servers, self.wake_ups, self.on_wake_up, timeout=self._timeout
                    )
                    group.create_task(
                        restarting("redis-subscriber", self._listener.run, every=0.0),
                        name="redis-subscriber",
                    )
        finally:
            await self.close()

    async def _log_outage(self) -> None:
        """
        Log once that no attempt can be opened, and once when that is over.

        What is over within a second happens at every restart of a proxy, and requires no action.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_OUTAGE_POLL)
            began, logged = clock(), False
            # As long as it was never connected the start waits, and logs why.
            while self.server is not None and (reason := self.unavailable_reason) is not None:
                if not logged and clock() - began >= _OUTAGE_NOTICE:
                    logged = True
                    logger.warning(
                        "the log is unavailable; no attempt is opened in it",
                        extra={"redis": self.place, "reason": reason},
                    )
                await asyncio.sleep(_OUTAGE_END_POLL)
            if logged:
                logger.warning(
                    "the log is available again",
                    extra={"redis": self.place, "seconds": round(clock() - began, 1)},
                )

    async def close(self) -> None:
        """Close connections; calls that wait fail as not executed."""
        await self._servers.close()

    async def probe(self) -> Server:
        """Ask the servers who they are now; a change raises the generation."""
        await self._servers.probe()
        return self._known()

    async def open(self, installation: str) -> Server:
        """
        Connect, check that the store is this installation's, and write the metadata of a new one.

        Raises:
            ConfigError: the store belongs to another installation or another format.
            Unavailable: not reachable yet; call again.
            Unauthorised: the credentials are refused.
        """
        self.installation = installation
        await self._servers.open()
        if self._probing:
            await asyncio.gather(*(self._probe(p, True) for p in self._servers.known()))
        return self._known()

    def _known(self) -> Server:
        if self.server is None:
            raise Unavailable("Redis did not identify itself")
        return self.server


def _servers_of(target: RedisTarget) -> type[Standalone | Cluster]:
    """Return what speaks to the servers of a topology; a start beside one server leaves clusters out."""
    if target.topology is not Topology.CLUSTER:
        return Standalone
    from syncer.ledger.redis_cluster import Cluster  # noqa: PLC0415 - a thirtieth of a command's CPU

    return Cluster
