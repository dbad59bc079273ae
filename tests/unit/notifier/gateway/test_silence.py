"""When a silence is told: what a replica decides from what it knows."""

from __future__ import annotations

from typing import Final

import pytest

from notifier.gateway.silence import Step, Terms, View, decide

TERMS: Final = Terms(600.0)
#: What is decided at second 10,000, by what a replica knows.
DECISIONS: Final[dict[str, tuple[View, Step]]] = {
    "it listens for less than the interval": (View(since=9500), Step.WAIT),
    "it was heard within the interval": (
        View(since=0, heard=9500, changed=9500), Step.WAIT,
    ),
    "another replica heard it": (View(since=0, heard=5000, changed=9500), Step.WAIT),
    "the interval is over, the grace is not": (View(since=0, heard=9345, changed=9345), Step.WAIT),
    "nobody heard it": (View(since=0, heard=9340, changed=9340), Step.TELL),
    "it never was heard": (View(since=9340), Step.TELL),
    "its silence has been told": (View(since=0, changed=5000, silent="st-1"), Step.WAIT),
    "it is heard, and the Lease does not say so": (View(since=0, heard=9999), Step.RECORD),
    "the Lease is new enough": (View(since=0, heard=9999, changed=9970), Step.WAIT),
    "the Lease is old": (View(since=0, heard=9999, changed=9969), Step.RECORD),
    "it is back": (View(since=0, heard=9999, changed=5000, silent="st-1"), Step.TELL_BACK),
    "it is back after a restart": (View(since=9990, heard=9999, silent="st-1"), Step.TELL_BACK),
    "what was heard before the silence is no return": (
        View(since=0, heard=5001, changed=5000, silent="st-1"), Step.WAIT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DECISIONS)
def test_what_is_done(case: str) -> None:
    """Only silence of the whole interval is told, once, and so is the return."""
    view, step = DECISIONS[case]
    assert decide(view, TERMS, 10_000.0) is step


def test_the_grace_is_a_tenth_within_bounds() -> None:
    """A short interval has five seconds more, a long one a minute."""
    assert [Terms(every).grace for every in (30, 300, 86_400)] == [5, 30, 60]
