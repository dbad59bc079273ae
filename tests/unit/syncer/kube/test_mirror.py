"""What a mirror knows by namespace and name, and what it keeps of a place where nothing is any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from syncer.kube.mirror import Mirror, Shared, _remember
from syncer.kube.notification_requests import Meta, Unreadable, parse
from syncer.model.resource import NotificationRequest


class Seen:
    """A sink that notes what it is told; it can let go of everything but of `busy`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.busy: set[str] = set()
        self.versions: set[tuple[str, str]] = set()

    def upsert(self, obj: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        self.calls.append(f"{'new' if first_seen_by_watch else 'seen'} {obj.uid}")

    def has(self, uid: str, resource_version: str) -> bool:
        return (uid, resource_version) in self.versions

    def delete(self, uid: str, namespace: str, name: str, last: object = None) -> None:
        self.calls.append(f"gone {namespace}/{name} {uid}")

    def release(self, uid: str) -> bool:
        self.calls.append(f"released {uid}")
        return uid not in self.busy


class Bench:
    """A mirror whose objects are in the shard that their uid ends with."""

    def __init__(self) -> None:
        self.sink = Seen()
        self.mirror = Mirror(Shared(self.sink, lambda uid: int(uid[-1])))

    def put(
        self, namespace: str, name: str, uid: str, version: int = 1, *, added: bool = False
    ) -> None:
        meta = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version)}
        self.mirror.upsert(parse({"metadata": meta}), added=added)

    def gone(self, namespace: str, name: str, uid: str) -> None:
        self.mirror.delete(Meta(uid, namespace, name, "6"))

    def knows(self, namespace: str, name: str, uid: str) -> bool:
        return self.mirror.version_of(Meta(uid, namespace, name, "1")) is not None

    @property
    def told(self) -> list[str]:
        """What the sink was told since this was last asked for."""
        calls, self.sink.calls = self.sink.calls, []
        return calls


@pytest.fixture
def here() -> Bench:
    """A mirror that knows nothing."""
    return Bench()


#: What happens in turn with what the sink is told of it, and what is known in the end.
Step = tuple[Callable[[Any], object], list[str]]
COURSES: dict[str, tuple[list[Step], dict[tuple[str, str, str], bool]]] = {
    "a name in two namespaces is two objects, and an event of another uid deletes nothing": (
        [
            (lambda b: b.put("a", "x", "u-1", added=True), ["new u-1"]),
            (lambda b: b.put("b", "x", "v-1", added=True), ["new v-1"]),
            (lambda b: b.gone("a", "x", "v-1"), []),
            (lambda b: b.gone("a", "x", "u-1"), ["gone a/x u-1"]),
        ],
        {("a", "x", "u-1"): False, ("b", "x", "v-1"): True},
    ),
    "a new uid under a name is a deletion and an object, and no news to a watch": (
        [
            (lambda b: b.put("a", "x", "u-1", 1), ["seen u-1"]),
            (lambda b: b.put("a", "x", "w-1", 2, added=True), ["gone a/x u-1", "seen w-1"]),
        ],
        {("a", "x", "w-1"): True},
    ),
    "a list says what is gone of its shards, by uid": (
        [
            (lambda b: [b.put("a", f"n-{u}", u) for u in ("u-1", "w-1", "u-2")],
             ["seen u-1", "seen w-1", "seen u-2"]),
            (lambda b: b.mirror.keep_only({"w-1", "another-1"}, {1}), ["gone a/n-u-1 u-1"]),
        ],
        {("a", "n-u-2", "u-2"): True, ("a", "n-w-1", "w-1"): True},
    ),
    "what is let go of is known no more, and what the sink keeps is brought again": (
        [
            (lambda b: [b.put("a", u, u) for u in ("u-1", "w-1", "u-2")],
             ["seen u-1", "seen w-1", "seen u-2"]),
            (lambda b: (b.sink.busy.add("w-1"), b.mirror.release({1})),
             ["released u-1", "released w-1"]),
            (lambda b: b.put("a", "w-1", "w-1"), ["seen w-1"]),
        ],
        {("a", "u-1", "u-1"): False, ("a", "u-2", "u-2"): True},
    ),
    "what comes late is no news: an older version, and any of what is deleted": (
        [
            (lambda b: b.put("a", "x", "u-1", 5), ["seen u-1"]),
            (lambda b: (b.put("a", "x", "u-1", 4), b.put("a", "x", "u-1", 5)), []),
            (lambda b: b.gone("a", "x", "u-1"), ["gone a/x u-1"]),
            (lambda b: b.put("a", "x", "u-1", 7, added=True), []),
        ],
        {("a", "x", "u-1"): False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COURSES)
def test_what_the_sink_is_told(here: Bench, case: str) -> None:
    """Each object once for each of its versions, and once of its end."""
    course, known = COURSES[case]
    for happens, told in course:
        happens(here)
        assert here.told == told
    assert {place: here.knows(*place) for place in known} == known


def test_an_empty_namespace_leaves_nothing(here: Bench) -> None:
    """Namespaces come and go, for as long as a replica runs."""
    for n in range(50):
        here.put(f"team-{n}", "x", "u-1")
        here.mirror.keep_only(set(), {1})
        here.put(f"team-{n}", "x", "w-1", 2)
        here.mirror.release({1})
    assert here.mirror._known == {}


def test_what_the_sink_has_already_is_known_and_not_handed_over(here: Bench) -> None:
    """This very version alone; from then on an older one is no news."""
    here.sink.versions = {("u-1", "3")}
    assert not here.mirror.sink_has(Meta("u-1", "a", "x", "4"))
    assert not here.knows("a", "x", "u-1")
    assert here.mirror.sink_has(Meta("u-1", "a", "x", "3"))
    assert here.mirror.version_of(Meta("u-1", "a", "x", "9")) == "3"
    here.put("a", "x", "u-1", 2, added=True)
    assert here.told == []
    here.put("a", "x", "u-1", 4, added=True)
    assert here.told == ["seen u-1"]


def test_an_object_that_cannot_be_read_exists(
    here: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, handed to nobody, and is gone when a list lacks it."""
    unreadable = Unreadable("u-1", "a", "x", "3", problem="KeyError")
    for _ in range(2):
        here.mirror.upsert(unreadable, added=True)
    here.mirror.upsert(Unreadable("w-1", "a", "y", "3", problem="TypeError"), added=False)
    assert [r.getMessage() for r in caplog.records] == [
        "a/x cannot be parsed (KeyError) and is skipped",
        "a/y cannot be parsed (TypeError) and is skipped",
    ]
    assert here.told == []
    assert here.mirror.version_of(Meta("u-1", "a", "x", "9")) == "3"
    here.mirror.keep_only({"w-1"}, {1})
    assert here.told == ["gone a/x u-1"]


def test_a_uid_is_held_once(here: Bench) -> None:
    """Later versions of an object bring its uid as another text, which is not kept."""
    uids = [b"u1".decode() for _ in range(2)]
    for version, uid in enumerate(uids, 1):
        here.put("a", "x", uid, version)
    known = here.mirror._known["a"]["x"]
    assert (known.resource_version, known.uid is uids[0]) == ("2", True)


def test_the_newest_are_remembered() -> None:
    """As many as may be; the oldest is forgotten first."""
    recent: OrderedDict[str, None] = OrderedDict()
    for each in "abc":
        _remember(each, recent, 2)
    assert list(recent) == ["b", "c"]


MISSING = {
    "nothing is known of it": (Meta("u-1", "a", "y", "5"), True),
    "this version is known": (Meta("u-1", "a", "x", "5"), False),
    "a later one is": (Meta("u-1", "a", "x", "4"), False),
    "an earlier one is": (Meta("u-1", "a", "x", "6"), True),
    "the sink has it by its own write": (Meta("u-1", "a", "x", "7"), False),
    "it was deleted": (Meta("v-1", "a", "z", "5"), False),
    "another one had the name before": (Meta("w-1", "a", "x", "6"), True),
    "another one has the name since": (Meta("w-1", "a", "x", "4"), False),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing(here: Bench, case: str) -> None:
    """An object that exists in a version that neither lists, watches nor own writes have shown."""
    meta, missing = MISSING[case]
    here.put("a", "x", "u-1", 5)
    here.put("a", "z", "v-1", 3)
    here.mirror.delete(Meta("v-1", "a", "z", "4"))
    here.sink.versions.add(("u-1", "7"))
    assert here.mirror.is_missing(meta) is missing
