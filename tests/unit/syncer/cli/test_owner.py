"""Who works on a notification, by settings and Leases; and what is known of that without Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.cli.installation import Store, StoreState
from syncer.cli.owner import (
    Owner,
    find_owner,
    holder_of,
    read_shard,
    store_without_redis,
)
from syncer.kube.leases import LeaseRecord, lease_path
from syncer.model.errors import Gone, Unavailable
from syncer.model.journal import NOTE, Note
from syncer.model.times import format_time
from syncer.sharding.view import FOREVER, PROBLEM, SESSION, session_name
from tests.fakes.apistate import ApiState
from tests.fakes.directkube import DirectKube
from tests.unit.syncer.cli.samples import NOW
from tests.unit.syncer.cli.world import Objects, World


@pytest.mark.parametrize(
    ("renewed", "duration", "holder", "held"),
    [
        pytest.param(format_time(NOW), 15.0, "a", "a", id="renewed"),
        pytest.param(format_time(NOW), 15.0, "", "", id="released"),
        pytest.param("", 15.0, "a", "", id="never renewed"),
        pytest.param(format_time(NOW - 9_999), 15.0, "a", "a", id="for ten seconds at least"),
        pytest.param(format_time(NOW - 10_000), 15.0, "a", "", id="and not a moment longer"),
        pytest.param(format_time(NOW - 19_999), 40.0, "a", "a", id="for half its duration"),
        pytest.param(format_time(NOW - 20_000), 40.0, "a", "", id="and no longer"),
    ],
)
def test_who_holds_a_session(renewed: str, duration: float, holder: str, held: str) -> None:
    """One that is silent is nobody's, for as long as two clocks may differ."""
    lease = LeaseRecord("n", "u", "1", holder=holder, duration=duration, renew_time=renewed)
    assert holder_of(lease, now=NOW / 1000) == held


IDLE: Final = "Redis answers OOM"
JOURNALED: Final = Note("0.7-1", since=1000, kept=3)
#: Seconds since the session of `a` was renewed, None without one, and its problem; holder, transitions and
#: annotations of the shard's Lease, where UID is that of the session; who holds it.
HELD: Final[
    dict[str, tuple[int | None, str, tuple[str, int, dict[str, str]], Owner]]
] = {
    "its session is renewed": (0, "", ("a", 0, {SESSION: "UID"}), Owner(holder="a")),
    "its session has run out": (60, "", ("a", 0, {SESSION: "UID"}), Owner(holder="")),
    "its session was another one": (0, "", ("a", 0, {SESSION: "another"}), Owner(holder="")),
    "its session is gone": (None, "", ("a", 0, {SESSION: "UID"}), Owner(holder="")),
    "it opens no attempt": (0, IDLE, ("a", 0, {SESSION: "UID"}), Owner(holder="a", idle=IDLE)),
    "it did not, and is gone": (60, IDLE, ("a", 0, {SESSION: "UID"}), Owner(holder="")),
    "it was released": (0, "", ("", 0, {SESSION: "UID"}), Owner(holder="")),
    "somebody else wrote it": (0, "", ("a", 0, {}), Owner(holder="")),
    "attempts are journaled": (
        0, "", ("a", 3, {SESSION: "UID", NOTE: JOURNALED.text()}), Owner(holder="a", note=JOURNALED),
    ),
    "nobody is there to journal": (
        None, "", ("", 3, {NOTE: JOURNALED.text()}), Owner(holder="", note=JOURNALED),
    ),
    "an acquisition that knows no notes has not kept it": (
        0, "", ("a", 4, {SESSION: "UID", NOTE: JOURNALED.text()}), Owner(holder="a"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HELD)
async def test_who_holds_a_shard(case: str) -> None:
    """By the session that its Lease names, however old that Lease is; what both say comes along."""
    ago, problem, (holder, transitions, annotations), wanted = HELD[case]
    kube, uid = DirectKube(ApiState(install=False)), "gone"

    async def create(name: str, spec: dict[str, Any], marks: dict[str, str], ago: int) -> str:
        renewed = datetime.fromtimestamp(time.time() - ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        meta = {"name": name, "annotations": marks}
        body = {"metadata": meta, "spec": {**spec, "renewTime": renewed}}
        made = await kube.request("POST", lease_path("default"), body=body, timeout=1)
        return str(made["metadata"]["uid"])

    if ago is not None:
        spec = {"holderIdentity": "a", "leaseDurationSeconds": 15}
        uid = await create(session_name("nl", "a"), spec, {PROBLEM: problem}, ago)
    named = {name: text.replace("UID", uid) for name, text in annotations.items()}
    shard = {
        "holderIdentity": holder, "leaseDurationSeconds": FOREVER, "leaseTransitions": transitions,
    }  # fmt: skip
    await create("nl-0", shard, named, 9999)
    assert await read_shard(kube, "default", "nl", 0) == wanted


OWN: Final = "which namespace is watched is not known: it is the controller's own"
#: What the settings name, None without a file; whether `ns` is watched, and the controller's own namespace.
WATCHED: Final[dict[str, tuple[Any, bool | None, str]]] = {
    "all": ("*", True, ""),
    "this one among others": (("a", "ns"), True, ""),
    "others": (("a", "b"), False, ""),
    "the controller's own, and it is this one": ((), True, "ns"),
    "the controller's own, and it is another": ((), False, "else"),
    "the controller's own, which is not known": ((), None, ""),
    "no settings": (None, None, "ns"),
}


@pytest.mark.parametrize("case", WATCHED)
async def test_whether_a_namespace_is_watched(case: str) -> None:
    """The settings say it, where their file was given; the controller's own is known by its store."""
    namespaces, wanted, home = WATCHED[case]
    world = World(Objects())
    world.settings.controller.namespaces, world.configured = namespaces, namespaces is not None
    store = Store(StoreState.OURS, "no Lease", home, "nl")
    found = await find_owner(world.at, store, namespace="ns", uid="u", home="")
    assert found.watched is wanted
    unknown = (
        OWN if world.configured else "which namespaces are watched is not known without --config"
    )
    unread = "who owns its shard is not known: no Lease"
    assert found.unread == ((unread,) if wanted is not None else (unknown, unread))
    problem = "its namespace is not among those that the controller watches"
    assert found.problem == (problem if wanted is False else "")


def kube(answer: Any) -> Mock:
    """An API server that answers, or raises, for each path."""
    return Mock(request=AsyncMock(side_effect=repeat(answer)))


MAP: Final = {
    "metadata": {
        "name": "nl-map", "uid": "m", "resourceVersion": "1",
        "annotations": {"notification-ledger/shards": "1-fnv1a"},
    },
}  # fmt: skip
SHARDS: Final = LeaseRecord.of(MAP)
#: A shard's Lease and its session's in one.
LEASE: Final = {
    "metadata": {
        "name": "n", "uid": "x", "resourceVersion": "1",
        "annotations": {SESSION: "x", PROBLEM: IDLE},
    },
    "spec": {
        "holderIdentity": "pod-a", "leaseDurationSeconds": FOREVER,
        "renewTime": "2999-01-01T00:00:00.000000Z",
    },
}  # fmt: skip
NEW: Final = "no controller has used it"
#: What the map and every other Lease say; shard and holder, what is not known, and the problem.
OWNED: Final[dict[str, tuple[Any, Any, tuple[int, str | None], str, str]]] = {
    "somebody holds it": (
        SHARDS, LEASE, (0, "pod-a"), "", f"its owner pod-a opens no attempt: {IDLE}",
    ),
    "it was never held": (
        SHARDS, Gone("no Lease"), (0, ""), "",
        "no replica owns its shard (0): no controller runs, or none that can serve",
    ),
    "the Lease cannot be read": (SHARDS, Unavailable("away"), (0, None), "away", ""),
    "what answers for a Lease is none": (
        SHARDS, {"metadata": 7}, (0, None), "a lease cannot be read", "",
    ),
    "the installation does not say how many": (
        LeaseRecord("nl-map", "m", "1"), LEASE, (-1, None),
        "the installation does not say how many there are", "",
    ),
    "the map could not be read": (None, LEASE, (-1, None), NEW, ""),
    "nobody has used the store": (StoreState.NEW, LEASE, (-1, None), "", NEW),
}  # fmt: skip


@pytest.mark.parametrize("case", OWNED)
async def test_who_owns_a_shard(case: str) -> None:
    """The Lease of the shard says it; what could not be found out is said with its reason."""
    shards, answer, wanted, unread, problem = OWNED[case]
    world = World(Objects())
    world.kube = kube(answer)
    store = Store(StoreState.OURS, NEW, "h", "nl", shards)
    if isinstance(shards, StoreState):
        store = Store(shards, NEW)
    found = await find_owner(world.at, store, namespace="ns", uid="u", home="")
    assert (found.shard, found.holder, found.problem) == (*wanted, problem)
    assert [text.partition("who owns its shard is not known: ")[2] for text in found.unread] == (
        [unread] if unread else []
    )
    assert [call.args for call in world.kube.request.await_args_list[:1]] == (
        [] if wanted[0] < 0 else [("GET", lease_path("h", "nl-0"))]
    )


AWAY: Final = Unavailable("the API server is away")
#: What the API server answers, None without a way to it; the controller's namespace; what is said.
WITHOUT_REDIS: Final[dict[str, tuple[Any, str, str]]] = {
    "its map is there": (MAP, "home", "Redis is away"),
    "its map is not": (Gone("no Lease"), "home", "there is no Lease home/nl-map"),
    "where it would be is not known": (MAP, "", "the controller's namespace is not known"),
    "there is no way to the API server": (None, "home", "no kubeconfig"),
    "neither server answers": (AWAY, "home", "the API server is away"),
}


@pytest.mark.parametrize("case", WITHOUT_REDIS)
async def test_the_installation_by_the_settings(case: str) -> None:
    """Its map is where the settings name it; else why it is not known, with the place."""
    answer, home, said = WITHOUT_REDIS[case]
    world = World(Objects())
    if answer is None:
        world.problem = "no kubeconfig"
    else:
        world.kube, world.problem = kube(answer), ""
    store = await store_without_redis(world.at, home=home, reason="Redis is away")
    found = SHARDS if said == "Redis is away" else None
    assert (store.state, store.text, store.map) == (StoreState.UNCHECKED, said, found)
    assert (store.lease, store.error) == ("nl", answer if answer is AWAY else None)
    if home and world.kube:
        assert store.home == home
        (call,) = world.kube.request.await_args_list
        assert call.args == ("GET", lease_path("home", "nl-map"))
