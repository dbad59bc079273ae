"""Laws of the holds: copies are joined in any order, and what is lost comes back the same everywhere."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from syncer.model.hold import Hold
from syncer.rules.holds import MOST, MOST_BYTES, decode, encode, join, restored, within_bounds

NOW: Final = 1_000_000


@st.composite
def holds(draw: st.DrawFn) -> Hold:
    """A hold as one of three operators might have placed it, perhaps released."""
    released = draw(st.sampled_from([0, 0, NOW - 1, NOW]))
    patterns = st.lists(st.sampled_from(["a", "slack:*", "o?s"]), max_size=2, unique=True)
    return Hold(
        draw(st.sampled_from(["00000001", "00000002", "00000003"])),
        draw(st.integers(0, 5)),
        draw(st.integers(NOW - 2, NOW + 2)),
        draw(st.sampled_from(["alice", "bob"])),
        draw(st.sampled_from(["x", "y"])),
        tuple(draw(patterns)),
        tuple(draw(patterns)),
        released=released,
        released_by=draw(st.sampled_from(["bob", "carol"])) if released else "",
    )


COPIES: Final = st.lists(holds(), max_size=4).map(join)


@given(COPIES, COPIES, COPIES)
def test_joining_is_a_union(a: tuple[Hold, ...], b: tuple[Hold, ...], c: tuple[Hold, ...]) -> None:
    """In any order, any grouping, any number of times; a release is never lost."""
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    released = {h.id for h in (*a, *b) if h.released}
    assert {h.id for h in join(a, b) if h.released} == released


@given(COPIES, COPIES)
def test_replicas_agree_on_what_is_on_record(
    stored: tuple[Hold, ...], known: tuple[Hold, ...]
) -> None:
    """One round settles it: what is on record stays, what was lost and is in force is there again."""
    after = restored(stored, known, now=NOW)
    assert restored(after, known, now=NOW) == after
    here, there = {h.id for h in stored}, {h.id for h in after}
    assert there == here | {h.id for h in known if h.in_force(NOW)}
    assert {h.id for h in after if h.released} == {
        h.id for h in (*stored, *known) if h.released and h.id in here
    }


@given(COPIES)
def test_what_is_stored_is_read_again(copies: tuple[Hold, ...]) -> None:
    """And fits its bounds."""
    kept = within_bounds(copies, now=NOW)
    assert decode(encode(kept)) == kept
    assert len(kept) <= MOST
    assert len(encode(kept)) <= MOST_BYTES
