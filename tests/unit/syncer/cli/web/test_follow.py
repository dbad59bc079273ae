"""How the explorer follows the API server: a server that ends each watch is asked less and less."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from syncer.cli.web.follow import Follower
from syncer.cli.web.index import Index
from syncer.kube.notification_requests import ObjectPage
from syncer.model.errors import Unavailable
from tests.unit.syncer.cli.world import Objects, World, named, page

if TYPE_CHECKING:
    from syncer.cli.access import Access


class Kube:
    """Watches that say what a test has them say, then nothing."""

    def __init__(self, *watches: list[bytes] | Exception) -> None:
        self.watches = list(watches)
        self.asked: list[tuple[str, str]] = []
        self.over = asyncio.Event()

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], **_limits: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((path, params["resourceVersion"]))
        found = self.watches.pop(0) if self.watches else []
        if isinstance(found, Exception):
            raise found
        yield self._lines(found)

    async def _lines(self, lines: list[bytes]) -> AsyncIterator[bytes]:
        for line in lines:
            yield line
        if not self.watches:
            self.over.set()
            await asyncio.Event().wait()


async def _follow(follower: Follower, kube: Kube) -> None:
    """Run it until there is no watch left for it to open."""
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(20):
            await kube.over.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_shown_may_be_old_while_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it says is the problem, since the first failure, until it answers again."""
    monkeypatch.setattr("syncer.cli.web.follow.exponential", lambda *_: 0.0)
    seen: list[tuple[str, bool]] = []
    objects = Objects(Unavailable("away"), Unavailable("still away"), page(version="5"))
    list_page = objects.list_page

    async def listed(*args: Any, **options: Any) -> ObjectPage:
        seen.append((follower.problem, follower.since > 0))
        return await list_page(*args, **options)

    monkeypatch.setattr(objects, "list_page", listed)
    kube = Kube([])
    at = cast("Access", SimpleNamespace(objects=objects, kube=kube))
    follower = Follower(at, Index(), ())
    await _follow(follower, kube)
    assert seen == [("", False), ("away", True), ("still away", True)]
    assert (follower.problem, follower.since, follower.complete) == ("", 0.0, True)


async def test_a_server_that_ends_each_watch_is_asked_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That it opened one, and said something, does not make the next list follow at once."""
    pauses = []

    def pause(_first: float, _most: float, n: int) -> float:
        pauses.append(n)
        return 0.0

    monkeypatch.setattr("syncer.cli.web.follow.exponential", pause)
    kube = Kube(*([b'{"type":"ERROR","object":{}}'] for _ in range(3)), [])
    world = World(Objects(*(page(version=f"{n}") for n in range(5, 9))))
    at = cast("Access", SimpleNamespace(objects=world.objects, kube=kube))
    await _follow(Follower(at, Index(), ()), kube)
    assert pauses == [2, 3, 4]
    assert [version for _, version in kube.asked] == ["5", "6", "7", "8"]


async def test_what_a_list_lacks_is_shown_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was deleted while no watch was open."""
    monkeypatch.setattr("syncer.cli.web.follow.exponential", lambda *_: 0.0)
    kube = Kube([b'{"type":"ERROR","object":{}}'], [])
    pages = page(named("1"), named("2"), version="5"), page(named("2"), version="6")
    index = Index()
    at = cast("Access", SimpleNamespace(objects=Objects(*pages), kube=kube))
    await _follow(Follower(at, index, ()), kube)
    assert [(index.get("ns", n) is not None) for n in ("n1", "n2")] == [False, True]


async def test_open_pages_hear_of_a_server_that_is_away_and_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once each: what its later failures say is the same to them."""
    monkeypatch.setattr("syncer.cli.web.follow.exponential", lambda *_: 0.0)
    away = Unavailable("away")
    index, heard = Index(), list[str]()
    index.on_change = heard.append
    at = cast("Access", SimpleNamespace(
        objects=Objects(away, away, page(version="5")), kube=Kube([]),
    ))  # fmt: skip
    await _follow(Follower(at, index, ()), cast("Any", at.kube))
    # Away, back, and listed to the end.
    assert heard == ["", "", ""]


def _event(kind: str, uid: str, **more: Any) -> bytes:
    """A line of a watch."""
    meta = {"uid": uid, "namespace": "ns", "name": f"n{uid}", "resourceVersion": "9"}
    return json.dumps({"type": kind, "object": {"metadata": meta, **more}}).encode()


async def test_what_a_watch_shows_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something new, and what is gone, even if it cannot be read."""
    monkeypatch.setattr("syncer.cli.web.follow.exponential", lambda *_: 0.0)
    news = [_event("ADDED", "3"), _event("DELETED", "1"), _event("DELETED", "2", spec=7)]
    index = Index()
    at = cast("Access", SimpleNamespace(
        objects=Objects(page(named("1"), named("2"), named("4"), version="5")), kube=Kube(news, []),
    ))  # fmt: skip
    await _follow(Follower(at, index, ()), cast("Any", at.kube))
    assert [n for n in "1234" if index.get("ns", f"n{n}") is not None] == ["3", "4"]


async def test_a_watch_that_ends_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends each after some minutes; the next one begins behind what was shown."""
    pauses = []

    def pause(_first: float, _most: float, n: int) -> float:
        pauses.append(n)
        return 0.0

    monkeypatch.setattr("syncer.cli.web.follow.exponential", pause)
    kube = Kube([b'{"type":"ERROR","object":{}}'], *([_event("ADDED", "3")] for _ in range(2)), [])
    objects = Objects(page(version="5"), page(version="6"))
    at = cast("Access", SimpleNamespace(objects=objects, kube=kube))
    await _follow(Follower(at, Index(), ()), kube)
    assert pauses == [2, 1, 1]
    assert [version for _, version in kube.asked] == ["5", "6", "9", "9"]


async def test_a_list_of_many_pages_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first page ends the problem; the others may take a while."""
    monkeypatch.setattr("syncer.cli.web.follow.exponential", lambda *_: 0.0)
    problems: list[str] = []
    first = page(named("1"), version="5", token="t")
    objects = Objects(Unavailable("away"), first, page(named("2")))
    list_page = objects.list_page

    async def listed(*args: Any, **options: Any) -> ObjectPage:
        problems.append(follower.problem)
        return await list_page(*args, **options)

    monkeypatch.setattr(objects, "list_page", listed)
    kube = Kube([])
    follower = Follower(cast("Access", SimpleNamespace(objects=objects, kube=kube)), Index(), ())
    await _follow(follower, kube)
    assert problems == ["", "away", ""]
    assert [token for *_, token in objects.asked] == ["", "", "t"]
    assert [version for _, version in kube.asked] == ["5"]


async def test_a_watch_that_lasted_for_a_while_begins_the_count_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ends it then is the first failure in a row."""
    pauses, clock = [], itertools.count(0, 1_000)

    def pause(_first: float, _most: float, n: int) -> float:
        pauses.append(n)
        return 0.0

    monkeypatch.setattr("syncer.cli.web.follow.exponential", pause)
    monkeypatch.setattr(
        "syncer.cli.web.follow.time", SimpleNamespace(monotonic=lambda: next(clock))
    )
    kube = Kube(*([b'{"type":"ERROR","object":{}}'] for _ in range(3)), [])
    objects = Objects(*(page(version=f"{n}") for n in range(5, 9)))
    await _follow(
        Follower(cast("Access", SimpleNamespace(objects=objects, kube=kube)), Index(), ()), kube
    )
    assert pauses == [2, 2, 2]
