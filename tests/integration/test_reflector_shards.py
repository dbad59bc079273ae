"""The reflector of a replica that owns some shards, while they come and go."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from syncer.kube.client import KubeClient
from syncer.kube.reflector import Reflector
from syncer.rules.shards import Sharding
from syncer.runtime.clock import monotonic_clock
from tests.beside import eventually
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.fakes.faults import Answer, Match
from tests.integration.api import Api
from tests.integration.reflecting import (
    QUICK,
    Mirror,
    _logged,
    event,
    failures,
    following,
    lists,
    mirroring,
    obj,
    stay,
)
from tests.integration.reflecting import Api as Script
from tests.integration.scripted import write_kubeconfig
from tests.servers.controlplane import ControlPlane

__all__ = ["_logged"]

FOUR: Final = Sharding(4)


class Terms:
    """What a replica owns, as the test has it."""

    def __init__(self, *shards: int, sharding: Sharding = FOUR) -> None:
        self.sharding = sharding
        self.owned: dict[int, object] = {n: object() for n in shards}
        self.on_change: Callable[[], None] = lambda: None

    def own(self, *shards: int) -> None:
        """Own these shards from now on; those that were owned before keep their term."""
        self.owned = {n: self.owned.get(n, object()) for n in shards}
        self.on_change()


@dataclass(slots=True)
class Place:
    """A server with a fresh namespace, and reflectors of it."""

    api: Api
    client: KubeClient

    def followed(
        self, terms: Terms, sink: Mirror | None = None, **more: Any
    ) -> AbstractAsyncContextManager[tuple[Reflector, Mirror]]:
        """Run one of the place's namespace."""
        return following(self.client, [self.api.namespace], sink, owned=terms, **more)

    async def create(self, shard: int, count: int = 1) -> list[str]:
        """Create objects until so many are in a shard, and delete the rest; returns their names."""
        names: list[str] = []
        while len(names) < count:
            name = f"n-{uuid.uuid4().hex[:10]}"
            if FOUR.of((await self.api.create(name))["metadata"]["uid"]) == shard:
                names.append(name)
            else:
                await self.delete(name)
        return names

    async def fill(self, count: int) -> None:
        """Create objects until each shard has so many; some have more."""
        found = dict.fromkeys(range(FOUR.shards), 0)
        while min(found.values()) < count:
            made = await self.api.create(f"n-{uuid.uuid4().hex[:10]}")
            found[FOUR.of(made["metadata"]["uid"])] += 1

    async def label(self, name: str, value: str) -> str:
        """Change an object; returns its version."""
        change = {"metadata": {"labels": {"at": value}}}
        answer = await self.api.ask("PATCH", f"{self.api.requests}/{name}", change)
        assert answer.code == 200, answer.body
        return answer.revision

    async def delete(self, name: str) -> None:
        """Delete an object."""
        assert (await self.api.ask("DELETE", f"{self.api.requests}/{name}")).code == 200

    async def state(self, *shards: int) -> dict[str, str]:
        """The objects of some shards: versions by name."""
        listed = (await self.api.ask("GET", self.api.requests)).body["items"]
        found = [o["metadata"] for o in listed]
        return {m["name"]: m["resourceVersion"] for m in found if FOUR.of(m["uid"]) in shards}


@pytest.fixture
async def place(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Place]:
    """Return a place with a fresh namespace."""
    plane = control_plane
    async with (
        Api(plane.server, plane.admin_token, plane.ca_file, namespace) as api,
        await KubeClient.connect(str(plane.kubeconfig), user_agent="t") as client,
    ):
        yield Place(api, client)


def uid_in(shard: int) -> str:
    """A uid in a shard."""
    return next(u for u in iter(lambda: str(uuid.uuid4()), "") if FOUR.of(u) == shard)


def shown(mirror: Mirror) -> dict[str, str]:
    """What the sink has: versions by name."""
    return {o.name: o.resource_version for o in mirror.objects.values()}


async def test_owner_of_some_shards_is_told_of_nothing_else(place: Place) -> None:
    """By list and by watch; what belongs to others is counted."""
    terms = Terms(1, 3)
    await place.fill(3)
    async with place.followed(terms) as (reflector, mirror):
        await eventually(lambda: reflector.synced)
        assert shown(mirror) == await place.state(1, 3)
        listed = reflector.foreign
        assert listed == len(await place.state(0, 2))
        for shard in range(4):
            (name,) = await place.create(shard)
            await place.label(name, "later")
            if shard % 2:
                await place.delete((await place.create(shard))[0])
        wanted = await place.state(1, 3)
        await eventually(lambda: shown(mirror) == wanted)
        assert reflector.foreign > listed
        assert not any(c.startswith("release") for c in mirror.calls)


async def test_owner_of_nothing_asks_for_nothing(place: Place) -> None:
    """But once for a list, which shows that it could serve; what it acquires later it is told of."""
    terms = Terms()
    (name,) = await place.create(2)
    async with place.followed(terms) as (reflector, mirror):
        await eventually(lambda: reflector.answered)
        assert reflector.problem is None
        await place.create(2)
        await asyncio.sleep(0.3)
        assert (lists(), mirror.calls) == (0, [])
        synced = [reflector.synced]
        terms.own(2)
        synced.append(reflector.synced)
        await eventually(lambda: name in shown(mirror) and reflector.synced)
        assert synced == [True, False]
        terms.own()
        await eventually(lambda: not mirror.objects)
        await place.create(2)
        await asyncio.sleep(0.3)
        assert not mirror.objects


async def test_shards_that_come_are_listed_and_watched(place: Place) -> None:
    """Those that were there before are neither listed again nor told of twice."""
    terms = Terms(0)
    (old,) = await place.create(0)
    (gone, there) = await place.create(2, 2)
    async with place.followed(terms) as (reflector, mirror):
        await eventually(lambda: old in shown(mirror))
        await place.delete(gone)
        later = await place.label(old, "seen")
        await eventually(lambda: shown(mirror)[old] == later)
        before = len(mirror.calls)
        terms.own(0, 2)
        await eventually(lambda: reflector.synced)
        uid = next(u for u, o in mirror.objects.items() if o.name == there)
        assert [c.split()[:2] for c in mirror.calls[before:]] == [["upsert", uid]]
        for name in (old, there):
            await place.label(name, "both")
        wanted = await place.state(0, 2)
        await eventually(lambda: shown(mirror) == wanted)
        assert not any(c.startswith("delete") for c in mirror.calls)
        assert lists() == 2


async def test_shard_that_leaves_is_let_go_of_and_not_deleted(place: Place) -> None:
    """What happens to it meanwhile is not told; when it is back, it is listed."""
    terms = Terms(1, 2)
    (mine,) = await place.create(1)
    (theirs, doomed) = await place.create(2, 2)
    async with place.followed(terms) as (_, mirror):
        await eventually(lambda: len(mirror.objects) == 3)
        uids = {o.name: u for u, o in mirror.objects.items()}
        terms.own(1)
        await eventually(lambda: set(shown(mirror)) == {mine})
        assert sorted(c for c in mirror.calls if "upsert" not in c) == sorted(
            f"release {uids[n]}" for n in (theirs, doomed)
        )
        await place.delete(doomed)
        await place.label(theirs, "changed")
        later = await place.label(mine, "changed")
        await eventually(lambda: shown(mirror) == {mine: later})
        terms.own(1, 2)
        wanted = await place.state(1, 2)
        await eventually(lambda: shown(mirror) == wanted)
        assert not any(c.startswith("delete") for c in mirror.calls)


async def test_end_of_what_is_kept_is_told_when_its_shard_is_back(place: Place) -> None:
    """The sink keeps what it still works on; that it was deleted meanwhile it learns from the list."""
    terms = Terms(1, 2)
    (doomed, there) = await place.create(2, 2)
    async with place.followed(terms) as (_, mirror):
        await eventually(lambda: len(mirror.objects) == 2)
        mirror.kept = set(mirror.objects)
        uid = next(u for u, o in mirror.objects.items() if o.name == doomed)
        terms.own(1)
        await eventually(lambda: f"release {uid}" in mirror.calls)
        await place.delete(doomed)
        terms.own(1, 2)
        await eventually(lambda: set(shown(mirror)) == {there})
        assert [c for c in mirror.calls if "delete" in c] == [
            f"delete {uid} {place.api.namespace}/{doomed}"
        ]


async def test_term_that_follows_another_lists_again(place: Place) -> None:
    """Lost and acquired before anybody looked: what was let go of in between is told of again."""
    terms = Terms(2)
    (name,) = await place.create(2)
    async with place.followed(terms) as (reflector, mirror):
        await eventually(lambda: name in shown(mirror))
        mirror.objects.clear()
        terms.owned = {}
        terms.own(2)
        await eventually(lambda: name in shown(mirror))
        assert reflector.synced


async def test_change_that_is_not_reported_is_noticed(place: Place) -> None:
    """What is owned is looked at every few seconds, whoever forgot to say so."""
    terms = Terms(0)
    (name,) = await place.create(2)
    async with place.followed(terms, timings=replace(QUICK, look=0.3)) as (reflector, mirror):
        await eventually(lambda: reflector.synced)
        terms.owned = {**terms.owned, 2: object()}
        await eventually(lambda: name in shown(mirror))
        terms.owned = {}
        await eventually(lambda: not mirror.objects)
        terms.owned = {2: object()}
        await eventually(lambda: name in shown(mirror))


@pytest.mark.timeout(120)
async def test_nothing_is_lost_while_shards_come_and_go(place: Place) -> None:
    """Objects are created, changed and deleted meanwhile: in the end the sink has what there is."""
    dice = random.Random(7)  # noqa: S311 - reproducible on purpose
    terms, sink = Terms(0), Watchful()
    until = monotonic_clock() + 5

    async def write() -> None:
        names: list[str] = []
        while monotonic_clock() < until:
            match dice.randrange(4):
                case 0 | 1:
                    name = f"n-{uuid.uuid4().hex[:10]}"
                    await place.api.create(name)
                    names.append(name)
                case 2 if names:
                    await place.label(dice.choice(names), str(dice.random()))
                case 3 if names:
                    await place.delete(names.pop(dice.randrange(len(names))))
            await asyncio.sleep(0.01)  # ten writes to a move; more would only keep the server busy

    async def move() -> None:
        while monotonic_clock() < until:
            terms.own(*(n for n in range(4) if dice.random() < 0.6))
            await asyncio.sleep(dice.choice((0.0, 0.05, 0.3, 0.6)))

    async with place.followed(terms, sink) as (reflector, mirror):
        await asyncio.gather(write(), move())
        terms.own(1, 2)
        wanted = await place.state(1, 2)
        await eventually(lambda: shown(mirror) == wanted and reflector.synced)
        assert lists() > 3
        assert sink.wrong == []
        await asyncio.sleep(0.5)
        assert shown(mirror) == wanted


class Watchful(Mirror):
    """A sink that notices an object that goes back, or comes back to life."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.wrong: list[str] = []
        self._dead: set[str] = set()

    def upsert(self, obj: Any, *, first_seen_by_watch: bool) -> None:
        """Take an object that is newer than what is known."""
        known = self.objects.get(obj.uid)
        if known is not None and int(known.resource_version) >= int(obj.resource_version):
            self.wrong.append(f"{obj.uid} goes back to {obj.resource_version}")
        if obj.uid in self._dead:
            self.wrong.append(f"{obj.uid} comes back to life")
        super().upsert(obj, first_seen_by_watch=first_seen_by_watch)

    def delete(self, uid: str, namespace: str, name: str, last: object = None) -> None:
        """Forget an object for good."""
        self._dead.add(uid)
        super().delete(uid, namespace, name, last)


async def test_list_of_what_came_is_tried_again(tmp_path: Path) -> None:
    """Until it succeeds the reflector has a problem, and what is followed goes on."""
    async with FakeApiServer(ApiState()) as server:
        api = Api(server.url, namespace="default")
        async with (
            api,
            await KubeClient.connect(
                write_kubeconfig(tmp_path / "k", server.url), user_agent="t"
            ) as client,
        ):
            place = Place(api, client)
            (old,), (name,) = await place.create(0), await place.create(2)
            terms = Terms(0)
            async with place.followed(terms) as (reflector, mirror):
                await eventually(lambda: reflector.synced)
                server.faults.add(Match(verb="list"), Answer(503), times=4)
                terms.own(0, 2)
                await eventually(lambda: reflector.problem is not None)
                assert "acquired shards could not be listed" in (reflector.problem or "")
                later = await place.label(old, "x")
                await eventually(lambda: shown(mirror).get(old) == later)
                await eventually(lambda: name in shown(mirror))
                await eventually(lambda: reflector.problem is None)


async def test_watch_that_comes_further_than_a_list_beside_it(tmp_path: Path) -> None:
    """A list is as old as its question: what the watch has shown since does not make it too old."""
    zero, one = uid_in(0), uid_in(1)
    api = Script(obj("zero", 7, uid=zero))
    asked, shown_more = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        api.objects, api.version = [obj("zero", 7, uid=zero), obj("one", 108, uid=one)], 120
        asked.set()
        await shown_more.wait()
        return await api.list(request)

    async def watch(request: web.Request) -> web.StreamResponse:
        await asked.wait()
        return await stay(event("MODIFIED", obj("zero", 130, uid=zero)))(request)

    api.lists, api.watches = [api.list, slow], [watch]
    terms = Terms(0)
    async with mirroring(api, tmp_path, owned=terms) as (reflector, mirror, _):
        await eventually(lambda: len(mirror.calls) == 1)
        terms.own(0, 1)
        await eventually(lambda: mirror.calls[-1] == f"upsert {zero} 130")
        shown_more.set()
        await eventually(lambda: reflector.synced)
        assert mirror.calls[-1] == f"upsert {one} 108"
        assert (failures(), lists()) == (0, 2)
        await eventually(lambda: api.resumed == ["100", "120"])


async def test_events_that_come_again_are_passed_over(tmp_path: Path) -> None:
    """One watch of all begins at the older version; what a list has brought since goes no way back."""
    zero, one, dead = uid_in(0), uid_in(1), uid_in(1)
    api = Script(obj("zero", 7, uid=zero))

    api.watches = [
        stay(event("MODIFIED", obj("zero", 101, uid=zero))),
        # Both were there when the second shard was listed, at 120; one of them was deleted by then.
        stay(
            event("ADDED", obj("dead", 105, uid=dead)),
            event("ADDED", obj("one", 106, uid=one)),
            event("DELETED", obj("dead", 110, uid=dead)),
            event("MODIFIED", obj("zero", 121, uid=zero)),
        ),
    ]
    terms = Terms(0)
    async with mirroring(api, tmp_path, owned=terms) as (_, mirror, _):
        await eventually(lambda: len(mirror.calls) == 2)
        api.objects, api.version = [obj("zero", 101, uid=zero), obj("one", 108, uid=one)], 120
        terms.own(0, 1)
        await eventually(lambda: len(mirror.calls) == 4)
        assert mirror.calls[2:] == [f"upsert {one} 108", f"upsert {zero} 121"]
        assert api.resumed == ["100", "101"]
