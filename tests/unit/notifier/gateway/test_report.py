"""What a source is told of its notification: the words, and that unknown is never called failed."""

from __future__ import annotations

from typing import Any, Final

import pytest

from notifier.gateway.report import report
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.rendering import render_status
from syncer.model.resource import ChannelStatus, Json, Status

AT: Final = 1_700_000_000_000
SECRET: Final = "https://hooks.example.org/T0/B0/canary"


def attempt(number: int, state: AttemptState, code: int = 0, channel: str = "slack:ops") -> Attempt:
    """One attempt; a failed one quotes what no sender should see."""
    failed = state is not AttemptState.SUCCESS
    return Attempt(
        AttemptId(f"0.7-{number}"), channel, state, AT, AT + number * 1000,
        failure=FailureClass.TRANSIENT if failed else None, error=SECRET if failed else "",
        code=code, number=number,
    )  # fmt: skip


FAILED = attempt(1, AttemptState.FAILED, 503)
UNKNOWN = attempt(2, AttemptState.UNKNOWN)
SUCCESS = attempt(3, AttemptState.SUCCESS, 200)

CASES: Final[dict[str, tuple[Status, str, list[tuple[str, int, int, int | None]]]]] = {
    "nothing has happened yet": (Status(), "pending", []),
    "a channel waits for its next attempt": (
        Status("Retrying", attempts=(FAILED,), channels=(
            ChannelStatus("slack:ops", "Retrying", 1, AT + 9000), ChannelStatus("webhook:b", "Pending"),
        )),
        "pending", [("retrying", 1, 0, 503), ("pending", 0, 0, None)],
    ),
    "it is delivered, after an attempt that may have arrived as well": (
        Status("Sent", attempts=(FAILED, UNKNOWN, SUCCESS),
               channels=(ChannelStatus("slack:ops", "Delivered", 3),)),
        "delivered", [("delivered", 3, 1, 200)],
    ),
    "the attempts are used up, and one of them may have arrived": (
        Status("Failed", attempts=(UNKNOWN,), channels=(ChannelStatus("slack:ops", "Exhausted", 1),)),
        "unknown", [("unknown", 1, 1, None)],
    ),
    "nothing more is sent after an attempt that may have arrived": (
        Status("Failed", attempts=(UNKNOWN,), channels=(ChannelStatus("slack:ops", "Uncertain", 1),)),
        "unknown", [("unknown", 1, 1, None)],
    ),
    "every attempt was refused": (
        Status("Failed", attempts=(FAILED,), channels=(ChannelStatus("slack:ops", "Failed", 4),)),
        "failed", [("failed", 4, 0, 503)],
    ),
    "one channel has it and one does not": (
        Status("PartiallySent", attempts=(SUCCESS,), channels=(
            ChannelStatus("slack:ops", "Delivered", 1), ChannelStatus("b", "Superseded", 1),
        )),
        "partly delivered", [("delivered", 1, 0, 200), ("superseded", 1, 0, None)],
    ),
    "another controller has written attempts and no channels": (
        Status("Sent", attempts=(FAILED, SUCCESS)), "delivered", [("delivered", 2, 0, 200)],
    ),
    "another controller is not done": (
        Status("Sending", attempts=(FAILED,)), "pending", [("retrying", 1, 0, 503)],
    ),
}  # fmt: skip


def document(status: Status) -> Json:
    """An object with a status, as the API server has it."""
    meta = {"name": "n", "namespace": "ns", "uid": "u"}
    return {"metadata": meta, "status": render_status(status)}


@pytest.mark.parametrize("case", CASES)
def test_outcomes(case: str) -> None:
    """Each channel has its outcome, its attempts, how many are unknown, and the last code."""
    status, outcome, wanted = CASES[case]
    found = report(document(status))
    assert found["outcome"] == outcome
    assert [
        (c["outcome"], c["attempts"], c["unknown"], c["code"]) for c in found["channels"]
    ] == wanted
    assert found["finished"] is status.terminal
    assert SECRET not in str(found), "what receivers answer is not for senders"


def test_the_whole_answer() -> None:
    """Its members are an interface."""
    channels = (ChannelStatus("slack:ops", "Retrying", 1, AT + 9000),)
    found: Any = report(document(Status("Retrying", attempts=(FAILED,), channels=channels)))
    assert found == {
        "name": "n", "namespace": "ns", "uid": "u", "phase": "Retrying", "finished": False,
        "outcome": "pending",
        "channels": [{
            "name": "slack:ops", "outcome": "retrying", "attempts": 1, "unknown": 0, "code": 503,
            "at": "2023-11-14T22:13:21.000Z", "next": "2023-11-14T22:13:29.000Z",
        }],
    }  # fmt: skip
