"""The decision table: total, unambiguous, gates in their order, every row reached."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from syncer.rules.reconcile import (
    TABLE,
    Action,
    Presence,
    Situation,
    Stage,
    reconcile,
)

BY_NAME = {row.name: row for row in TABLE}
GATES = [row.name for row in TABLE if row.stage is Stage.GATE]


def situations() -> Iterator[Situation]:
    """Every combination of what the table looks at; counts stand for none and some."""
    choices: dict[str, Iterable[Any]] = {
        f.name: (False, True) for f in fields(Situation)
    } | {
        "presence": Presence, "shown": (0, 3), "abandoned": (0, 2),
    }  # fmt: skip
    for values in itertools.product(*choices.values()):
        yield Situation(**dict(zip(choices, values, strict=True)))


def test_total_and_unambiguous() -> None:
    """Each situation meets the first gate that fits, or exactly one comparison and what follows it."""
    seen: set[str] = set()
    number = 0
    for situation in situations():
        number += 1
        verdict = reconcile(situation)
        seen |= set(verdict.rows)
        stages = [BY_NAME[name].stage for name in verdict.rows]
        gates = [r.name for r in TABLE if r.stage is Stage.GATE and r.fits(situation)]
        if gates:
            assert verdict.rows[0] == gates[0], situation
            assert stages in ([Stage.GATE], [Stage.GATE, Stage.CLOSING]), situation
        else:
            assert stages.count(Stage.COMPARISON) == 1, situation
        assert verdict.actions, situation
        assert len(set(verdict.actions)) == len(verdict.actions), situation
        order = [list(Action).index(a) for a in verdict.actions]
        assert order == sorted(order), situation
        assert verdict.message
    assert number == 2**3 * 3 * 2**5 * 4 * 2**4
    assert seen == set(BY_NAME), "a row that nothing reaches"


def test_order_of_the_gates() -> None:
    """A later owner before damage, damage before an object that is not there, and so on."""
    assert GATES == [
        "fenced", "log-unreadable", "object-unreadable", "object-gone", "epoch-ahead", "status-doubted",
        "finished-without-log", "new", "log-gone",
    ]  # fmt: skip


EVERYTHING = Situation(
    fenced=True, undecodable=True, log_present=False, presence=Presence.ABSENT, deleting=True,
    terminal=True, shown=3, log_exceeds=True, object_exceeds=True, abandoned=2, unacked=True,
)  # fmt: skip

CASES: dict[str, tuple[Situation, tuple[str, ...], tuple[Action, ...]]] = {
    "a later owner exists": (EVERYTHING, ("fenced",), (Action.STOP,)),
    "a log that cannot be read, of an object that is gone": (
        replace(EVERYTHING, fenced=False), ("log-unreadable",), (Action.QUARANTINE,),
    ),
    "the collection cannot be read": (
        Situation(presence=Presence.UNREADABLE, deleting=True, log_present=False),
        ("object-unreadable",), (Action.HOLD,),
    ),
    "the object is gone": (
        Situation(presence=Presence.ABSENT, deleting=True, abandoned=1), ("object-gone",), (Action.ORPHAN,),
    ),
    "the object names an epoch that its log does not know": (
        Situation(ahead=True, deleting=True, object_exceeds=True, shown=3),
        ("epoch-ahead",), (Action.DISTRUST,),
    ),
    "the object says what nothing explains": (
        Situation(doubted=True, log_present=False, terminal=True, shown=3, unplanned=True),
        ("status-doubted",), (Action.DISTRUST,),
    ),
    "the object is gone, whatever it named": (
        Situation(ahead=True, presence=Presence.ABSENT), ("object-gone",), (Action.ORPHAN,),
    ),
    "the object is being deleted, and its log knows more": (
        Situation(deleting=True, log_exceeds=True, abandoned=1, unacked=True),
        ("object-behind", "left-open", "unpublished", "deleting"),
        (Action.RECOVER, Action.SYNC, Action.ACK, Action.CLOSE),
    ),
    "the object is being deleted before it had a log": (
        Situation(deleting=True, log_present=False),
        ("new", "deleting"), (Action.SYNC, Action.CLOSE),
    ),
    "the object is being deleted, and its log is gone": (
        Situation(deleting=True, log_present=False, shown=3),
        ("log-gone", "deleting"), (Action.SEED, Action.RECOVER, Action.SYNC, Action.CLOSE),
    ),
    "a finished object without a log is being deleted": (
        Situation(deleting=True, log_present=False, terminal=True),
        ("finished-without-log",), (Action.NOTHING,),
    ),
    "finished, its log expired": (
        Situation(log_present=False, terminal=True, shown=3), ("finished-without-log",), (Action.NOTHING,),
    ),
    "a new notification": (Situation(log_present=False), ("new",), (Action.OPEN,)),
    "an unfinished object whose log is gone": (
        Situation(log_present=False, shown=3),
        ("log-gone",), (Action.SEED, Action.RECOVER, Action.OPEN),
    ),
    "a plan that only the object shows, its log gone": (
        Situation(log_present=False, unplanned=True),
        ("log-gone",), (Action.SEED, Action.RECOVER, Action.OPEN),
    ),
    "agreement about attempts, and the log lost the plan": (
        Situation(unplanned=True), ("agree", "plan-lost"), (Action.SEED, Action.OPEN),
    ),
    "agreement": (Situation(), ("agree",), (Action.OPEN,)),
    "agreement, not yet marked": (
        Situation(unacked=True), ("agree", "unpublished"), (Action.ACK, Action.OPEN),
    ),
    "agreement hides no open attempt": (
        Situation(abandoned=1), ("agree", "left-open"), (Action.RECOVER, Action.SYNC, Action.OPEN),
    ),
    "the object lags": (
        Situation(log_exceeds=True), ("object-behind",), (Action.SYNC, Action.OPEN),
    ),
    "a finished object lags": (
        Situation(log_exceeds=True, terminal=True),
        ("finished-object-behind",), (Action.SYNC, Action.OPEN),
    ),
    "the log lost records": (
        Situation(object_exceeds=True), ("log-behind",), (Action.SEED, Action.OPEN),
    ),
    "each knows more, an attempt is open, nothing is marked": (
        Situation(log_exceeds=True, object_exceeds=True, abandoned=1, unacked=True),
        ("both-behind", "left-open", "unpublished"),
        (Action.SEED, Action.RECOVER, Action.SYNC, Action.ACK, Action.OPEN),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    """Each case meets these rows, and these actions follow in this order."""
    situation, rows, actions = CASES[case]
    verdict = reconcile(situation)
    assert (verdict.rows, verdict.actions) == (rows, actions)
    assert verdict.message == "; ".join(BY_NAME[r].message for r in rows)
    assert all(a in verdict for a in actions)


def test_nothing_opens_through_a_gate_that_forbids_it() -> None:
    """No attempt is opened for a stranger's, unreadable, vanishing or finished-and-gone log."""
    for situation in situations():
        verdict = reconcile(situation)
        forbidden = (
            situation.fenced
            or situation.undecodable
            or situation.presence is not Presence.PRESENT
            or situation.ahead
            or situation.doubted
            or situation.deleting
            or (
                not situation.log_present
                and situation.terminal
                and not (situation.journaled and situation.shown)
            )
        )
        assert (Action.OPEN in verdict) is not forbidden, situation


def test_what_the_object_knows_is_restored_before_anything_is_opened() -> None:
    """Wherever the object knows more, the log is seeded, and before it is opened."""
    for situation in situations():
        verdict = reconcile(situation)
        if Action.OPEN not in verdict:
            continue
        lost = situation.log_present and situation.object_exceeds
        gone = not situation.log_present and situation.shown
        assert (Action.SEED in verdict) is bool(lost or gone or situation.unplanned), situation
        assert verdict.actions[-1] is Action.OPEN


def test_rows_have_their_own_names_and_words() -> None:
    """A name or a text stands for one row."""
    assert len(BY_NAME) == len(TABLE)
    assert len({row.message for row in TABLE}) == len(TABLE)
