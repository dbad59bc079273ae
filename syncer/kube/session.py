"""
Session and credentials for one API server, made from a kubeconfig or from the pod's service account.

kubernetes-asyncio reads the configuration and authenticates (kubeconfig, in-cluster, exec plugins,
client certificates), and makes the connector that holds the TLS context. The session on that connector
is made here. A session is not changed: when credentials change, another one is made and this one is
retired, which closes it after the last call that uses it.

The vendor's texts never reach an error: those about a kubeconfig show the user entry with its token, those
about an exec plugin show the plugin's output. Mistakes in the files are found before that
(`syncer.kube.kubeconfig`).
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from yarl import URL

from syncer.kube.kubeconfig import Kubeconfig
from syncer.kube.transport import (
    SERVICE_TOKEN_FILENAME,
    ApiClient,
    ConfigException,
    Configuration,
    load_incluster_config,
    load_kube_config_from_dict,
)
from syncer.model.errors import ConfigError, reason_of
from syncer.runtime.causes import bad_pem
from syncer.runtime.proxies import proxy_for

#: Bytes that a stream buffers.
_READ_BYTES: Final = 2 * 2**20
#: Members of a configuration that a credential plugin or an environment variable may change.
_CREDENTIALS: Final = (
    "host", "api_key", "username", "password", "ssl_ca_cert", "cert_file", "key_file",
    "tls_server_name",
)  # fmt: skip
#: A peer may vanish silently, and a watch only receives, so it sends nothing that would reveal that.
#: Therefore the kernel probes after seconds of silence, probes again, and then ends the connection.
_KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,  # milliseconds for which sent data may stay unacknowledged
}
_BAD_PEM: Final = {
    "authority": "the certificate authority of the API server is not a certificate in PEM",
    "certificate": "the client certificate and its key are not in PEM, or do not match",
}
_PLUGIN_EXIT: Final = re.compile(r"exec: process returned -?\d+")


#: Inode, size and time of a file, which change if it is replaced or written; None if it does not exist.
_FileState = tuple[int, int, int] | None


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """
    A session and the configuration that it was made from.

    Attributes:
        api: The vendor's client: configuration and credentials.
        http: The session on its connector.
        base: Address of the server, to which paths are appended.
        proxy: Proxy of the requests, None for none.
        files: Files of the configuration.
        state: State of these files before they were read.
        users: Number of calls that use the session now.
        retired: Whether another session has taken its place.
    """

    api: ApiClient
    http: aiohttp.ClientSession
    base: URL
    proxy: URL | None
    files: tuple[Path, ...]
    state: tuple[_FileState, ...]
    users: int = 0
    retired: bool = False

    async def __aenter__(self) -> aiohttp.ClientSession:
        """Keep the session open for one call."""
        self.users += 1
        return self.http

    async def __aexit__(self, *_: object) -> None:
        """End the call; the last call closes a retired session."""
        self.users -= 1
        if self.retired and not self.users:
            await self.close()

    async def retire(self) -> None:
        """Close the session after the last call that uses it."""
        self.retired = True
        if not self.users:
            await self.close()

    async def close(self) -> None:
        """Close the session; calls under way fail."""
        await self.http.close()

    @property
    def current_state(self) -> tuple[_FileState, ...]:
        """State of the files as they are now."""
        return tuple(map(_state_of, self.files))

    def equals(self, other: Session) -> bool:
        """Whether another session was made from the same files, unchanged, with the same credentials."""
        one, two = self.api.configuration, other.api.configuration
        return (self.files, self.state) == (other.files, other.state) and all(
            getattr(one, name) == getattr(two, name) for name in _CREDENTIALS
        )


@dataclass(frozen=True, slots=True)
class SessionSource:
    """
    Source of the configuration: kubeconfigs joined by `:`, and the context (empty: the current one).

    Without a kubeconfig, the pod's service account is used. `connections` is the limit of one session.
    """

    kubeconfig: str
    context: str = ""
    connections: int = 100

    async def build(self) -> Session:
        """Read the configuration and make a session; no request is sent. ConfigError if it is unusable."""
        configuration = Configuration()
        try:
            files = await self._load(configuration)
            named = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
            files += [Path(name) for name in named if name]
            # Taken before the files are read into the TLS context: a change in between is seen.
            state = tuple(map(_state_of, files))
            base = URL(configuration.host or "")
            configuration.connection_pool_maxsize = self.connections  # noqa: V101 (vendor)
            proxy = _proxy_of(configuration, base)
            api = ApiClient(configuration)
            return Session(api, _session_of(api), base, proxy, tuple(files), state)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - the vendor may raise anything for a bad file
            wrong = bad_pem(
                configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file, ""
            )
            reason = _BAD_PEM.get(wrong) or _kind_of(error)
            raise ConfigError(f"{self._name} cannot be used: {reason}") from None

    @property
    def _name(self) -> str:
        if not self.kubeconfig:
            return "the service account"
        of = f"context {self.context!r} of " if self.context else ""
        return f"{of}the kubeconfig {self.kubeconfig}"

    async def _load(self, configuration: Configuration) -> list[Path]:
        if not self.kubeconfig:
            if self.context:
                raise ConfigError("a context is named, but no kubeconfig to look it up in")
            try:
                load_incluster_config(  # type: ignore[no-untyped-call]  # vendor
                    client_configuration=configuration
                )
            except ConfigException:
                raise ConfigError(
                    "no access to a cluster is configured: no kubeconfig is named, "
                    "and this is not a pod with a service account"
                ) from None
            return [Path(SERVICE_TOKEN_FILENAME)]
        files = _existing(self.kubeconfig)
        if not files:
            raise ConfigError(
                f"the kubeconfig {self.kubeconfig} does not exist: name an existing file"
            )
        chosen = Kubeconfig(files).chosen(self.context)
        try:
            await load_kube_config_from_dict(chosen, client_configuration=configuration)
        except OSError as error:
            plugin = chosen["users"][0]["user"].get("exec")
            if plugin is None:
                raise
            raise ConfigError(
                f"{self._name}: the credential plugin {plugin['command']} cannot be started:"
                f" {reason_of(error)}"
            ) from None
        token_file = chosen["users"][0]["user"].get("tokenFile")
        return [*files, Path(token_file)] if token_file else files


def _session_of(api: ApiClient) -> aiohttp.ClientSession:
    """
    Return a session on the vendor's connector, which holds the TLS context.

    The vendor's own session looks for a proxy and for `.netrc` at each request, each time in a thread.
    That takes half the CPU of a small request, and credentials in `.netrc` for the host would be sent.
    """
    vendor = api.rest_client.pool_manager
    connector = cast("aiohttp.TCPConnector", vendor.connector)
    connector._socket_factory = _socket  # noqa: SLF001, V101 (the vendor made it without one)
    vendor.detach()
    session = aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BYTES,
    )
    api.rest_client.pool_manager = session
    return session


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Make the socket of a connection; `address` is an entry of `getaddrinfo`."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if option := getattr(socket, name, None):  # not every system has each of them
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _proxy_of(configuration: Configuration, base: URL) -> URL | None:
    """Return the proxy that the kubeconfig names, else the environment's; ValueError if it is not a URL."""
    proxy = configuration.proxy or proxy_for(
        base.scheme, base.raw_host or "", base.port or 0, os.environ
    )
    return URL(proxy) if proxy else None


def _existing(paths: str) -> list[Path]:
    # Unlike Path's, this expanduser does not raise if a home directory is not known.
    named = (os.path.expanduser(p) for p in paths.split(os.pathsep) if p)  # noqa: PTH111 (see above)
    return [Path(p) for p in named if _is_there(p)]


def _is_there(path: str) -> bool:
    """Whether a file exists; True if that cannot be checked, because reading it then gives the error."""
    try:
        Path(path).stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


def _state_of(path: Path) -> _FileState:
    try:
        # Links are followed: a mounted Secret is replaced by changing a link.
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _kind_of(error: Exception) -> str:
    found = _PLUGIN_EXIT.match(str(error)) if isinstance(error, ConfigException) else None
    return found.group() if found else type(error).__name__
