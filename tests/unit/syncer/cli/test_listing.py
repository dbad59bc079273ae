"""Rows of a list: what they say, and which are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.listing import COLOURS, FLEXIBLE, HEAD, Filter, Row, row_of, rows
from syncer.cli.output import Columns
from syncer.cli.screen import Screen
from syncer.ledger.answers import LogHead
from syncer.model.attempt import Epoch
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
    "a result that is not known": ({"states": ("unknown",)}, False),
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
    assert Filter(states=("unsynced", "unknown")).matches(Row(held, 0, quarantined=False), NOW)
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


def test_a_list_fits_a_terminal() -> None:
    """Names as long as they may be, and a long error, take eighty columns and no more."""
    long = attempted(("pagerduty:the-first-receiver", "connection refused " * 9, "07:50:00"))
    long = replace(long, name="n" * 63, namespace="team-payments-production")
    found = Columns(HEAD, Screen(80), flexible=FLEXIBLE, colours=COLOURS)
    lines = found.lines([Row(long, 0, quarantined=False).cells(NOW)])
    assert [len(line) for line in lines[1:]] == [80]
    assert "Sending" in lines[1]


@pytest.mark.parametrize("silent", [False, True])
async def test_logs_are_read_unless_redis_is_silent(silent: bool) -> None:
    """A row tells what the log adds to the object; without Redis it is by the object alone."""
    world = World(Objects(page(named("1"))))
    world.put("1")
    how: dict[str, Any] = {"silent": True} if silent else {}
    listed = rows(world.at, Filter(), (), world.progress, now=NOW, unread=[], **how)
    ((row,),) = [found async for found in listed]
    assert (row.request.uid, row.unsynced) == ("1", -1 if silent else 1)
