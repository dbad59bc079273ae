"""`syncer tail -f` while Redis is away, and what it says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from syncer.cli import tail
from syncer.cli.following import WakeUps
from syncer.cli.output import Columns
from syncer.model.errors import Rejected, Unavailable


class Follower:
    """Looks that end as a test has them end; after the last one nothing happens any more."""

    def __init__(self, *looks: list[str] | Exception) -> None:
        self.looks = list(looks)
        self.over = asyncio.Event()
        self.asked: list[Sequence[str]] = []

    def pause(self, least: float) -> float:
        """No rest."""
        return 0.0

    async def look(self, uids: Sequence[str]) -> list[str]:
        """One look at some logs."""
        self.asked.append(uids)
        return self._next()

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


class Shown:
    """Where events go."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, events: Sequence[str]) -> None:
        """Keep them."""
        self.events += events


async def followed(follower: Follower, wake_ups: WakeUps) -> list[str]:
    """What is shown until nothing happens any more."""
    shown: Any = Shown()
    task = asyncio.create_task(tail._follow(cast("Any", follower), wake_ups, shown))
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
    events: list[str] = shown.events
    return events


async def test_an_outage_is_said_once_and_survived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on by itself, and says when it does."""
    monkeypatch.setattr(tail, "_AWAY", 0.0)
    away = Unavailable("away")
    follower = Follower(["a"], away, away, TimeoutError(), ["b"], ["c"])
    assert await followed(follower, WakeUps()) == ["a", "b", "c"]
    assert capsys.readouterr().err == (
        "syncer: Redis does not answer, retrying: away\n"
        "syncer: Redis answers again; nothing was missed\n"
    )


async def test_a_refusal_ends_it() -> None:
    """What is refused for good is not asked again."""
    with pytest.raises(Rejected):
        await followed(Follower(["a"], Rejected("no", reason="x")), WakeUps())


async def test_a_wake_up_comes_before_the_sweep() -> None:
    """The logs that it names are looked at, and then all of them."""
    wake_ups = WakeUps()
    wake_ups.put("u")
    follower = Follower(["woken"], ["swept"])
    assert await followed(follower, wake_ups) == ["woken", "swept"]
    assert follower.asked == [["u"]]


class Busy(WakeUps):
    """Somebody wakes, again and again, before each sweep."""

    async def wait(self, seconds: float) -> list[str]:
        """One more."""
        await asyncio.sleep(min(seconds, 0.001))
        return ["u"]


async def test_wake_ups_hold_up_no_sweep() -> None:
    """However many come, all logs are looked at in time."""

    class Resting(Follower):
        def pause(self, least: float) -> float:
            return 0.02

        async def look(self, uids: Sequence[str]) -> list[str]:
            return []

    assert await followed(Resting(["a"], ["b"]), Busy()) == ["a", "b"]


class Entry:
    """An event, in both of its forms."""

    def as_json(self) -> dict[str, int]:
        """For programs."""
        return {"n": 1}

    def cells(self, *, dated: bool) -> tuple[str, str]:
        """For people."""
        return ("day" if dated else "time", "x")


@pytest.mark.parametrize(
    ("json", "dated", "text"),
    [
        (True, False, '{"n": 1}\n'),
        (False, False, "A     B\ntime  x\n"),
        (False, True, "A    B\nday  x\n"),
    ],
)
def test_how_events_are_written(
    json: bool, dated: bool, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An object a line, or rows under a head; nothing at all where there is no event."""
    shown = tail._Shown(Columns(("A", "B")), json=json, dated=dated)
    shown.write([])
    assert capsys.readouterr().out == ""
    shown.write([cast("Any", Entry())])
    assert capsys.readouterr().out == text
