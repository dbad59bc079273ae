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
    assert len(turns) == 4
    taken = [turns.popleft(), turns.popleft()]
    turns.append("late", 20)
    taken += [turns.popleft() for _ in range(len(turns))]
    assert taken == [0, 10, 1, 20, 2]
    assert len(turns) == 0
    with pytest.raises(StopIteration):
        turns.popleft()


def test_a_group_that_may_not_is_passed_over() -> None:
    """It keeps its place in the round."""
    turns: Turns[int] = Turns()
    for group, item in (("a", 1), ("a", 2), ("b", 3), ("c", 4)):
        turns.append(group, item)
    assert turns.popleft(lambda group: group != "a") == 3
    assert [turns.popleft() for _ in range(3)] == [1, 4, 2]
    turns.append("a", 5)
    with pytest.raises(StopIteration):
        turns.popleft(lambda group: group != "a")
    assert turns.popleft() == 5


def test_a_group_that_comes_back_joins_at_the_end() -> None:
    """It left with its last item."""
    turns: Turns[str] = Turns()
    turns.append("a", "a1")
    turns.append("b", "b1")
    assert turns.popleft() == "a1"
    turns.append("a", "a2")
    assert [turns.popleft(), turns.popleft()] == ["b1", "a2"]
