"""Which shard a uid belongs to, and the ranges that a server is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.rules.shards import (
    SPACE,
    Sharding,
    fnv1a,
    ranges_of,
    selector_of,
    shard_of,
)

UIDS = st.uuids().map(str)
COUNTS = st.integers(1, 300)

#: From the reference of the function, and as a real server (1.37) was seen to compute it.
KNOWN = {
    "": 0xCBF29CE484222325,
    "a": 0xAF63DC4C8601EC8C,
    "foobar": 0x85944171F73967E8,
}


@pytest.mark.parametrize("text", KNOWN)
def test_hash(text: str) -> None:
    """It is FNV-1a in 64 bits."""
    assert fnv1a(text) == KNOWN[text]


@given(UIDS, COUNTS)
def test_every_uid_has_a_shard(uid: str, shards: int) -> None:
    """One of those that there are."""
    assert 0 <= shard_of(uid, shards) < shards


@given(UIDS, COUNTS, st.data())
def test_ranges_hold_the_uids_of_their_shards(uid: str, shards: int, data: st.DataObject) -> None:
    """A hash is in one of the ranges exactly if its shard is asked for."""
    owned = data.draw(st.sets(st.integers(0, shards - 1)))
    inside = any(first <= fnv1a(uid) < after for first, after in ranges_of(owned, shards))
    assert inside == (shard_of(uid, shards) in owned)


@given(COUNTS, st.data())
def test_ranges_at_their_ends(shards: int, data: st.DataObject) -> None:
    """First and last hash of a range are of its shards, and their neighbours are not."""
    owned = data.draw(st.sets(st.integers(0, shards - 1), min_size=1))
    ranges = ranges_of(owned, shards)
    for first, after in ranges:
        assert {first * shards >> 64, (after - 1) * shards >> 64} <= owned
        assert first == 0 or (first - 1) * shards >> 64 not in owned
        assert after == SPACE or after * shards >> 64 not in owned
    assert ranges == sorted(ranges)


CASES = {
    "all shards are one range": (range(16), 16, [(0, SPACE)]),
    "no shard has none": ((), 16, []),
    "neighbours are one, in any order": ((3, 2), 4, [(SPACE // 2, SPACE)]),
    "others are apart": ((0, 2), 4, [(0, SPACE // 4), (SPACE // 2, 3 * SPACE // 4)]),
    "ends are rounded up": ((1,), 3, [(SPACE // 3 + 1, 2 * SPACE // 3 + 1)]),
}


@pytest.mark.parametrize("case", CASES)
def test_ranges(case: str) -> None:
    """Ranges are merged where they touch."""
    owned, shards, wanted = CASES[case]
    assert ranges_of(owned, shards) == wanted


def test_selector() -> None:
    """Sixteen digits, the end exclusive, and several ranges in one text."""
    assert selector_of([(0, SPACE // 4), (SPACE // 2, SPACE)]) == (
        "shardRange(object.metadata.uid, '0x0000000000000000', '0x4000000000000000')"
        " || shardRange(object.metadata.uid, '0x8000000000000000', '0x10000000000000000')"
    )


TEXTS = {
    "a number alone": ("16", None),
    "the function is named": ("16-fnv1a", Sharding(16)),
    "an unknown function": ("16-xxh3", None),
    "no number": ("-fnv1a", None),
    "nothing": ("", None),
    "no shards": ("0", None),
    "a number of another form": ("016", None),
    "digits of another script": ("१६", None),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text(case: str) -> None:
    """What installations write down is read back; anything else is refused."""
    text, wanted = TEXTS[case]
    assert Sharding.read(text) == wanted
    if wanted is not None:
        assert str(wanted) == text


def test_sharding_asks_for_what_can_be_selected() -> None:
    """Nothing for all shards; no shards at all cannot be asked for."""
    assert Sharding(4).selector([0, 1, 2, 3]) == ""
    assert Sharding(4).selector([1]) == selector_of(ranges_of([1], 4))
    with pytest.raises(ValueError, match="everything"):
        Sharding(4).selector([])
