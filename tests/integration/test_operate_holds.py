"""Holds of operators, on real servers: what is not sent, what says so, and what lets it go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from syncer.model.record import Kind
from syncer.model.times import parse_time
from tests.e2e.harness import CHANNEL, Stage, stage, until
from tests.integration.api import notification
from tests.integration.operating import BY, NO_SWEEPS, Operator, RawLog, owner
from tests.servers import starts
from tests.servers.controlplane import ControlPlane

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)

WHY: Final = "they mend it"


@pytest.fixture
async def here(control_plane: ControlPlane, redis_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """An installation."""
    async with stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here:
        yield here


@pytest.fixture
def operator(here: Stage, capsys: pytest.CaptureFixture[str]) -> Operator:
    """The command."""
    return Operator(here, capsys)


async def hold(operator: Operator, *words: str) -> str:
    """Place a hold; returns its id."""
    answer = await operator.run("hold", *words, "--reason", WHY, "--by", BY, "--json")
    assert answer.code == 0, answer.err
    (found,) = answer.lines
    assert (found["inForce"], found["by"], found["reason"]) == (True, BY, WHY)
    return str(found["id"])


async def completed(here: Stage, word: str) -> list[str]:
    """What a shell is told that the id of a hold may be."""
    where = ["--redis-url", here.redis_url, "--key-prefix", here.prefix]
    ended = await starts.run_beside(["syncer", "complete", "--", "release", *where, word])
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


async def said(raw: RawLog) -> str:
    """Why the log says that it is not sent, empty if it says nothing."""
    skips = await raw.by(Kind.SKIP) if await raw.elements() else []
    return str(skips[-1].body["why"]) if skips else ""


async def test_a_receiver_is_held_and_released(here: Stage, operator: Operator) -> None:
    """Nothing goes there, everything says why and what lets go; a release sends what waits, at once."""
    ns = here.namespace
    # As in another database, or under another prefix, than the controller's.
    unused = await operator.run("holds")
    assert (unused.code, "no controller has used this store" in unused.err) == (5, True)
    async with owner(here.notifier(sync=NO_SWEEPS)):
        refused = await operator.run("hold", "--until", "2h", "--reason", WHY)
        assert (refused.code, "name what to hold with --receiver" in refused.err) == (2, True)
        dry = await operator.run(
            "hold", "--receiver", CHANNEL, "--until", "2h", "--reason", WHY, "--dry-run"
        )
        assert (dry.code, dry.out.startswith(f"would hold --receiver {CHANNEL} until")) == (0, True)
        assert await here.redis.get(f"{here.prefix}:holds") is None
        # Of another receiver, of another namespace: neither holds anything here.
        others = [
            await hold(operator, *words, "--until", "1h")
            for words in (["--receiver", "pagerduty:*"], ["-n", "elsewhere"])
        ]
        held = await hold(operator, "--receiver", CHANNEL, "-n", ns, "--until", "2h")
        uid = await here.create("waits")
        raw = RawLog(here, uid)

        async def held_back() -> bool:
            return held in await said(raw)

        await until(held_back, "the log says that it is held", within=30)
        assert WHY in await said(raw)
        assert (BY in await said(raw), here.receiver.book) == (True, [])
        answer = await operator.run("explain", f"{ns}/waits")
        assert f"NEXT    nothing: {CHANNEL} is due and held until " in answer.out
        assert f"(syncer release {held})" in answer.out

        async def counted() -> bool:
            answer = await operator.run("holds", "--json", "-n", ns)
            assert answer.code == 0, answer.err
            return {line["id"]: line["holds"] for line in answer.lines}.get(held) == 1

        await until(counted, "it is counted", within=20)
        table = await operator.run("holds", "-n", ns)
        assert (WHY in table.out, len(table.out.splitlines())) == (True, 4)

        async def listed() -> bool:
            answer = await operator.run("list", "--json", "--held", "-n", ns)
            return [line["name"] for line in answer.lines] == ["waits"]

        await until(listed, "the list shows it", within=20)
        doctor = await operator.run("doctor", "--json", "-n", ns)
        (check,) = [line for line in doctor.lines if line["check"] == "holds"]
        assert (check["grade"], held in check["found"]) == ("ok", True)

        assert await completed(here, "") == sorted([held, *others])
        assert await completed(here, held[:7]) == [held]

        unknown = await operator.run("release", "ffffffff")
        assert (unknown.code, "there is no hold 'ffffffff'" in unknown.err) == (1, True)
        released = await operator.run("release", held, "--by", BY)
        assert (released.code, released.out.startswith(f"released: {held} ")) == (0, True)
        assert await completed(here, "") == sorted(others)
        await here.wait_phase(uid)
        again = await operator.run("release", held, "--by", BY)
        assert (again.code, again.out.startswith(f"has already ended: {held} ")) == (0, True)
        over = await operator.run("holds", "--over", "--json", "-n", ns)
        (line,) = [line for line in over.lines if line["id"] == held]
        assert (line["inForce"], line["releasedBy"]) == (False, BY)
    assert len(here.receiver.calls("waits")) == 1


async def test_a_hold_outlives_its_owner_and_redis_and_ends_by_itself(
    here: Stage, operator: Operator
) -> None:
    """The next owner obeys it; what Redis has lost is put back; at its end nobody has to do anything."""
    key = f"{here.prefix}:holds"
    document = notification("ends", subject="ends", severity="low")
    async with owner(here.notifier(sync=NO_SWEEPS)):
        held = await hold(operator, "--type", "simple", "--severity", "LOW", "--until", "1h")
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        assert app.controller.placed.in_force() == 1
        reply = await here.api.ask("POST", here.api.requests, document)
        assert reply.code == 201, reply.body
        uid = str(reply.body["metadata"]["uid"])
        raw = RawLog(here, uid)

        async def held_back() -> bool:
            return held in await said(raw)

        await until(held_back, "the log says that it is held", within=30)
        before = await here.redis.get(key)
        await here.redis.delete(key)

        async def back() -> bool:
            return bool(await here.redis.get(key) == before)

        await until(back, "the hold is on record again", within=30)
        assert not here.receiver.book
        short = await operator.run(
            "hold", "--receiver", "ops", "--until", "3s", "--reason", WHY, "--json"
        )
        assert (await operator.run("release", held)).code == 0
        await here.wait_phase(uid)
    assert len(here.receiver.calls("ends")) == 1
    (intent,) = await raw.by(Kind.INTENT)
    # To the second: the owner's idea of Redis's time moves by what a reply takes.
    assert int(intent.body["at"]) + 1_000 >= parse_time(short.lines[0]["until"])


async def test_who_may_wake_nobody_holds_and_releases(here: Stage, operator: Operator) -> None:
    """What is placed is told with its id, and obeyed without the wake-up that the account may not send."""
    rule = ("ACL", "SETUSER", "silent", "on", ">pw", "~*", "+@all", "resetchannels")
    await here.redis.execute_command(*rule)  # type: ignore[no-untyped-call]  # redis has no type for it
    url = here.redis_url.replace("redis://", "redis://silent:pw@")
    silent = Operator(replace(here, redis_url=url), operator._capsys)
    async with owner(here.notifier(sync=NO_SWEEPS)):
        held = await hold(silent, "--receiver", CHANNEL, "--until", "1h")
        answer = await silent.run("release", held, "--json")
        assert (answer.code, [line["letGo"] for line in answer.lines]) == (0, [True])
