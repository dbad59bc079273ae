"""Groups that take turns, whatever waits in each."""

from __future__ import annotations

import pytest

from syncer.runtime.turns import Turns


def test_groups_take_turns() -> None:
    """One of each, in the order in which they came; within a group in order of arrival."""
    turns: Turns[int] = Turns()
    for n in range(3):
        turns.append("many", n)
    turns.append("one", 10)
    assert turns
    taken = [turns.popleft(), turns.popleft()]
    turns.append("late", 20)
    taken += [turns.popleft() for _ in range(3)]
    assert taken == [0, 10, 1, 20, 2]
    assert not turns
    with pytest.raises(StopIteration):
        turns.popleft()
