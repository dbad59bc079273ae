"""Outcomes: three ways out, with upstream's texts."""

from __future__ import annotations

import pytest

from notifier.contract import Outcome
from syncer.model.attempt import AttemptState, FailureClass

UNKNOWN, FAILED, SUCCESS = AttemptState.UNKNOWN, AttemptState.FAILED, AttemptState.SUCCESS

MADE = {
    "delivered": (Outcome.success(200), Outcome(SUCCESS, None, "", 200, None)),
    "delivered, without a code": (Outcome.success(), Outcome(SUCCESS, None, "", 0, None)),
    "refused for now, without an answer": (
        Outcome.transient("no route"),
        Outcome(FAILED, FailureClass.TRANSIENT, "no route", 0, None),
    ),
    "refused for good, without an answer": (
        Outcome.permanent("no target"),
        Outcome(FAILED, FailureClass.PERMANENT, "permanent failure: no target", 0, None),
    ),
    "refused for now": (
        Outcome.transient("busy", code=503, retry_after=7.0),
        Outcome(FAILED, FailureClass.TRANSIENT, "busy", 503, 7.0),
    ),
    "refused for good, with upstream's prefix": (
        Outcome.permanent("no such channel", code=404),
        Outcome(FAILED, FailureClass.PERMANENT, "permanent failure: no such channel", 404, None),
    ),
    "given up before any byte left": (
        Outcome.not_sent("deadline passed"),
        Outcome(FAILED, FailureClass.NOT_SENT, "deadline passed", 0, None),
    ),
    "never sent, by the operators' rules": (
        Outcome.denied("not for this namespace"),
        Outcome(
            FAILED,
            FailureClass.PERMANENT,
            "permanent failure: not for this namespace",
            code=0,
            by_rule=True,
        ),
    ),
    "no usable answer": (
        Outcome.unknown("connection reset"),
        Outcome(UNKNOWN, FailureClass.UNCERTAIN, "connection reset", 0, None),
    ),
    "an answer that leaves it open": (
        Outcome.unknown("cut off", code=250),
        Outcome(UNKNOWN, FailureClass.UNCERTAIN, "cut off", 250, None),
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_ways_out(case: str) -> None:
    """Each way out has its state and its class."""
    made, wanted = MADE[case]
    assert made == wanted
    assert made.by_rule is ("rules" in case)
