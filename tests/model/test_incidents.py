"""The model of an incident: no order of events has an older state land after a newer one."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Final

import pytest

from tests.model.incidents import Options, State, goal, start, steps
from tests.model.search import Found, search

#: With a kill and a fault.
RUNS: Final = {
    "it fires, grows and ends": Options("FFR"),
    "it flaps": Options("FRF"),
    "it flaps twice, with a fault alone": Options("FRFR", kills=0),
}
#: Each part of the rule switched off; all of them break the order.
MUTANTS: Final = {
    "knows nothing": Options(supersedes=False, waits=False, gives_time=False),
    "nothing supersedes": Options(supersedes=False),
    "only an end supersedes": Options(ends_only=True),
    "does not wait for what is on the wire": Options(waits=False),
    "gives an unknown result no time": Options(gives_time=False),
    "goes by a list that is not complete": Options(asks=False),
    "looks before the intent only": Options(looks_after=False),
    "no fence at a takeover": Options(fenced=False),
    "an end waits its turn, and a late firing is left out": Options(waits_its_turn=True),
}


def find(options: Options) -> Found[State]:
    """Search all of it."""
    return search(start(options), partial(steps, o=options), goal=partial(goal, o=options))


@pytest.mark.parametrize("case", RUNS)
def test_an_older_state_never_lands_after_a_newer_one(case: str) -> None:
    """And all of them come to an end."""
    found = find(RUNS[case])
    assert found.violation is None, str(found.violation)
    assert found.complete
    assert found.stuck == 0, found.stuck_trace


@pytest.mark.parametrize("case", MUTANTS)
def test_a_part_of_the_rule_is_missed(case: str) -> None:
    """A shortest trace shows what for."""
    found = find(MUTANTS[case])
    assert found.violation is not None
    assert found.violation.properties == ("ORDER",)


def test_every_part_has_a_mutant() -> None:
    """None is switched off by nobody."""
    rules = [f.name for f in fields(Options) if isinstance(f.default, bool)]
    changed = {n for o in MUTANTS.values() for n in rules if getattr(o, n) != getattr(Options(), n)}
    assert changed == set(rules)
