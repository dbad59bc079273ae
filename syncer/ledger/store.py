"""
To which installation a store belongs, and which servers answer for it.

One `RedisState` per client, whatever the topology. Its `generation` is raised whenever another process,
another history, another primary or another store answers. That has every log looked at, also one that
nobody appends to; nothing is safe by it. An INTENT is refused by its script (`intent.lua`), whatever is
known here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from syncer.ledger.connection import ask
from syncer.ledger.replicas import Replicas
from syncer.ledger.replies import parse_meta, word_of
from syncer.ledger.writes import Writes
from syncer.model.errors import ConfigError

logger = logging.getLogger("ledger.redis")


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answered: process and history (of a cluster: a digest of all), role, store."""

    run_id: str
    #: Another one after each start, promotion and demotion, also one that is too short to be seen.
    replid: str
    role: str
    store: str
    version: tuple[int, ...]

    def replaced_by(self, other: Server) -> bool:
        """Whether another answers now; a store that had no id yet, and got one, is the same."""
        known = other if self.store else replace(other, store="")
        return known != self


class RedisState:
    """What is known of the store and of the servers that answer for it."""

    def __init__(
        self,
        prefix: str,
        *,
        confirming: bool = False,
        fitness: Callable[[dict[str, str]], str | None] = lambda _info: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Begin with nothing known.

        Args:
            prefix: Of every key.
            confirming: A replica must confirm intents, where there are any (`redis.durability: strict`).
            fitness: Why a server must not be given attempts, from the members of INFO; None if it may.
            on_change: Called after another server or store has answered.
        """
        self.prefix = prefix
        self.generation = 0
        self.server: Server | None = None
        #: Why Redis cannot be used now, None if it can.
        self.problem: str | None = "not connected yet"
        self.on_change = on_change
        self.fitness = fitness
        #: The newest result of `fitness`.
        self.unfit: str | None = None
        #: What becomes of writes.
        self.writes = Writes()
        #: Newest reply of INFO, as members; of a cluster, the weakest of each.
        self.info: dict[str, str] = {}
        self.installation = ""
        self.confirming = confirming
        self.replicas = Replicas()
        #: Set where the servers are to be probed at once: the subscriber's connection cannot be made, a
        #: write was not confirmed, or an INTENT met another state of its server.
        self.probe_now = asyncio.Event()
        #: Second of the loop's clock at which the servers were asked who they are, and answered.
        self.answered = 0.0
        #: When the last look at all of them began that was answered.
        self.looked_at = 0.0
        self._run_ids: tuple[str, ...] = ()

    @property
    def replicas_wanted(self) -> int:
        """How many replicas must have an intent before anything is sent for it."""
        return 1 if self.confirming and self.replicas.expected else 0

    @property
    def unavailable_reason(self) -> str | None:
        """Why no attempt can, or may, be opened now; None if one can."""
        return self.problem or self.writes.silence or self.writes.refusal or self.unfit

    @property
    def meta_key(self) -> str:
        """Key of the metadata: format, installation, random id of the store."""
        return f"{self.prefix}:meta"

    @property
    def wake_ups(self) -> str:
        """Pub/sub channel on which owners receive the uids of logs that others have appended to."""
        return f"{self.prefix}:poke"

    async def read_store(self, connection: AbstractConnection) -> str:
        """
        Read the id of the store on a connection, and write the metadata of one that has none.

        Raises:
            ConfigError: as `store_of`, for this installation.
            ResponseError: the server answers with another error.
        """
        try:
            meta: bytes | None = await ask(connection, "GET", self.meta_key)
        except ResponseError as error:
            if word_of(error) != "WRONGTYPE":
                raise
            raise _foreign(self.prefix) from None
        if meta is None and self.installation:
            # The store is new or was emptied. SET NX, then read: two replicas may race here.
            text = f"format=1 installation={self.installation} store={secrets.token_hex(8)}"
            await ask(connection, "SET", self.meta_key, text, "NX")
            meta = await ask(connection, "GET", self.meta_key)
        return store_of(meta, prefix=self.prefix, installation=self.installation)

    def settle(
        self,
        server: Server,
        info: dict[str, str],
        *,
        unfit: str | None,
        changed: bool,
        run_ids: Iterable[str],
    ) -> None:
        """
        Apply the result of a check of the servers.

        Args:
            server: The server that answers.
            info: Members of INFO.
            unfit: The result of `fitness`.
            changed: Another server or store than before.
            run_ids: Of all primaries.
        """
        if changed:
            logger.warning(
                "another Redis server or store answers; all logs are claimed again",
                extra={
                    "run_id": server.run_id,
                    "replid": server.replid,
                    "role": server.role,
                    "store": server.store,
                },
            )
        if changed or self.server is None:
            self.generation += 1
            self.writes.on_lost()
        self.server = server
        self.answered = asyncio.get_running_loop().time()
        self.info = info
        self._run_ids = tuple(run_ids)
        self.unfit = unfit or self._unconfirmed()
        self.problem = None
        if changed:
            self.on_change()

    def lag(self, run_id: str) -> None:
        """No replica confirmed a write of a primary in time: nothing is opened until one has it."""
        self.replicas.unconfirmed(run_id)
        self.unfit = self.unfit or self._unconfirmed()

    def _unconfirmed(self) -> str | None:
        return self.replicas.problem(self._run_ids) if self.confirming else None


def store_of(meta: bytes | None, *, prefix: str, installation: str) -> str:
    """
    Id of the store that its metadata names, empty where there is none.

    Args:
        meta: The metadata as stored.
        prefix: Of every key.
        installation: Id of this installation, empty if that is not to be compared.

    Raises:
        ConfigError: the store belongs to another installation, another format or another program.
    """
    fields = parse_meta(meta)
    owner = fields.get("installation", "")
    if installation and owner and owner != installation:
        raise ConfigError(
            f"keys with prefix {prefix!r} belong to installation {owner!r}, this is"
            f" {installation!r}; set another redis.keyPrefix (or, if the Lease that names"
            f" the installation was re-created, delete the key '{prefix}:meta')",
            path="redis.keyPrefix",
        )
    if fields and fields.get("format") != "1":
        raise ConfigError(
            f"logs with prefix {prefix!r} have format {fields.get('format')!r}, this"
            " version reads format 1; use the version that wrote them, or another prefix",
            path="redis.keyPrefix",
        )
    if installation and meta is not None and not owner:
        raise _foreign(prefix)
    return fields.get("store", "")


def _foreign(prefix: str) -> ConfigError:
    return ConfigError(
        f"the key '{prefix}:meta' is not this product's: another program uses it; set another"
        " redis.keyPrefix (or delete the key)",
        path="redis.keyPrefix",
    )
