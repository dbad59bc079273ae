"""The models: nothing breaks with all rules in force, and each rule switched off is missed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from tests.model import journal, protocol, sessions, wakeups
from tests.model.rules import Rules, without
from tests.model.runs import (
    B1L_TRACE,
    H5,
    H5_TRACE,
    JOURNAL_MUTANTS,
    LATE,
    M20B,
    M20B_TRACE,
    MODELS,
    PROMISES,
    PROTOCOL_MUTANTS,
    QUIET,
    R4_TRACE,
    R5_TRACE,
    S6_TRACE,
    S6B_TRACE,
    S8_TRACE,
    S9_TRACE,
    S12_TRACE,
    S12B_TRACE,
    SESSION_MUTANTS,
    SMALL,
    UNNAMED,
    UNNAMED_TRACE,
    V4C_TRACE,
    V5_TRACE,
    VERDICT,
    VERDICT_1,
    WAKEUP_MUTANTS,
    Mutant,
    Run,
    complaint,
    execute,
    model_of,
    survives,
    watched,
)
from tests.model.search import replay

TABLES = (PROTOCOL_MUTANTS, WAKEUP_MUTANTS, SESSION_MUTANTS, JOURNAL_MUTANTS)
MUTANTS = [m for table in TABLES for m in table if not m.large]


def _name(mutant: Mutant) -> str:
    return f"{mutant.name} in model {model_of(mutant)}: {mutant.says}"


def not_enabled(step: str) -> AbstractContextManager[object]:
    """Expect that a replay ends because a step is not there."""
    return pytest.raises(LookupError, match=f"'{step}', is not enabled")


@pytest.mark.parametrize("run", SMALL, ids=lambda r: f"{r.name}: {r.says}")
def test_all_rules_in_force(run: Run) -> None:
    """Nothing breaks, and the goal stays in reach."""
    found = execute(run.options)
    assert complaint(run, found) == ""
    assert found.complete
    assert found.stuck == 0 or found.unkept == ()


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_a_rule_switched_off_is_missed(mutant: Mutant) -> None:
    """The mutant breaks the property that its rule is for."""
    live = mutant.killed_by in ("stuck", *PROMISES)
    found = execute(mutant.options, live=live, watch=watched(mutant))
    assert survives(mutant, found) == ""


def test_names_are_unique() -> None:
    """No mutant hides behind another of its name."""
    for table in TABLES:
        assert len({m.name for m in table}) == len(table)


def test_every_rule_has_a_mutant() -> None:
    """Each option that is a rule is switched off by some mutant, or by a trace of its own."""
    # H5 and M20b, below.
    assert _never_off(protocol.Options, PROTOCOL_MUTANTS) == {"ack_chain", "keep_cache_again"}
    assert _never_off(wakeups.Options, WAKEUP_MUTANTS) == set()
    # S21 alone breaks nothing (`REDUNDANT`): a term allows no more than the session it is of.
    assert _never_off(sessions.Options, SESSION_MUTANTS) == {"acquire_valid"}
    # O25 likewise: what this model lets a log lose, its owners remember.
    assert _never_off(journal.Options, JOURNAL_MUTANTS) == {"stamp"}


def _never_off(model: type[Rules], table: Sequence[Mutant]) -> set[str]:
    return set(model.RULES) - {rule for mutant in table for rule in mutant.options.off}


# -- traces worth keeping -------------------------------------------------------------------------


def follow(options: Any, trace: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Take the steps of a trace; return the last state and what the last step broke."""
    model = MODELS[type(options)]
    return replay(model.start(options), lambda state: model.steps(state, options), trace)


def test_h5_the_same_last_record_is_not_the_same_history() -> None:
    """An old ACK fits a log that was rebuilt otherwise, unless the chain stands for all of it."""
    _, wrong = follow(without(H5, "ack_chain"), H5_TRACE)
    assert wrong == ("S10",)
    with pytest.raises(LookupError, match="1 ACK: STALE"):
        follow(H5, H5_TRACE)


def test_m20b_the_second_claim_offers_the_cache_too() -> None:
    """The same steps forget a success that was just read, unless it is given to a log made anew."""
    _, wrong = follow(without(M20B, "keep_cache_again"), M20B_TRACE)
    assert wrong == ("S2L",)
    _, wrong = follow(M20B, M20B_TRACE)
    assert wrong == ()


#: The log falls back under two owners.
FALLEN = replace(QUIET, takeovers=1, attempts=1, losses=1)


@pytest.mark.parametrize(
    ("safe", "mutant", "trace", "missing", "broken"),
    [
        pytest.param(
            replace(VERDICT_1, verdicts=2), ["verdict_named"], V5_TRACE,
            "NOTE 1-1 delivered: NOOP", "VR",
            id="V5: of two verdicts one is not recorded, and both are told that they are",
        ),
        pytest.param(
            replace(VERDICT, takeovers=1, refusals=True),
            ["verdict_raises", "refusal_stands"], V4C_TRACE,
            "NOTE 1-1 failed", "PF",
            id="V4: a verdict that comes late reopens what was refused for good",
        ),
        pytest.param(
            replace(VERDICT_1, losses=1), ["reread_held"], R4_TRACE, "0 patches", "P5",
            id="R4: Failed is said of a log that was lost and delivered since",
        ),
        pytest.param(
            replace(VERDICT, once=True), ["final_waits"], R5_TRACE, "0 asks for 1-2", "P6",
            id="R5: a verdict opens what a status write has just ended",
        ),
        pytest.param(
            FALLEN, ["stamp"], S12_TRACE, S12_TRACE[-1], "S12",
            id="P2: a log falls back to what an owner has read, and takes his intent",
        ),
        pytest.param(
            replace(FALLEN, attempts=2), ["stamp"], B1L_TRACE, "INTENT 1-1 of 0: OK", "B1L",
            id="P2: the same, and the receiver is called after a success that the object shows",
        ),
        pytest.param(
            replace(LATE, attempts=1, losses=1), ["stamp"], S12B_TRACE, S12B_TRACE[-1], "S12",
            id="P2: an intent that was given up is taken twice",
        ),
        pytest.param(
            sessions.Options(faults=sessions.Budget(deletes=1)), ["absence_waits"], S6_TRACE,
            "1 asks for 0", "SH",
            id="S6: a session that is deleted by hand is not over",
        ),
        pytest.param(
            sessions.Options(wire=2, faults=sessions.Budget(cuts=1)), ["absence_waits"],
            S6B_TRACE, "1 asks for 0", "X",
            id="S6b: nor is what its own replica has ended",
        ),
        pytest.param(
            sessions.Options(faults=sessions.Budget(deletes=1)), ["not_found_waits"], S8_TRACE,
            "1 ends the session of 0: gone", "SH",
            id="S8: to find nothing to end is not to have ended it",
        ),
        pytest.param(
            sessions.Options(faults=sessions.Budget(freezes=1, handovers=1)),
            ["answer_named"], S9_TRACE, "1 acquires 0", "SH",
            id="S9: an answer gives no term in a session that its write does not name",
        ),
    ],
)  # fmt: skip
def test_a_trace_that_only_the_mutant_can_take(
    safe: protocol.Options | sessions.Options,
    mutant: Sequence[str],
    trace: tuple[str, ...],
    missing: str,
    broken: str,
) -> None:
    """The trace breaks the property without the rule; with it, one of its steps is not there."""
    _, wrong = follow(without(safe, *mutant), trace)
    assert broken in wrong
    with not_enabled(missing):
        follow(safe, trace)


W1_TRACE = (
    "0 acquires", "fault: a renewal is not answered", "0 is notified", "0 looks in vain",
    "0 reads the lease: its renewal was written", "0 gives back",
)  # fmt: skip


def test_w1_a_lease_that_is_valid_again_wakes_nobody() -> None:
    """A look while a renewal is in doubt comes to nothing; only the resync brings the next one."""
    faults = wakeups.Budget(renewals=1)
    safe = wakeups.Options(faults=faults)
    mutant = without(safe, "resync")
    state, _ = follow(mutant, W1_TRACE)
    assert wakeups.is_due(state, mutant)
    assert list(wakeups.steps(state, mutant)) == []
    trace = (*W1_TRACE, "resync of 0", "0 looks: due")
    state, _ = follow(safe, trace)
    assert state.replicas[0].job is wakeups.Job.WAITING


H1_TRACE = (
    "0 acquires", "0 is notified", "0 looks: due", "0 starts: OK", "fault: shards are shared anew",
    "0 sends", "answer to 0: success", "0 records", "0 writes the status: refused",
    "0 has handed over", "1 acquires",
)  # fmt: skip


def test_h1_a_status_that_is_refused_holds_up_no_hand_over() -> None:
    """The shard goes on while the status of one object is tried again, ever more slowly."""
    safe = wakeups.Options(replicas=2, refused=True, faults=wakeups.Budget(handovers=1))
    state, _ = follow(safe, H1_TRACE)
    assert state.owner == 1
    with not_enabled("0 has handed over"):
        follow(without(safe, "leave_backing"), H1_TRACE)


def test_o7_a_mark_without_a_name_comes_late() -> None:
    """A former owner's write marks what the log knows more of; taking marks away first does not help."""
    _, wrong = follow(UNNAMED, UNNAMED_TRACE)
    assert wrong == ("B1",)
    named = replace(UNNAMED, off=())
    held = UNNAMED_TRACE[: UNNAMED_TRACE.index("0 writes the note", 1) + 1]
    state, _ = follow(named, held)
    assert journal.marks(state, named)["processed"] == 1
    with not_enabled("0 reads to journal"):
        follow(named, UNNAMED_TRACE)


# -- the search itself ----------------------------------------------------------------------------


def test_a_surviving_mutant_is_told() -> None:
    """A rule whose absence breaks nothing is reported, and one killed otherwise too."""
    survivor = Mutant("none", "no change", protocol.Options(attempts=1), "S7")
    assert survives(survivor, execute(survivor.options)).startswith("survives")
    wrong = replace(MUTANTS[0], killed_by="S7")
    assert "not by S7" in survives(wrong, execute(wrong.options, live=False))


def test_a_run_that_has_not_seen_what_it_is_for_is_told() -> None:
    """A world in which no verdict can be overtaken says nothing of those that are."""
    run = Run(
        "blind", "one verdict, no fault", VERDICT_1, seen=("stands", "overtaken by a success")
    )
    assert complaint(run, execute(run.options)) == "never seen: overtaken by a success"
