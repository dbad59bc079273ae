"""The index: order, pages, filters, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import Mock

import pytest

from syncer.cli.rows import Placed, Row
from syncer.cli.web import index as module
from syncer.cli.web.index import Index
from syncer.cli.web.search import Position, Search, search_of
from tests.beside import beside, turning
from tests.unit.syncer.cli.samples import NOW
from tests.unit.syncer.cli.web.made import made


def keys(entries: Sequence[Row]) -> list[str]:
    """Names of entries."""
    return [e.name for e in entries]


async def all_of(index: Index, size: int, **words: str) -> list[str]:
    """Every page of a query, one after the other."""
    out: list[str] = []
    after: dict[str, str] = {}
    while True:
        entries, more = await index.page(search_of({**words, **after}, NOW), size, Placed())
        out += keys(entries)
        if not more:
            return out
        last = entries[-1]
        after = {"after": Position(last.created, last.namespace, last.name).token}


@pytest.fixture
def index() -> Index:
    """An empty index."""
    return Index()


@pytest.mark.parametrize("size", [1, 3, 7, 50])
async def test_pages_show_each_once_the_newest_first(
    index: Index, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of a page, and of a turn of the loop; equal ages are told apart by name."""
    monkeypatch.setattr(module, "_TURN", 4)
    for n in range(20):
        index.put(made(f"n{n:02}", age=(n * 7 % 20) // 2))
    expected = sorted(range(20), key=lambda n: (-((n * 7 % 20) // 2), n), reverse=True)
    assert await all_of(index, size) == [f"n{n:02}" for n in expected]


async def test_a_page_goes_on_where_the_last_one_ended(index: Index) -> None:
    """Also if what it ended with is gone, and something newer has come."""
    for n in range(6):
        index.put(made(f"n{n}", age=n))
    first, _ = await index.page(Search(), 2, Placed())
    index.drop("ns", "n1")
    index.put(made("new"))
    token = Position(first[-1].created, "ns", "n1").token
    second, more = await index.page(search_of({"after": token}, NOW), 2, Placed())
    assert (keys(second), more) == (["n2", "n3"], True)


FILTERS = {
    "a part of the name": ({"q": "ISK"}, ["disk"]),
    "a pattern": ({"q": "D*k"}, ["disk"]),
    "a part of its namespace and name": ({"q": "ns/H"}, ["held"]),
    "a text that is nowhere": ({"q": "nowhere"}, []),
    "a part of an error": ({"q": "busy"}, ["busy"]),
    "a channel": ({"q": "pagerduty"}, ["other"]),
    "a part of its event": ({"q": 'alertname="f'}, ["busy"]),
    "an event that is longer than what is kept": ({"q": f"alertmanager:{'k' * 230}"}, ["other"]),
    "another one that is as long": ({"q": f"alertmanager:{'k' * 100}{'l' * 130}"}, []),
    "a phase": ({"phase": "Failed"}, ["busy"]),
    "held": ({"state": "held"}, ["held"]),
    "unknown": ({"state": "unknown"}, ["lost"]),
    "attention": ({"state": "attention"}, ["busy", "held", "lost"]),
    "unfinished": ({"state": "unfinished"}, ["held", "lost"]),
    "a namespace": ({"namespace": "elsewhere"}, ["other"]),
    "a receiver": ({"receiver": "night*"}, ["other"]),
    "two of them": ({"state": "attention", "phase": "sending"}, ["lost"]),
    "what cannot be meant": ({"phase": "x", "state": "y", "after": "1./"}, 5),
}


@pytest.mark.parametrize("case", FILTERS)
async def test_filters(index: Index, case: str) -> None:
    """Each takes what it says."""
    index.put(made("disk"))
    group = 'alertmanager:{}:{alertname="Full"}'
    index.put(made("busy", phase="Failed", error="the receiver is busy", event=group))
    index.put(made("held", phase="Pending", hold="true"))
    index.put(made("lost", phase="Sending", unknown=True))
    index.put(
        made(
            "other",
            namespace="elsewhere",
            channel="pagerduty:night-shift",
            event=f"alertmanager:{'k' * 300}",
        )
    )
    words, expected = FILTERS[case]
    found = await all_of(index, 50, **words)
    assert (sorted(found) if isinstance(expected, list) else len(found)) == expected


async def test_changes_move_nothing_and_are_told(index: Index) -> None:
    """An object that changes keeps its place; its phase is counted once; who listens is told."""
    told: list[str] = []
    index.on_change = told.append
    index.put(made("a", phase="Pending"))
    index.put(made("a", phase="Sent", version=2))
    index.put(made("b", phase="Sent"))
    assert (sum(index.phases.values()), dict(index.phases)) == (2, {"Pending": 0, "Sent": 2})
    index.drop("ns", "a")
    index.drop("ns", "a")
    assert (sum(index.phases.values()), index.phases["Sent"], index.namespaces) == (1, 1, ["ns"])
    index.drop("ns", "b")
    assert (sum(index.phases.values()), +index.phases, index.namespaces) == (0, {}, [])
    assert told == ["ns/a", "ns/a", "ns/b", "ns/a", "ns/b"]
    assert not index.cut


async def test_beyond_the_bound_the_oldest_go() -> None:
    """Beyond the bound, and it says that some are missing."""
    index = Index(most=3)
    for n, kept in (
        (5, [5]),
        (1, [1, 5]),
        (3, [1, 3, 5]),
        (4, [1, 3, 4]),
        (9, [1, 3, 4]),
        (2, [1, 2, 3]),
    ):
        index.put(made(f"n{n}", age=n))
        assert await all_of(index, 10) == [f"n{k}" for k in kept]
    assert index.cut


def test_what_a_list_has_not_shown_is_forgotten(index: Index) -> None:
    """Of its namespace alone, whether an earlier list brought it, or news of one; what it shows is kept."""
    index.put(made("new"))
    index.put(made("old"), listing=1)
    index.put(made("there"), listing=1)
    index.put(made("there"), listing=2)
    index.put(made("there", version=2))
    index.put(made("other", namespace="elsewhere"), listing=1)
    for namespace, kept in (("ns", ["elsewhere/other", "ns/there"]), (None, ["ns/there"])):
        index.keep_only(2, namespace)
        assert sorted(row.key for row in index._order) == kept


async def test_the_loop_gets_its_turn(index: Index) -> None:
    """A search through many lets others run meanwhile."""
    for n in range(4_100):
        index.put(made(f"n{n:04}"))
    turn = Mock()
    async with beside(turning(turn)):
        await index.page(Search(text="no such name"), 50, Placed())
    assert turn.call_count >= 2


@pytest.mark.parametrize(
    "text", ["", "x", "1", "1.", "1.ns", "1.ns/", "-1.ns/n", "1e3.ns/n", "9" * 16 + ".n/n"]
)
def test_a_place_that_is_none_is_the_beginning(text: str) -> None:
    """Whatever an address says."""
    assert Position.parse(text) is None


def test_a_place_comes_back_as_it_was() -> None:
    """As far as any time goes."""
    place = Position(10**15 - 1, "ns", "n")
    assert Position.parse(place.token) == place


def test_an_address_says_what_is_asked_for() -> None:
    """Parts that make no sense are ignored, and a place that is none is the beginning."""
    asked = search_of(
        {"q": " Disk ", "phase": "sent", "state": "held", "namespace": "ns", "receiver": "ops*",
         "since": "1h", "after": f"{NOW}.ns/n"}, NOW,
    )  # fmt: skip
    assert asked == Search(
        ("sent",), ("held",), False, ("ops*",), NOW - 3_600_000, text="Disk", namespace="ns",
        after=Position(NOW, "ns", "n"),
    )  # fmt: skip
    assert search_of({"phase": "x", "state": "y", "since": "z", "after": "-"}, NOW) == Search()
    assert len(search_of({"q": "x" * 300}, NOW).text) == 253


def test_what_repeats_is_kept_once(index: Index) -> None:
    """It need not be the same object."""
    first, again = "".join(["ab"] * 20), "".join(["ab"] * 20)
    assert first is not again
    assert index._share(first) is index._share(again)
