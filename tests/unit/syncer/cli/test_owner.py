"""Who holds a Lease."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli.access import Access
from syncer.cli.installation import Store, StoreState
from syncer.cli.owner import Owner, ShardHolder, find_owner, holder_of, read_shard
from syncer.kube.client import Json
from syncer.kube.leases import LeaseRecord, lease_path
from syncer.model.errors import Gone, Unavailable
from syncer.model.times import format_time
from syncer.sharding.view import FOREVER, PROBLEM, SESSION, session_name
from tests.fakes.apistate import ApiState
from tests.fakes.directkube import DirectKube
from tests.unit.syncer.cli.samples import NOW


@pytest.mark.parametrize(
    ("renewed", "holder", "held"),
    [
        pytest.param("2027-01-15T08:00:00.000000Z", "a", "a", id="renewed"),
        pytest.param("2027-01-15T07:59:20.000000Z", "a", "", id="run out"),
        pytest.param("2027-01-15T08:00:00.000000Z", "", "", id="released"),
        pytest.param(None, "a", "", id="never renewed"),
    ],
)
def test_who_holds_a_lease(renewed: str | None, holder: str, held: str) -> None:
    """A Lease that has run out is nobody's, by a clock that may differ by its own duration."""
    lease = LeaseRecord("n", "u", "1", holder=holder, duration=15.0, renew_time=renewed or "")
    assert holder_of(lease, now=NOW / 1000) == held


def lease_of(name: str, holder: str, duration: int, renewed: float, **annotations: str) -> Json:
    """Return a Lease that is to be created."""
    time = datetime.fromtimestamp(renewed, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": time},
    }


@pytest.mark.parametrize(
    ("session", "names", "held"),
    [
        pytest.param(0.0, "it", "a", id="its session is renewed"),
        pytest.param(-60.0, "it", "", id="its session has run out"),
        pytest.param(0.0, "another", "", id="its session was another one"),
        pytest.param(None, "it", "", id="its session is gone"),
    ],
)
async def test_who_holds_a_shard(session: float | None, names: str, held: str) -> None:
    """By the session that its Lease names, however old that Lease is."""
    state = ApiState(install=False)
    kube = DirectKube(state)
    path = lease_path("default")
    uid = "gone"
    if session is not None:
        body = lease_of(session_name("nl", "a"), "a", 15, time.time() + session)
        made = await kube.request("POST", path, body=body, timeout=1)
        uid = made["metadata"]["uid"] if names == "it" else "another"
    shard = lease_of("nl-0", "a", FOREVER, time.time() - 9999, **{SESSION: uid})
    await kube.request("POST", path, body=shard, timeout=1)
    assert await read_shard(kube, "default", "nl", 0) == ShardHolder(held)


async def test_why_a_holder_opens_no_attempt() -> None:
    """Its session says it, as long as it lasts."""
    kube = DirectKube(ApiState(install=False))
    path = lease_path("default")
    for n, (ago, said) in enumerate([(0, ("a0", "Redis answers OOM")), (60, ("", ""))]):
        name = session_name("nl", f"a{n}")
        body = lease_of(name, f"a{n}", 15, time.time() - ago, **{PROBLEM: "Redis answers OOM"})
        uid = (await kube.request("POST", path, body=body, timeout=1))["metadata"]["uid"]
        shard = lease_of(f"nl-{n}", f"a{n}", FOREVER, time.time() - 9999, **{SESSION: uid})
        await kube.request("POST", path, body=shard, timeout=1)
        assert await read_shard(kube, "default", "nl", n) == ShardHolder(*said)
    idle = Owner(watched=True, shard=0, holder="a0", idle="Redis answers OOM")
    assert idle.problem == "its owner a0 opens no attempt: Redis answers OOM"


@pytest.mark.parametrize("holder", ["somebody", ""])
async def test_a_shard_that_no_session_holds_is_nobodys(holder: str) -> None:
    """It was released, or was written by somebody else."""
    kube = DirectKube(ApiState(install=False))
    body = lease_of("nl-0", holder, 15, time.time(), **({} if holder else {SESSION: "left-behind"}))
    await kube.request("POST", lease_path("default"), body=body, timeout=1)
    assert await read_shard(kube, "default", "nl", 0) == ShardHolder("")


WATCHED: Final[dict[str, tuple[Any, bool | None, str]]] = {
    "all": ("*", True, ""),
    "this one among others": (("a", "ns"), True, ""),
    "others": (("a", "b"), False, ""),
    "the controller's own, and it is this one": ((), True, "ns"),
    "the controller's own, and it is another": ((), False, "else"),
    "the controller's own, which is not known": ((), None, ""),
}


def access(namespaces: Any = "*", *, configured: bool = True, kube: Any = None) -> Access:
    """Connections, and the settings of the controller."""
    settings = SimpleNamespace(controller=SimpleNamespace(namespaces=namespaces))
    return cast("Access", SimpleNamespace(configured=configured, settings=settings, kube=kube))


def store(
    state: StoreState = StoreState.OURS, *, text: str = "", home: str = "", **more: Any
) -> Store:
    """A store, checked."""
    return Store(state, text, home, "nl", **{"map": None, "error": None, **more})


@pytest.mark.parametrize("case", WATCHED)
async def test_whether_a_namespace_is_watched(case: str) -> None:
    """The settings say it, where their file was given; the controller's own is known by its store."""
    namespaces, wanted, home = WATCHED[case]
    found = await find_owner(
        access(namespaces), store(text="no Lease", home=home), namespace="ns", uid="u", home=""
    )
    assert found.watched is wanted
    own = "which namespace is watched is not known: it is the controller's own"
    assert (own in found.unread) is (wanted is None)
    assert found.unread[-1] == "who owns its shard is not known: no Lease"
    problem = "its namespace is not among those that the controller watches"
    assert found.problem == (problem if wanted is False else "")


async def test_without_settings_it_is_not_known_what_is_watched() -> None:
    """A store that nobody has used yet shows that no controller has worked on it."""
    new = store(StoreState.NEW, text="no controller has used it")
    found = await find_owner(access(configured=False), new, namespace="ns", uid="u", home="h")
    assert (found.watched, found.shard, found.holder) == (None, -1, None)
    assert found.unread == ("which namespaces are watched is not known without --config",)
    assert found.problem == "no controller has used it"


class Kube:
    """An API server that answers each path, or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def request(self, method: str, path: str, *, timeout: float) -> Any:
        """Answer."""
        self.asked.append(f"{method} {path}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def lease(**spec: Any) -> dict[str, Any]:
    """A Lease."""
    return {"metadata": {"name": "n", "uid": "x", "resourceVersion": "1"}, "spec": spec}


SHARDS: Final = {"metadata": {"annotations": {"notification-ledger/shards": "1-fnv1a"}}}
#: A shard's and its session's in one.
HELD: Final = lease(
    holderIdentity="pod-a", leaseDurationSeconds=FOREVER, renewTime="2999-01-01T00:00:00.000000Z"
)
HELD["metadata"]["annotations"] = {SESSION: "x"}

OWNED: Final[dict[str, tuple[Any, Any, tuple[int, str | None], str]]] = {
    "somebody holds it": (SHARDS, HELD, (0, "pod-a"), ""),
    "nobody holds it": (SHARDS, lease(), (0, ""), ""),
    "it was never held": (SHARDS, Gone("no Lease"), (0, ""), ""),
    "the Lease cannot be read": (
        SHARDS, Unavailable("away"), (0, None), "who owns its shard is not known: away",
    ),
    "the installation does not say how many": (
        {"metadata": {}}, HELD, (-1, None),
        "who owns its shard is not known: the installation does not say how many there are",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OWNED)
async def test_who_owns_a_shard(case: str) -> None:
    """The Lease of the shard says it; what could not be found out is said with its reason."""
    annotations, answer, wanted, unread = OWNED[case]
    kube = Kube(answer)
    found = await find_owner(
        access(kube=kube), store(home="h", map=annotations), namespace="ns", uid="u", home=""
    )
    assert (found.shard, found.holder) == wanted
    assert found.unread == ((unread,) if unread else ())
    assert kube.asked[:1] == (
        [] if wanted[0] < 0 else ["GET /apis/coordination.k8s.io/v1/namespaces/h/leases/nl-0"]
    )
    nobody = "no replica owns its shard (0): no controller runs, or none that can serve"
    assert found.problem == (nobody if wanted[1] == "" else "")


@pytest.mark.parametrize(("ago", "duration", "held"), [
    (9_999, 15.0, "a"), (10_000, 15.0, ""), (19_999, 40.0, "a"), (20_000, 40.0, ""),
])  # fmt: skip
def test_a_session_that_is_silent_for_half_its_duration_is_gone(
    ago: int, duration: float, held: str
) -> None:
    """For ten seconds at least, as far as two clocks may differ, and not a moment longer."""
    renewed = format_time(1_800_000_000_000 - ago)
    lease = LeaseRecord("n", "u", "1", holder="a", duration=duration, renew_time=renewed)
    assert holder_of(lease, now=1_800_000_000.0) == held


async def test_a_shard_that_is_not_known_is_none() -> None:
    """Where the map could not be read, and why is said."""
    found = await find_owner(access(), store(text="t"), namespace="ns", uid="u", home="h")
    assert (found.shard, found.holder) == (-1, None)
    assert found.unread == ("who owns its shard is not known: t",)


async def test_what_answers_for_a_lease_and_is_none_says_nothing_of_an_owner() -> None:
    """It is an outage, not a Lease without a holder."""
    with pytest.raises(Unavailable):
        await read_shard(cast("Any", Kube({"metadata": 7})), "ns", "nl", 0)
