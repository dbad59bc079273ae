"""What is counted for each channel, and which logs are read to say why it is not served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.web import receivers as module
from syncer.cli.web.entries import Channel, Entry, Failure
from syncer.cli.web.index import WINDOW, RecentAttempt
from syncer.cli.web.receivers import Receiver, count, to_read
from syncer.model.attempt import AttemptState
from tests.unit.syncer.cli.samples import NOW, C


def entry(
    uid: str,
    state: str = "Pending",
    *,
    due: int = 0,
    age: int = 0,
    channel: str = C,
    **changes: Any,
) -> Entry:
    """A notification for one channel."""
    channels = (Channel(channel, state, due),)
    plain = Entry("ns", uid, uid, NOW - age, "Sending", 0, 0, 0, channels, None, 0)
    return replace(plain, **changes)


async def walk(entries: Iterable[Entry]) -> AsyncIterator[Entry]:
    """All entries."""
    for each in entries:
        yield each


async def counted(*entries: Entry, recent: Iterable[RecentAttempt] = ()) -> dict[str, Receiver]:
    """Receivers by channel."""
    found, more = await count(walk(entries), recent, now=NOW)
    assert not more
    return found


#: A state of a channel, whether its notification is finished, and whether it waits, and failed.
STATES: Final = {
    "Pending": (1, 0), "Retrying": (1, 0), "Delivered": (0, 0), "Uncertain": (0, 0), "Failed": (0, 1),
    "Exhausted": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
async def test_what_waits_and_what_failed(state: str) -> None:
    """By the channel's state; nothing waits in a notification that has ended."""
    waiting, failed = STATES[state]
    found = (await counted(entry("a", state), entry("b", state)))[C]
    assert (found.name, found.waiting, found.failed) == ("ops", 2 * waiting, 2 * failed)
    ended = (await counted(entry("a", state, phase="Failed")))[C]
    assert (ended.waiting, ended.failed, ended.oldest) == (0, failed, [])


async def test_the_longest_overdue_attempt() -> None:
    """The earliest time at which one is due; none where nothing is planned."""
    assert (await counted(entry("a")))[C].due == 0
    late, later = entry("a", due=NOW - 5), entry("b", due=NOW + 5)
    for order in ((late, later), (later, late), (entry("c"), later, late)):
        assert (await counted(*order))[C].due == NOW - 5


async def test_those_that_wait_longest_are_read() -> None:
    """A few for each channel, by when they were due or else created, whatever the order."""
    many = [entry(str(n), due=NOW + n if n % 2 else 0, age=-n) for n in (4, 1, 5, 3, 2)]
    many += [entry("x", age=9, channel="slack:x"), entry("done", "Delivered", age=99)]
    found = await counted(*many)
    assert [e.name for _, e in found[C].oldest] == ["1", "2", "3"]
    assert to_read(found) == ["x", "1", "2", "3"]


async def test_a_log_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification for several channels is one; no more are read than the bound says."""
    one = entry("a", age=2)
    one.channels += (Channel("slack:b", "Pending", 0),)
    found = await counted(one, entry("b", age=1))
    assert to_read(found) == ["a", "b"]
    monkeypatch.setattr(module, "READ", 1)
    assert to_read(found) == ["a"]
    assert to_read({}) == []


async def test_the_latest_failure_is_shown() -> None:
    """Of this channel; of two at once the one that is counted last."""
    found = await counted(
        entry("a", failure=Failure(C, "first"), last=5),
        entry("b", failure=Failure("slack:b", "elsewhere"), last=9),
        entry("c", failure=Failure(C, "latest"), last=7),
        entry("d", failure=Failure(C, "at once"), last=7),
        entry("e", failure=Failure(C, "before"), last=6),
    )
    assert (found[C].error, found[C].error_at) == ("at once", 7)


async def test_the_last_hour() -> None:
    """Attempts of a channel that some notification has, by their results, as far back as the window."""
    tried = [
        RecentAttempt(C, NOW, AttemptState.SUCCESS), RecentAttempt(C, NOW - WINDOW, AttemptState.FAILED),
        RecentAttempt(C, NOW - 2, AttemptState.FAILED), RecentAttempt(C, NOW - 3, AttemptState.UNKNOWN),
        RecentAttempt(C, NOW - 4, AttemptState.SUCCESS),
        RecentAttempt(C, NOW - WINDOW - 1, AttemptState.FAILED),
        RecentAttempt("slack:gone", NOW, AttemptState.FAILED),
    ]  # fmt: skip
    found = await counted(entry("a"), entry("b", channel="slack:b"), recent=tried)
    assert [(r.tried, r.refused, r.unknown) for r in found.values()] == [(5, 2, 1), (0, 0, 0)]


async def test_more_channels_than_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came first are counted on, and it is said that there are more."""
    monkeypatch.setattr(module, "MOST", 1)
    several = entry("b", channel="slack:b")
    several.channels += (Channel(C, "Pending", 0),)
    found, more = await count(walk([entry("a"), several]), (), now=NOW)
    assert (list(found), found[C].waiting, more) == ([C], 2, True)
