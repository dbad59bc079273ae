"""Values of the hot path: nobody writes to them, in tests by force and in production by type."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from syncer.model.conditions import Condition

ONE = Condition("Ready", "True", "Because", "it is", 1, 1)


def test_a_write_is_noticed_here() -> None:
    """Whatever test makes the product write to such a value fails."""
    with pytest.raises(FrozenInstanceError):
        ONE.reason = "Other"  # type: ignore[misc]  # what is tested


def test_values_compare_hash_and_are_replaced() -> None:
    """They are what frozen dataclasses are: equal by members, keys of mappings, without a __dict__."""
    same = Condition("Ready", "True", "Because", "it is", 1, 1)
    assert (same, hash(same)) == (ONE, hash(ONE))
    assert replace(ONE, reason="Other") != ONE
    assert not hasattr(ONE, "__dict__")


def test_production_does_not_pay_for_it() -> None:
    """Outside of tests a constructor assigns, and equality and hash are the same."""
    code = (
        "from syncer.model.conditions import Condition as C\n"
        "a, b = C('a', 'b', 'c', 'd', 1), C('a', 'b', 'c', 'd', 1)\n"
        "assert a == b and hash(a) == hash(b) and not hasattr(a, '__dict__')\n"
        "assert '__setattr__' not in vars(C)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
