"""The trace of a notification: what counts as one."""

from __future__ import annotations

import pytest

from syncer.model.trace import trace_id, trace_of

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "text",
    [
        None, 7, "", GOOD + "\n", GOOD + "-x", GOOD.upper(), "01" + GOOD[2:], "ff" + GOOD[2:], GOOD[:-1],
        GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GOOD.replace("00f067aa0ba902b7", "0" * 16),
        GOOD.replace("4b", "٤b"), GOOD.replace("-01", "-01\r\nX: y"),
    ],
)  # fmt: skip
def test_what_is_no_trace(text: object) -> None:
    """Anything but the standard's form is none, and leads to no header and no member of a log line."""
    assert trace_of(text) == ""


def test_a_trace() -> None:
    """It is passed on as it is; logs name its id."""
    assert trace_of(GOOD) == GOOD
    assert trace_id(GOOD) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id("") is None
