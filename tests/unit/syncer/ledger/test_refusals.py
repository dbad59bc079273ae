"""What a script that Redis does not execute says about the server, and that only a probe ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from syncer.ledger import writes
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import ACK, CLAIM, INTENT, OUTCOME, PROBE, Script
from syncer.ledger.pipeline import Call
from syncer.ledger.replies import Refused, RefusedInside, WrongType, classify_reply
from syncer.model.errors import Ambiguous, Unauthorised, Unavailable
from tests.beside import beside, eventually

FORBIDDEN: Final = classify_reply(NoPermissionError("no permissions to run the 'evalsha' command"))
KEY: Final = "nl:{u}"


OOM: Final = "Redis answers OOM: it is full (maxmemory)"


class Servers:
    """Answers each call with the same thing, or as `by` says for a key."""

    layout = 0

    def __init__(self) -> None:
        self.answer: object = [b"OK"]
        self.by: dict[str, object] = {}
        self.nodes: tuple[str, ...] = ("",)
        self.asked: list[Call] = []

    async def submit(self, call: Call, at: str | None) -> Any:
        self.asked.append(call)
        answer = self.by.get(self.primary_of(str(call.command[3])), self.answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def primary_of(self, key: str) -> str:
        """Have the first letter of a tag name the node, where there are several."""
        return self.nodes[ord(key.partition("{")[2][0]) % len(self.nodes)]

    def known(self) -> tuple[str, ...]:
        return self.nodes


class World:
    """A client that is connected to such servers."""

    def __init__(self) -> None:
        self.servers = Servers()
        self.client = LedgerClient("redis://h")
        self.client._servers = cast("Any", self.servers)
        self.client.problem = None

    async def run(self, script: Script, answer: object, key: str = KEY) -> str | None:
        """Run a script, and return why nothing can be opened now."""
        self.servers.answer = answer
        if isinstance(answer, Exception):
            with pytest.raises(type(answer)):
                await self.client.evaluate(script, key, [])
        else:
            await self.client.evaluate(script, key, [])
        return self.client.unavailable_reason

    async def until_said(self, reason: str | None) -> None:
        """Wait for the reason why nothing can be opened; without one it is able."""
        await eventually(
            lambda: (
                self.client.unavailable_reason == reason and self.client.able is not bool(reason)
            )
        )

    @contextlib.asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        async with beside(self.client._watch_writes()):
            yield

    @property
    def probes(self) -> list[tuple[Any, ...]]:
        return [c.command for c in self.servers.asked if c.command[1] == PROBE.sha]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A fresh one, in which what is troubled is probed often."""
    monkeypatch.setattr(writes, "_AGAIN", 0.01)
    return World()


#: What a CLAIM or an INTENT meets, and what is said of it; None: it says nothing about the server.
MET: Final[dict[str, tuple[Exception, str | None]]] = {
    "the disk is full": (Refused("MISCONF"), "Redis answers MISCONF: it cannot write to its disk"),
    "replicas are missing": (
        Refused("NOREPLICAS"), "Redis answers NOREPLICAS: too few replicas are connected",
    ),
    "another's script runs": (Refused("BUSY"), "Redis answers BUSY: a script runs for too long"),
    "the user may not": (
        FORBIDDEN,
        "Redis refuses the command (NOPERM): the user may not run EVALSHA",
    ),
    "the user may not, within": (
        RefusedInside("the user may not run LSET"),
        "Redis refuses a command within a script (NOPERM): the user may not run LSET",
    ),
    "the user may not, within, and which command is not said": (
        RefusedInside(),
        "Redis refuses a command within a script (NOPERM): docs/install.md lists what the user needs",
    ),
    "writes are paused": (Ambiguous("no reply"), "Redis does not answer what is written"),
    "nothing in time": (TimeoutError(), "Redis does not answer what is written"),
    "it loads": (Refused("LOADING"), "Redis answers LOADING: it still reads its data"),
    "it is one of several": (Refused("MOVED"), "Redis answers MOVED"),
    "a proxy loads scripts elsewhere": (Refused("NOSCRIPT"), "Redis answers NOSCRIPT"),
    "an error of this log, perhaps": (classify_reply(ResponseError("ERR unknown")), None),
    "a key of another program": (WrongType(), None),
    "nobody is there": (Unavailable("gone"), None),
}  # fmt: skip


@pytest.mark.parametrize("script", [CLAIM, INTENT], ids=lambda s: str(s.name))
@pytest.mark.parametrize("what", MET)
async def test_what_opens_nothing_is_said(world: World, script: Script, what: str) -> None:
    """Of a claim as of an intent: new notifications are claimed first, and may be all that is due."""
    error, said = MET[what]
    assert await world.run(script, error) == said


async def test_only_a_probe_ends_it(world: World) -> None:
    """
    Whatever else is executed: at maxmemory claims are, and small packets pass where large ones do not.

    A probe carries 4 KiB, and really writes while there is doubt.
    """
    for met in (Refused("OOM"), Ambiguous("no reply")):
        said = await world.run(INTENT, met)
        for script in (CLAIM, OUTCOME, INTENT):
            assert await world.run(script, [b"OK"]) == said
        assert not world.client.able
        world.servers.answer = met
        async with world.probing():
            await asyncio.sleep(0.05)
            assert world.client.unavailable_reason == said
            world.servers.answer = [b"OK"]
            await world.until_said(None)
    _, _, _, key, padding, writing = world.probes[-1]
    assert (key, len(padding), writing) == ("nl:{0}:able", 4096, 1)


async def test_an_error_of_every_log_is_said(world: World) -> None:
    """One that a probe meets as well is the server's; one that it does not is about the one log."""
    error = classify_reply(ResponseError("ERR unknown command 'EVALSHA'"))
    async with world.probing():
        assert await world.run(CLAIM, error) is None
        await world.until_said("Redis refuses the command (ERR)")
        world.servers.answer = [b"RECLAIM"]
        await world.until_said(None)
        assert await world.run(INTENT, error) is None
        world.servers.answer = [b"OK"]
        await world.until_said(None)
    world.servers.answer = WrongType()
    async with world.probing():
        await world.until_said(None)


async def test_silence_and_refusal_take_turns(world: World) -> None:
    """What is refused is answered; what is not answered any more is not refused."""

    def said() -> list[bool]:
        return [bool(world.client.writes.silence), bool(world.client.writes.refusal)]

    assert await world.run(INTENT, Refused("NOREPLICAS"))
    assert said() == [False, True]
    assert await world.run(INTENT, TimeoutError())
    assert said() == [True, False]
    assert await world.run(CLAIM, Refused("OOM")) == OOM
    assert said() == [False, True]


async def test_a_node_of_a_cluster_answers_for_itself(world: World) -> None:
    """What others execute says nothing of the one that is full; one that is gone is not asked."""
    world.servers.nodes = ("a", "b", "c")
    world.servers.by["b"] = Refused("OOM")
    async with world.probing():
        await world.until_said(OOM)
        assert world.client.writes.executed_by(["a", "c"])
        assert not world.client.writes.executed_by(["b"])
        world.servers.nodes = ("a", "c")
        await world.until_said(None)


async def test_one_that_is_lost_must_show_it_again(world: World) -> None:
    """That it answers again says nothing; and one without any use is asked, without a trace."""
    async with world.probing():
        await world.until_said(None)
        world.servers.answer = Unavailable("gone")
        world.client.writes.on_lost("")
        assert world.client.unavailable_reason is None
        await asyncio.sleep(0.05)
        assert not world.client.able
        world.servers.answer = [b"OK"]
        await world.until_said(None)


async def test_what_is_idle_is_asked_without_a_trace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten seconds without an intent, and no sooner; what it runs finds no key."""
    async with world.probing():
        await world.until_said(None)
        await asyncio.sleep(0.1)
        assert len(world.probes) == 1, "it is idle, and asked again too soon"
        monkeypatch.setattr(writes, "_IDLE", 0.05)
        world.client.writes.on_executed("", INTENT)
        world.client.writes._wanted.set()
        await eventually(lambda: len(world.probes) >= 2)
    assert world.probes[-1][-1] == 0


async def test_another_script_that_is_forbidden_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Deliveries go on; each script is named once, and again once it had been executed."""
    for script, answer in (
        (ACK, FORBIDDEN), (ACK, FORBIDDEN), (OUTCOME, RefusedInside()), (ACK, Refused("BUSY")),
        (ACK, [b"OK"]), (ACK, FORBIDDEN), (ACK, Unauthorised("no", reason="NOAUTH")),
    ):  # fmt: skip
        assert await world.run(script, answer) is None
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 3
    assert [vars(r)["script"] for r in caplog.records] == ["ack", "outcome", "ack"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "The user executing the script can't run this command or subcommand script: 1f2e, on @user",
            "docs/install.md lists what the user needs",
        ),
        (
            "ACL failure in script: User u has no permissions to run the 'rpush' command script: on @user",
            "the user may not run RPUSH",
        ),
    ],
    ids=["Redis 7.0", "later"],
)
def test_a_right_that_is_missing_within_a_script_is_recognised(text: str, said: str) -> None:
    """Its first word is none of the words for it; of its text only the command is passed on."""
    error = classify_reply(ResponseError(text))
    assert isinstance(error, RefusedInside)
    assert error.reason == "NOPERM"
    assert str(error) == f"Redis refuses a command within a script (NOPERM): {said}"
