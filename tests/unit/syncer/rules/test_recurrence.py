"""Holds that recur: which window is open, which comes next, and what a mistake does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.model.errors import ContractError
from syncer.model.hold import Hold, Recurrence
from syncer.model.times import format_time, parse_time
from syncer.rules.holds import unmatched
from syncer.rules.recurrence import current, problem_of

BERLIN: Final = "Europe/Berlin"


def hold(cron: str, zone: str = "UTC", hours: float = 8, **more: Any) -> Hold:
    """A hold of two months."""
    begins, ends = parse_time("2027-03-01T00:00:00Z"), parse_time("2027-05-01T00:00:00Z")
    recurs = Recurrence(cron, zone, round(hours * 3_600_000))
    made = Hold("h", "1", begins, ends, "ann", "nights", receivers=("ops",), recurrence=recurs)
    return replace(made, **more)


NIGHTS: Final = hold("0 22 * * 1-5")
#: A hold, a time of March or April 2027 (the 1st of March is a Monday), and its window then.
WINDOWS: Final[dict[str, tuple[Hold, str, str, str]]] = {
    "before the first": (NIGHTS, "03-01T12:00", "03-01T22:00", "03-02T06:00"),
    "as it begins": (NIGHTS, "03-01T22:00", "03-01T22:00", "03-02T06:00"),
    "within": (NIGHTS, "03-02T03:00", "03-01T22:00", "03-02T06:00"),
    "as it ends": (NIGHTS, "03-02T06:00", "03-02T22:00", "03-03T06:00"),
    "over a weekend": (NIGHTS, "03-06T12:00", "03-08T22:00", "03-09T06:00"),
    "in another zone": (hold("0 22 * * *", BERLIN), "03-01T21:30", "03-01T21:00", "03-02T05:00"),
    "in summer": (hold("0 22 * * *", BERLIN), "04-01T20:30", "04-01T20:00", "04-02T04:00"),
    "the hour that the clock leaves out": (
        hold("30 2 * * *", BERLIN, 1), "03-28T00:30", "03-28T01:00", "03-28T02:00",
    ),
    "windows that meet": (hold("0 * * * *", hours=2), "03-01T12:30", "03-01T11:00", "03-01T14:00"),
    "the last one is cut": (
        replace(NIGHTS, until=parse_time("2027-03-02T01:00:00Z")), "03-02T00:00", "03-01T22:00",
        "03-02T01:00",
    ),
    "the first one is cut": (
        replace(NIGHTS, start=parse_time("2027-03-02T01:00:00Z")), "03-01T00:00", "03-02T01:00",
        "03-02T06:00",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WINDOWS)
def test_windows(case: str) -> None:
    """It is in force within its window alone, whose start and end it has then."""
    of, at, begins, ends = WINDOWS[case]
    now = parse_time(f"2027-{at}:00Z")
    found = current(of, now)
    assert [format_time(t, millis=False) for t in (found.start, found.until)] == [
        f"2027-{begins}:00Z", f"2027-{ends}:00Z",
    ]  # fmt: skip
    assert found.in_force(now) is (found.start <= now)


def test_what_does_not_recur_or_is_over_stays_as_it_is() -> None:
    """There is no window to look for."""
    plain = replace(NIGHTS, recurrence=None)
    assert current(plain, plain.created) is plain
    assert current(NIGHTS, NIGHTS.until) is NIGHTS


@pytest.mark.parametrize(
    ("cron", "zone"), [("99 * * * *", "UTC"), ("0 0 * * *", "Mars/Olympus"), ("0 0 30 2 *", "UTC")]
)
def test_a_mistake_holds_all_the_time(cron: str, zone: str) -> None:
    """And is said where a typo in a name is said."""
    wrong = hold(cron, zone)
    assert current(wrong, wrong.created) is wrong
    (said,) = unmatched(wrong, ["slack:ops"], None)
    assert said == problem_of(wrong)
    assert said.startswith("its recurrence cannot be read, so it holds without a break: ")


def test_the_member_of_the_object() -> None:
    """Hours and minutes; without a zone UTC; without a length it cannot be read."""
    spec = {"until": "2028-03-01T00:00:00Z", "author": "a", "reason": "r", "receivers": ["ops"]}
    document = {
        "metadata": {"name": "h", "creationTimestamp": "2027-03-01T00:00:00Z"},
        "spec": spec | {"recurrence": {"cron": "0 22 * * *", "duration": "1h30m"}},
    }
    found = Hold.of(document)
    assert found.recurrence == Recurrence("0 22 * * *", "UTC", 5_400_000)
    assert format_time(found.until) == "2028-03-01T00:00:00.000Z", (
        "a year, where others have a month"
    )
    document["spec"]["recurrence"] = {"cron": "0 22 * * *", "duration": ""}  # type: ignore[index]  # of the spec
    with pytest.raises(ContractError, match="duration must be such as 8h or 90m"):
        Hold.of(document)
