"""Worlds of the simulation, each a test: so each judges the mutants whose lines it runs."""

from __future__ import annotations

from typing import Final

import pytest

from tests.simulation.campaign import NEW, kept
from tests.simulation.world import run

_NEW: Final = [(seed, live) for seed in NEW[:60] for live in (False, True)]


@pytest.mark.parametrize(("seed", "live"), [*((seed, live) for seed, live, _ in kept()), *_NEW])
def test_a_world_holds(seed: int, *, live: bool) -> None:
    """Nothing breaks in worlds that have found something before, nor in others."""
    assert run(seed, live=live, tail=0).violation is None
