"""Ids, epochs and the join: what makes an attempt one and the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.model.attempt import (
    Attempt,
    AttemptId,
    AttemptState,
    FailureClass,
    join,
    make_epoch,
    parse_attempt_id,
    parse_epoch,
    shared_text,
    wait_of,
)

OPEN = Attempt(AttemptId("0.7-1"), "slack:ops", AttemptState.INTENT, started=1_000)
UNKNOWN = replace(
    OPEN, state=AttemptState.UNKNOWN, started=0, ended=2_000, failure=FailureClass.UNCERTAIN
)
FAILED = replace(UNKNOWN, state=AttemptState.FAILED, failure=FailureClass.TRANSIENT, error="503")
SUCCESS = replace(UNKNOWN, state=AttemptState.SUCCESS, failure=None)


def test_epoch_is_incarnation_and_version() -> None:
    """An epoch names the incarnation and the version of the Lease write."""
    assert make_epoch(0, "1234") == "0.1234"
    assert parse_epoch("12.340282366920938463463374607431768211455") == (
        "12.340282366920938463463374607431768211455"
    )


@pytest.mark.parametrize(
    "text",
    ["", "7", "0.", ".7", "00.7", "0.07", "-1.7", "0.7.1", "0.7 ", "0.7\n", "a.b", f"0.{'9' * 40}"],
)
def test_malformed_epochs(text: str) -> None:
    """A text that is not two decimal numbers without leading zeros is no epoch."""
    with pytest.raises(ValueError, match="not an epoch"):
        parse_epoch(text)


@pytest.mark.parametrize("version", ["", "abc", "007", "1-2", "-4"])
def test_epoch_of_an_odd_version(version: str) -> None:
    """A resourceVersion that is no number gives no epoch."""
    with pytest.raises(ValueError, match="not an epoch"):
        make_epoch(0, version)


@pytest.mark.parametrize(
    "text", ["", "0.7", "0.7-0", "0.7-01", "0.7-1-1", "1-1", "0-01", "0.7-1 ", "0.7-", "resolve:x"]
)
def test_malformed_ids(text: str) -> None:
    """A text of neither form is no attempt id."""
    with pytest.raises(ValueError, match="not an attempt id"):
        parse_attempt_id(text)


def test_states_rise() -> None:
    """The four states stand in the order in which knowledge grows, and spell themselves."""
    assert [s.word for s in sorted(AttemptState)] == ["intent", "unknown", "failed", "success"]


JOINS = {
    "a start that only the intent tells is kept": (OPEN, SUCCESS, replace(SUCCESS, started=1_000)),
    "a number that only the loser has is kept": (
        replace(FAILED, number=3), SUCCESS, replace(SUCCESS, number=3),
    ),
    "the longer error is the whole one": (
        replace(FAILED, error="50…"), replace(FAILED, error="503 busy"),
        replace(FAILED, error="503 busy"),
    ),
    "of two results of one rank the later one counts": (
        FAILED, replace(FAILED, ended=2_001, code=500), replace(FAILED, ended=2_001, code=500),
    ),
    "a refusal for good outlives a later word that it may be tried again": (
        replace(FAILED, failure=FailureClass.PERMANENT, code=410),
        replace(FAILED, failure=FailureClass.TRANSIENT, ended=9_000, due=9_500),
        replace(FAILED, failure=FailureClass.PERMANENT, code=410),
    ),
    "of two classes of failure, all else equal, it is always the same that counts": (
        replace(UNKNOWN, failure=FailureClass.NOT_SENT), UNKNOWN, UNKNOWN,
    ),
    "a class of failure counts more than none": (replace(UNKNOWN, failure=None), UNKNOWN, UNKNOWN),
    "of two starts the earlier one counts": (
        replace(SUCCESS, started=900), replace(FAILED, started=800), replace(SUCCESS, started=800),
    ),
    "of two numbers the higher one counts": (
        replace(SUCCESS, number=1), replace(SUCCESS, number=2), replace(SUCCESS, number=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JOINS)
def test_join(case: str) -> None:
    """Equal states are told apart by their facts, the same way from both sides."""
    left, right, wanted = JOINS[case]
    assert join(left, right) == wanted
    assert join(right, left) == wanted


WAITS = {
    "the due time is ahead": (1_000, 1_500, 1_200, 300),
    "a clock that went back does not stretch the wait": (1_000, 1_500, 200, 500),
    "the due time is past": (1_000, 1_500, 1_501, 0),
    "no wait was meant, whatever the clock says": (1_000, 1_000, 900, 0),
    "no due time was set": (1_000, 0, 900, 0),
}


@pytest.mark.parametrize("case", WAITS)
def test_wait_of(case: str) -> None:
    """The wait that is left is never longer than the one that was meant."""
    ended, due, now, wanted = WAITS[case]
    assert wait_of(replace(FAILED, ended=ended, due=due), now) == wanted


def test_join_of_strangers() -> None:
    """Views of different attempts are never joined."""
    with pytest.raises(ValueError, match=r"cannot join attempts 0\.7-1 and 0\.7-2"):
        join(OPEN, replace(OPEN, id=AttemptId("0.7-2")))


def test_equal_texts_are_one_object_as_long_as_they_are_few() -> None:
    """A receiver that answers with another text each time does not fill the memory."""
    first, again = ("the receiver answered 503, " + str(n).zfill(3) for n in (7, 7))
    assert first is not again
    assert shared_text(first) is shared_text(again)
    for n in range(5_000):
        shared_text(f"the receiver answered 503, {n} times")
    assert shared_text(again) is again
    long, longer = ("the receiver answered " + n * 1_003 for n in "55")
    assert len(long) == 1_025
    assert shared_text(long) is long
    assert shared_text(longer) is longer
