"""
The swap with the replaced controller, the way back, and the swap again: the steps of docs/migration.md.

Every step is carried out on a real API server with the replaced controller's definition, which stays as it
is. That controller is stood in for by a writer that does what its client does: it reads an object, keeps
the members that it knows, times to the second, and puts the whole status back.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from syncer.model.carried import expand
from syncer.model.resource import Json
from tests.beside import beside
from tests.e2e.checker import Version
from tests.e2e.harness import (
    BUSY,
    OK,
    QUICK,
    NotifierProcess,
    Stage,
    Step,
    until,
)
from tests.e2e.migrating import attempted, write_as_before
from tests.servers.definition import put_back
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

#: One wait that is long enough for everything that is done meanwhile.
PATIENT: Final[Json] = {**QUICK, "initialBackoffSeconds": 20}
#: Notifications that a program of older types writes to all the time.
RACED: Final = 16


async def agrees(here: Stage, process: NotifierProcess, name: str) -> bool:
    """`syncer explain --records`: whether log and status say the same."""
    ended = await run_beside(
        ("syncer", "explain", "--records", f"{here.namespace}/{name}", "--config", str(process._config),
         "--kubeconfig", str(here.plane.controller_kubeconfig)),
        together=True,
    )  # fmt: skip
    assert ended.returncode in (0, 1), ended.stdout
    return ended.returncode == 0


async def published(here: Stage, name: str, uid: str, attempts: int) -> None:
    """Wait until an object shows so many attempts."""
    await until(
        lambda: len(here.watcher.last(uid).attempts) == attempts,
        lambda: f"{name} shows {attempts} attempts; {here.processes[-1].tail()}",
        within=30,
    )


def shown(here: Stage, uid: str) -> list[tuple[Any, ...]]:
    """Number and result of each attempt, in the order of the status."""
    return [(a["attempt"], a["status"]) for a in here.watcher.last(uid).attempts]


def ids_of(here: Stage, uid: str) -> list[str | None]:
    """The ids of its attempts, None for one without."""
    return [a.get("id") for a in here.watcher.last(uid).attempts]


async def test_there_and_back_and_there_again(here: Stage) -> None:
    """Each way finishes what the other left, sends nothing twice, and loses no attempt."""
    # Before: one finished, one tried once, one never looked at.
    old = {name: await here.create(name, retryPolicy=QUICK) for name in ("done", "half", "new")}
    assert (await write_as_before(here, "done", attempted("success", phase="Sent"))).code == 200
    assert (await write_as_before(here, "half", attempted("failed"))).code == 200
    done = await here.api.ask("GET", f"{here.api.requests}/done")

    # There: the controller; it finishes what is unfinished.
    here.script("unsure", Step(drop="after"), OK)
    here.script("later", BUSY, OK)
    process = here.notifier().start()
    for name in ("half", "new"):
        await here.wait_phase(old[name])
    assert shown(here, old["half"]) == [(1, "failed"), (2, "success")]
    assert (await here.api.ask("GET", f"{here.api.requests}/done")).body == done.body
    await here.wait_acked([old["half"], old["new"]])
    await until(lambda: bool(process.lines("start-up reconciliation done")), process.tail)
    assert await agrees(here, process, "half")

    # Back, 1: this controller ends in order; log and status agree.
    new = {n: await here.create(n, retryPolicy=PATIENT) for n in ("unsure", "later")}
    for name, uid in new.items():
        await published(here, name, uid, 1)
    assert shown(here, new["unsure"]) == [(1, "unknown")]
    process.sigterm()
    assert await process.wait_exit() == 0
    (drained,) = process.lines("drained")
    assert (drained["unrecorded"], drained["unsynced"]) == (0, 0)
    assert await agrees(here, process, "unsure")
    ids = {name: ids_of(here, uid) for name, uid in new.items()}

    # Back, 2: the old client writes, and keeps the condition alone.
    answer = await write_as_before(here, "unsure", attempted("failed", minutes=30))
    assert answer.code == 200, answer.body
    answer = await write_as_before(here, "later", attempted("success", phase="Sent"))
    assert answer.code == 200, answer.body

    # There again: the controller, and the logs that it left.
    process = here.notifier().start()
    await here.wait_phase(new["unsure"], within=60)
    assert shown(here, new["unsure"]) == [(1, "unknown"), (2, "failed"), (3, "success")]
    assert shown(here, new["later"]) == [(1, "failed"), (2, "success")]
    for name, uid in new.items():
        assert ids_of(here, uid)[:1] == ids[name], "ours keep their ids"
    calls = {n: len(here.receiver.calls(n)) for n in (*old, *new)}
    # What the stand-in claims to have sent never came here.
    assert calls == {"done": 0, "half": 1, "new": 1, "unsure": 2, "later": 1}
    await here.wait_acked([new["unsure"]])


async def test_a_racing_writer_of_older_types_shows_no_attempt_twice(here: Stage) -> None:
    """
    A program may put statuses back as its types have them, again and again.

    Whatever it meets, a claim after a restart included, each attempt is listed and counted once.
    """
    dropped: set[str] = set()

    async def write(here: Stage, name: str, uid: str) -> None:
        met: Version | None = None
        while here.watcher.phase(uid) != "Sent":
            await asyncio.sleep(0.05)
            if (version := here.watcher.last(uid)) == met:
                continue
            met = version
            read = await here.api.ask("GET", f"{here.api.requests}/{name}")
            status = read.body.get("status") or {}
            if status.get("deliveryAttempts"):
                answer = await here.api.ask(
                    "PUT",
                    f"{here.api.requests}/{name}/status",
                    {**read.body, "status": put_back(status)},
                )
                if answer.code == 200:
                    dropped.add(name)
                    here.receiver.scripts[name] = (BUSY, BUSY, OK)

    names = [f"raced-{n}" for n in range(RACED)]
    # None ends before its members were dropped, however slow the writers are.
    here.receiver.default = (BUSY,)
    process = await here.notifier().start().wait_ready()
    often = {**QUICK, "maxAttempts": 10}
    uids = [await here.create(name, retryPolicy=often) for name in names]
    async with beside(*(write(here, *each) for each in zip(names, uids, strict=True))):
        await until(lambda: len(dropped) >= RACED // 2, process.tail, within=60)
        process.kill()
        process.start()
        await here.wait_sent(uids, within=90)
    await here.wait_acked(uids)
    for name in names:
        read = await here.api.ask("GET", f"{here.api.requests}/{name}")
        status = expand(read.body["status"])
        assert all("id" in a for a in status["deliveryAttempts"])
        listed = [(a["attempt"], a["status"]) for a in status["deliveryAttempts"]]
        assert [n for n, _ in listed] == list(range(1, len(listed) + 1)), f"{name}: {listed}"
        assert listed[-1][1] == "success"
        assert status["totalAttempts"] == len(listed)
        # What was cut off by the kill has no known result, and may have left or not.
        known = sum(s != "unknown" for _, s in listed)
        called = [c.attempt for c in here.receiver.calls(name)]
        assert len(called) == len(set(called)) >= 3
        assert len(called) - 1 <= known <= len(called) <= len(listed), f"{name}: {listed}"
    assert dropped == set(names)
