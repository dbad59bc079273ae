"""Rows of a list: what they say, and which are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.receivers import Overview
from syncer.cli.rows import (
    UNREAD,
    Head,
    Placed,
    Query,
    Row,
    row_of,
)
from syncer.ledger.answers import LogHead
from syncer.model.attempt import Epoch
from syncer.model.hold import Hold
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from tests.unit.syncer.cli.samples import A1, NOW, C, entry, request, tried

HOUR: Final = 3_600_000
AT: Final = Placed(now=NOW)


def row(of: NotificationRequest, **changes: Any) -> Row:
    """The row of an object."""
    return row_of(replace(of, **changes))


def attempted(*errors: tuple[str, str, str], **status: Any) -> NotificationRequest:
    """An object whose attempts have these channels, errors and times of 15 January 2027."""
    entries = [
        tried("failed", n, clock, channel, error=error)
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
    "a channel with attempts": ({"receivers": ("slack:*",)}, True),
    "a channel without attempts yet": ({"receivers": ("file:*", "file")}, True),
    "a channel that it does not have": ({"receivers": ("email:*",)}, False),
    "a receiver": ({"receivers": ("dev",)}, True),
    "another receiver": ({"receivers": ("qa",)}, False),
    "attempted since then": ({"since": NOW - 900_000}, True),
    "created since then": ({"since": NOW - HOUR, "receivers": ("file",)}, True),
    "neither": ({"since": NOW - 500_000}, False),
    "attempted since then on another channel": ({"since": NOW - 900_000, "receivers": (C,)}, False),
    "its event": ({"event": 'alertmanager:{}:{alertname="Disk"}'}, True),
    "a part of its event": ({"event": "alertmanager:{}"}, True),
    "another event": ({"event": "flux"}, False),
    "a result that is not known": ({"states": ("unknown",)}, False),
    "one of two states": ({"states": ("unknown", "unfinished")}, True),
    "its phase": ({"phases": ("failed", "sending")}, True),
    "another phase": ({"phases": ("failed",)}, False),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_conditions(case: str) -> None:
    """Each that is set must be met; of several patterns, phases or states any one."""
    conditions, wanted = TAKEN[case]
    assert Query(**conditions).matches(row(TIMEOUT), AT) is wanted


def test_what_a_row_says() -> None:
    """What deserves attention, the worst first; the last error belongs to what is not sent."""
    held = row(request(entry("unknown", 1, A1), hold="x", uncertainAttempts=1))
    assert held.notes(AT, Head(3, unreadable=True)) == [
        "quarantined",
        "held",
        "1 unknown",
        "3 unsynced",
    ]
    assert held.states(AT, Head(3)) == {"unsynced", "unknown", "held", "unfinished", "attention"}
    assert row(TIMEOUT).notes(AT) == ["webhook:dev: 503"]
    assert row(request(), deleting=True).notes(AT, Head(1)) == ["being deleted", "1 unsynced"]
    sent = row(TIMEOUT, status=replace(TIMEOUT.status, phase="Sent"))
    assert (sent.notes(AT), sent.next(AT), sent.states(AT)) == ([], "", set())
    assert sent.as_json(AT)["lastError"] == {
        "channel": "webhook:dev", "error": "503", "at": "2027-01-15T07:50:00.000Z",
    }  # fmt: skip
    waits = row(
        request(
            channels=[{"name": C, "state": "Retrying", "nextRetryTime": "2027-01-15T08:05:00Z"}]
        )
    )
    assert (waits.next(AT), waits.next(Placed(now=NOW + HOUR)), waits.receivers) == (
        "in 5m",
        "due",
        C,
    )


DEV: Final = "slack:dev"


DROPPED: Final = "permanent failure: dropped with hold h of sam: their flood"
#: Phase, channels and attempts of what has ended; whether it is lost, and what is noted.
ENDED: Final[dict[str, tuple[str, dict[str, str], list[dict[str, Any]], bool, list[str]]]] = {
    "it failed": (
        "Failed", {C: "Failed"}, [tried("failed", 1, "07:20:00", error="403")], True, [f"{C}: 403"],
    ),
    "it was sent again, and delivered": (
        "Failed", {C: "Delivered"},
        [tried("failed", 1, "07:20:00", error="403"), tried("success", 2, "07:50:00")],
        False, ["delivered later, recorded at 2027-01-15T07:50:00Z"],
    ),
    "it was resolved as delivered": (
        "Failed", {C: "Delivered"}, [tried("success", 1, "07:50:00")],
        False, ["delivered later, recorded at 2027-01-15T07:50:00Z"],
    ),
    "it was sent again on one of two channels": (
        "PartiallySent", {C: "Delivered", DEV: "Exhausted"},
        [tried("failed", 1, "07:20:00", DEV, error="404"), tried("failed", 2, "07:30:00", error="403"),
         tried("success", 3, "07:50:00")],
        True, [f"{DEV}: 404"],
    ),
    "it waits for one more attempt": (
        "Failed", {C: "Retrying"}, [tried("failed", 1, "07:20:00", error="403")], True, [f"{C}: 403"],
    ),
    "a newer one went instead": (
        "Failed", {C: "Superseded"},
        [tried("failed", 1, "07:20:00", error="superseded by n2") | {"class": "superseded"}],
        False, [f"{C}: superseded by n2"],
    ),
    "it was dropped": (
        "Failed", {C: "Failed"}, [tried("failed", 1, "07:20:00", error=DROPPED)],
        False, [f"{C}: {DROPPED}"],
    ),
    "it was dropped, and failed when it was sent again": (
        "Failed", {C: "Failed"},
        [tried("failed", 1, "07:20:00", error=DROPPED),
         tried("failed", 2, "07:30:00", error="403")],
        True, [f"{C}: 403"],
    ),
    "it goes to nobody": ("Failed", {}, [], True, []),
    "it was sent after a failure": (
        "Sent", {C: "Delivered"},
        [tried("failed", 1, "07:20:00", error="403"), tried("success", 2, "07:50:00")], False, [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDED)
def test_what_is_lost(case: str) -> None:
    """What has failed and was not delivered since; list, status and explorer say so alike."""
    phase, channels, attempts, lost, notes = ENDED[case]
    shown = [{"name": name, "state": state} for name, state in channels.items()]
    found = row(
        request(*attempts, phase=phase, channels=shown, completionTime="2027-01-15T07:40:00Z")
    )
    counts = Overview(AT, NOW - HOUR)
    counts.take(found)
    assert (found.notes(AT), counts.states["failed"], found.as_json(AT)["lost"]) == (
        notes,
        lost,
        lost,
    )
    assert found.states(AT) == ({"lost", "attention"} if lost else set())


#: The first element of a log, its length, and what is said of both.
HEADS: Final[dict[str, tuple[bytes | None, int, Head]]] = {
    "no log": (None, 0, UNREAD),
    "all is published": (Header("ns/n", Epoch("0.7"), acked=2).encode(), 3, Head(0)),
    "one record is not": (Header("ns/n", Epoch("0.7"), acked=1).encode(), 3, Head(1)),
    "more is marked than there is": (Header("ns/n", Epoch("0.7"), acked=9).encode(), 3, Head(0)),
    "it is not legible": (b"damage", 3, Head(-1, unreadable=True)),
}


@pytest.mark.parametrize("case", HEADS)
def test_the_head_of_a_log(case: str) -> None:
    """How many records are not published, and whether it can be read."""
    element, length, wanted = HEADS[case]
    assert Head.of(LogHead(element, length, -1)) == wanted


#: What a hold is about, and whether it keeps back an unfinished notification.
HOLDS: Final[dict[str, tuple[dict[str, Any], bool]]] = {
    "its receiver": ({"receivers": ("ops",)}, True),
    "another receiver": ({"receivers": ("dev",)}, False),
    "a receiver that has it already": ({"receivers": ("done",)}, False),
    "its namespace": ({"namespaces": ("ns",)}, True),
    "its type": ({"types": ("Simple",)}, True),
    "another severity": ({"severities": ("low",)}, False),
}


@pytest.mark.parametrize("case", HOLDS)
def test_a_hold_is_found_by_what_it_is_about(case: str) -> None:
    """As long as it is in force; what has ended is held by nothing."""
    about, wanted = HOLDS[case]
    hold = Hold("h", "1", NOW - 1, NOW + 1, "alice", "they mend it", **about)
    shown = [{"name": C, "state": "Retrying"}, {"name": "slack:done", "state": "Delivered"}]
    waits, ended = (row(request(phase=phase, channels=shown)) for phase in ("Pending", "Sent"))
    assert waits.held(Placed((hold,), NOW)) is wanted
    assert not ended.held(Placed((hold,), NOW))
    assert not waits.held(Placed((hold,), NOW + 1))
    assert not row(request(phase="Sent", hold="x")).held(AT)


def test_what_is_kept_is_bounded() -> None:
    """Of an error its beginning, of many channels the first."""
    found = row(
        attempted((C, "x" * 500, "07:30:00"), channels=[{"name": f"slack:{n}"} for n in range(30)])
    )
    assert found.failure is not None
    assert (len(found.failure.error), len(found.channels)) == (200, 20)
