"""Which shard a uid belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.rules.shards import Sharding, shard_of

#: From the reference of the function.
KNOWN = {
    "": 0xCBF29CE484222325,
    "a": 0xAF63DC4C8601EC8C,
    "foobar": 0x85944171F73967E8,
}


@pytest.mark.parametrize("text", KNOWN)
def test_hash(text: str) -> None:
    """It is FNV-1a in 64 bits, and its highest bits tell the shard."""
    assert shard_of(text, 1 << 64) == KNOWN[text]
    assert shard_of(text, 16) == KNOWN[text] >> 60


@given(st.uuids().map(str), st.integers(1, 300))
def test_every_uid_has_a_shard(uid: str, shards: int) -> None:
    """One of those that there are."""
    assert 0 <= shard_of(uid, shards) < shards


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
