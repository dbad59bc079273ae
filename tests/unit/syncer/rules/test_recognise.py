"""Attempts of ours whose ids somebody dropped: recognised, and never taken for another's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.carried import fold
from syncer.model.resource import LogMark, Rollup, Status, parse_status
from syncer.model.times import format_time
from syncer.rules.recognise import poorer, recognise

UNKNOWN, FAILED, SUCCESS = AttemptState.UNKNOWN, AttemptState.FAILED, AttemptState.SUCCESS
T = 1_700_000_000_000


def ours(n: int, state: AttemptState, ended: int, channel: str = "a", **more: Any) -> Attempt:
    """The n-th attempt of an epoch, ended some milliseconds after T."""
    failure = {FAILED: FailureClass.TRANSIENT, UNKNOWN: FailureClass.UNCERTAIN}.get(state)
    known = {"started": T + ended - 300, "failure": failure, **more}
    return Attempt(AttemptId(f"0.7-{n}"), channel, state, ended=T + ended, **known)


def entry(
    state: AttemptState, ended: int, number: int, identity: str = "", channel: str = "a"
) -> dict[str, Any]:
    """An entry as the replaced controller's types write it: to the second, and without our members."""
    shown = {
        "channel": channel, "attempt": number, "status": state.word,
        "timestamp": format_time(T + ended - ended % 1000, millis=False),
    }  # fmt: skip
    return shown | ({"id": identity} if identity else {})


def exact(state: AttemptState, ended: int, number: int) -> dict[str, Any]:
    """An entry of ours without its id: to the millisecond."""
    return entry(state, ended, number) | {"timestamp": format_time(T + ended)}


@dataclass(frozen=True)
class Case:
    """What the log knows, what the list shows, and the ids that the entries get."""

    known: list[Attempt]
    entries: list[dict[str, Any]]
    ids: list[str] = field(default_factory=list)


FAIL_1, FAIL_2 = ours(1, FAILED, 1_200), ours(2, FAILED, 3_900)
SUCCESS_3 = ours(3, SUCCESS, 9_100)

CASES = {
    "nothing is missing": Case(
        [FAIL_1], [entry(FAILED, 1_200, 1, "0.7-1")], ["0.7-1"],
    ),
    "one whose result cannot be known is shown as failed": Case(
        [ours(1, UNKNOWN, 1_200)], [entry(FAILED, 1_200, 1)], ["0.7-1"],
    ),
    "all came back without ids": Case(
        [FAIL_1, FAIL_2, SUCCESS_3],
        [entry(FAILED, 1_200, 1), entry(FAILED, 3_900, 2), entry(SUCCESS, 9_100, 3)],
        ["0.7-1", "0.7-2", "0.7-3"],
    ),
    "the first of them was folded away": Case(
        [FAIL_1, FAIL_2, SUCCESS_3],
        [entry(FAILED, 3_900, 2), entry(SUCCESS, 9_100, 3)],
        ["0.7-2", "0.7-3"],
    ),
    "some have ids": Case(
        [FAIL_1, FAIL_2],
        [entry(FAILED, 1_200, 1, "0.7-1"), entry(FAILED, 3_900, 2)],
        ["0.7-1", "0.7-2"],
    ),
    "two ended within a second": Case(
        [ours(1, FAILED, 1_100), ours(2, FAILED, 1_900)],
        [entry(FAILED, 1_100, 1), entry(FAILED, 1_900, 2)],
        ["0.7-1", "0.7-2"],
    ),
    "two of a second, told apart by the millisecond, in another order": Case(
        [ours(1, FAILED, 1_900), ours(2, FAILED, 1_100)],
        [exact(FAILED, 1_100, 1), exact(FAILED, 1_900, 2)],
        ["0.7-2", "0.7-1"],
    ),
    "one to the millisecond, then one to the second": Case(
        [ours(1, FAILED, 1_000), ours(2, FAILED, 3_900)],
        [entry(FAILED, 1_000, 1), entry(FAILED, 3_900, 2)],
        ["0.7-1", "0.7-2"],
    ),
    "the places of two are the names of other attempts": Case(
        [replace(ours(n, FAILED, 500 * n), id=AttemptId(f"0-{n}")) for n in (0, 1)],
        [entry(FAILED, 30_000, 3), entry(FAILED, 40_000, 4)],
        ["0-2", "0-3"],
    ),
    "two of a second came to different ends": Case(
        [ours(1, FAILED, 1_100), ours(2, SUCCESS, 1_900)],
        [entry(SUCCESS, 1_900, 2)],
        ["0.7-2"],
    ),
    "channels have attempts at the same time": Case(
        [ours(1, FAILED, 1_200, "a"), ours(2, FAILED, 1_200, "b")],
        [entry(FAILED, 1_200, 1, channel="b"), entry(FAILED, 1_200, 1, channel="a")],
        ["0.7-2", "0.7-1"],
    ),
    "another's attempt at another time": Case(
        [FAIL_1], [entry(FAILED, 1_200, 1), entry(FAILED, 30_000, 2)], ["0.7-1", "0-1"],
    ),
    "another's attempt on another channel": Case(
        [FAIL_1], [entry(FAILED, 1_200, 1, channel="b")], ["0-0"],
    ),
    "another's attempt with another result": Case(
        [FAIL_1], [entry(SUCCESS, 1_200, 2)], ["0-0"],
    ),
    "another's attempt in the second of one of ours": Case(
        [FAIL_1], [entry(FAILED, 1_200, 1), entry(FAILED, 1_200, 2)], ["0.7-1", "0-1"],
    ),
    "a copy stands beside its original": Case(
        [FAIL_1],
        [entry(FAILED, 1_200, 1, "0.7-1"), entry(FAILED, 1_200, 1)],
        ["0.7-1"],
    ),
    "duplicates of the replaced controller": Case(
        [], [entry(FAILED, 1_200, 1), entry(FAILED, 1_200, 1)], ["0-0", "0-1"],
    ),
    "its place is the name of another attempt": Case(
        [replace(ours(0, FAILED, 500), id=AttemptId("0-0"))],
        [entry(FAILED, 30_000, 2)],
        ["0-1"],
    ),
    "adopted ones came back without ids": Case(
        [replace(ours(0, FAILED, 500), id=AttemptId("0-4")), FAIL_1],
        [entry(FAILED, 500, 1), entry(FAILED, 1_200, 2)],
        ["0-4", "0.7-1"],
    ),
    "an open attempt is not published": Case(
        [ours(1, AttemptState.INTENT, 0)], [entry(FAILED, 0, 1)], ["0-0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_recognise(case: str) -> None:
    """An entry gets the id that it had; what is another's keeps one of its own."""
    found = CASES[case]
    status = parse_status(fold({"deliveryAttempts": found.entries}))
    known = {a.id: a for a in found.known}
    out = recognise(status, known)
    assert [a.id for a in out.attempts] == found.ids
    assert not out.nameless
    assert recognise(out, known) == out


WHOLE = Status(
    attempts=(FAIL_1, FAIL_2),
    total_attempts=4,
    rollup=Rollup(through=2),
    log=LogMark(5, "0.7", "store"),
)

POORER: dict[str, tuple[Status, bool]] = {
    "the same": (WHOLE, False),
    "one more attempt": (
        replace(WHOLE, attempts=(FAIL_1, FAIL_2, SUCCESS_3), total_attempts=5), False,
    ),
    "one more folded": (
        replace(WHOLE, attempts=(FAIL_2,), rollup=Rollup(through=3)), False,
    ),
    "an attempt is missing": (replace(WHOLE, attempts=(FAIL_2,)), True),
    "ids are missing": (replace(WHOLE, nameless=frozenset({AttemptId("0-0")})), True),
    "the mark is missing": (replace(WHOLE, log=None), True),
    "the fold is missing": (replace(WHOLE, rollup=None), True),
    "the count has fallen": (replace(WHOLE, total_attempts=3), True),
}  # fmt: skip


@pytest.mark.parametrize("case", POORER)
def test_poorer(case: str) -> None:
    """A version that shows less than the one before is noticed, whatever it lacks."""
    shown, expected = POORER[case]
    assert poorer(shown, WHOLE) is expected
