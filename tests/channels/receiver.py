"""
A receiver that does as it is told, and keeps its own books.

A raw asyncio server: each connection is answered by the next step of a script, written byte by byte
as the step says, so that answers no HTTP library would write can be made, too. What arrived is kept
as it was on the wire. The last step repeats.

Certificates are made by the `openssl` program, once per test session.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.servers.listening import listening, reset


@dataclass(frozen=True, slots=True)
class Step:
    """
    What to do with one connection, in this order.

    Attributes:
        reset_after: Reset after so many bytes of the request, None to read it whole.
        hang: Never answer.
        raw: The answer as it goes on the wire; made of code, headers and body if None.
        drip_s: Pause after each byte of the answer.
        drip_from: Bytes of the answer that are sent at once before the drip begins.
        abort: Reset the connection after the answer instead of closing it.
    """

    code: int = 200
    body: bytes = b"ok"
    headers: tuple[tuple[str, str], ...] = ()
    reset_after: int | None = None
    hang: bool = False
    raw: bytes | None = None
    drip_s: float = 0.0
    drip_from: int = 0
    abort: bool = False

    def wire(self) -> bytes:
        """The bytes of the answer."""
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.code} Scripted"]
        lines += [f"{k}: {v}" for k, v in self.headers]
        names = {k.lower() for k, _ in self.headers}
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(slots=True)
class Request:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """A listening receiver; `requests` holds what was read whole, `connections` counts dials."""

    script: tuple[Step, ...]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Address of the receiver."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        step = self.script[min(self.connections, len(self.script) - 1)]
        self.connections += 1
        if step.reset_after is not None:
            await reader.readexactly(step.reset_after)
            reset(writer)
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip("\r\n").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(line, headers, body))
        if step.hang:
            await asyncio.sleep(60)
        wire = step.wire()
        if step.drip_s:
            writer.write(wire[: step.drip_from])
            for n in range(step.drip_from, len(wire)):
                writer.write(wire[n : n + 1])
                await writer.drain()
                await asyncio.sleep(step.drip_s)
        else:
            writer.write(wire)
            await writer.drain()
        if step.abort:
            await asyncio.sleep(0.02)
            reset(writer)


@asynccontextmanager
async def receiving(
    *script: Step, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Receiver]:
    """A receiver that listens while the block runs; without a script it answers 200."""
    receiver = Receiver(script or (Step(),), tls)
    async with listening(receiver._serve, host, tls=tls) as receiver.port:
        yield receiver


def closed_port() -> int:
    """A port of the loopback address on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


_CA_CONFIG = """
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


class Certificates:
    """A throw-away authority and the certificates it signs, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self.ca = directory / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        (directory / "index.txt").write_text("")
        (directory / "ca.cnf").write_text(_CA_CONFIG)

    def context(
        self,
        name: str,
        *,
        san: str = "IP:127.0.0.1,DNS:localhost",
        expired: bool = False,
        self_signed: bool = False,
    ) -> ssl.SSLContext:
        """Server context with a certificate of the kind asked for."""
        key, request, pem = f"{name}.key", f"{name}.csr", f"{name}.pem"
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={san}"]
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]
        if self_signed:
            self._openssl("req", "-x509", *new_key, "-out", pem, "-days", "2", *subject)
        else:
            self._openssl("req", "-new", *new_key, "-out", request, *subject)
            now = datetime.now(UTC)
            start = now - timedelta(days=30 if expired else 1)
            end = start + timedelta(days=2)
            self._openssl(
                "ca", "-config", "ca.cnf", "-batch", "-notext", "-in", request, "-out", pem,
                "-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}",
            )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._dir / pem, self._dir / key)
        return context

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self._dir, capture_output=True, check=False, timeout=30
        )
        if done.returncode:
            raise RuntimeError(f"openssl: {done.stderr.decode(errors='replace')}")
