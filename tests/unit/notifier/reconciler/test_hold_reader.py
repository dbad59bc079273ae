"""How holds come from Redis to the controller, and back into a Redis that has lost them."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from notifier.reconciler.hold_reader import HoldReader
from notifier.reconciler.placed_holds import PlacedHolds
from syncer.ledger.client import LedgerClient
from syncer.ledger.holds import HOLDS_CHANGED, HoldStore, StoredHolds
from syncer.model.errors import ContractError, Unauthorised, Unavailable
from syncer.model.hold import Hold
from syncer.rules.holds import decode, encode, place, release
from syncer.runtime.clock import LedgerTime
from tests.fakes.memorylog import Fault, MemoryClient, MemoryRedis, Mishap

NOW: Final = 1_800_000_000_000
HOLD: Final = Hold("00000001", NOW, NOW + 60_000, "alice", "they mend it", ("slack:ops",))
OTHER: Final = replace(HOLD, id="00000002", receivers=("slack:dev",))


class Controller:
    """Takes holds, as the controller does."""

    def __init__(self, time: LedgerTime) -> None:
        self.placed = PlacedHolds(time, time.monotonic)
        self.changes: list[tuple[list[str], list[str]]] = []

    def take_holds(self, holds: tuple[Hold, ...]) -> None:
        """Note what has begun and ended."""
        begun, ended = self.placed.take(holds)
        if begun or ended:
            self.changes.append(([h.id for h in begun], [h.id for h in ended]))


class World:
    """One process's reader over a Redis in memory."""

    def __init__(self, redis: MemoryRedis | None = None) -> None:
        self.now = 100.0
        self.redis = redis or MemoryRedis(lambda: NOW)
        time = LedgerTime(lambda: self.now)
        time.set(NOW)
        self.store = HoldStore(cast("LedgerClient", MemoryClient(self.redis)))
        self.controller = Controller(time)
        self.reader = HoldReader(self.store, cast("Any", self.controller), time)

    @property
    def stored(self) -> tuple[Hold, ...]:
        """What Redis has."""
        return decode(self.redis.strings.get("nl:holds"))

    def put(self, *holds: Hold) -> None:
        """Have Redis hold these."""
        self.redis.strings["nl:holds"] = encode(holds)


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_the_first_reading_is_waited_for(world: World) -> None:
    """A round does nothing before it; what it meets is the start's to report."""
    world.redis.down = True
    with pytest.raises(Unavailable):
        await world.reader.begin()
    early = asyncio.create_task(world.reader.round())
    await asyncio.sleep(0)
    assert not early.done()
    world.redis.down = False
    world.put(HOLD)
    await world.reader.begin()
    assert world.controller.changes == [(["00000001"], [])]
    await early


async def test_what_cannot_be_read_refuses_the_start(world: World) -> None:
    """With the key and the member; nobody knows what must not be sent."""
    world.redis.strings["nl:holds"] = b'{"v":1,"holds":[7]}'
    with pytest.raises(ContractError, match=r"nl:holds cannot be read: holds\[0\]: must be"):
        await world.reader.begin()


async def test_a_round_finds_what_has_changed(world: World) -> None:
    """A hold more, one that is released, one that has ended by the time alone."""
    await world.reader.begin()
    world.put(HOLD, OTHER)
    world.reader.wanted.set()
    await world.reader.round()
    assert not world.reader.wanted.is_set()
    world.put(HOLD, replace(OTHER, released=NOW, released_by="bob"))
    await world.reader.round()
    world.now += 60
    await world.reader.round()
    assert world.controller.changes == [
        (["00000001", "00000002"], []), ([], ["00000002"]), ([], ["00000001"]),
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["flush", "older"])
async def test_what_redis_has_lost_is_put_back(
    world: World, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A hold in force after the loss of everything, a release after that of the end."""
    world.put(HOLD, replace(OTHER, released=NOW, released_by="bob"))
    await world.reader.begin()
    if lost == "flush":
        world.redis.flush()
    else:
        world.put(OTHER)
    await world.reader.round()
    back = (HOLD,) if lost == "flush" else (HOLD, replace(OTHER, released=NOW, released_by="bob"))
    assert world.stored == back
    assert world.controller.changes == [(["00000001"], [])]
    (line,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert line.message == "holds that Redis had lost are restored"
    caplog.clear()
    await world.reader.round()
    assert not caplog.records


async def test_replicas_that_put_back_do_not_undo_each_other(world: World) -> None:
    """One has seen the release before the loss, the other has not: the release stands."""
    late = World(world.redis)
    world.put(HOLD)
    await late.reader.begin()
    world.put(replace(HOLD, released=NOW, released_by="bob"))
    await world.reader.begin()
    world.redis.flush()
    await late.reader.round()
    assert world.stored == (HOLD,)
    await world.reader.round()
    await late.reader.round()
    assert world.stored == (replace(HOLD, released=NOW, released_by="bob"),)
    assert late.controller.changes[-1] == ([], ["00000001"])


async def test_redis_away_ends_no_hold_before_its_time(world: World) -> None:
    """What is known stays in force, and ends at its end all the same."""
    world.put(HOLD)
    await world.reader.begin()
    world.redis.down = True
    await world.reader.round()
    assert world.controller.placed.in_force() == 1
    world.now += 60
    await world.reader.round()
    assert world.controller.changes == [(["00000001"], []), ([], ["00000001"])]


async def test_what_cannot_be_read_later_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, readiness mentions it, and it is not overwritten."""
    world.put(HOLD)
    await world.reader.begin()
    world.redis.strings["nl:holds"] = b"nonsense"
    await world.reader.round()
    await world.reader.round()
    assert world.controller.placed.in_force() == 1
    assert world.redis.strings["nl:holds"] == b"nonsense"
    assert "delete the key" in str(world.reader.problem)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    del world.redis.strings["nl:holds"]
    await world.reader.round()
    assert world.reader.problem is None
    assert world.stored == (HOLD,)


async def test_what_may_not_be_read_any_more_is_said(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and readiness mentions it: a new hold would not be obeyed. What is known still ends."""
    world.put(HOLD)
    await world.reader.begin()

    async def refuse() -> StoredHolds:
        raise Unauthorised("Redis refuses the credentials or the command (NOPERM)")

    with monkeypatch.context() as refused:
        refused.setattr(world.store, "read", refuse)
        await world.reader.round()
        world.now += 60
        await world.reader.round()
    assert world.controller.changes == [(["00000001"], []), ([], ["00000001"])]
    (line,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert line.message == (
        "the operators' holds cannot be read: Redis refuses the credentials or the command (NOPERM);"
        " the known holds stay in force"
    )
    assert "NOPERM" in str(world.reader.problem)
    await world.reader.round()
    assert world.reader.problem is None


@pytest.mark.parametrize("mishap", [Mishap.LOSE_REPLY, Mishap.LOSE_REQUEST])
async def test_a_lost_reply_is_settled_by_the_next_round(world: World, mishap: Mishap) -> None:
    """Whether it was written or not."""
    world.put(HOLD)
    await world.reader.begin()
    world.redis.flush()
    world.redis.faults.append(Fault(mishap, "swap"))
    await world.reader.round()
    await world.reader.round()
    assert world.stored == (HOLD,)
    assert not world.redis.faults[0].times


# -- changes by operators ---------------------------------------------------------------------------


@pytest.mark.parametrize("mishap", [None, Mishap.LOSE_REPLY, Mishap.LOSE_REQUEST])
async def test_a_change_is_made_once(world: World, mishap: Mishap | None) -> None:
    """Whatever reply is lost, the record holds it once."""
    if mishap is not None:
        world.redis.faults.append(Fault(mishap, "swap"))
    after = await world.store.change(lambda holds: place(holds, HOLD, now=NOW))
    assert after == world.stored == (HOLD,)
    await world.store.announce()
    assert world.redis.published == [("nl:poke", HOLDS_CHANGED.encode())]


async def test_two_changes_at_once_are_both_made(world: World) -> None:
    """The later one begins anew, from what the other has written."""
    world.redis.delay = lambda: 0.001
    await asyncio.gather(
        world.store.change(lambda holds: place(holds, HOLD, now=NOW)),
        world.store.change(lambda holds: place(holds, OTHER, now=NOW)),
    )
    assert world.stored == (HOLD, OTHER)


async def test_what_is_refused_is_not_written(world: World) -> None:
    """The record stays, and so does one that cannot be read."""
    with pytest.raises(ValueError, match="there is no hold"):
        await world.store.change(lambda holds: release(holds, ["x"], now=NOW, by="bob"))
    assert not world.redis.strings
    world.redis.strings["nl:holds"] = b"nonsense"
    with pytest.raises(ContractError):
        await world.store.change(lambda holds: place(holds, HOLD, now=NOW))
    assert world.redis.strings["nl:holds"] == b"nonsense"


async def test_a_change_that_never_finds_quiet_gives_up(world: World) -> None:
    """It does not go on for ever."""
    numbers = iter(range(1000))

    def change(holds: tuple[Hold, ...]) -> tuple[Hold, ...]:
        world.redis.strings["nl:holds"] = json.dumps(
            {"v": 1, "holds": [], "n": next(numbers)}
        ).encode()
        return place(holds, HOLD, now=NOW)

    with pytest.raises(Unavailable, match="changed by others"):
        await world.store.change(change)
