"""Rows of a list: what they say, which are wanted, and which are shown again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli import watching
from syncer.cli.access import Access
from syncer.cli.listing import COLOURS, FLEXIBLE, HEAD, Filter, Row, Shown, row_of, rows
from syncer.cli.output import Columns
from syncer.cli.screen import Screen
from syncer.cli.watching import FailureStreak, Watching
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import LogHead
from syncer.model.attempt import Epoch
from syncer.model.errors import Expired, KindMissing, Unavailable
from syncer.model.event import event_label
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from tests.unit.syncer.cli.samples import A1, NOW, C, entry, request
from tests.unit.syncer.cli.world import Objects, World, named, page

HOUR: Final = 3_600_000


def attempted(*errors: tuple[str, str, str], **status: Any) -> NotificationRequest:
    """An object whose attempts have these channels, errors and times of 15 January 2027."""
    entries = [
        entry("failed", n, f"0.7-{n}")
        | {"channel": channel, "error": error, "timestamp": f"2027-01-15T{clock}Z"}
        for n, (channel, error, clock) in enumerate(errors, 1)
    ]
    return request(*entries, **status)


TIMEOUT: Final = replace(
    attempted(
        (C, "timeout after 10 s", "07:30:00"), ("webhook:dev", "503", "07:50:00"),
        channels=[{"name": "file", "state": "Pending"}],
    ),
    event='alertmanager:{}:{alertname="Disk"}',
)  # fmt: skip

#: Conditions, and whether they take the object above; it was created at 07:00, an hour ago.
TAKEN: Final[dict[str, tuple[dict[str, Any], bool]]] = {
    "none": ({}, True),
    "a channel with attempts": ({"channel": "slack:*"}, True),
    "a channel without attempts yet": ({"channel": "file"}, True),
    "a channel that it does not have": ({"channel": "email:*"}, False),
    "a receiver": ({"receiver": "dev"}, True),
    "another receiver": ({"receiver": "qa"}, False),
    "a part of an error": ({"error": "Timeout"}, True),
    "an error of another channel": ({"error": "timeout", "receiver": "dev"}, False),
    "an error since then": ({"error": "timeout", "since": NOW - 1_800_000}, True),
    "an error before": ({"error": "timeout", "since": NOW - 1_700_000}, False),
    "attempted since then": ({"since": NOW - 900_000}, True),
    "created since then": ({"since": NOW - HOUR, "channel": "file"}, True),
    "its event": ({"event": 'alertmanager:{}:{alertname="Disk"}'}, True),
    "a part of its event": ({"event": "alertmanager:{}"}, False),
    "neither": ({"since": NOW - 500_000}, False),
    "a result that is not known": ({"unknown": True}, False),
    "attempted since then on another channel": ({"since": NOW - 900_000, "channel": C}, False),
    "all of them": (
        {"channel": C, "receiver": "ops", "error": "after", "since": NOW - HOUR}, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_conditions_on_attempts(case: str) -> None:
    """Channel, receiver, error and time are those of one attempt, where an error is asked for."""
    conditions, wanted = TAKEN[case]
    assert Filter(**conditions).matches(Row(TIMEOUT, 0, quarantined=False), NOW) is wanted


def test_an_event_is_looked_for_by_the_api_server() -> None:
    """Its selector has the label that the gateway writes; without one, everything is listed."""
    assert Filter(event="a:b").labels == f"notification-ledger/event={event_label('a:b')}"
    assert Filter(name="x").labels == ""


def test_what_has_just_been_created_is_listed() -> None:
    """Unless an age is asked for, at least which it must have."""
    row = Row(replace(TIMEOUT, created=NOW), 0, quarantined=False)
    assert Filter().matches(row, NOW)
    assert not Filter(older=1).matches(row, NOW)
    assert Filter(older=1).matches(row, NOW + 1)


def test_notes_name_what_deserves_attention() -> None:
    """The worst first; the last error belongs to what is not sent."""
    held = request(entry("unknown", 1, A1), hold="x", uncertainAttempts=1)
    assert Filter(unknown=True).matches(Row(held, 0, quarantined=False), NOW)
    assert Row(held, 3, quarantined=True, held=True).notes == [
        "quarantined",
        "held",
        "1 unknown",
        "3 unsynced",
    ]
    assert Row(TIMEOUT, -1, quarantined=False).notes == ["webhook:dev: 503"]
    assert Row(request(), 1, quarantined=False).notes == ["1 unsynced"]
    sent = replace(TIMEOUT, status=replace(TIMEOUT.status, phase="Sent"))
    row = Row(sent, 0, quarantined=False)
    assert row.notes == []
    assert row.as_json()["lastError"] == {
        "channel": "webhook:dev", "error": "503", "at": "2027-01-15T07:50:00.000Z",
    }  # fmt: skip


#: The first element of a log, its length, the condition of its object, and what is said of both.
HEADS: Final[dict[str, tuple[bytes | None, int, str, tuple[int, bool]]]] = {
    "no log": (None, 0, "", (-1, False)),
    "all is published": (Header("ns/n", Epoch("0.7"), acked=2).encode(), 3, "", (0, False)),
    "one record is not": (Header("ns/n", Epoch("0.7"), acked=1).encode(), 3, "", (1, False)),
    "more is marked than there is": (
        Header("ns/n", Epoch("0.7"), acked=9).encode(),
        3,
        "",
        (0, False),
    ),
    "it is not legible": (b"damage", 3, "", (-1, True)),
    "the controller holds it": (None, 0, "True", (-1, True)),
    "the controller held it": (None, 0, "False", (-1, False)),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_row_is_of_object_and_log(case: str) -> None:
    """How many records are not published, and whether the log or the controller stops it."""
    element, length, condition, wanted = HEADS[case]
    conditions = [{"type": "Quarantined", "status": condition}] if condition else []
    row = row_of(request(conditions=conditions), LogHead(element, length, -1), (), now=NOW)
    assert (row.unsynced, row.quarantined) == wanted
    assert not row.deleted


def test_a_list_fits_a_terminal() -> None:
    """Names as long as they may be, and a long error, take eighty columns and no more."""
    long = attempted(("pagerduty:the-first-receiver", "connection refused " * 9, "07:50:00"))
    long = replace(long, name="n" * 63, namespace="team-payments-production")
    found = Columns(HEAD, Screen(80), flexible=FLEXIBLE, colours=COLOURS)
    lines = found.lines([Row(long, 0, quarantined=False).cells(NOW)])
    assert [len(line) for line in lines[1:]] == [80]
    assert "Sending" in lines[1]


def shown(*, again: bool, out: bool = True) -> Shown:
    """Where rows are written, as JSON or as a table."""
    return Shown(Columns(HEAD), json=out, again=again)


def test_a_row_that_reads_as_before_is_not_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither after a relist; a change is, and the end of an object once."""
    row, rows = Row(TIMEOUT, 0, quarantined=False), shown(again=True)
    for each in (row, row, replace(row, unsynced=1), replace(row, deleted=True)):
        rows.write([each], NOW)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["unsynced"], line.get("deleted")) for line in lines] == [
        (0, None), (1, None), (0, True),
    ]  # fmt: skip
    assert rows.rows == 3
    rows = shown(again=False)
    rows.write([row], NOW)
    rows.write([row], NOW)
    assert rows.rows == 2


# -- watching -----------------------------------------------------------------------------


def changed(kind: str, name: str, version: str, **status: Any) -> bytes:
    """One line of a watch."""
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version}
    document = {"metadata": meta, "spec": {"type": "Simple"}, "status": status}
    return json.dumps({"type": kind, "object": document}).encode()


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

    async def request(self, *_: object, **__: object) -> Any:
        raise KindMissing("404")

    async def _lines(self, lines: list[bytes]) -> AsyncIterator[bytes]:
        for line in lines:
            yield line
        if not self.watches:
            self.over.set()
            await asyncio.Event().wait()


async def watched(
    kube: Kube,
    monkeypatch: pytest.MonkeyPatch,
    *pages: Any,
    wanted: Filter | None = None,
    pause: Callable[[float, float, int], float] = lambda *_: 0.0,
) -> None:
    """Watch the namespace `ns` until nothing more is said."""
    monkeypatch.setattr("syncer.cli.watching.exponential", pause)
    world = World(Objects(page(version="5"), *pages, namespace="ns"))
    at = cast("Access", SimpleNamespace(
        objects=world.objects, log=world.log, now=world.now, kube=kube, settings=world.settings,
        client=world.client,
    ))  # fmt: skip
    watching = await Watching.begin(at, ["ns"], wanted or Filter(), shown(again=True))
    task = asyncio.create_task(watching.run())
    try:
        async with asyncio.timeout(20):
            await kube.over.wait()
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_changes_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From before the list on; bookmarks move the watch, which goes on from there."""
    kube = Kube(
        [
            changed("ADDED", "a", "6", phase="Pending"), changed("MODIFIED", "a", "7", phase="Sent"),
            changed("MODIFIED", "a", "8", phase="Sent"), changed("BOOKMARK", "", "9"),
        ],
        [changed("DELETED", "a", "10", phase="Sent"), changed("ADDED", "b", "11", phase="Failed")],
    )  # fmt: skip
    await watched(kube, monkeypatch, wanted=Filter(phases=("pending", "sent")))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["name"], line["phase"], line.get("deleted")) for line in lines] == [
        ("a", "Pending", None), ("a", "Sent", None), ("a", "Sent", True),
    ]  # fmt: skip
    path = "/apis/kubernaut.ai/v1alpha1/namespaces/ns/notificationrequests"
    assert kube.asked == [(path, "5"), (path, "9")]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(Expired("too old"), id="refused"),
        pytest.param([b'{"type": "ERROR", "object": {"code": 410}}'], id="an error"),
        pytest.param([b"<html>"], id="no event"),
    ],
)
async def test_a_watch_that_lost_its_place_lists_once_more(
    end: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has changed meanwhile is shown, and the watch goes on from before that list."""
    kube = Kube([changed("ADDED", "a", "6")], end, [])
    listed = (page(version="20"), page(named("x", "ns"), version="21"))
    await watched(kube, monkeypatch, *listed)
    lines = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a", "nx"]
    assert [version for _, version in kube.asked] == ["5", "6", "20"]


@pytest.mark.parametrize("away", [Unavailable("away"), TimeoutError()])
async def test_a_server_may_be_away_when_all_is_listed_once_more(
    away: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The watch does not end with it: it is tried again until it is done."""
    kube = Kube([changed("ADDED", "a", "6")], Expired("too old"), Expired("too old"), [])
    listed = (away, page(version="20"), page(named("x", "ns"), version="21"))
    await watched(kube, monkeypatch, *listed)
    lines = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a", "nx"]
    assert [version for _, version in kube.asked] == ["5", "6", "6", "20"]


async def test_what_is_wanted_again_is_shown_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads as before, and was not wanted in between."""
    phases = ("Retrying", "Sending", "Retrying", "Retrying")
    kube = Kube([changed("MODIFIED", "a", f"{n}", phase=p) for n, p in enumerate(phases, 6)])
    await watched(kube, monkeypatch, wanted=Filter(phases=("retrying",)))
    lines = [json.loads(line)["phase"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Retrying", "Retrying"]


async def test_a_server_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, when it lasts; nothing is listed for it."""
    away: list[Any] = [Unavailable("away")] * 3
    kube = Kube(*away, [changed("ADDED", "a", "6")])
    await watched(kube, monkeypatch)
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert said.err == "syncer: a server does not answer, retrying: away\n"


async def test_an_object_that_cannot_be_read_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The watch goes on behind it."""
    broken = changed("ADDED", "a", "6").replace(b'"Simple"}', b'"Simple", "retryPolicy": 1}')
    kube = Kube([broken, changed("ADDED", "b", "7")])
    await watched(kube, monkeypatch)
    assert json.loads(capsys.readouterr().out)["name"] == "b"


def test_the_broken_object_of_a_test_is_broken() -> None:
    """The product's parser finds it unreadable."""
    from syncer.kube.notification_requests import parse  # noqa: PLC0415 - this test alone

    document = json.loads(
        changed("ADDED", "a", "6").replace(b'"Simple"}', b'"Simple", "retryPolicy": 1}')
    )
    assert isinstance(parse(document["object"]), Unreadable)


# -- watches that end with an error -----------------------------------------------------------------


def test_watches_that_fail_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one was opened ends no row; that one has lasted, or has ended by itself, does."""
    now = 100.0
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now))
    row, counted = FailureStreak(), []
    for lasts, failed in (
        (None, True),
        (0.0, True),
        (59.0, True),
        (60.0, True),
        (1.0, True),
        (2.0, False),
    ):
        if lasts is not None:
            row.opened()
            now += lasts / 2
            row.opened()
            now += lasts / 2
        row.ended(failed=failed)
        counted.append(row.failures)
    assert counted == [1, 2, 3, 1, 2, 0]


async def test_a_server_that_ends_each_watch_is_asked_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each end has everything listed once more, so the lists must not follow at once."""
    pauses = []

    def pause(_first: float, _most: float, n: int) -> float:
        pauses.append(n)
        return 0.0

    kube = Kube(*([b'{"type":"ERROR","object":{}}'] for _ in range(3)), [])
    await watched(
        kube, monkeypatch, *(page(version=f"{n // 2}") for n in range(12, 18)), pause=pause
    )
    assert pauses == [2, 3, 4]
    assert [version for _, version in kube.asked] == ["5", "6", "7", "8"]


@pytest.mark.parametrize("silent", [False, True])
async def test_logs_are_read_unless_redis_is_silent(silent: bool) -> None:
    """A row tells what the log adds to the object; without Redis it is by the object alone."""
    world = World(Objects(page(named("1"))))
    world.put("1")
    how: dict[str, Any] = {"silent": True} if silent else {}
    listed = rows(world.at, Filter(), (), world.progress, now=NOW, unread=[], **how)
    ((row,),) = [found async for found in listed]
    assert (row.request.uid, row.unsynced) == ("1", -1 if silent else 1)
