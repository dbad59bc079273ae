"""Repairs as they are planned: facts that are joined, logs that are built anew."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.cli.repairs import Allowed, plan_repair
from syncer.cli.scan import Joined
from syncer.ledger.codec import encode_record
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.record import LOG_ERROR_BYTES, Header, Kind
from syncer.model.resource import NotificationRequest
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    BOUNDS,
    NOW,
    PLAN,
    elements,
    entry,
    failed,
    opened,
    request,
)


def joined(found: NotificationRequest, log: tuple[bytes, ...]) -> Joined:
    """An object and its log."""
    return Joined("u", "ns/n", found, log, ttl=-1)


def steps(spoilt: Joined, **allowed: bool) -> list[tuple[str, str]]:
    """What would be done, and the first words of it."""
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=Allowed(**allowed), now=NOW, by="me"
    )
    return [(s.act.value, s.text.partition(":")[0]) for s in planned]


def test_facts_are_joined_although_a_log_is_not_replaced() -> None:
    """What may be mended is, beside what would need leave; behind damage nothing is appended."""
    beyond = elements(PLAN, header=Header("ns/n", Epoch("0.7"), acked=9))
    shown = joined(request(entry("failed")), beyond)
    assert [kind.value for kind, _ in shown.check(BOUNDS)] == ["mark-beyond", "log-behind"]
    assert steps(shown) == [
        ("nothing", "would need --rebuild"), ("append", f"append seed.failed {A1}"),
        ("poke", "tell the owner"),
    ]  # fmt: skip
    assert steps(shown, rebuild=True) == [
        ("rebuild", "keep the log aside and put in its place one that is built anew"),
        ("poke", "have the owner look at it"),
    ]  # fmt: skip
    damaged = (*beyond, b"damage")
    assert steps(joined(request(entry("failed")), damaged), rebuild=True) == [
        ("nothing", "would need --accept-loss")
    ]


def test_rebuilt_log_holds_what_both_sides_know() -> None:
    """Of the old log what is legible, of the status what that lacks, the fence, and no mark."""
    broken = [*elements(PLAN, opened(A1), failed(A1), opened(A2)), b"damage"]
    broken[2] = broken[2][:-1] + b"\xff"
    spoilt = joined(request(entry("success", identity="0.7-9")), tuple(broken))
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=Allowed(rebuild=True, accept_loss=True), now=NOW,
        by="me",
    )  # fmt: skip
    log = read_log(planned[0].elements)
    assert log.problem == ""
    assert log.header == Header("ns/n", Epoch("0.7"))
    assert [(r.kind.value, r.id) for r in log.records] == [
        ("plan", "plan"), ("seed.unknown", A1), ("failed", A1), ("intent", A2),
        ("seed.success", "0.7-9"), ("repair", f"repair:{NOW}"),
    ]  # fmt: skip
    assert log.view.attempts[A1].state is AttemptState.FAILED


#: Members of an attempt that a status may show, after an edit by hand, and no record can hold.
ODD: dict[str, dict[str, Any]] = {
    "a number": {"attempt": 10**17},
    "a code": {"code": 10**17},
    "the length of a call": {"durationSeconds": 1e300},
    "the end of time": {"timestamp": "9999-12-31T23:59:59Z"},
    "a text": {"error": "x" * 100_000},
}


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("case", ODD)
def test_what_no_record_can_hold_is_cut(case: str, rebuild: bool) -> None:
    """A repair appends facts of whatever the status shows, as a claim does; none stops the others."""
    log = elements(PLAN, header=Header("ns/n", Epoch("0.7"), acked=9 if rebuild else 0))
    spoilt = joined(request(entry("failed") | ODD[case]), log)
    allowed = Allowed(rebuild=rebuild, accept_loss=True)
    planned = plan_repair(spoilt, spoilt.check(BOUNDS), allowed=allowed, now=NOW, by="me")
    records = read_log(planned[0].elements).records if rebuild else planned[0].records
    (seed,) = [r for r in records if r.kind is Kind.SEED_FAILED]
    assert len(encode_record(seed)) < 2 * LOG_ERROR_BYTES
