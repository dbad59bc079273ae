"""
The connections of a command: settings, Redis, API server.

Their addresses come from the controller's own settings file, or from a URL and a kubeconfig. The client
never writes metadata to a store (it is given no installation), so reading leaves nothing behind. The API
server may be unavailable: then `store` is None, `problem` says why, and each command decides whether it can
do without.

An error from a server names the server's address and where that address was configured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from syncer.cli.output import write_remark
from syncer.kube.client import Json, KubeClient, Method
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.ledger.pipeline import Call
from syncer.model.errors import ConfigError, PortError
from syncer.runtime.supervise import beside
from syncer.settings import SyncerSettings, load

#: Seconds for which a call to Redis is repeated; seconds for a call to the API server.
_PATIENCE: Final = 5.0
_TIMEOUT: Final = 30.0
#: Seconds without an answer of the API server after which a remark is written.
_SLOW: Final = 2.5
#: Watches that a command may keep open, one per namespace; the namespaces are determined after connecting.
_WATCHES: Final = 1000


@dataclass(frozen=True, slots=True)
class Access:
    """Open connections; `store` and `kube` are None if the API server is not available."""

    settings: SyncerSettings
    client: LedgerClient
    log: RedisLog
    kube: KubeClient | None
    store: NotificationRequestClient | None
    problem: str = ""
    #: Whether a settings file was given, so that the settings are the controller's; and warnings about it.
    configured: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def objects(self) -> NotificationRequestClient:
        """The store of objects; ConfigError if the API server is not available."""
        if self.store is None:
            raise ConfigError(f"this needs the API server: {self.problem}")
        return self.store

    async def now(self) -> int:
        """Redis time in milliseconds."""
        seconds, micros = await self.client.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


@contextmanager
def _naming(server: str) -> Iterator[None]:
    """Add the name of a server to its errors."""
    try:
        yield
    except (PortError, TimeoutError) as error:
        if server not in getattr(error, "__notes__", ()):
            error.add_note(server)
        raise


class _Redis(LedgerClient):
    """The client of one store; its errors name the store."""

    where = "Redis"

    async def _submit(self, call: Call, at: str | None = None) -> Any:
        with _naming(self.where):
            return await super()._submit(call, at)


class _Kube(KubeClient):
    """The client of one API server; its errors name the server."""

    where = "the API server"

    _slow = False

    async def request(self, method: Method, path: str, **options: Any) -> Json:
        waiting = asyncio.get_running_loop().call_later(_SLOW, self._say)
        try:
            with _naming(self.where):
                return await super().request(method, path, **options)
        finally:
            waiting.cancel()

    def _say(self) -> None:
        """Remark once that the server does not answer, instead of waiting silently for the timeout."""
        if not self._slow:
            self._slow = True
            write_remark(f"{self.where}, has not answered for {_SLOW:g} s")


def kubeconfig_of(option: str | None, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """
    Return the kubeconfig to use, empty for the pod's own account, and where it comes from.

    The order is kubectl's: the option, the variable, the file in the home directory, the pod.

    Args:
        option: Value of `--kubeconfig`, None if it was not given.
        environ: Environment variables of this process.
    """
    if option:
        return option, f"--kubeconfig {option}"
    if named := environ.get("KUBECONFIG"):
        return named, f"$KUBECONFIG {named}"
    usual = os.path.expanduser("~/.kube/config")  # noqa: PTH111 - does not raise without a home
    if os.path.isfile(usual):  # noqa: PTH113 - does not raise without permission
        return usual, "~/.kube/config"
    return "", "the pod's own account"


@asynccontextmanager
async def access(options: argparse.Namespace) -> AsyncIterator[Access]:
    """
    Connect, as the options of the command line say, while the block runs.

    Raises:
        ConfigError: the settings cannot be used.
    """
    if not (options.config or options.redis_url):
        raise ConfigError(
            "nothing says where Redis is: give --config FILE, --redis-url URL or $REDIS_URL; a settings"
            " file is found without them only in a pod of the controller"
        )
    settings, warnings = load(options.config, redis_url=options.redis_url, env=os.environ)
    url = settings.redis.url.get_secret_value()
    client = _Redis(
        url, prefix=options.key_prefix or settings.redis.key_prefix, timeout=settings.redis.timeout
    )
    named_by = options.redis_from if options.redis_url else options.config
    client.where = f"Redis at {client.place}, by {named_by}"
    async with beside(client.run()), AsyncExitStack() as stack:
        kube, problem = None, ""
        kubeconfig, source = kubeconfig_of(options.kubeconfig)
        try:
            kube = await _Kube.connect(
                kubeconfig, user_agent="syncer", context=options.context or "", watches=_WATCHES
            )
            kube.where = f"the API server at {kube.address}, by {source}"
            stack.push_async_callback(kube.close)
        except (ConfigError, PortError) as error:
            problem = f"{error} ({source})"
        store = NotificationRequestClient(kube, timeout=_TIMEOUT) if kube is not None else None
        yield Access(
            settings, client, RedisLog(client, patience=_PATIENCE), kube, store, problem,
            configured=options.config is not None, warnings=warnings,
        )  # fmt: skip


def operator_name(given: str | None) -> str:
    """Return the name to record as the operator: the given one, else user and host of this process."""
    if given:
        return " ".join(given.split())[:128]
    name = os.environ.get("LOGNAME") or os.environ.get("USER") or f"uid-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:128]
