"""A server that does not answer the end of a TLS connection: it is left all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syncer.ledger.log import RedisLog
from syncer.model.errors import Unavailable
from tests.channels.receiver import Certificates
from tests.integration.ledger_client import EPOCH, NAME, running
from tests.servers.listening import listening

STAMP = b"format=1 installation=one store=aa"
MASTER = b"role:master\r\nrun_id:r\r\nredis_version:7.0.0\r\n"


def bulk(text: bytes) -> bytes:
    """A text as a reply."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


class Frozen:
    """Answers as a master, then answers READONLY to a script and reads nothing more."""

    def __init__(self) -> None:
        self.frozen = 0

    async def command(self, reader: asyncio.StreamReader) -> list[bytes]:
        """One command."""
        count = int((await reader.readuntil())[1:])
        out = []
        for _ in range(count):
            size = int((await reader.readuntil())[1:])
            out.append((await reader.readexactly(size + 2))[:-2])
        return out

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        replies = {
            b"INFO": bulk(MASTER), b"GET": bulk(STAMP), b"CONFIG": b"*0\r\n",
            b"EVALSHA": b"-READONLY You can't write against a read only replica.\r\n",
        }  # fmt: skip
        while True:
            name = (await self.command(reader))[0]
            writer.write(replies.get(name, b"+OK\r\n"))
            await writer.drain()
            if name == b"EVALSHA":
                self.frozen += 1
                # The transport below TLS, so that the end of the connection is not answered.
                writer.transport._ssl_protocol._transport.pause_reading()  # type: ignore[attr-defined]  # below TLS
                await asyncio.Event().wait()


async def test_a_close_that_is_not_answered_ends_nothing(tmp_path: Path) -> None:
    """The refusal is what the caller is told, and the client goes on to serve."""
    frozen = Frozen()
    tls = Certificates(tmp_path).context("redis")
    async with listening(frozen.serve, tls=tls) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none&ssl_check_hostname=false"
        async with running(url, timeout=0.5) as client:
            log = RedisLog(client, patience=0)
            for _ in range(3):
                with pytest.raises(Unavailable, match="READONLY"):
                    await log.claim("u", EPOCH, name=NAME)
            with pytest.raises(Unavailable, match="READONLY"):
                # By way of the pipeline's own task, which must not end by it.
                await asyncio.gather(*(log.claim("u", EPOCH, name=NAME) for _ in range(3)))
            assert (await client.probe()).role == "master"
    assert frozen.frozen >= 4
