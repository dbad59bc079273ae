"""Whatever answers in the place of Redis: callers get errors of ours, and the client serves on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.errors import ContractError, LedgerError
from syncer.model.record import attempt_record, intent_record
from tests.beside import beside
from tests.servers.listening import listening

INFO: Final = b"redis_version:7.0.0\r\nrun_id:abc\r\nrole:master\r\n"
META: Final = b"format=1 installation=here store=abc"
INTENT: Final = intent_record(AttemptId("0.5-1"), "console", at=1, by="t")
SUCCESS: Final = attempt_record(
    Attempt(AttemptId("0.5-1"), "console", AttemptState.SUCCESS, started=1, ended=2)
)

#: Replies that follow no grammar, are of another type, or come from another program.
ODD: Final = {
    "a page": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": b"\0" * 64,
    "a length that is none": b"$abc\r\n",
    "a redirection without a place": b"-MOVED\r\n",
    "a redirection to nowhere": b"-MOVED a b:c\r\n",
    "an empty error": b"-\r\n",
    "a number": b":5\r\n",
    "nothing": b"$-1\r\n",
    "an empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "a list of lists": b"*1\r\n*1\r\n*0\r\n",
    "a map": b"%1\r\n+a\r\n+b\r\n",
    "bytes that are no text": b"$4\r\n\xff\xfe\x00\x80\r\n",
}


def bulk(text: bytes) -> bytes:
    """Return a text as Redis sends it."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


REPLIES: Final = {
    "INFO": bulk(INFO), "GET": bulk(META), "CONFIG": b"*0\r\n", "LRANGE": b"*0\r\n",
}  # fmt: skip


@asynccontextmanager
async def served(command: str, odd: bytes) -> AsyncIterator[str]:
    """Serve on loopback, with an odd reply to a command; yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2])
            name = words[0].decode().upper()
            writer.write(odd if name == command else REPLIES.get(name, b"+OK\r\n"))
            await writer.drain()

    async with listening(serve) as port:
        yield f"redis://127.0.0.1:{port}"


@pytest.mark.parametrize("command", ["INFO", "CONFIG", "GET", "EVALSHA", "LRANGE"])
@pytest.mark.parametrize("case", ODD)
async def test_an_odd_reply_ends_nothing(command: str, case: str) -> None:
    """Nothing but an error of ours is raised, whatever is asked, and the client's loop goes on."""
    async with served(command, ODD[case]) as url:
        client = LedgerClient(url, timeout=0.5)
        log = RedisLog(client, patience=0.0)
        async with beside(client.run()):
            for call in (
                lambda: client.open("here"),
                client.probe,
                lambda: log.read("u"),
                lambda: log.outcome("u", SUCCESS, INTENT, name=None),
            ):
                with contextlib.suppress(LedgerError, TimeoutError):
                    await call()


@pytest.mark.parametrize("case", ["a number", "nothing", "an empty list", "no list"])
async def test_an_outcome_is_not_taken_for_recorded(case: str) -> None:
    """The error says that the log cannot be read: the caller keeps the outcome."""
    async with served("EVALSHA", ODD[case]) as url:
        client = LedgerClient(url, timeout=0.5)
        async with beside(client.run()):
            await client.open("here")
            with pytest.raises(
                ContractError, match="the server is not Redis: a script got an unexpected answer"
            ):
                await RedisLog(client, patience=0.0).outcome("u", SUCCESS, INTENT, name=None)


@pytest.mark.parametrize(
    ("scheme", "over"), [("redis", ""), ("rediss", " over TLS (rediss://)")], ids=["plain", "TLS"]
)
async def test_a_server_that_waits_for_more(scheme: str, over: str) -> None:
    """One without TLS takes its greeting for the beginning of a command; the error says what was spoken."""
    async with listening(lambda *_: asyncio.sleep(60)) as port:
        client = LedgerClient(f"{scheme}://127.0.0.1:{port}", timeout=0.3)
        with pytest.raises((LedgerError, TimeoutError)):
            await client.open("here")
        assert client.problem == f"Redis does not answer in time at 127.0.0.1:{port}{over}"
        await client.close()
