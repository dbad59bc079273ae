"""
The judge of chaos runs, by itself: a run that proves nothing must not pass, nor a log be forgotten.

Real runs are in `tests/e2e/test_chaos_quick.py`; here are the verdicts that they hope not to meet.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from syncer.model.attempt import AttemptId, Epoch
from syncer.model.record import Header, intent_record
from tests.chaos.archive import Archive
from tests.chaos.report import ROWS, Report, evidence
from tests.e2e.checker import Call, Finding, Findings, Kind, Log, Version

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


def test_what_was_seen_of_a_violation_is_kept(tmp_path: Path) -> None:
    """Object, log, receivers and replicas, of what breaks a rule or comes to no rest, and of no other."""
    header = Header("ns/a", Epoch("0.7"), acked=0, audited=0)
    archive = Archive()
    archive.note("1", Log(header, (intent_record(AttemptId("0.7-1"), "c", at=1, by="t"),)))
    said = tmp_path / "notifier-0.log"
    said.write_text('{"uid":"1","event":"claimed"}\n{"uid":"2"}\n')
    versions = {u: [Version(u, name, "5", {"phase": "Sent"})] for u, name in ("1a", "2b", "3c")}
    world: Any = SimpleNamespace(
        archive=archive, book=[Call(1.0, "a", "k", "0.7-1", "h", 200, processed=True)],
        here=SimpleNamespace(
            processes=[SimpleNamespace(log=said)], watcher=SimpleNamespace(versions=versions)
        ),
    )  # fmt: skip
    findings = Findings((Finding(Kind.LOST, "b", "attempt 1"),))
    kept = evidence(world, replace(SOUND, findings=findings, left=("a: acked 0 of 1",)))
    assert kept.keys() == {"a", "b"}
    assert kept["a"]["replicas"] == {said.name: ['{"uid":"1","event":"claimed"}']}
    assert (kept["a"]["log"]["header"]["acked"], kept["b"]["log"]) == (0, None)
    assert kept["a"]["log"]["records"][0]["id"] == kept["a"]["calls"][0]["attempt"] == "0.7-1"
    assert json.loads(json.dumps(kept))["a"]["versions"][0]["status"] == {"phase": "Sent"}


def test_every_violation_has_a_row() -> None:
    """No kind of finding is left out of the table, and none is counted twice."""
    counted = Counter(kind for kinds in ROWS.values() for kind in kinds)
    assert counted == Counter(set(Kind) - {Kind.EXPLAINED})
