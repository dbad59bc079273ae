"""The models: nothing breaks with all rules in force, and each rule switched off is missed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.model import delivery, journal, protocol, sessions, wakeups
from tests.model.components import Components
from tests.model.fairness import Fairness, Promise
from tests.model.runs import (
    B1L_TRACE,
    DELIVERY_MUTANTS,
    H5,
    H5_TRACE,
    JOURNAL_MUTANTS,
    LATE,
    M20B,
    M20B_TRACE,
    PAIR,
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
from tests.model.search import Transition, replay, search

TABLES = (DELIVERY_MUTANTS, PROTOCOL_MUTANTS, WAKEUP_MUTANTS, SESSION_MUTANTS, JOURNAL_MUTANTS)
MUTANTS = [m for table in TABLES for m in table if not m.large]


def _name(mutant: Mutant) -> str:
    return f"{mutant.name} in model {model_of(mutant)}: {mutant.says}"


def not_enabled(step: str) -> AbstractContextManager[object]:
    """Expect that a replay ends because a step is not there."""
    return pytest.raises(LookupError, match=f"'{step}', is not enabled")


@pytest.mark.parametrize("run", SMALL, ids=lambda r: f"{r.name}: {r.says}")
def test_all_rules_in_force(run: Run) -> None:
    """Nothing breaks, the goal stays in reach, and the counts are what they were."""
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
    assert _never_off(protocol.Options(), PROTOCOL_MUTANTS) == {"ack_chain", "keep_cache_again"}
    assert _never_off(wakeups.Options(), WAKEUP_MUTANTS) == set()
    # S21 alone breaks nothing (`REDUNDANT`): a term allows no more than the session it is of.
    assert _never_off(sessions.Options(), SESSION_MUTANTS) == {"acquire_valid"}
    # O25 likewise: what this model lets a log lose, its owners remember.
    assert _never_off(journal.Options(), JOURNAL_MUTANTS) == {"stamp"}


def _never_off(
    defaults: protocol.Options | wakeups.Options | sessions.Options | journal.Options,
    table: Sequence[Mutant],
) -> set[str]:
    rules = {n for n in type(defaults).__dataclass_fields__ if getattr(defaults, n) is True}
    return rules - {n for m in table for n in rules if not getattr(m.options, n)}


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

M9B_TRACE = (*M9_TRACE[1:4], M9_TRACE[0], *M9_TRACE[4:])

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
        pytest.param(
            delivery.Options(losses=1, grace=True), {"reclaim_on_failover": False, "proof": True},
            M9B_TRACE, "1 marks dangling intents", "intent after a recorded success",
            id="M9b: the same, of a success that the new owner had not read yet",
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


def test_m20b_the_second_claim_offers_the_cache_too() -> None:
    """The same steps forget a success that was just read, unless it is given to a log made anew."""
    without = replace(M20B, keep_cache_again=False)
    _, wrong = replay(protocol.start(without), partial(_protocol, without), M20B_TRACE)
    assert wrong == ("S2L",)
    _, wrong = replay(protocol.start(M20B), partial(_protocol, M20B), M20B_TRACE)
    assert wrong == ()


#: The log falls back under two owners.
FALLEN = replace(QUIET, takeovers=1, attempts=1, losses=1)


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
        pytest.param(
            FALLEN, {"stamp": False}, S12_TRACE, S12_TRACE[-1], "S12",
            id="P2: a log falls back to what an owner has read, and takes his intent",
        ),
        pytest.param(
            replace(FALLEN, attempts=2), {"stamp": False}, B1L_TRACE, "INTENT 1-1 of 0: OK", "B1L",
            id="P2: the same, and the receiver is called after a success that the object shows",
        ),
        pytest.param(
            replace(LATE, attempts=1, losses=1), {"stamp": False}, S12B_TRACE, S12B_TRACE[-1], "S12",
            id="P2: an intent that was given up is taken twice",
        ),
    ],
)  # fmt: skip
def test_a_trace_of_scripts_that_only_the_mutant_can_take(
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


W1_TRACE = (
    "0 acquires", "fault: a renewal is not answered", "0 is notified", "0 looks in vain",
    "0 reads the lease: its renewal was written", "0 gives back",
)  # fmt: skip


def test_w1_a_lease_that_is_valid_again_wakes_nobody() -> None:
    """A look while a renewal is in doubt comes to nothing; only the resync brings the next one."""
    faults = wakeups.Budget(renewals=1)
    without = wakeups.Options(faults=faults, resync=False)
    state, _ = replay(wakeups.start(without), partial(_wakeups, without), W1_TRACE)
    assert wakeups.is_due(state, without)
    assert _wakeups(without, state) == []
    safe = wakeups.Options(faults=faults)
    trace = (*W1_TRACE, "resync of 0", "0 looks: due")
    state, _ = replay(wakeups.start(safe), partial(_wakeups, safe), trace)
    assert state.replicas[0].job is wakeups.Job.WAITING


H1_TRACE = (
    "0 acquires", "0 is notified", "0 looks: due", "0 starts: OK", "fault: shards are shared anew",
    "0 sends", "answer to 0: success", "0 records", "0 writes the status: refused",
    "0 has handed over", "1 acquires",
)  # fmt: skip


def test_h1_a_status_that_is_refused_holds_up_no_hand_over() -> None:
    """The shard goes on while the status of one object is tried again, ever more slowly."""
    safe = wakeups.Options(replicas=2, refused=True, faults=wakeups.Budget(handovers=1))
    state, _ = replay(wakeups.start(safe), partial(_wakeups, safe), H1_TRACE)
    assert state.owner == 1
    without = replace(safe, leave_backing=False)
    with not_enabled("0 has handed over"):
        replay(wakeups.start(without), partial(_wakeups, without), H1_TRACE)


@pytest.mark.parametrize(
    ("safe", "mutant", "trace", "missing", "broken"),
    [
        pytest.param(
            sessions.Options(faults=sessions.Budget(deletes=1)), {"absence_waits": False}, S6_TRACE,
            "1 asks for 0", "SH",
            id="S6: a session that is deleted by hand is not over",
        ),
        pytest.param(
            sessions.Options(wire=2, faults=sessions.Budget(cuts=1)), {"absence_waits": False},
            S6B_TRACE, "1 asks for 0", "X",
            id="S6b: nor is what its own replica has ended",
        ),
        pytest.param(
            sessions.Options(faults=sessions.Budget(deletes=1)), {"not_found_waits": False}, S8_TRACE,
            "1 ends the session of 0: gone", "SH",
            id="S8: to find nothing to end is not to have ended it",
        ),
        pytest.param(
            sessions.Options(faults=sessions.Budget(freezes=1, handovers=1)),
            {"answer_named": False}, S9_TRACE, "1 acquires 0", "SH",
            id="S9: an answer gives no term in a session that its write does not name",
        ),
    ],
)  # fmt: skip
def test_a_trace_of_sessions_that_only_the_mutant_can_take(
    safe: sessions.Options,
    mutant: dict[str, Any],
    trace: tuple[str, ...],
    missing: str,
    broken: str,
) -> None:
    """The trace breaks the property without the rule; with it, one of its steps is not there."""
    without = replace(safe, **mutant)
    _, wrong = replay(sessions.start(without), partial(_sessions, without), trace)
    assert broken in wrong
    with not_enabled(missing):
        replay(sessions.start(safe), partial(_sessions, safe), trace)


def test_o7_a_mark_without_a_name_comes_late() -> None:
    """A former owner's write marks what the log knows more of; taking marks away first does not help."""
    _, wrong = replay(journal.start(UNNAMED), partial(_journal, UNNAMED), UNNAMED_TRACE)
    assert wrong == ("B1",)
    named = replace(UNNAMED, mark_named=True)
    held = UNNAMED_TRACE[: UNNAMED_TRACE.index("0 writes the note", 1) + 1]
    state, _ = replay(journal.start(named), partial(_journal, named), held)
    assert journal.measures(state, named)["processed"] == 1
    with not_enabled("0 reads to journal"):
        replay(journal.start(named), partial(_journal, named), UNNAMED_TRACE)


def _journal(options: journal.Options, state: journal.State) -> list[Transition[journal.State]]:
    return list(journal.steps(state, options))


def _sessions(options: sessions.Options, state: sessions.State) -> list[Transition[sessions.State]]:
    return list(sessions.steps(state, options))


def _wakeups(options: wakeups.Options, state: wakeups.State) -> list[Transition[wakeups.State]]:
    return list(wakeups.steps(state, options))


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


def _ring(at: int) -> list[Transition[int]]:
    """A ring of 0, 1 and 2 with a way out of 1 to 3, where it ends, and a fault there from 2."""
    steps = {
        0: [("on", 1)],
        1: [("on", 2), ("out", 3)],
        2: [("on", 0), ("fault", 4)],
        3: [],
        4: [("on", 4)],
    }
    return [(label, to, ()) for label, to in steps[at]]


def _fair(*possible_for_ever: int, kept_by: str = "") -> Fairness[int]:
    """It is promised that none of these states is stayed in for ever."""
    promise: Promise[int] = Promise(
        "P", lambda n: n in possible_for_ever, lambda label: label == kept_by
    )
    return Fairness(lambda label: None if label == "fault" else label, (promise,))


@pytest.mark.parametrize(
    ("fairness", "unkept"),
    [
        pytest.param(
            _fair(0, 1, 2), [((), ("on",), 3)],
            id="a ring may be gone around for ever if its way out is not possible all the time",
        ),
        pytest.param(_fair(1), [], id="no state is stayed in while it has a step"),
        pytest.param(
            _fair(3), [(("on", "out"), (), 1)], id="where there is no step a behaviour may stop"
        ),
        pytest.param(
            _fair(4), [(("on", "on", "fault"), ("on",), 1)], id="a fault may lead to where it stays"
        ),
        pytest.param(_fair(0, 1, 2, kept_by="on"), [], id="a step keeps a promise, wherever it leads"),
    ],
)  # fmt: skip
def test_promises_under_weak_fairness(
    fairness: Fairness[int], unkept: list[tuple[tuple[str, ...], tuple[str, ...], int]]
) -> None:
    """A promise is broken where a behaviour may go on, or stop, and nobody is passed over for ever."""
    found = search(0, _ring, fairness=fairness)
    assert [(u.trace, u.for_ever, u.states) for u in found.unkept or ()] == unkept


def test_an_action_that_stays_possible_is_taken() -> None:
    """A loop beside a way out that is always possible is left; it is not if the way out is a fault."""

    def loop(at: int) -> list[Transition[int]]:
        return [("on", at, ()), ("out", 1, ())] if at == 0 else [("on", at, ())]

    promise: Promise[int] = Promise("P", lambda n: n == 0)
    fair = search(0, loop, fairness=Fairness(lambda label: label, (promise,)))
    assert fair.unkept == ()
    assert fair.verdict == "safe, and live if fair"
    unfair = Fairness(lambda label: None if label == "out" else label, (promise,))
    found = search(0, loop, fairness=unfair)
    assert "NOT KEPT after 0 steps: P" in found.verdict
    assert str((found.unkept or ())[0]).splitlines() == ["not kept: P", "  *  on"]


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
    assert not any(protocol.marks(protocol.start(VERDICT), VERDICT).values())
    without = replace(VERDICT, verdicts=0)
    seen = [protocol.marks(state, without) for state in _reached(without)]
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


CUT = sessions.Options(faults=sessions.Budget(cuts=1))
OUTAGE = journal.Options(attempts=1, faults=journal.Budget(outages=1, takeovers=1))


@pytest.mark.parametrize(
    ("model", "options", "mutant"),
    [
        pytest.param(
            protocol, replace(VERDICT_1, crashes=1), {"verdict_settled": False}, id="protocol"
        ),
        pytest.param(
            wakeups, replace(PAIR, faults=wakeups.Budget(cuts=1)), {"hands_on": False}, id="wake-ups"
        ),
        pytest.param(sessions, CUT, {"send_guard": False}, id="sessions"),
        pytest.param(journal, OUTAGE, {"note_gone": False}, id="journal"),
    ],
)  # fmt: skip
def test_numbered_states_have_the_steps_of_their_states(
    model: Any, options: Any, mutant: dict[str, bool]
) -> None:
    """What is remembered of a step is what it does, in each state and whatever ran before."""
    components = Components(model.start(options), options, model.SPLIT)
    moves = components.moves(model.parts(options))
    without = replace(options, **mutant)
    expected: dict[Any, dict[Any, list[Transition[Any]]]] = {options: {}, without: {}}
    for o in (options, without, options):
        todo = [components.number(model.start(o), o)]
        states = {todo[0]: model.start(o)}
        for number in todo:
            state, steps = states[number], expected[o]
            if state not in steps:
                steps[state] = list(model.steps(state, o))
            taken = []
            for label, n, broken in moves(number):
                if n not in states:
                    states[n] = components.state(n)
                    assert components.number(states[n], o) == n
                    todo.append(n)
                taken.append((label, states[n], broken))
            assert taken == steps[state]
        assert len(todo) > 200


class _Items(NamedTuple):
    first: int
    second: int


class _Pair(NamedTuple):
    items: _Items
    left: int
    right: int


@dataclass(frozen=True)
class _Rules:
    copies: bool = True
    other: bool = True


def test_what_a_step_reads_and_what_it_writes_decides_what_is_remembered() -> None:
    """A step is taken anew where what it looked at differs, or what it writes without a look."""
    asked: list[_Pair] = []

    def part(s: _Pair, o: _Rules) -> list[Transition[_Pair]]:
        copied = s.items.second if s.left and o.copies else 0
        asked.append(s)
        return [("on", s._replace(left=1, right=copied), ())]

    components = Components(_pair(5, 6, 0, 7), _Rules(), ["items"])
    moves = components.moves([part])

    def after(state: _Pair, rules: _Rules = _Rules()) -> _Pair:
        [(_, number, _)] = moves(components.number(state, rules))
        return components.state(number)

    assert after(_pair(5, 6, 0, 7)) == _pair(5, 6, 1, 0)
    assert after(_pair(5, 6, 1, 7)) == _pair(5, 6, 1, 6)
    assert after(_pair(5, 8, 1, 7)) == _pair(5, 8, 1, 8)
    assert after(_pair(5, 8, 0, 9)) == _pair(5, 8, 1, 0)
    assert after(_pair(5, 8, 1, 7), _Rules(copies=False)) == _pair(5, 8, 1, 0)
    before = len(asked)
    assert after(_pair(4, 9, 0, 9)) == _pair(4, 9, 1, 0)
    assert after(_pair(4, 6, 1, 7)) == _pair(4, 6, 1, 6)
    assert after(_pair(4, 8, 1, 7), _Rules(other=False)) == _pair(4, 8, 1, 8)
    assert len(asked) == before, "neither the first item nor the other rule was read"


def _pair(first: int, second: int, left: int, right: int) -> _Pair:
    return _Pair(_Items(first, second), left, right)


def test_a_run_with_other_counts_is_told() -> None:
    """A model that reaches other states than before is not the model that was checked."""
    smallest = next(run for run in SMALL if run.says == "no fault")
    run = replace(smallest, states=1, transitions=1)
    assert "1 states" in complaint(run, execute(run.options))
