"""Ids, epochs and the join: what makes an attempt one and the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

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


#: Texts by what is made of them, and what they are not.
MALFORMED: dict[tuple[Callable[[str], str], str], tuple[str, ...]] = {
    # Two decimal numbers without leading zeros.
    (parse_epoch, "an epoch"): (
        "", "7", "0.", ".7", "00.7", "0.07", "-1.7", "0.7.1", "0.7 ", "0.7\n", "a.b", f"0.{'9' * 40}",
    ),
    (partial(make_epoch, 0), "an epoch"): ("", "abc", "007", "1-2", "-4"),
    (parse_attempt_id, "an attempt id"): (
        "", "0.7", "0.7-0", "0.7-01", "0.7-1-1", "1-1", "0-01", "0.7-1 ", "0.7-", "resolve:x",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "what", "text"), [(*key, text) for key, texts in MALFORMED.items() for text in texts]
)
def test_malformed_texts(read: Callable[[str], str], what: str, text: str) -> None:
    """A text of another form is no epoch, no number of a version, and no attempt id."""
    with pytest.raises(ValueError, match=f"not {what}"):
        read(text)


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
