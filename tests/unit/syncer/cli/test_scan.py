"""Reading logs and objects together: page by page, each once, and what looks wrong twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.cli import scan as scanning
from syncer.cli.scan import (
    Joined,
    Scan,
    check_again,
    diverging,
    join,
    read_again,
    read_logs,
)
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import StoredLog
from syncer.ledger.replies import WrongType
from syncer.model.attempt import Epoch
from syncer.model.errors import (
    ContractError,
    Expired,
    Gone,
    Unauthorised,
    Unavailable,
)
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Divergence
from tests.fakes.memorylog import MemoryLog
from tests.unit.syncer.cli.samples import A1, BOUNDS, PLAN, elements, failed, opened
from tests.unit.syncer.cli.world import LOG, Objects, World, logged, named, page


async def joined(world: World, *namespaces: str) -> list[list[Joined]]:
    """Scan everything; the pages."""
    return [page async for page in join(world.at, world.scan, namespaces)]


def uids(pages: list[list[Joined]]) -> list[list[str]]:
    """The uids of pages."""
    return [[each.uid for each in found] for found in pages]


@pytest.fixture
def world() -> World:
    """A Redis and an API server without objects."""
    return World(Objects())


async def test_objects_come_with_their_logs_then_logs_without_an_object() -> None:
    """Each notification comes once, with both sides or why it cannot be checked; everything is counted."""
    bad = Unreadable("bad", "ns", "odd", "5", problem="ContractError")
    objects = Objects(page(named("a"), named("b"), token="more"), page(named("b"), named("c"), bad))
    world = World(objects)
    world.put("a", elements(PLAN, opened(A1)))
    world.put("c", logged("c"))
    world.put("stray", logged("stray"))
    pages = await joined(world)
    assert uids(pages) == [["a", "b"], ["c", "bad"], ["stray"]]
    (a, b), (c, odd), (stray,) = pages
    assert (a.key, a.request, a.elements[1:], a.ttl) == (
        "ns/na", named("a"), elements(PLAN, opened(A1))[1:], -1,
    )  # fmt: skip
    assert (b.elements, b.ttl) == ((), -2)
    assert c.name == ("c", "ns/nc")
    assert (odd.key, odd.request) == ("ns/odd", None)
    assert odd.problem == "the object cannot be parsed (ContractError)"
    assert (stray.key, stray.request, stray.problem) == ("ns/nstray", None, "")
    found = world.scan
    assert (found.objects, found.logs, found.records, found.latest) == (4, 3, 3, "3.77")
    assert objects.asked == [(None, 500, ""), (None, 500, "more")]


async def test_only_the_namespaces_that_were_named() -> None:
    """A log without an object is left out if its header names another namespace."""
    objects = Objects(page(named("a", "one")), namespace="one")
    objects.pages["two"] = [page(named("b", "two"))]
    world = World(objects)
    world.put("x", logged("x", "two"))
    world.put("y", logged("y", "three"))
    world.put("z", (b"damage",))
    pages = await joined(world, "one", "two")
    assert uids(pages) == [["a"], ["b"], ["x", "z"]]
    assert [each.key for each in pages[-1]] == ["two/nx", ""]
    assert (world.scan.objects, world.scan.logs) == (2, 2)


async def test_a_list_that_the_server_forgot_begins_anew() -> None:
    """What was seen before is not seen again; the sixth time it is an error, and another one at once."""
    objects = Objects(
        page(named("a"), token="t"), Expired("t"), page(named("a"), token="u"), page(named("b"))
    )
    world = World(objects)
    assert uids(await joined(world)) == [["a"], ["b"]]
    assert [token for _, _, token in objects.asked] == ["", "t", "", "u"]
    assert {limit for _, limit, _ in objects.asked} == {500}

    patient = World(Objects(*[Expired("t")] * 5, page(named("a"))))
    assert uids(await joined(patient)) == [["a"]]
    with pytest.raises(Expired):
        await joined(World(Objects(*[Expired("t")] * 6, page(named("a")))))
    with pytest.raises(Unavailable):
        await joined(World(Objects(page(named("a"), token="t"), Unavailable("down"))))


def test_a_version_that_is_no_number_tells_no_epoch() -> None:
    """The latest epoch follows the list's version, and stays if that is opaque."""
    world, scan = World(Objects()), Scan()
    scan.note_version(world.at, "opaque")
    assert scan.latest is None
    scan.note_version(world.at, "41")
    scan.note_version(world.at, "")
    assert scan.latest == "3.41"


async def test_of_several_keys_the_one_that_is_no_list_is_found(world: World) -> None:
    """The others are read as they are; an error of another kind is one of the command."""
    read = AsyncMock(side_effect=[WrongType(), [StoredLog(list(LOG), 9)], WrongType()])
    world.log = Mock(read_logs=read)
    u, w = await read_logs(world.at, [("u", None), ("w", None)])
    assert (u.wrong_type, u.elements, u.ttl, u.key) == (False, LOG, 9, "ns/n")
    assert (w.wrong_type, w.elements, w.ttl) == (True, (), -1)
    assert [call.args[0] for call in read.await_args_list] == [["u", "w"], ["u"], ["w"]]
    assert [f.kind for f in w.check(BOUNDS)] == [Divergence.FOREIGN]
    refused = Unauthorised("no", reason="NOPERM")
    for answers in ([refused], [WrongType(), WrongType(), refused]):
        read.side_effect = answers
        with pytest.raises(Unauthorised):
            await read_logs(world.at, [("u", None), ("w", None)])


AGAIN: Final[dict[str, tuple[NotificationRequest | Exception, str, tuple[Any, ...]]]] = {
    "the object is there": (named("u"), "ns/nu", (named("u"), "", "ns/nu")),
    "the object is gone: the log tells its name": (Gone("nu"), "ns/nu", (None, "", "ns/n")),
    "another object has its name": (named("v"), "ns/nu", (None, "", "ns/n")),
    "the object does not parse": (ContractError("no spec"), "ns/nu", (None, "no spec", "ns/nu")),
    "its name is known from the log alone": (Gone("nu"), "", (None, "", "ns/n")),
}


@pytest.mark.parametrize("case", AGAIN)
async def test_one_notification_is_read_anew(world: World, case: str) -> None:
    """The log is read, then the object by its name, then the log once more."""
    there, key, wanted = AGAIN[case]
    world.put("u")
    world.objects.kept["ns/nu"] = there
    found = await read_again(world.at, ("u", key))
    assert (found.request, found.problem, found.key) == wanted
    assert (found.uid, found.elements) == ("u", LOG)


@pytest.mark.parametrize("key", ["ns/nu", ""])
async def test_of_a_log_that_moves_nothing_is_said(world: World, key: str) -> None:
    """A log that its owner appended to between both readings is compared with nothing."""
    world.put("u")
    longer = elements(PLAN, opened(A1))
    answers = [[StoredLog(list(log), 60)] for log in (LOG, longer)]
    world.log = Mock(read_logs=AsyncMock(side_effect=answers))
    found = await read_again(world.at, ("u", key))
    assert found == Joined("u", "ns/n", None, (), ttl=0)
    assert found.check(BOUNDS) == ()


async def test_a_header_that_moves_is_no_movement(world: World) -> None:
    """A claim or a confirmation changes the header alone; the records are compared all the same."""
    claimed = elements(PLAN, header=Header("ns/n", Epoch("0.8")))
    answers = [[StoredLog(list(log), -1)] for log in (LOG, claimed)]
    world.log = Mock(read_logs=AsyncMock(side_effect=answers))
    found = await read_again(world.at, ("u", "ns/n"))
    assert found.elements == claimed


def _lagging(uid: str) -> tuple[NotificationRequest, tuple[bytes, ...]]:
    """An object that does not show what its log has held for long."""
    log = elements(PLAN, opened(A1), failed(A1), header=Header(f"ns/n{uid}", Epoch("0.7")))
    return named(uid), log


async def found_by(world: World) -> list[tuple[str, list[str]]]:
    """Everything that diverges, by uid, as classes."""
    return [
        (r.joined.uid, [f.kind.value for f in r.findings])
        async for r in diverging(world.at, world.scan, BOUNDS, ())
    ]


async def test_what_looks_wrong_is_checked_again() -> None:
    """A divergence that is still there is told, one that has been mended meanwhile is not."""
    (a, late), (b, _), c = _lagging("a"), _lagging("b"), named("c")
    objects = Objects(page(a, b, c))
    objects.pages["ns"] = [page(version="90")]
    objects.kept = {"ns/na": a, "ns/nb": b}
    world = World(objects)
    for uid in "abc":
        world.put(uid, logged(uid))
    world.put("a", late)
    world.put("b", late)

    class Mended(MemoryLog):
        async def read_logs(self, uids: Sequence[str]) -> list[StoredLog]:
            if list(uids) == ["b"]:
                world.put("b", logged("b"))
            return await super().read_logs(uids)

    world.log = Mended(world.redis)
    ((uid, kinds),) = await found_by(world)
    assert uid == "a"
    assert kinds
    assert world.scan.latest == "3.90"
    assert objects.asked[-1] == ("ns", 1, "")


async def test_nothing_is_read_again_where_all_is_well(world: World) -> None:
    """Without a suspect the second check asks nobody, nor for a version where no suspect has a name."""
    world.objects.pages[None] = [page(named("a"))]
    world.put("a", logged("a"))
    assert await found_by(world) == []
    assert len(world.objects.asked) == 1
    world.put("u", (b"damage",))
    told = [r.joined.uid async for r in check_again(world.at, world.scan, BOUNDS, [("u", "")])]
    assert (told, len(world.objects.asked)) == (["u"], 1)


async def test_many_suspects_are_read_in_batches(world: World) -> None:
    """Every suspect is read once more, however many there are."""
    world.objects.pages["ns"] = [page()]
    names = []
    for n in range(33):
        found, log = _lagging(str(n))
        world.put(str(n), log)
        world.objects.kept[f"ns/n{n}"] = found
        names.append((str(n), f"ns/n{n}"))
    told = [r.joined.uid async for r in check_again(world.at, world.scan, BOUNDS, names)]
    assert told == [str(n) for n in range(33)]


async def test_a_page_of_logs_that_were_seen_hides_none_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logs without an object come from every page of the scan."""
    monkeypatch.setattr(scanning, "PAGE", 1)
    world = World(Objects(page(named("a"), named("b"))))
    for uid in ("a", "b", "stray", "tramp"):
        world.put(uid, logged(uid))
    assert sorted(uid for found in uids(await joined(world)) for uid in found) == [
        "a",
        "b",
        "stray",
        "tramp",
    ]
