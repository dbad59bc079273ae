"""Who should own which shard: decisions from what a watch has shown, and from the own clock."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.kube.leases import LeaseRecord
from syncer.sharding.assignment import (
    Fitness,
    Held,
    Hold,
    ShardState,
    able_sessions,
    choose,
    hand_over,
    look_again,
    loss_of,
    silent_sessions,
    state_of,
)
from syncer.sharding.view import ABLE, FOREVER, SESSION, LeaseView, session_name

#: LeaseDuration; what is stated in a Lease may be another one.
DURATION = 18.0
START = 1000.0


class World:
    """A view of one installation, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = START
        self.version = 10
        self.view = LeaseView("nl", duration=DURATION, clock=lambda: self.now)
        self.view.replace([], "10")

    def next(self) -> str:
        """Return the next resourceVersion."""
        self.version += 1
        return str(self.version)

    def shard(self, holder: str, session: str = "", **members: Any) -> LeaseRecord:
        """Show the Lease of shard 0 as it was written."""
        return self._put("nl-0", holder, {SESSION: session} if session else {}, members, FOREVER)

    def session(self, holder: str, *, able: bool = True, **members: Any) -> LeaseRecord:
        """Show a session as it was begun or renewed."""
        annotations = {ABLE: "true" if able else "false"}
        return self._put(session_name("nl", holder), holder, annotations, members, int(DURATION))

    def _put(
        self, name: str, holder: str, annotations: dict[str, str], members: Any, duration: float
    ) -> LeaseRecord:
        fields = {"uid": f"u-{name}", "duration": duration, "transitions": 3, **members}
        lease = LeaseRecord(
            name=name, resource_version=self.next(), holder=holder, annotations=annotations,
            **fields,
        )  # fmt: skip
        self.view.put(lease)
        return lease

    def gone(self, lease: LeaseRecord) -> None:
        """Show that a Lease was deleted."""
        last = {f: getattr(lease, f) for f in lease.__dataclass_fields__}
        self.view.remove(LeaseRecord(**{**last, "resource_version": self.next()}))

    def state(self, *ended: str) -> ShardState:
        """Return the state of shard 0 for the replica `me`."""
        return state_of(self.view, 0, "me", self.now, ended)


# -- states ---------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    """A world without replicas."""
    return World()


@pytest.mark.parametrize("session", ["", "another"])
def test_a_lease_of_our_name_is_ours_at_once(world: World, session: str) -> None:
    """A dead predecessor's, or that of a session of ours that is over."""
    world.shard("me", session)
    assert world.state().hold is Hold.MINE


def test_a_duration_above_the_least_is_no_release(world: World) -> None:
    """Two seconds are what a holder believed in, and it is waited for."""
    world.shard("", duration=2)
    assert world.state() == ShardState(Hold.HELD, until=START + 2)


def test_a_deleted_lease_of_another_is_waited_for_and_ours_is_not() -> None:
    """The holder may not know yet; we do."""
    for holder, hold in (("a", Hold.HELD), ("me", Hold.FREE)):
        world = World()
        lease = world.shard(holder, "s")
        world.now += 5
        world.gone(lease)
        world.now += DURATION - 0.1
        assert world.state().hold is hold
        world.now = START + 5 + DURATION
        assert world.state().hold is Hold.FREE
        world.view.forget()
        assert world.state().hold is Hold.FREE


def test_a_silent_session_keeps_its_shards_until_it_is_ended(world: World) -> None:
    """However long it has been silent: only the compare-and-swap on it tells that it is over."""
    world.shard("a", "u-s")
    world.session("a", uid="u-s")
    world.now += 100 * DURATION
    assert world.state().hold is Hold.HELD
    assert [s.uid for s in silent_sessions(world.view, "mine", world.now)] == ["u-s"]
    assert world.state("u-s") == ShardState(Hold.ORPHANED, holder="a")


def test_a_session_that_has_gone_is_waited_for_from_its_last_renewal(world: World) -> None:
    """Whoever ended it has waited; a human who deletes it does not tell its owner."""
    world.shard("a", "u-s")
    lease = world.session("a", uid="u-s")
    world.now += 4
    world.gone(lease)
    assert world.state() == ShardState(Hold.HELD, until=START + DURATION)
    world.now = START + DURATION
    assert world.state() == ShardState(Hold.ORPHANED, holder="a", session="u-s")


def test_a_session_never_seen_is_waited_for_from_the_first_sight_of_its_shard(world: World) -> None:
    """Then its end is confirmed before the shard is taken."""
    world.shard("a", "u-s")
    assert world.state() == ShardState(Hold.HELD, until=START + DURATION)
    world.now += DURATION
    assert world.state() == ShardState(Hold.ORPHANED, holder="a", session="u-s")


def test_a_shard_without_a_session_expires_by_its_own_lease(world: World) -> None:
    """An annotation that was left behind means nothing beside the duration that it writes."""
    world.shard("old", "left-behind", duration=10)
    assert world.state() == ShardState(Hold.HELD, until=START + 10)
    world.now += 9
    world.shard("old", "left-behind", duration=10)
    assert world.state() == ShardState(Hold.HELD, until=START + 19)
    world.now += 10
    assert world.state() == ShardState(Hold.ORPHANED, holder="old")


# -- sightings ------------------------------------------------------------------------------------


def test_silence_is_counted_for_our_own_duration_at_most(world: World) -> None:
    """A Lease that states years is no replica for years; our own session never counts."""
    world.session("phantom", uid="a", duration=2**31 - 2)
    world.session("me", uid="me")
    world.now += DURATION - 0.1
    assert silent_sessions(world.view, "me", world.now) == []
    assert look_again(world.view, [], world.now) == START + DURATION
    world.now += 0.1
    assert [s.uid for s in silent_sessions(world.view, "me", world.now)] == ["a"]
    assert able_sessions(world.view, "me", world.now) == 0


# -- what is taken --------------------------------------------------------------------------------

FREE = ShardState(Hold.FREE, since=START)
ALMOST = ShardState(Hold.FREE, since=START - DURATION)
LATE = ShardState(Hold.FREE, since=START - 2 * DURATION)
ORPHAN = ShardState(Hold.ORPHANED)
MINE = ShardState(Hold.MINE)
HELD = ShardState(Hold.HELD)


@pytest.mark.parametrize(
    ("states", "missing", "taken"),
    [
        pytest.param([FREE, FREE, FREE, HELD], 2, [0, 1], id="free, up to the share"),
        pytest.param([FREE, FREE], 0, [], id="free, but the share is reached"),
        pytest.param([FREE, LATE], 0, [1], id="free for long: anybody's"),
        pytest.param([ALMOST], 0, [], id="free for just as long as others may take it"),
        pytest.param([ORPHAN, MINE, HELD], -3, [0, 1], id="orphaned: even above the share"),
        pytest.param([FREE, FREE, ORPHAN], 2, [0, 2], id="the share counts what is urgent"),
        pytest.param([HELD, HELD], 2, [], id="held"),
    ],
)
def test_what_is_taken(states: list[ShardState], missing: int, taken: list[int]) -> None:
    """Orphans at once, free ones up to the share, and above it after a LeaseDuration."""
    found = choose(dict(enumerate(states)), missing=missing, now=START, patience=DURATION)
    assert found == taken


def test_a_term_ends_with_its_lease(world: World) -> None:
    """By what the watch shows after our own write, and not by what it showed before."""
    world.shard("a", "s")
    held = Held("20", 4)
    assert loss_of(world.view, 0, held, "me", "mine") == ""
    world.version = 19
    lease = world.shard("me", "mine", transitions=4)
    assert loss_of(world.view, 0, held, "me", "mine") == ""
    world.shard("me", "mine", transitions=4)
    assert loss_of(world.view, 0, held, "me", "mine") == ""
    world.shard("human", "mine", transitions=4)
    assert loss_of(world.view, 0, held, "me", "mine") == "taken by human"
    for session, transitions in (("other", 4), ("mine", 5)):
        world.shard("me", session, transitions=transitions)
        reason = loss_of(world.view, 0, held, "me", "mine")
        assert reason == "taken by another process with our name"
    world.gone(lease)
    assert loss_of(world.view, 0, held, "me", "mine") == "the lease was deleted"


# -- what is handed over --------------------------------------------------------------------------

ABLE_NOW = None
EIGHT = tuple(range(8))


@pytest.mark.parametrize(
    ("owned", "others", "unable", "shards", "reason"),
    [
        pytest.param(EIGHT, 0, ABLE_NOW, (), "above the share of 1 replicas", id="alone"),
        pytest.param(EIGHT, 1, ABLE_NOW, (7, 6, 5, 4), "above the share of 2", id="one too many"),
        pytest.param((1, 5), 1, ABLE_NOW, (), "above the share of 2", id="below its share"),
        pytest.param(EIGHT, 1, 18.0, (), "not for long", id="a short outage"),
        pytest.param(EIGHT, 3, 18.0, (), "not for long", id="a short outage above its share"),
        pytest.param((0, 3), 1, 18.1, (3, 0), "another replica is able", id="a long outage"),
        pytest.param(EIGHT, 0, 900.0, (), "so is every other", id="nobody is able"),
        pytest.param((), 1, 900.0, (), "another replica is able", id="nothing is left"),
    ],
)
def test_what_is_handed_over(
    owned: tuple[int, ...], others: int, unable: float | None, shards: tuple[int, ...], reason: str
) -> None:
    """By the share; or all of it, by who is not able to serve while somebody else is."""
    decided = hand_over(owned, shards=8, others=others, unable=unable, patience=18.0)
    assert decided.shards == shards
    assert reason in decided.reason


# -- who counts as able ---------------------------------------------------------------------------


def test_an_outage_begins_anew_when_it_ends() -> None:
    """What counts is how long it has not been able without a break."""
    fitness = Fitness(DURATION)
    assert not fitness.check(able=False, others=1, now=0.0)
    assert fitness.unable_for(17.0) == 17.0
    assert fitness.check(able=True, others=1, now=17.0)
    assert fitness.unable_for(17.0) is None
    assert not fitness.check(able=False, others=1, now=18.0)
    assert fitness.unable_for(20.0) == 2.0


def test_who_handed_over_counts_again_when_it_has_been_able_for_as_long() -> None:
    """A connection that comes and goes moves no shards."""
    fitness = Fitness(DURATION)
    fitness.check(able=False, others=1, now=0.0)
    fitness.probe(19.0)
    assert not fitness.check(able=True, others=1, now=20.0)
    assert not fitness.check(able=False, others=1, now=30.0)
    assert not fitness.check(able=True, others=1, now=30.0 + DURATION)
    assert fitness.check(able=True, others=1, now=30.1 + DURATION)
