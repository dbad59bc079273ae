"""The models: nothing breaks with all rules in force, and each rule switched off is missed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.model import delivery, protocol
from tests.model.runs import (
    DELIVERY_MUTANTS,
    H5,
    H5_TRACE,
    PROTOCOL_MUTANTS,
    R4_TRACE,
    R5_TRACE,
    SMALL,
    V4C_TRACE,
    V5_TRACE,
    VERDICT,
    VERDICT_1,
    Mutant,
    Run,
    complaint,
    execute,
    survives,
    watched,
)
from tests.model.search import Transition, replay, search

MUTANTS = [m for m in (*DELIVERY_MUTANTS, *PROTOCOL_MUTANTS) if not m.large]


def _name(mutant: Mutant) -> str:
    model = 1 if isinstance(mutant.options, delivery.Options) else 2
    return f"{mutant.name} in model {model}: {mutant.says}"


def not_enabled(step: str) -> AbstractContextManager[object]:
    """Expect that a replay ends because a step is not there."""
    return pytest.raises(LookupError, match=f"'{step}', is not enabled")


@pytest.mark.parametrize("run", SMALL, ids=lambda r: f"{r.name}: {r.says}")
def test_all_rules_in_force(run: Run) -> None:
    """Nothing breaks, the goal stays in reach, and the counts are what they were."""
    found = execute(run.options)
    assert complaint(run, found) == ""
    assert found.complete
    assert found.stuck == 0


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_a_rule_switched_off_is_missed(mutant: Mutant) -> None:
    """The mutant breaks the property that its rule is for."""
    found = execute(mutant.options, live=mutant.killed_by == "stuck", watch=watched(mutant))
    assert survives(mutant, found) == ""


def test_names_are_unique() -> None:
    """No mutant hides behind another of its name."""
    for table in (DELIVERY_MUTANTS, PROTOCOL_MUTANTS):
        assert len({m.name for m in table}) == len(table)


def test_every_rule_has_a_mutant() -> None:
    """Each option that is a rule is switched off by some mutant, or by a trace of its own."""
    defaults = protocol.Options()
    rules = {n for n in protocol.Options.__dataclass_fields__ if getattr(defaults, n) is True}
    off = {n for m in PROTOCOL_MUTANTS for n in rules if not getattr(m.options, n)}
    assert rules - off == {"ack_chain"}  # H5, below


# -- traces worth keeping -------------------------------------------------------------------------

M12_TRACE = (
    "0 claims", "0 opens 1-1", "0 sends", "1-1 processed, reply read", "0 records success",
    "0 claims", "0 syncs", "log expires", "0 opens 1-2",
)  # fmt: skip

M9_TRACE = (
    "takeover by 1", "0 claims", "0 opens 1-1", "0 sends", "1 claims", "1-1 processed, reply read",
    "0 records success", "0 syncs", "log loses its last write", "1 marks dangling intents",
    "1 opens 2-1",
)  # fmt: skip

M7_TRACE = (
    "takeover by 1", "0 claims", "0 opens 1-1", "0 abandons", "1 claims",
    "1 marks dangling intents", "1 opens 2-1", "1 sends", "2-1 processed, reply read",
    "1 records success", "0 reads the status", "0 patches", "0 acknowledges", "log expires",
    "0 records failed", "0 reads the status", "0 patches",
)  # fmt: skip


@pytest.mark.parametrize(
    ("safe", "mutant", "trace", "missing", "broken"),
    [
        pytest.param(
            delivery.Options(), {"exact_fence": False}, M12_TRACE, "0 opens 1-2",
            "intent after a recorded success",
            id="M12: an old claim against a log that expired",
        ),
        pytest.param(
            delivery.Options(losses=1), {"reclaim_on_failover": False}, M9_TRACE,
            "1 marks dangling intents",
            "intent after a recorded success",
            id="M9: an old claim after the log lost a success",
        ),
    ],
)  # fmt: skip
def test_a_trace_that_only_the_mutant_can_take(
    safe: delivery.Options,
    mutant: dict[str, Any],
    trace: tuple[str, ...],
    missing: str,
    broken: str,
) -> None:
    """The trace breaks the property without the rule; with it, one of its steps is not there."""
    without = replace(safe, **mutant)
    _, wrong = replay(delivery.start(without), partial(_delivery, without), trace)
    assert broken in wrong
    with not_enabled(missing):
        replay(delivery.start(safe), partial(_delivery, safe), trace)


def test_m7_a_late_outcome_into_an_expired_log() -> None:
    """The same steps overwrite a success without the union, and keep it with the union."""
    safe = delivery.Options(stepwise=True)
    without = replace(safe, unite=False)
    state, wrong = replay(delivery.start(without), partial(_delivery, without), M7_TRACE)
    assert "the status goes back" in wrong
    assert not delivery.has(state.status, delivery.Result.SUCCESS)
    state, wrong = replay(delivery.start(safe), partial(_delivery, safe), M7_TRACE)
    assert wrong == ()
    assert delivery.has(state.status, delivery.Result.SUCCESS)


def test_h5_the_same_last_record_is_not_the_same_history() -> None:
    """An old ACK fits a log that was rebuilt otherwise, unless the chain stands for all of it."""
    without = replace(H5, ack_chain=False)
    _, wrong = replay(protocol.start(without), partial(_protocol, without), H5_TRACE)
    assert wrong == ("S10",)
    with pytest.raises(LookupError, match="1 ACK: STALE"):
        replay(protocol.start(H5), partial(_protocol, H5), H5_TRACE)


@pytest.mark.parametrize(
    ("safe", "mutant", "trace", "missing", "broken"),
    [
        pytest.param(
            replace(VERDICT_1, verdicts=2), {"verdict_named": False}, V5_TRACE,
            "NOTE 1-1 delivered: NOOP", "VR",
            id="V5: of two verdicts one is not recorded, and both are told that they are",
        ),
        pytest.param(
            replace(VERDICT, takeovers=1, refusals=True),
            {"verdict_raises": False, "refusal_stands": False}, V4C_TRACE,
            "NOTE 1-1 failed", "PF",
            id="V4: a verdict that comes late reopens what was refused for good",
        ),
        pytest.param(
            replace(VERDICT_1, losses=1), {"reread_held": False}, R4_TRACE, "0 patches", "P5",
            id="R4: Failed is said of a log that was lost and delivered since",
        ),
        pytest.param(
            replace(VERDICT, once=True), {"final_waits": False}, R5_TRACE, "0 asks for 1-2", "P6",
            id="R5: a verdict opens what a status write has just ended",
        ),
    ],
)  # fmt: skip
def test_a_trace_of_verdicts_that_only_the_mutant_can_take(
    safe: protocol.Options,
    mutant: dict[str, Any],
    trace: tuple[str, ...],
    missing: str,
    broken: str,
) -> None:
    """The trace breaks the property without the rule; with it, one of its steps is not there."""
    without = replace(safe, **mutant)
    _, wrong = replay(protocol.start(without), partial(_protocol, without), trace)
    assert broken in wrong
    with not_enabled(missing):
        replay(protocol.start(safe), partial(_protocol, safe), trace)


def _delivery(options: delivery.Options, state: delivery.State) -> list[Transition[delivery.State]]:
    return list(delivery.steps(state, options))


def _protocol(options: protocol.Options, state: protocol.State) -> list[Transition[protocol.State]]:
    return list(protocol.steps(state, options))


# -- the search itself ----------------------------------------------------------------------------


def _walk(at: int) -> list[Transition[int]]:
    """0 to 5 by ones and twos; 4 is broken, 5 is the goal, and 6 is a trap behind 3."""
    to = [n for n in (at + 1, at + 2) if n <= 5] if at < 5 else []
    if at == 3:
        to.append(6)
    return [(f"{at} to {n}", n, ("four",) if n == 4 else ()) for n in to]


def test_shortest_counterexample() -> None:
    """The trace to a violation is a shortest one, with the states it passes."""
    found = search(0, _walk)
    assert found.violation is not None
    assert found.violation.trace == ("0 to 2", "2 to 4")
    assert found.violation.states == (0, 2, 4)
    assert str(found.violation).splitlines()[0] == "broken: four"
    assert "BROKEN in 2 steps: four" in found.verdict


def test_states_without_a_way() -> None:
    """A trap is counted and shown, also where the properties hold."""
    found = search(0, _walk, goal=lambda n: n == 5, watch=())
    assert (found.states, found.complete, found.stuck) == (7, True, 1)
    assert found.stuck_trace == ("0 to 1", "1 to 3", "3 to 6")
    assert found.transitions == 10


def test_a_bounded_run_says_so() -> None:
    """What was not visited is not called safe or live."""
    found = search(0, lambda n: [("on", n + 1, ())], goal=lambda _: True, max_states=1_000)
    assert not found.complete
    assert found.stuck is None
    assert "not complete" in found.verdict


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


def test_marks_are_of_verdicts() -> None:
    """Nothing is marked before a verdict was given, and without one nothing ever is."""
    assert not any(protocol.marks(protocol.start(VERDICT)).values())
    seen = [protocol.marks(state) for state in _reached(replace(VERDICT, verdicts=0))]
    assert len(seen) > 300
    assert not any(any(marks.values()) for marks in seen)


def _reached(options: protocol.Options) -> set[protocol.State]:
    todo = [protocol.start(options)]
    known = set(todo)
    while todo:
        for _, state, _ in protocol.steps(todo.pop(), options):
            if state not in known:
                known.add(state)
                todo.append(state)
    return known


def test_a_run_with_other_counts_is_told() -> None:
    """A model that reaches other states than before is not the model that was checked."""
    run = replace(SMALL[1], states=1, transitions=1)
    assert "1 states" in complaint(run, execute(run.options))
