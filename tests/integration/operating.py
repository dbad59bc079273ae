"""
What tests of the operators' command stand on: an installation, an owner in this process, the command.

The owner is the real product on the test's own loop, and the command runs there too, by the same function
as from a shell: nothing is imported twice, so that a case takes a second and not ten. What they meet is
real: API server, Redis, HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from notifier.app import Parts
from notifier.process.lifecycle import Lifecycle
from notifier.process.production import production
from notifier.settings import load
from syncer.cli import main as cli
from syncer.cli import scan, verify
from syncer.ledger.client import LedgerClient
from syncer.ledger.codec import encode_log
from syncer.ledger.log import RedisLog
from syncer.ledger.reading import snapshot_of
from syncer.model.carried import expand
from syncer.model.record import Header, Kind, Record
from syncer.runtime.stalls import LoopWatch
from tests.beside import beside
from tests.e2e.harness import NotifierProcess, Stage, until

#: The owner looks only when it is woken.
NO_SWEEPS: Final = {"liveSweep": "1h", "finishedSweep": "1h", "window": "20ms", "scrubRate": 0}
BY: Final = "tester@bench"


@asynccontextmanager
async def owner(process: NotifierProcess) -> AsyncIterator[Parts]:
    """The controller that a process would run, on this loop, from when it has swept its shard."""
    loaded = load(process._config, process._env | {"LEDGER_TESTING": str(process._config)})
    async with production(loaded, LoopWatch()) as outside, running(Parts(loaded, outside)) as app:
        yield app


@asynccontextmanager
async def running(app: Parts) -> AsyncIterator[Parts]:
    """The same of a product that is built."""
    lifecycle = Lifecycle(app)
    task = asyncio.create_task(lifecycle.run())
    try:
        # The sweeps of the start, which mend and retire, would meet what a test plants.
        await until(
            lambda: (app.reflector.synced and lifecycle._sweeps.through) or task.done(),
            "the owner has its shard and has swept it",
            within=30,
        )
        if task.done():
            task.result()
        yield app
    finally:
        # As SIGKILL ends one: nothing is drained, no lease is released.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The answer as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def classes(self) -> set[str]:
        """Classes of divergence that `verify --json` has named."""
        return {line["class"] for line in self.lines if "class" in line}


class Operator:
    """Runs commands against one installation."""

    def __init__(self, here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        self.here = here
        self._capsys = capsys

    async def run(
        self, command: str, *words: str, config: str = "", settle: int = scan.SETTLE,
        stuck: int = scan.STUCK,
    ) -> Answer:  # fmt: skip
        """Run a command; where to look is added. It is as patient as it is told, in milliseconds."""
        here = self.here
        where = ["--redis-url", here.redis_url, "--key-prefix", here.prefix]
        if config:
            where = ["--config", config]
        where += ["--kubeconfig", str(here.plane.kubeconfig)]
        self._capsys.readouterr()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scan, "SETTLE", settle)
            patched.setattr(scan, "STUCK", stuck)
            patched.setattr(scan, "PAUSE", 0.2)
            patched.setattr(verify, "WAIT", 20.0)
            if command == "doctor":
                patched.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", here.namespace)
            code = await cli.execute([command, *words, *where])
        said = self._capsys.readouterr()
        return Answer(code, said.out, said.err)

    async def verify(self, *words: str, config: str = "", stuck: int = scan.STUCK) -> Answer:
        """Verify this installation's namespace, without waiting for what is on its way."""
        where = ("-o", "json", "-n", self.here.namespace)
        return await self.run("verify", *where, *words, config=config, settle=0, stuck=stuck)

    async def repair(self, *words: str, stuck: int = scan.STUCK) -> Answer:
        """Repair this installation's namespace."""
        return await self.verify("--repair", "--by", BY, *words, stuck=stuck)


@dataclass(frozen=True)
class RawLog:
    """One log, to be looked at and spoilt."""

    here: Stage
    uid: str

    @property
    def key(self) -> str:
        """Its key."""
        return f"{self.here.prefix}:{{{self.uid}}}"

    async def read(self) -> tuple[Header, list[Record]]:
        """The log, which must be sound."""
        log = snapshot_of(await self.elements())
        return log.header, list(log.records)

    async def elements(self) -> list[bytes]:
        """The log as stored."""
        found: Any = await self.here.redis.lrange(self.key, 0, -1)
        return list(found)

    async def kinds(self) -> list[str]:
        """Kinds of its records."""
        _, records = await self.read()
        return [r.kind.value for r in records]

    async def by(self, kind: Kind) -> list[Record]:
        """Records of one kind."""
        _, records = await self.read()
        return [r for r in records if r.kind is kind]

    async def head(self, change: Callable[[Header], Header]) -> None:
        """Overwrite the header."""
        header, _ = await self.read()
        await self.spoil(0, change(header).encode())

    async def spoil(self, index: int, element: bytes) -> None:
        """Overwrite one element."""
        command: Any = self.here.redis.execute_command
        await command("LSET", self.key, index, element)

    async def write(self, header: Header, records: list[Record]) -> None:
        """Overwrite the whole log by another sound one."""
        ttl = await self.here.redis.ttl(self.key)
        async with self.here.redis.pipeline(transaction=True) as pipe:
            pipe.delete(self.key)
            pipe.rpush(self.key, *encode_log(header, records))
            if ttl > 0:
                pipe.expire(self.key, ttl)
            await pipe.execute()

    async def expires(self) -> bool:
        """Whether it goes by itself."""
        return int(await self.here.redis.ttl(self.key)) > 0

    async def wait_expiry(self) -> None:
        """Wait until its owner has no more to do with it."""
        await until(self.expires, "its log expires", within=40)


@asynccontextmanager
async def ledger(here: Stage) -> AsyncIterator[RedisLog]:
    """The logs as a second process reaches them."""
    client = LedgerClient(here.redis_url, prefix=here.prefix)
    async with beside(client.run()):
        yield RedisLog(client)


async def status_of(here: Stage, name: str) -> dict[str, Any]:
    """The status of an object, read now."""
    reply = await here.api.ask("GET", f"{here.api.requests}/{name}")
    assert reply.code == 200, reply.body
    return expand(reply.body.get("status") or {})


async def waiting(here: Stage, name: str, uid: str) -> RawLog:
    """Wait until an object shows when its next attempt is, as its log has it; returns the log."""

    async def waits() -> bool:
        channels = (await status_of(here, name)).get("channels") or []
        return any(c.get("nextRetryTime") for c in channels)

    await until(waits, f"{name} waits")
    await here.wait_acked([uid])
    return RawLog(here, uid)


async def patch(here: Stage, name: str, change: dict[str, Any], *, status: bool = False) -> None:
    """Merge-patch an object as somebody else would."""
    path = f"{here.api.requests}/{name}" + ("/status" if status else "")
    reply = await here.api.ask("PATCH", path, change)
    assert reply.code == 200, reply.body


async def quiet(seconds: float) -> None:
    """Let time pass in which something must not happen."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
