"""
Where the operators' command finds the record: settings, Redis, API server.

Everything is told by the controller's own settings file, or by a URL and a kubeconfig. The client never
stamps a store (no installation is named to it), so looking leaves nothing behind. The API server may be
missing: then `store` is None and `problem` says why, and each command decides whether it can do without.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from syncer.api.errors import ConfigError, PortError
from syncer.cluster.client import KubeClient
from syncer.cluster.status import StatusStore
from syncer.inspect import opened
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.settings import LoadedSyncer, SyncerSettings, load

#: Seconds for which a call to Redis is repeated, and for one to the API server.
_PATIENCE: Final = 5.0
_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Where:
    """What the command line says about where to look; None and empty mean nothing was said."""

    config: str | None = None
    redis_url: str | None = None
    key_prefix: str | None = None
    kubeconfig: str | None = None

    def load(self) -> LoadedSyncer:
        """
        Read the settings.

        Raises:
            ConfigError: they cannot be used.
        """
        if not (self.config or self.redis_url):
            raise ConfigError("say where to look: --config FILE, or --redis-url URL")
        return load(self.config, redis_url=self.redis_url)


@dataclass(frozen=True, slots=True)
class Access:
    """Open connections; `store` and `kube` are None where the API server is not to be had."""

    settings: SyncerSettings
    client: LedgerClient
    log: RedisLog
    kube: KubeClient | None
    store: StatusStore | None
    problem: str = ""

    @property
    def objects(self) -> StatusStore:
        """
        The objects.

        Raises:
            ConfigError: there is no way to the API server.
        """
        if self.store is None:
            raise ConfigError(f"the API server is needed: {self.problem}")
        return self.store

    async def now(self) -> int:
        """Redis time in milliseconds."""
        seconds, micros = await self.client.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


@asynccontextmanager
async def access(where: Where, *, cluster: bool = True) -> AsyncIterator[Access]:
    """
    Connect while the block runs.

    Args:
        where: What to connect to.
        cluster: Whether the API server is wanted.

    Raises:
        ConfigError: the settings cannot be used.
    """
    settings = where.load().settings
    client = LedgerClient(
        settings.redis.url.get_secret_value(),
        prefix=where.key_prefix or settings.redis.key_prefix,
        timeout=settings.redis.timeout,
    )
    async with opened(RedisLog(client, patience=_PATIENCE)) as log:
        kube, problem = None, "not asked"
        if cluster:
            try:
                kube = await KubeClient.connect(where.kubeconfig, user_agent="syncer")
            except (ConfigError, PortError) as error:
                problem = str(error)
        try:
            store = StatusStore(kube, timeout=_TIMEOUT) if kube is not None else None
            yield Access(settings, client, log, kube, store, problem if kube is None else "")
        finally:
            if kube is not None:
                await kube.close()


def whoami(given: str | None) -> str:
    """Who is recorded as the doer: what was given, else the user of this process and its host."""
    if given:
        return " ".join(given.split())[:128]
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:128]
