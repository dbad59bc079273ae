"""What a script that Redis does not execute says about the server, and for how long it stands."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from syncer.ledger import client as client_module
from syncer.ledger.calls import Call
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import ACK, CLAIM, INTENT, OUTCOME, Script
from syncer.ledger.replies import Refused, RefusedInside, WrongType, classify_reply
from syncer.model.errors import Ambiguous, Unauthorised, Unavailable

FORBIDDEN: Final = classify_reply(NoPermissionError("no permissions to run the 'evalsha' command"))
KEY: Final = "nl:{u}"


class Servers:
    """Answers each call with the same thing."""

    layout = 0

    def __init__(self) -> None:
        self.answer: object = [b"OK"]
        self.apart = False
        self.asked: list[Call] = []

    async def submit(self, call: Call, at: str | None) -> Any:
        """Answer."""
        self.asked.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def together(self, one: str, other: str) -> bool:
        """Say so, or that each key has a server of its own."""
        return one.partition("}")[0] == other.partition("}")[0] or not self.apart


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
        """Wait for the reason why nothing can be opened."""
        async with asyncio.timeout(10):
            while self.client.unavailable_reason != reason:
                await asyncio.sleep(0.01)


@pytest.fixture
async def world() -> World:
    """A fresh one."""
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
        "Redis refuses a command within a script (NOPERM): `syncer doctor` says which",
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


async def test_an_error_of_every_log_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a key without a log meets as well is the server's, until it is executed there."""
    monkeypatch.setattr(client_module, "_REFUSED_PAUSE", 0.01)
    error = classify_reply(ResponseError("ERR unknown command 'EVALSHA'"))
    assert await world.run(CLAIM, error) is None
    watch = asyncio.create_task(world.client._watch_refusal())
    try:
        await world.until_said("Redis refuses the command (ERR)")
        assert world.servers.asked[-1].command[:4] == ("EVALSHA", INTENT.sha, 1, f"{KEY}:none")
        world.servers.answer = [b"RECLAIM"]
        await world.until_said(None)
        asked = len(world.servers.asked)
        await asyncio.sleep(0.1)
        assert len(world.servers.asked) == asked, "nothing is refused, and it is tried again"
    finally:
        watch.cancel()


async def test_an_error_of_one_log_is_not_the_servers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a key without a log does not meet keeps no other notification."""
    monkeypatch.setattr(client_module, "_REFUSED_PAUSE", 0.01)
    assert await world.run(INTENT, classify_reply(ResponseError("ERR wrong"))) is None
    world.servers.answer = [b"RECLAIM"]
    watch = asyncio.create_task(world.client._watch_refusal())
    try:
        async with asyncio.timeout(10):
            while len(world.servers.asked) < 2:
                assert world.client.unavailable_reason is None
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert world.client.unavailable_reason is None
        assert len(world.servers.asked) == 2
    finally:
        watch.cancel()


async def test_one_that_is_executed_ends_it(world: World) -> None:
    """An outcome does not: at maxmemory it is recorded."""
    assert await world.run(CLAIM, Refused("MISCONF"))
    assert await world.run(OUTCOME, [b"OK"])
    assert await world.run(INTENT, [b"RECLAIM"]) is None


async def test_a_claim_does_not_end_what_an_intent_has_met(world: World) -> None:
    """At maxmemory claims are executed, one after the other, and no intent is."""
    assert await world.run(INTENT, Refused("OOM"))
    assert await world.run(CLAIM, [b"OK"]) == "Redis answers OOM: it is full (maxmemory)"
    assert await world.run(INTENT, [b"RECLAIM"]) is None
    assert await world.run(CLAIM, Refused("MISCONF"))
    assert await world.run(CLAIM, [b"OK"]) is None


async def test_a_node_of_a_cluster_answers_for_itself(world: World) -> None:
    """What another one executes says nothing of the one that is full."""
    world.servers.apart = True
    assert await world.run(INTENT, Refused("OOM"))
    assert (
        await world.run(INTENT, [b"OK"], "nl:{elsewhere}")
        == "Redis answers OOM: it is full (maxmemory)"
    )
    assert await world.run(INTENT, [b"RECLAIM"]) is None


async def test_what_writes_nothing_does_not_end_a_refusal_within_a_script(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands until whatever waits has been tried again, and then the next try decides."""
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(client_module, "_TRIED_AGAIN", 1000.0)
    assert await world.run(CLAIM, RefusedInside())
    assert 999 < world.client._refused_until - now < 1001
    assert await world.run(INTENT, [b"RECLAIM"])
    world.client._refused_until = now
    assert await world.run(INTENT, [b"RECLAIM"]) is None


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
            "`syncer doctor` says which",
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
