"""The model of a writer of any status: nothing is made up, redirected, suppressed or repeated."""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from tests.model.evidence import Options, State, goal, start, steps
from tests.model.rules import without
from tests.model.search import Found, search

#: World: its faults, and how many states it has.
RUNS: Final = {
    "nothing else happens": Options(forgeries=3),
    "Redis is emptied, and an owner dies": Options(losses=1, crashes=1),
    "a log loses its end, and an owner dies": Options(trims=1, crashes=1, once=True),
    "Redis is away, and an owner dies": Options(outages=1, crashes=1),
    "an owner is frozen": Options(freezes=1),
    "another controller has finished it": Options(adopted="Sent", crashes=1, losses=1),
    "another controller has begun it": Options(adopted="Sending", crashes=1),
    "nobody writes a status, and all else goes wrong": Options(
        forgeries=0, crashes=2, losses=1, outages=1, once=True
    ),
}
#: Each clause switched off: the world in which that shows, and what breaks; empty if it never ends.
MUTANTS: Final = {
    "routes": ("nothing else happens", "F2"),
    "grounds": ("nothing else happens", "F1"),
    "compares": ("Redis is emptied, and an owner dies", "B1"),
    "looks": ("Redis is emptied, and an owner dies", "B1"),
    "marks_known": ("nothing else happens", "F1"),
    "marks_count": ("Redis is away, and an owner dies", "F6"),
    "adopts_older": ("nothing else happens", "F1"),
    "adopts": ("another controller has begun it", "F6"),
    "supports": ("nothing else happens", "F3"),
    "waits": ("nothing else happens", "B1"),
    "stops": ("a log loses its end, and an owner dies", "B1"),
    "knows_birth": ("nothing else happens", ""),
    "overrules": ("nothing else happens", "F3"),
    "remembers": ("nobody writes a status, and all else goes wrong", "F6"),
    "expires": ("an owner is frozen", "F6"),
}


def find(options: Options, *watch: str) -> Found[State]:
    """Search all of it, for these properties; without any, for all."""
    following, ends = partial(steps, o=options), partial(goal, o=options)
    return search(start(options), following, goal=ends, watch=watch or None)


@pytest.mark.parametrize("world", RUNS)
def test_a_writer_of_statuses_only_delays(world: str) -> None:
    """Everything is visited: nothing breaks, and all ends."""
    found = find(RUNS[world])
    assert found.violation is None, str(found.violation)
    assert found.complete
    assert found.stuck == 0, found.stuck_trace


@pytest.mark.parametrize("clause", MUTANTS)
def test_a_clause_is_missed(clause: str) -> None:
    """A shortest trace shows what for."""
    world, broken = MUTANTS[clause]
    found = find(without(RUNS[world], clause), *filter(None, [broken]))
    assert bool(found.stuck) is not bool(broken)
    assert (found.violation.properties if found.violation else ()) == ((broken,) if broken else ())


def test_every_clause_has_a_mutant() -> None:
    """None is switched off by nobody."""
    assert set(MUTANTS) == set(Options.RULES)
