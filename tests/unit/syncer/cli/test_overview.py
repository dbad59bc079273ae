"""What all notifications together say, and the lines that `status` makes of it."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest

from syncer.cli.receivers import LATE, Overview, Receiver, columns_of
from syncer.cli.rows import Placed, row_of
from syncer.cli.status import Line, _part, lines_of, replicas
from syncer.kube.leases import LeaseRecord
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import Unavailable
from syncer.model.hold import Hold
from syncer.model.outcome import Outcome
from syncer.model.record import resolution_record
from syncer.model.times import format_time
from syncer.rules.holds import reason_of
from syncer.rules.merge import SENDER_ENDED, WRITTEN_AHEAD
from syncer.rules.plan import stale_of
from tests.unit.syncer.cli.samples import A1, NOW, C, entry, request, tried

DAY = 86_400_000


def counted(*found: Any, holds: tuple[Hold, ...] = ()) -> Overview:
    """What these say."""
    counts = Overview(Placed(holds, NOW), NOW - DAY)
    for one in found:
        counts.take(row_of(one))
    return counts


def cells(found: Receiver) -> list[str]:
    """Its row."""
    return [cell(found) for cell in columns_of(NOW).values()]


def channel(state: str, **more: Any) -> list[dict[str, Any]]:
    """The channels of a status."""
    return [{"name": C, "state": state, **more}]


def test_a_receiver_is_bad_since_the_first_failure_behind_its_last_success() -> None:
    """Whichever notifications these were of, and in whatever order they are read."""
    failing = request(
        tried("failed", 1, "07:20:00", error="old"), tried("failed", 2, "07:50:00", error="new"),
        channels=channel("Retrying", nextRetryTime="2027-01-15T08:05:00Z"),
    )  # fmt: skip
    sent = request(tried("success", 1, "07:30:00"), phase="Sent", channels=channel("Delivered"))
    again = request(tried("failed", 1, "07:40:00", error="first"), channels=channel("Retrying"))
    for order in ((failing, sent, again), (again, sent, failing)):
        (bad,) = counted(*order).bad
        assert cells(bad) == [C, "bad for 20m", "4", "3", "0", "2", "30m ago", "new"]
    better = request(tried("success", 1, "07:55:00"), phase="Sent", channels=channel("Delivered"))
    assert counted(failing, sent, again, better).bad == []


def test_after_a_thousand_failures_the_newest_still_gives_the_error() -> None:
    """Not one that is read later and came before it."""
    old = [
        request(*[tried("failed", s + 1, f"07:{m:02}:{s:02}", error="old") for s in range(40)])
        for m in range(25)
    ]
    newest = tried("failed", 1001, "07:50:00", error="newest")
    between = tried("failed", 1002, "07:40:00", error="between")
    (bad,) = counted(*old, request(newest), request(between)).bad
    assert (bad.error, len(bad.failures), bad.since) == ("newest", 1000, NOW - 60 * 60_000)


def test_a_receiver_to_which_nothing_can_be_sent_is_bad() -> None:
    """Where its host has no address, say. One attempt that was not sent is no news of the receiver."""
    unsent = [
        tried("failed", n, f"07:{10 * n}:00", **{"class": "notSent"}, error="no such host")
        for n in (1, 2, 3)
    ]
    assert counted(request(*unsent[:2], channels=channel("Retrying"))).bad == []
    (bad,) = counted(request(*unsent, channels=channel("Retrying"))).bad
    assert cells(bad) == [C, "bad for 50m", "3", "0", "0", "1", "-", "no such host"]
    better = request(tried("success", 1, "07:25:00"), phase="Sent", channels=channel("Delivered"))
    assert counted(request(*unsent, channels=channel("Retrying")), better).bad == []
    late = tried("failed", 1, "07:30:00", **{"class": "superseded"}, error="superseded by n2")
    assert counted(request(late, channels=channel("Superseded"))).bad == []


DROP: Final = Hold("h", "1", NOW, NOW + DAY, "sam", "their flood", drop_before=NOW)
UNKNOWN: Final = Attempt(A1, C, AttemptState.UNKNOWN)
#: State and error of an attempt; its receiver's attempts, failures, unknown results; whether that is bad.
BLAME: Final[dict[str, tuple[str, str, tuple[int, int, int], bool]]] = {
    "an operator has dropped it": (
        "failed", Outcome.permanent(reason_of(DROP)).error, (0, 0, 0), False,
    ),
    "it was too old": (
        "failed", Outcome.permanent(stale_of(NOW - DAY, NOW, 3600)).error, (0, 0, 0), False,
    ),
    "an operator has resolved it": (
        "failed",
        str(resolution_record(UNKNOWN, delivered=False, at=NOW, by="a", why="no").body["error"]),
        (1, 1, 0), False,
    ),
    "its sender has ended": ("unknown", SENDER_ENDED, (1, 0, 1), False),
    "it may be under way": ("unknown", WRITTEN_AHEAD, (1, 0, 1), False),
    "no answer came": ("unknown", "connection reset", (1, 0, 1), True),
    "it was refused": ("failed", Outcome.permanent("dropped with hold").error, (1, 1, 0), True),
}  # fmt: skip


@pytest.mark.parametrize("case", BLAME)
def test_a_receiver_is_not_blamed_for_what_it_had_no_part_in(case: str) -> None:
    """Nor is what was never sent an attempt of it."""
    state, error, numbers, bad = BLAME[case]
    found = counted(request(tried(state, 1, "07:50:00", error=error), channels=channel("Failed")))
    receiver = found.receivers[C]
    assert (receiver.attempts, receiver.failed, receiver.unknown) == numbers
    assert (found.bad == [receiver], bool(receiver.error)) == (bad, bad)


def test_what_needs_attention() -> None:
    """What is overdue, unknown, failed within the day, held; each with its command."""
    found = counted(
        request(channels=channel("Retrying", nextRetryTime="2027-01-15T07:50:00Z")),
        request(channels=channel("Retrying", nextRetryTime="2027-01-15T08:05:00Z")),
        request(entry("unknown"), uncertainAttempts=1, phase="Sent", channels=channel("Delivered")),
        request(phase="Failed", completionTime="2027-01-15T07:00:00Z"),
        request(phase="Failed", completionTime="2027-01-13T07:00:00Z"),
        request(hold="x"),
        request(channels=[{"name": "slack:ops2", "state": "Retrying"}]),
        holds=(Hold("h", "1", NOW - DAY, NOW + DAY, "a", "r", receivers=("ops2",)),),
    )
    assert found.notifications == 7
    assert (found.states["unfinished"], found.states["stuck"]) == (4, 1)
    lines = {line.name: line for line in lines_of(found)}
    assert lines["STUCK"] == Line(
        "STUCK", False, "1 of 4 unfinished are overdue", "list --unfinished"
    )
    assert lines["FAILED"].text == "1 in 24 h"
    assert lines["UNKNOWN"].next == "list --state unknown"
    assert lines["HELD BACK"].text == "2 by a hold or an annotation"
    assert lines["QUARANTINED"] == Line("QUARANTINED", True, "none", "")
    assert LATE < 600_000


def session(name: str, silent: float = 1.0, **annotations: str) -> LeaseRecord:
    """The Lease of a replica's session."""
    said = {
        f"notification-ledger/{key.replace('_', '-')}": text for key, text in annotations.items()
    }
    at = format_time(round(NOW - silent * 1000))
    return LeaseRecord(f"nc-session-{name}", "u", "1", holder=name, duration=18.0, renew_time=at,
                       annotations=said)  # fmt: skip


def test_replicas_and_the_routing_that_they_have_in_force() -> None:
    """By their sessions' last renewal; a file that is not taken, and replicas that differ, are bad."""
    fine = "2 receiver(s) in force, from a file of sha256 aa"
    alive = replicas([session("a", routing=fine), session("b", routing=fine)], NOW)
    assert alive == [Line("REPLICAS", True, "2 alive: a, b"), Line("ROUTING", True, fine)]
    idle = session("b", 30.0, routing=fine)
    bad = session("a", problem="no Redis", routing=fine, routing_problem="line 3: no such receiver")
    lines = replicas([bad, idle], NOW)
    assert lines == [
        Line("REPLICAS", False, "1 alive: a (sends nothing: no Redis); b has been silent for 30 s",
             "doctor"),
        Line("ROUTING", False, f"{fine}; a: line 3: no such receiver", "doctor"),
    ]  # fmt: skip
    differ = replicas([session("a", routing=fine), session("b", routing="another")], NOW)
    assert differ[1:] == [Line("ROUTING", False, f"{fine}; another: the replicas differ", "doctor")]
    assert replicas([], NOW) == [Line("REPLICAS", False, "0 alive", "doctor")]


async def test_a_server_that_hangs_keeps_nothing_back() -> None:
    """A part that is not to be had in time is a line of its own; so is one that fails."""
    never = asyncio.get_running_loop().create_future()
    assert await _part("REDIS", never, "doctor", within=0.01) == [
        Line("REDIS", None, "no answer within 0 s", "doctor")
    ]
    assert await _part("HOLDS", AsyncMock(side_effect=Unavailable("away"))(), "hold list") == [
        Line("HOLDS", None, "not known: away", "hold list")
    ]
