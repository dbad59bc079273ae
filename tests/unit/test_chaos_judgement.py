"""
The judge of chaos runs, by itself: a run that proves nothing must not pass, nor a log be forgotten.

Real runs are in `tests/e2e/test_chaos_quick.py`; here are the verdicts that they hope not to meet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.chaos.report import ROWS, Report
from tests.e2e.checker import Finding, Findings, Kind

SOUND = Report(
    Findings(calls=3, attempts=3, versions=5),
    left=(),
    landed=Counter({"kill": 1, "freeze": 2}),
    wanted=("kill", "freeze"),
    created=2,
    deleted=0,
    gaps=0,
    expired=1,
)
VERDICTS: dict[str, tuple[Report, str]] = {
    "all is well": (SOUND, "all invariants hold"),
    "a fault has not landed": (
        replace(SOUND, wanted=("kill", "freeze", "drop")),
        "VOID: never landed: drop",
    ),
    "nothing was sent": (replace(SOUND, findings=Findings()), "VOID: nothing was sent"),
    "something is lost": (
        replace(SOUND, findings=Findings((Finding(Kind.LOST, "n", "attempt 1"),), calls=3)),
        "VIOLATED: lost",
    ),
    "something never came to rest": (
        replace(SOUND, left=("n: phase Sending",)),
        "VIOLATED: convergence",
    ),
    "a repeat is explained": (
        replace(SOUND, findings=Findings((Finding(Kind.EXPLAINED, "n", "again"),), calls=3)),
        "all invariants hold",
    ),
}


@pytest.mark.parametrize("sentence", VERDICTS)
def test_verdict(sentence: str) -> None:
    """A run passes only if nothing is violated, all has landed and something was sent."""
    report, verdict = VERDICTS[sentence]
    assert report.verdict() == verdict
    assert report.sound is (verdict == "all invariants hold")
    assert report.document()["sound"] is report.sound


def test_every_violation_has_a_row() -> None:
    """No kind of finding is left out of the table, and none is counted twice."""
    counted = Counter(kind for kinds in ROWS.values() for kind in kinds)
    assert counted == Counter(set(Kind) - {Kind.EXPLAINED})
