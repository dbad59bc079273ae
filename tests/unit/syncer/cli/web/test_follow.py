"""How the explorer follows the API server: a server that ends each watch is asked less and less."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import Mock

import pytest

from syncer.cli.access import Access
from syncer.cli.web.index import Follower, Index
from syncer.kube.notification_requests import ObjectPage
from syncer.model.errors import Unavailable
from tests.beside import beside
from tests.unit.syncer.cli.world import Objects, named, page


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


@pytest.fixture(autouse=True)
def pause(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """How a pause is reckoned, last by the failures in a row; none takes time."""
    reckoned = Mock(return_value=0.0)
    monkeypatch.setattr("syncer.cli.web.index.exponential", reckoned)
    return reckoned


def _follower(objects: Objects, kube: Kube, index: Index | None = None) -> Follower:
    at = cast("Access", SimpleNamespace(objects=objects, kube=kube))
    return Follower(at, Index() if index is None else index, ())


async def _follow(follower: Follower, kube: Kube) -> None:
    """Run it until there is no watch left for it to open."""
    async with beside(follower.run()):
        async with asyncio.timeout(20):
            await kube.over.wait()


async def test_what_is_shown_may_be_old_while_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it says is the problem, since the first failure, until a first page of its list is there."""
    seen, heard = list[tuple[str, bool]](), list[str]()
    first = page(named("1"), version="5", token="t")
    objects = Objects(Unavailable("away"), Unavailable("still away"), first, page(named("2")))
    list_page = objects.list_page

    async def listed(*args: Any, **options: Any) -> ObjectPage:
        seen.append((follower.problem, follower.since > 0))
        return await list_page(*args, **options)

    monkeypatch.setattr(objects, "list_page", listed)
    index, kube = Index(), Kube([])
    index.on_change = heard.append
    follower = _follower(objects, kube, index)
    await _follow(follower, kube)
    assert seen == [("", False), ("away", True), ("still away", True), ("", False)]
    assert [token for *_, token in objects.asked] == ["", "", "", "t"]
    assert [version for _, version in kube.asked] == ["5"]
    assert (follower.problem, follower.since, follower.complete) == ("", 0.0, True)
    # Open pages hear once that it is away, that it is back, and that it is listed to the end.
    assert heard == ["", "ns/n1", "", "ns/n2", ""]


async def test_what_a_list_lacks_is_shown_no_longer() -> None:
    """It was deleted while no watch was open."""
    kube = Kube([b'{"type":"ERROR","object":{}}'], [])
    pages = page(named("1"), named("2"), version="5"), page(named("2"), version="6")
    index = Index()
    await _follow(_follower(Objects(*pages), kube, index), kube)
    assert [(index.get("ns", n) is not None) for n in ("n1", "n2")] == [False, True]


def _event(kind: str, uid: str, **more: Any) -> bytes:
    """A line of a watch."""
    meta = {"uid": uid, "namespace": "ns", "name": f"n{uid}", "resourceVersion": "9"}
    return json.dumps({"type": kind, "object": {"metadata": meta, **more}}).encode()


async def test_what_a_watch_shows_is_shown() -> None:
    """Something new, and what is gone, even if it cannot be read."""
    news = [_event("ADDED", "3"), _event("DELETED", "1"), _event("DELETED", "2", spec=7)]
    index, kube = Index(), Kube(news, [])
    objects = Objects(page(named("1"), named("2"), named("4"), version="5"))
    await _follow(_follower(objects, kube, index), kube)
    assert [n for n in "1234" if index.get("ns", f"n{n}") is not None] == ["3", "4"]


_ERROR: Final = b'{"type":"ERROR","object":{}}'
#: The only line of each watch, seconds between two looks at the clock, failures in a row, and from where
#: each watch goes on.
WATCHES: Final[dict[str, tuple[list[bytes], int, list[int], list[str]]]] = {
    # That it opened one, and said something, does not make the next list follow at once.
    "a server that ends each is asked less and less": (
        [_ERROR, b'{"type":"ADDED","object":{}}', b'{"type":"ADD'], 0, [2, 3, 4], ["5", "6", "7", "8"],
    ),
    # The server ends each after some minutes; the next one begins behind what was shown.
    "one that ends is no failure": (
        [_ERROR, _event("ADDED", "3"), _event("ADDED", "3")], 0, [2, 1, 1], ["5", "6", "9", "9"],
    ),
    "one that lasted for a while begins the count anew": (
        [_ERROR] * 3, 1_000, [2, 2, 2], ["5", "6", "7", "8"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WATCHES)
async def test_watches_that_end(case: str, monkeypatch: pytest.MonkeyPatch, pause: Mock) -> None:
    """What ends a watch soon is a failure; the more of them in a row, the longer the pause."""
    lines, seconds, failures, asked = WATCHES[case]
    clock = itertools.count(0, seconds)
    monkeypatch.setattr("syncer.cli.web.index.time", SimpleNamespace(monotonic=lambda: next(clock)))
    kube = Kube(*([line] for line in lines), [])
    objects = Objects(*(page(version=f"{n}") for n in range(5, 9)))
    await _follow(_follower(objects, kube), kube)
    assert [call.args[-1] for call in pause.call_args_list] == failures
    assert [version for _, version in kube.asked] == asked
