"""Which shards are followed, from which version on, and what an event of one is."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from syncer.kube.following import Following
from syncer.rules.shards import Sharding


class Terms:
    """What a replica owns, as the test has it."""

    sharding = Sharding(8)

    def __init__(self, *shards: int) -> None:
        self.owned: dict[int, object] = {n: object() for n in shards}
        self.on_change: Callable[[], None] = lambda: None


def test_a_term_that_ended_is_followed_by_a_list() -> None:
    """A shard that was lost and taken again has left and comes, however soon that is."""
    terms = Terms(1, 2)
    following = Following(terms)
    following.begin(following.coming())
    following.start("100")
    assert set(following.shards) == {1, 2}
    complete = [following.complete]
    terms.owned[2] = object()
    assert set(following.left()) == {2}
    assert [*complete, following.complete] == [True, False]
    following.drop(following.left())
    assert following.coming() == {2: terms.owned[2]}


def test_half_a_list_has_to_be_let_go_of() -> None:
    """A shard whose list was begun is not followed; but objects of it may be known when its term ends."""
    terms = Terms(1)
    following = Following(terms)
    following.begin(following.coming())
    assert not following.shards
    assert not following.left()
    assert set(following.coming()) == {1}
    assert not following.lacks(1, "101")
    terms.owned.clear()
    assert following.left() == {1}


def watch(following: Following, told: dict[int, list[int]], versions: range) -> None:
    """Bring an event of each shard in each version."""
    for version in versions:
        for shard, so_far in told.items():
            if following.lacks(shard, str(version)):
                so_far.append(version)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30), st.data())
def test_no_event_is_lost_and_none_comes_twice(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """
    Whatever comes while the watch is wherever, each shard is told each version after its list once.

    A history is one version for each shard and tick; the watch moves by steps, shards are listed at the
    newest version between them.
    """
    terms = Terms()
    following = Following(terms)
    resume, newest = 0, 10
    listed: dict[int, int] = {}
    told: dict[int, list[int]] = {}
    for shard, ahead in steps:
        newest += ahead
        if shard not in terms.owned:
            terms.owned[shard] = object()
            coming = following.coming()
            following.begin(coming)
            if resume:
                resume = int(following.add(coming, str(newest), watched=str(resume)))
            else:
                following.start(str(newest))
                resume = newest
            listed[shard], told[shard] = newest, []
        until = data.draw(st.integers(resume, newest))
        watch(following, told, range(resume + 1, until + 1))
        resume = until
    watch(following, told, range(resume + 1, newest + 1))
    for n, versions in told.items():
        assert versions == list(range(listed[n] + 1, newest + 1))
