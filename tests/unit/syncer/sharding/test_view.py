"""What a replica knows of the Leases of its installation, and since when."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from syncer.kube.leases import LeaseRecord
from syncer.sharding.view import ABLE, FOREVER, RELEASED, LeaseView, Sighting, session_name

DURATION = 18.0


class World:
    """A view, a clock that the test moves, and how often the view said that it changed."""

    def __init__(self) -> None:
        self.now = 50.0
        self.changes = 0
        self.view = LeaseView(
            "nl", duration=DURATION, clock=lambda: self.now, on_change=self._changed
        )

    def _changed(self) -> None:
        self.changes += 1


def lease(
    name: str, version: str = "5", *, uid: str = "", duration: float = DURATION
) -> LeaseRecord:
    """A Lease as it was read."""
    return LeaseRecord(
        name=name, uid=uid or f"u-{name}", resource_version=version, holder="a", annotations={},
        duration=duration, transitions=0,
    )  # fmt: skip


@pytest.fixture
def world() -> World:
    """A world without Leases."""
    return World()


def test_the_names_of_leases(world: World) -> None:
    """Shards by number, one map, and a session by a hash of whatever the replica is called."""
    world.view.replace([lease("nl-0"), lease("nl-12"), lease("nl-map"), lease("nl-session-x")], "9")
    assert world.view.shard(12) == Sighting(lease("nl-12"), 50.0)
    assert world.view.shard(1) is None
    assert world.view.map() == lease("nl-map")
    assert list(world.view.sessions) == ["u-nl-session-x"]
    assert session_name("nl", "pod/1") == (
        "nl-session-" + hashlib.sha256(b"pod/1").hexdigest()[:16]
    )
    assert World().view.map() is None


def test_the_duration_of_a_shard_is_the_longest_that_a_lease_can_state() -> None:
    """The field is a signed integer of 32 bits, and not 0: the API server takes no other."""
    assert (FOREVER, RELEASED) == (2_147_483_647, 1)


@pytest.mark.parametrize(
    ("stated", "lasts"),
    [(0, DURATION), (1, 1), (30, DURATION), (2**31 - 2, DURATION), (2**31 - 1, DURATION)],
)
def test_how_long_a_holder_may_believe(stated: int, lasts: float) -> None:
    """As long as its Lease says, and never longer than our own LeaseDuration: anybody may state years."""
    assert World().view.lasts(lease("nl-0", duration=stated)) == lasts


def test_a_write_is_shown_from_its_own_version_on(world: World) -> None:
    """Versions are compared as numbers; before the first list nothing is known."""
    assert not world.view.shows("1")
    world.view.replace([], "10")
    assert [world.view.shows(v) for v in ("9", "10", "11")] == [True, True, False]
    world.view.put(lease("nl-0", "12"))
    assert world.view.shows("12")
    world.view.remove(lease("nl-0", "13"))
    assert world.view.shows("13")


def test_every_change_is_said_and_only_the_first_list_begins(world: World) -> None:
    """What waits for a change looks again after each write, of a shard after any; the beginning stays."""
    changes: list[Callable[[], None]] = [
        lambda: world.view.replace([], "10"),
        lambda: world.view.put(lease("nl-0", "11")),
        lambda: world.view.put(replace(lease("nl-0", "12"), renew_time="later")),
        lambda: world.view.remove(lease("nl-0", "13")),
        lambda: world.view.remove(lease("nl-0", "14")),
        lambda: world.view.replace([], "15"),
    ]
    for n, change in enumerate(changes, 1):
        change()
        assert world.changes == n
        world.now += 1
    assert world.view.began == 50.0


RENEWALS: dict[str, tuple[dict[str, Any], bool]] = {
    "only renewed": ({"renew_time": "later"}, True),
    "able no more": ({"renew_time": "later", "annotations": {ABLE: "false"}}, False),
    "of another holder": ({"holder": "b"}, False),
    "of another length": ({"duration": 30.0}, False),
    "another session of the same name": ({"uid": "u2"}, False),
}


@pytest.mark.parametrize("case", RENEWALS)
def test_a_renewal_is_seen_and_not_said(world: World, case: str) -> None:
    """Nobody has to act on a session that goes on as it was; on anything else somebody may."""
    members, quiet = RENEWALS[case]
    session = replace(lease("nl-session-x"), annotations={ABLE: "true"})
    world.view.replace([session, lease("nl-0")], "10")
    world.now += 2
    later = replace(session, resource_version="11", **members)
    world.view.put(later)
    assert world.changes == (1 if quiet else 2)
    assert world.view.leases["nl-session-x"] == Sighting(later, 52.0)
    assert world.view.sessions[later.uid] == Sighting(later, 52.0)
    assert world.view.version == "11"


def test_what_has_gone_is_remembered_for_as_long_as_its_holder_may_believe(world: World) -> None:
    """From when it was gone, by the duration that it stated; what never was is not remembered."""
    gone = lease("nl-session-x", duration=12)
    world.view.replace([gone], "10")
    world.now += 4
    world.view.remove(lease("nl-session-x", "11"))
    world.view.remove(lease("nl-other", "12"))
    assert (world.view.leases, world.view.sessions) == ({}, {})
    (departed,) = world.view.departed.values()
    assert (departed.lease, departed.since, departed.at) == (gone, 50.0, 54.0)
    world.now = 54.0 + 11.9
    world.view.forget()
    assert world.view.departed
    world.now = 54.0 + 12
    world.view.forget()
    assert not world.view.departed


def test_a_lease_of_the_same_name_and_another_uid_is_another_one(world: World) -> None:
    """The one before has gone, and its last write may have been as late as that."""
    world.view.replace([lease("nl-0", uid="one")], "10")
    world.now += 3
    world.view.put(lease("nl-0", uid="two"))
    assert world.view.shard(0) == Sighting(lease("nl-0", uid="two"), 53.0)
    assert world.view.departed["one"].since == 53.0
