"""`syncer tail -f` while Redis is away, and what it says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli import tail
from syncer.cli.access import Access
from syncer.cli.exits import NOT_COMPARED, OK
from syncer.cli.installation import Store, StoreState
from syncer.cli.main import _parser
from syncer.model.attempt import Attempt, AttemptState, Epoch
from syncer.model.errors import Rejected, Unavailable
from syncer.model.record import Header, attempt_record
from tests.unit.syncer.cli.samples import A1, A2, NOW, PLAN, C, elements, failed, opened, request
from tests.unit.syncer.cli.world import Objects, World


class Follower:
    """Looks that end as a test has them end; after the last one nothing happens any more."""

    def __init__(self, *looks: list[str] | Exception) -> None:
        self.looks = list(looks)
        self.over = asyncio.Event()

    def pause(self, least: float) -> float:
        """No rest."""
        return 0.0

    async def sweep(self) -> AsyncIterator[list[str]]:
        """One look at all."""
        if not self.looks:
            self.over.set()
            await asyncio.Event().wait()
        yield self._next()

    def _next(self) -> list[str]:
        found = self.looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


async def followed(follower: Follower) -> list[str]:
    """What is shown until nothing happens any more."""
    events: list[Any] = []
    task = asyncio.create_task(
        tail._follow(cast("Any", follower), cast("Any", SimpleNamespace(write=events.extend)))
    )
    try:
        async with asyncio.timeout(20):
            await asyncio.wait(
                (task, asyncio.ensure_future(follower.over.wait())),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return events


async def test_an_outage_is_said_once_and_survived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on by itself, and says when it does."""
    monkeypatch.setattr(tail, "_AWAY", 0.0)
    away = Unavailable("away")
    follower = Follower(["a"], away, away, TimeoutError(), ["b"], ["c"])
    assert await followed(follower) == ["a", "b", "c"]
    assert capsys.readouterr().err == (
        "syncer: Redis does not answer, retrying: away\n"
        "syncer: Redis answers again; nothing was missed\n"
    )


async def test_a_refusal_ends_it() -> None:
    """What is refused for good is not asked again."""
    with pytest.raises(Rejected):
        await followed(Follower(["a"], Rejected("no", reason="x")))


async def test_it_rests_after_each_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the follower says; a Redis that is away is left alone for a moment."""
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) > 3:
            follower.over.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(tail, "asyncio", SimpleNamespace(sleep=sleep))
    follower = Follower(["a"], Unavailable("away"), ["b"])
    assert await followed(follower) == ["a", "b"]
    period = follower.pause(tail._PERIOD)
    assert rests == [period, period, tail._AWAY, period]


SENT: Final = attempt_record(Attempt(A2, C, AttemptState.SUCCESS, ended=NOW - 10_000))
#: What is typed behind the command, the exit code, and the rows: when, of what, and how it ended.
RUNS: Final[dict[str, tuple[str, int, list[str]]]] = {
    "the past, without what was only begun": (
        "", OK, ["07:59:11 ns/n failed", "07:59:20 ns/other unknown", "07:59:50 ns/n success"],
    ),
    "states that are named": (
        "--state intent --state success", OK, ["07:59:10 ns/n opened", "07:59:50 ns/n success"],
    ),
    "the newest": ("", OK, ["07:59:50 ns/n success"]),
    "a channel": ("--receiver email:*", OK, []),
    "a receiver": ("--receiver ops --state failed", OK, ["07:59:11 ns/n failed"]),
    "a namespace": ("-n elsewhere", OK, []),
    "since a moment": ("--since 2027-01-15T07:59:30Z", OK, ["07:59:50 ns/n success"]),
    "for more than a day, with its date": (
        "--state success --since 25h", OK, ["2027-01-15 07:59:50 ns/n success"],
    ),
    "for a day, without": ("--state success --since 24h", OK, ["07:59:50 ns/n success"]),
    "of a store that is nobody's yet": (
        "--state success", NOT_COMPARED, ["07:59:50 ns/n success"],
    ),
    "of one notification": ("ns/other", OK, ["07:59:20 ns/other unknown"]),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
async def test_the_past_is_shown(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is asked for, in the order of time, and from when on to look again."""
    typed, code, wanted = RUNS[case]
    world = World(Objects())
    world.put("u", elements(PLAN, opened(A1), failed(A1), SENT))
    lost = attempt_record(Attempt(A2, C, AttemptState.UNKNOWN, ended=NOW - 40_000))
    world.put("2", elements(PLAN, lost, header=Header("ns/other", Epoch("0.7"))))
    world.objects.kept["ns/other"] = replace(request(), uid="2", name="other")

    @asynccontextmanager
    async def opened_world(*_: object, **options: object) -> AsyncIterator[Access]:
        yield world.at

    async def trusted(*_: object, **options: object) -> Store:
        assert options == {"new": True}
        return Store(StoreState.OURS if code == OK else StoreState.NEW)

    monkeypatch.setattr(tail, "access", opened_world)
    monkeypatch.setattr(tail, "trusted_store", trusted)
    monkeypatch.setattr(tail, "MOST", 1 if case == "the newest" else 1000)
    options = _parser().parse_args(["tail", *typed.split()])
    assert await tail.run(options) == code
    said = capsys.readouterr()
    rows = [
        line.replace("slack:ops", "").replace(" - ", " ").split()
        for line in said.out.splitlines()[1:]
    ]
    count = 4 if "25h" in typed else 3
    assert [" ".join(row[:count]) for row in rows] == wanted
    # What ended earlier than the last look may still be appended.
    assert said.err.splitlines()[-1] == (
        "syncer: to continue from here: --since 2027-01-15T07:59:50.000Z"
    )
    passed_over = (
        "syncer: 2 earlier ones are not shown; a shorter --since shows less, `explain --records` all of"
        " one"
    )
    assert said.err.splitlines()[:-1] == ([passed_over] if case == "the newest" else [])
