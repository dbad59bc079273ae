"""The rules of `syncer verify`: each way in which a log and an object can disagree, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, Epoch
from syncer.model.record import (
    Header,
    Plan,
    Record,
    attempt_record,
    plan_record,
)
from syncer.model.resource import NotificationRequest
from syncer.rules.verification import Bounds, Sides, check
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    BOUNDS,
    NOW,
    PLAN,
    C,
    elements,
    entry,
    failed,
    opened,
    request,
)


def classes(sides: Sides, bounds: Bounds = BOUNDS) -> list[str]:
    """Classes of divergence, in order."""
    return [kind.value for kind, _ in check(sides, bounds)]


def sides(found: NotificationRequest | None, log: tuple[bytes, ...] = (), **more: Any) -> Sides:
    """An object and its log."""
    return Sides(read_log(log), found, **{"ttl": -1 if log else -2, **more})


def test_what_is_on_its_way_is_no_divergence() -> None:
    """A record younger than the time to settle says nothing; older, it is behind."""
    log = elements(PLAN, opened(A1), failed(A1))
    assert classes(sides(request(), log), replace(BOUNDS, now=NOW - 49_000 + 10_000)) == []
    assert classes(sides(request(), log), BOUNDS) == ["status-behind"]


def test_open_attempt_is_somebodys_for_a_while() -> None:
    """An attempt on the wire is nothing odd until its time is over."""
    log = elements(PLAN, opened(A1))
    shown = request(channels=[{"name": C, "state": "Pending"}])
    assert classes(sides(shown, log), replace(BOUNDS, stuck=50_000)) == []
    assert classes(sides(shown, log), replace(BOUNDS, stuck=49_999)) == ["open-attempt"]


def test_what_a_status_counts_alone_is_published() -> None:
    """Failures folded away are shown by their number: only what is beyond the mark is behind."""
    log = elements(
        PLAN, opened(A1), failed(A1), opened(A2), failed(A2),
        header=Header("ns/n", Epoch("0.7"), acked=3, audited=3),
    )  # fmt: skip
    folded = {"through": 1, "channels": [{"name": C, "failed": 1, "lastId": A1, "number": 1}]}
    assert classes(sides(request(rollup=folded), log)) == ["status-behind"]
    assert classes(sides(request(), log)) == ["acked"]


def test_log_of_a_finished_object_may_be_gone_after_its_time() -> None:
    """Within the retention a missing log is missed, after it has expired."""
    ended = {"completionTime": "2027-01-15T08:00:00Z"}
    sent = request(entry("success"), phase="Sent", **ended)
    assert classes(sides(sent)) == ["log-missing"]
    week = 7 * 86_400_000
    assert classes(sides(sent), replace(BOUNDS, now=NOW + week)) == []


def test_objects_of_the_replaced_controller_need_no_log() -> None:
    """What another controller finished is left alone; an object without attempts has nothing to lose."""
    old = entry("success")
    del old["id"]
    assert classes(sides(request(old, phase="Sent", log=None))) == []
    assert classes(sides(request())) == []


def test_orphan_is_one_that_nobody_lets_go() -> None:
    """A log without an object is odd only while it has no expiry."""
    log = elements(PLAN)
    assert classes(sides(None, log)) == ["orphan"]
    assert classes(sides(None, log, ttl=60)) == []


def test_object_that_does_not_parse() -> None:
    """An object that cannot be judged is told as such, and nothing is said of its log."""
    assert classes(sides(None, elements(PLAN), problem="the object does not parse")) == ["object"]


def test_verdict_overtaken_by_a_result_is_no_conflict() -> None:
    """An operator who said failed and was wrong has broken no rule."""
    said = Record(
        plan_record(Plan(())).kind.RESOLVE_FAILED, f"resolve:{A1}:1", C, {"at": NOW - 40_000}
    )
    success = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW - 30_000))
    assert "conflict" not in classes(sides(request(), elements(PLAN, opened(A1), said, success)))
    both = elements(PLAN, opened(A1), failed(A1), success)
    assert "conflict" in classes(sides(request(), both))
