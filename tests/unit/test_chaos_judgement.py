"""
The judge of chaos runs, by itself: a run that proves nothing must not pass, nor a log be forgotten.

Real runs are in `tests/e2e/test_chaos_quick.py`; here are the verdicts that they hope not to meet.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.record import Header, Record, attempt_record, intent_record
from syncer.rules.fold import ROOT_CHAIN
from tests.chaos.archive import Archive
from tests.chaos.faults import KINDS, bag
from tests.chaos.report import ROWS, Report
from tests.e2e.checker import Finding, Findings, Kind, Log

_CHANNEL = "slack:ops"


def log(*records: Record, acked: int = 0) -> Log:
    """A log with these records, chained as the scripts chain them."""
    out: list[Record] = []
    chain = ROOT_CHAIN
    for position, record in enumerate(records, 1):
        out.append(stored(record, chain, position))
        chain = out[-1].chain
    return Log(replace(Header("ns/n", "0.7"), acked=acked), tuple(out))  # type: ignore[arg-type]  # made from a list


def intent(n: int) -> Record:
    """The intent of the n-th attempt."""
    return intent_record(AttemptId(f"0.7-{n}"), _CHANNEL, at=n, by="p")


def success(n: int) -> Record:
    """Its success."""
    return attempt_record(Attempt(AttemptId(f"0.7-{n}"), _CHANNEL, AttemptState.SUCCESS, ended=n))


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


def test_a_log_that_was_made_anew_keeps_what_it_held_before() -> None:
    """A late fact makes an expired log again; what was dumped before stands in front of it."""
    archive = Archive()
    archive.note("u", log(intent(1), success(1)))
    archive.note("u", log(success(2)))
    whole = archive.whole("u", expired=False)
    assert whole is not None
    assert [r.id for r in whole.records] == ["0.7-1", "0.7-1", "0.7-2"]
    assert whole.header.acked == 2, "what is open at the end of the new one is open in the whole"


def test_a_log_that_grows_is_one_log() -> None:
    """A later dump replaces the one whose history it continues."""
    archive = Archive()
    archive.note("u", log(intent(1)))
    archive.note("u", log(intent(1), success(1), acked=1))
    whole = archive.whole("u", expired=False)
    assert whole is not None
    assert (len(whole.records), whole.header.acked) == (2, 1)


def test_an_expired_log_counts_as_acknowledged() -> None:
    """Only the acknowledgement of its last record lets a log expire; a lost one is no such thing."""
    archive = Archive()
    archive.note("u", log(intent(1), success(1)))
    for expired, acked in ((True, 2), (False, 0)):
        whole = archive.whole("u", expired=expired)
        assert whole is not None
        assert whole.header.acked == acked
    assert archive.whole("stranger", expired=True) is None


def test_a_bag_gives_every_kind_as_often() -> None:
    """After each round all kinds have come up once more, in an order that the seed decides."""
    first, again = (list(islice(bag(KINDS, random.Random(5)), 3 * len(KINDS))) for _ in range(2))  # noqa: S311 - no secret
    assert first == again
    assert set(Counter(first).values()) == {3}
    assert first[: len(KINDS)] != first[len(KINDS) : 2 * len(KINDS)]
