"""Which notifications are ours: shards with their terms, and who hears of a change."""

from __future__ import annotations

from typing import cast

from syncer.model.ports import LeaseTerm
from syncer.rules.shards import Sharding
from syncer.sharding.ownership import Shards

UIDS = [f"uid-{n}" for n in range(64)]
TERM, NEXT = cast("LeaseTerm", object()), cast("LeaseTerm", object())


def uids(shard: int) -> list[str]:
    """Notifications of a shard."""
    return [uid for uid in UIDS if Sharding(4).of(uid) == shard]


def test_a_shard_is_ours_from_its_acquisition_to_its_loss() -> None:
    """Its notifications have its term, and are accepted; those of other shards are not."""
    shards = Shards(4)
    assert (shards.sharding.shards, shards.owned, shards.leaving) == (4, {}, set())
    shards.take(2, TERM)
    for uid in UIDS:
        ours = uid in uids(2)
        assert (shards.term_of(uid) is TERM, shards.accepts(uid)) == (ours, ours)
    shards.owned.clear()
    assert shards.owned == {2: TERM}
    shards.drop(2)
    shards.drop(3)
    assert shards.owned == {}
    assert not any(shards.accepts(uid) for uid in UIDS)


def test_a_shard_that_leaves_accepts_nothing_and_keeps_its_term() -> None:
    """Until it is lost, or acquired anew."""
    shards, uid = Shards(4), uids(2)[0]
    shards.take(2, TERM)
    shards.leave(2)
    assert (shards.accepts(uid), shards.term_of(uid), 2 in shards.leaving) == (False, TERM, True)
    shards.take(2, NEXT)
    assert (shards.accepts(uid), shards.term_of(uid), 2 in shards.leaving) == (True, NEXT, False)
    shards.leave(2)
    shards.drop(2)
    assert shards.leaving == set()


def test_who_asked_hears_of_each_change() -> None:
    """When a shard is acquired or lost, after it is so; leaving is no change of who owns it."""
    shards = Shards(4)
    heard: list[dict[int, LeaseTerm]] = []
    shards.on_change = lambda: heard.append(shards.owned)
    shards.take(1, TERM)
    shards.leave(1)
    shards.drop(1)
    assert heard == [{1: TERM}, {}]
