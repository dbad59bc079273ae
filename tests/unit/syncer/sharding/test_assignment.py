"""Who should own which shard: decisions from what a watch has shown, and from the own clock."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from syncer.kube.leases import LeaseRecord
from syncer.sharding.assignment import (
    Fitness,
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
        self.ended: set[str] = set()
        self.view = LeaseView("nl", duration=DURATION, clock=lambda: self.now)
        self.view.replace([], "10")

    def skip_to(self, version: int) -> None:
        """Let the next write have a later version."""
        self.version = version

    def next(self) -> str:
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

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def gone(self, lease: LeaseRecord, after: float = 0.0) -> None:
        self.now += after
        last = {f: getattr(lease, f) for f in lease.__dataclass_fields__}
        self.view.remove(LeaseRecord(**{**last, "resource_version": self.next()}))

    def state(self) -> ShardState:
        """Return the state of shard 0 for the replica `me`."""
        return state_of(self.view, 0, "me", self.now, self.ended)


# -- states ---------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    """A world without replicas."""
    return World()


#: What happens in turn, and the state of shard 0 from then on.
Step = tuple[Callable[[Any], object], ShardState]
MINE = ShardState(Hold.MINE)
HELD_18 = ShardState(Hold.HELD, until=START + DURATION)
GONE = ShardState(Hold.ORPHANED, holder="a", session="u-s")
STATES: dict[str, list[Step]] = {
    "a dead predecessor's lease is ours at once": [(lambda w: w.shard("me"), MINE)],
    "so is that of a session of ours that is over": [(lambda w: w.shard("me", "another"), MINE)],
    "two seconds are what a holder believed in, and no release": [
        (lambda w: w.shard("", duration=2), ShardState(Hold.HELD, until=START + 2)),
    ],
    "a silent session keeps its shards until it is ended": [
        (lambda w: (w.shard("a", "u-s"), w.session("a", uid="u-s"), w.wait(100 * DURATION)),
         HELD_18),
        (lambda w: w.ended.add("u-s"), ShardState(Hold.ORPHANED, holder="a")),
    ],
    "a session that has gone is waited for from its last renewal": [
        (lambda w: (w.shard("a", "u-s"), w.gone(w.session("a", uid="u-s"), after=4)), HELD_18),
        (lambda w: w.wait(DURATION - 4), GONE),
    ],
    "one never seen is waited for from the first sight of its shard": [
        (lambda w: w.shard("a", "u-s"), HELD_18), (lambda w: w.wait(DURATION), GONE),
    ],
    "a shard without a session expires by its own lease": [
        (lambda w: w.shard("old", "left-behind", duration=10),
         ShardState(Hold.HELD, until=START + 10)),
        (lambda w: (w.wait(9), w.shard("old", "left-behind", duration=10)),
         ShardState(Hold.HELD, until=START + 19)),
        (lambda w: w.wait(10), ShardState(Hold.ORPHANED, holder="old")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_states(world: World, case: str) -> None:
    """Ours at once, another's only once nobody can believe in it any more, or it was ended."""
    for happens, state in STATES[case]:
        happens(world)
        assert world.state() == state


@pytest.mark.parametrize(("holder", "hold"), [("a", Hold.HELD), ("me", Hold.FREE)])
def test_a_deleted_lease_of_another_is_waited_for_and_ours_is_not(
    world: World, holder: str, hold: Hold
) -> None:
    """The holder may not know yet; we do."""
    world.gone(world.shard(holder, "s"), after=5)
    world.wait(DURATION - 0.1)
    assert world.state().hold is hold
    world.now = START + 5 + DURATION
    assert world.state().hold is Hold.FREE
    world.view.forget()
    assert world.state().hold is Hold.FREE


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


#: Version and Lease of shard 0 that the watch shows in turn, and why a term ends that has written 20.
LOSSES: list[tuple[Callable[[Any], object], str]] = [
    (lambda w: w.shard("a", "s"), ""),
    (lambda w: (w.skip_to(19), w.shard("me", "mine", transitions=4)), ""),
    (lambda w: w.shard("me", "mine", transitions=4), ""),
    (lambda w: w.shard("human", "mine", transitions=4), "taken by human"),
    (lambda w: w.shard("me", "other", transitions=4), "taken by another process with our name"),
    (lambda w: w.shard("me", "mine", transitions=5), "taken by another process with our name"),
    (lambda w: w.gone(w.shard("me", "mine", transitions=4)), "the lease was deleted"),
]


def test_a_term_ends_with_its_lease(world: World) -> None:
    """By what the watch shows after our own write, and not by what it showed before."""
    for happens, reason in LOSSES:
        happens(world)
        assert (
            loss_of(world.view, 0, LeaseRecord("nl-0", "u", "20", transitions=4), "me", "mine")
            == reason
        )


# -- what is handed over --------------------------------------------------------------------------

ABLE_NOW = None


@pytest.mark.parametrize(
    ("owned", "others", "unable", "decided"),
    [
        pytest.param(range(8), 0, ABLE_NOW, None, id="alone"),
        pytest.param(range(8), 1, ABLE_NOW, (7, "above the share of 2 replicas"), id="half too many"),
        pytest.param(range(5), 1, ABLE_NOW, (4, "above the share of 2 replicas"), id="one too many"),
        pytest.param(range(4), 1, ABLE_NOW, None, id="its share"),
        pytest.param(range(8), 1, 18.0, None, id="a short outage"),
        pytest.param(range(8), 3, 18.0, None, id="a short outage above its share"),
        pytest.param(
            (0, 3), 1, 18.1, (3, "unable to serve for 18 s, and another replica is able"),
            id="a long outage",
        ),
        pytest.param(range(8), 0, 900.0, None, id="nobody is able"),
        pytest.param((), 1, 900.0, None, id="nothing is left"),
    ],
)  # fmt: skip
def test_what_is_handed_over(
    owned: Collection[int], others: int, unable: float | None, decided: tuple[int, str] | None
) -> None:
    """By the share; or all of it, by who is not able to serve while somebody else is."""
    assert hand_over(owned, shards=8, others=others, unable=unable, patience=18.0) == decided


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
