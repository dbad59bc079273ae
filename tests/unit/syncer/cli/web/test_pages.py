"""What each page says: the text, the links and the colours that a person sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.doctor.leases import LeaseFacts
from syncer.cli.doctor.result import fail, ok, unknown, warn
from syncer.cli.explanation import Rules, explain
from syncer.cli.owner import Owner
from syncer.cli.web import pages
from syncer.cli.web.entries import (
    DELETING,
    HELD,
    QUARANTINE,
    Channel,
    Entry,
    Failure,
    Placed,
    Position,
    Query,
)
from syncer.cli.web.receivers import Receiver
from syncer.cli.web.source import Head, Heads, Known, Overview
from syncer.cli.web.story import Moment
from syncer.ledger.reading import read_log
from syncer.model.hold import Hold
from syncer.model.record import Record, resend_record, skip_record
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Divergence, Finding
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    NOW,
    PLAN,
    C,
    elements,
    entry,
    failed,
    opened,
    request,
)
from tests.unit.syncer.cli.web.reading import lines_of

#: No hold is in force.
AT_NOW: Final = Placed((), NOW)
HEAD: Final = "| Notification | Phase | Age | Attempts | Channels | Notes |"


def row(**changes: Any) -> Entry:
    """An entry of a notification that nothing has happened to."""
    plain = Entry("ns", "n", "u", NOW - 90_000, "", 0, 0, 0, (), None, 0)
    return replace(plain, **changes)


def channels(*names: str) -> tuple[Channel, ...]:
    """Channels that nothing was sent to."""
    return tuple(Channel(name, "Pending", 0) for name in names)


def totals(**changes: Any) -> pages.Totals:
    """What is known of all: one was sent."""
    return replace(pages.Totals({"Sent": 1}, ["ns"], complete=True, cut=False), **changes)


def the_list(
    *entries: Entry, heads: Heads | None = None, query: Query | None = None,
    of: pages.Totals | None = None, more: bool = False, placed: Placed = AT_NOW,
) -> list[str]:  # fmt: skip
    """The list of entries."""
    return lines_of(
        pages.listed(
            entries, heads or Heads({}), query or Query(), of or totals(), placed, more=more, missing=(),
        )
    )  # fmt: skip


#: An entry, the head of its log, and what stands in its row behind the name.
ROWS: Final[dict[str, tuple[Entry, Head | None, str]]] = {
    "nothing has happened yet": (row(), None, "none yet | 90s | 0 | none yet | |"),
    "sent": (
        row(phase="Sent", attempts=2, channels=channels("slack:a", "console")), Head(0, unreadable=False),
        "Sent (good) | 90s | 2 | slack:a, console | |",
    ),
    "three channels are shown": (
        row(channels=channels("a", "b", "c")), None, "none yet | 90s | 0 | a, b, c | |",
    ),
    "of more, their number": (
        row(channels=channels("a", "b", "c", "d", "e")), None,
        "none yet | 90s | 0 | a, b, c and 2 more | |",
    ),
    "everything that deserves attention, the worst first": (
        row(
            phase="Failed", attempts=3, unknown=1, flags=HELD | QUARANTINE | DELETING,
            failure=Failure("slack:a", "no"),
        ),
        Head(2, unreadable=False),
        ("Failed (bad) | 90s | 3 | none yet | quarantined; held; being deleted; 1 unknown; 2 unsynced;"
        " slack:a: no |"),
    ),
    "held": (
        row(flags=HELD), Head(1, unreadable=False), "none yet | 90s | 0 | none yet | held; 1 unsynced |",
    ),
    "being deleted": (row(flags=DELETING), None, "none yet | 90s | 0 | none yet | being deleted |"),
    "a log that is not legible": (
        row(), Head(-1, unreadable=True), "none yet | 90s | 0 | none yet | quarantined |",
    ),
    "when it was created is not known": (row(created=0), None, "none yet | | 0 | none yet | |"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_a_row_of_the_list(case: str) -> None:
    """The status as it is known, and what deserves attention."""
    one, head, said = ROWS[case]
    lines = the_list(one, heads=Heads({} if head is None else {"u": head}))
    after = lines.index(HEAD) + 1
    assert lines[after - 2 :] == ["Newest first", HEAD, f"| ns/n </n/ns/n> | {said}"]


#: What is known of all, and what is said of it above the list.
TOTALS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "each phase, and none that nothing is in": (
        {"phases": {"Sent": 1_200, "": 1, "Failed": 0}},
        "1,201 notifications none yet 1 </?phase=none> Sent (good) 1,200 </?phase=sent>",
    ),
    "as far as it was read": (
        {"complete": False}, "1 notifications read so far Sent (good) 1 </?phase=sent>",
    ),
    "more than are kept": (
        {"cut": True},
        ("1 notifications Sent (good) 1 </?phase=sent> There are more than the explorer keeps: the oldest"
        " are not shown."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOTALS)
def test_totals(case: str) -> None:
    """They are over all, and each leads to the list of its phase."""
    changes, said = TOTALS[case]
    assert the_list(row(), of=totals(**changes))[1] == said


def test_filters_show_what_was_asked_for() -> None:
    """What was typed stands in its field; a namespace that nothing is in is offered as well."""
    asked = Query("disk", "failed", "held", "gone", "ops*")
    lines = the_list(query=asked)
    assert lines[2:] == [
        "Search [disk]",
        "Phase /any /none /pending /sending /retrying /sent /partiallysent /failed*",
        "State /any /needs attention /not finished /held* /quarantined /result unknown",
        "Namespace /any /ns /gone*",
        "Receiver [ops*]",
        "Show",
        "Clear </>",
        "No notification matches.",
    ]
    assert the_list(of=totals(complete=False))[-1] == "Still reading …"
    many = the_list(of=totals(namespaces=[f"n{n}" for n in range(300)]))
    assert many[5].split()[-1] == "/n199"
    assert the_list(query=Query(namespace="ns"))[5] == "Namespace /any /ns*"


def test_further_pages() -> None:
    """The way on starts behind the last row, and the way back loses no filter."""
    first, last = row(), row(name="m", created=NOW - 95_000)
    asked = Query(phase="sent", after=Position(1, "a", "b"))
    older = "Older </?phase=sent&after=1799999905000.ns%2Fm>"
    assert "Older" not in "".join(the_list(first, last))
    assert the_list(first, last, query=Query(phase="sent"), more=True)[-1] == (
        f"Further notifications: {older}"
    )
    assert the_list(first, last, query=asked, more=True)[-1] == (
        f"Further notifications: The newest </?phase=sent> {older}"
    )
    assert the_list(first, query=asked)[-1] == "Further notifications: The newest </?phase=sent>"


def test_what_a_hold_keeps_back_says_so() -> None:
    """As what its own annotation holds back does."""
    hold = Hold("00000001", "1", NOW - 1, NOW + 1, "alice", "they mend it", namespaces=("ns",))
    other = row(namespace="else")
    *_, first, second = the_list(row(), other, placed=Placed((hold,), NOW))
    assert ("| held |" in first, "held" in second) == (True, False)


def test_what_is_missing_is_said_first() -> None:
    """Once, on each page that lacks something."""
    text = pages.listed(
        [], Heads({}, "no logs"), Query(), totals(), AT_NOW, more=False, missing=["old", "old"]
    )
    assert lines_of(text)[:4] == [
        "Not all of this is up to date:", "- old", "- no logs", "# Notifications",
    ]  # fmt: skip


def known(request: NotificationRequest | None, *records: Record, **changes: Any) -> Known:
    """Everything that is known of a notification with such a log."""
    log = read_log(elements(*records)) if records else None
    found = None
    if request is not None and log is not None:
        owner = changes.pop("owner", Owner(watched=True, shard=3, holder="pod-1"))
        found = explain(request, log, Rules(), now=NOW, owner=owner)
    return replace(Known("ns/n", "u", request, log, found, (), (), gone=False, now=NOW), **changes)


def the_page(of: Known) -> list[str]:
    """The page of a notification."""
    return lines_of(pages.notification(of, events="/e"))


ROUTED: Final = (
    "- routed to slack:ops 2027-01-15T07:59:00.000Z (1 minute ago)"
    " RoutingRuleMatched: rule 1 matched"
)
MORE: Final = [
    "## More",
    "Every record of its log: $ kubectl ledger explain ns/n --records",
    "The same as text: $ kubectl ledger explain ns/n",
    "One more attempt: $ kubectl ledger resend ns/n --reason 'TEXT'",
]


def test_a_notification_that_is_retried() -> None:
    """Facts, what comes next, channels, and each moment with its wait, time and answer."""
    shown = replace(
        request(entry("failed"), phase="Retrying", totalAttempts=1), created=NOW - 61_000
    )
    assert the_page(known(shown, PLAN, opened(A1), failed(A1, wait=80_000))) == [
        "# ns/n",
        "Phase: Retrying (odd)",
        "Created: 2027-01-15T07:58:59.000Z (1 minute ago)",
        "Priority: Medium",
        "Attempts: 1",
        "Owner: pod-1, shard 3",
        "Uid: u",
        "## What comes next",
        "an attempt at 2027-01-15T08:00:31.000Z (in 31 seconds): next attempt not due yet",
        "## Channels",
        "Where it goes",
        "| Channel | State | Because | Attempts | Next attempt | Notes |",
        (
            "| slack:ops </?receiver=ops> | Retrying (odd) | attempts left | 1 | 2027-01-15T08:00:31.000Z"
            " (in 31 seconds) | |"
        ),
        "## What happened",
        "- created 2027-01-15T07:58:59.000Z (1 minute ago)",
        ROUTED,
        (
            "- (bad) failed, may be retried (bad) slack:ops 2027-01-15T07:59:10.000Z (50 seconds ago)"
            " attempt 0.7-1, after a wait of 10.0 s, took 1.0 s, code 503 slack said no"
        ),
        *MORE,
    ]


def test_a_notification_that_somebody_takes_care_of() -> None:
    """The hold, the order, the attempt that was not made, and the unknown result that can be resolved."""
    shown = request(
        entry("unknown"), phase="PartiallySent", hold="why", message="half",
        reason="Mixed", completionTime="2027-01-15T07:59:30Z",
    )  # fmt: skip
    shown = replace(shown, priority="High")
    lines = the_page(
        known(
            shown, PLAN, opened(A1), failed(A1, wait=0),
            resend_record("order:1", C, at=NOW - 20_000, by="ana@host", why="the hook is back"),
            skip_record("skip:1", C, at=NOW - 15_000, why="held: not now"),
            owner=Owner(watched=True, shard=3, holder=None),
        )
    )  # fmt: skip
    assert "Message: half" in lines
    assert "Priority: High" in lines
    assert "Held: why" in lines
    assert not [line for line in lines if line.startswith("Owner")]
    row_of = next(line for line in lines if line.startswith("| slack:ops"))
    assert row_of.endswith(
        "| none planned | one more attempt requested by order:1;"
        " last due attempt was not made: held: not now |"
    )
    notes = lines[lines.index("## What comes next") + 2 : lines.index("## Channels")]
    assert notes == [
        "- 2027-01-15T07:59:40.000Z resend requested by ana@host: slack:ops: the hook is back",
    ]
    assert lines[-1] == (
        "Put on record that it arrived: $ kubectl ledger resolve ns/n --as delivered --reason 'TEXT'"
    )


def test_log_and_object_that_disagree() -> None:
    """Each finding has what is to be done about it, and the command that shows what that would be."""
    lines = the_page(
        known(
            request(), PLAN, findings=(Finding(Divergence.UNACKED, "two records are not marked"),)
        )
    )
    at = lines.index("## Log and object disagree")
    assert lines[at + 1] == (
        "- unacked (bad) two records are not marked. `syncer verify --repair` has the owner mark it (caused"
        " by an owner that was ended or delayed)."
        " $ kubectl ledger verify --repair --dry-run ns/n"
    )


#: What is known, and what the page says besides.
LACKING: Final[dict[str, tuple[Known, list[str]]]] = {
    "the object is gone": (
        known(None, PLAN, gone=True, missing=("m",)),
        [
            "Not all of this is up to date:",
            "- m",
            "- The object no longer exists: this is its log.",
            "# ns/n",
            "## What happened",
            ROUTED,
            *MORE,
        ],
    ),
    "nothing": (known(None), ["# ns/n", "## What happened", "Nothing is known.", *MORE]),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_what_is_not_known_is_left_out(case: str) -> None:
    """The page is made of what there is."""
    of, said = LACKING[case]
    assert the_page(of) == said


def test_a_long_story_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many moments, above those that are shown."""
    monkeypatch.setattr("syncer.cli.web.story.MOST", 1)
    lines = the_page(known(None, PLAN, opened(A1), failed(A1), gone=True))
    assert lines[lines.index("## What happened") + 1] == "1 earlier moments are not shown."
    assert lines[lines.index("## What happened") + 2].startswith("- (bad) failed")


WHEN: Final = "2027-01-15T07:59:50.000Z (10 seconds ago)"
#: A moment, and its line.
MOMENTS: Final[dict[str, tuple[Moment, str]]] = {
    "its title": (Moment(NOW - 10_000, "created"), f"- created {WHEN}"),
    "its time is not known": (Moment(0, "created"), "- created time not known"),
    "what an attempt took": (
        Moment(NOW - 10_000, "delivered", "good", C, "1", 0, 0),
        f"- (good) delivered (good) slack:ops {WHEN} attempt 1, after a wait of 0 ms, took 0 ms",
    ),
    "short times in milliseconds, longer ones in seconds": (
        Moment(NOW - 10_000, "under way", "", C, "1", 999, 1000),
        f"- under way slack:ops {WHEN} attempt 1, after a wait of 999 ms, took 1.0 s",
    ),
    "the longest in words": (
        Moment(NOW - 10_000, "under way", "", C, "1", 59_940, 60_000),
        f"- under way slack:ops {WHEN} attempt 1, after a wait of 59.9 s, took 1 minute",
    ),
    "what is known of an attempt alone": (
        Moment(NOW - 10_000, "x", "odd", C, "1", code=429, detail="slow down", by="ana", restored=True),
        (f"- (odd) x (odd) slack:ops {WHEN} attempt 1, code 429, requested by ana, known from the status"
        " alone slow down"),
    ),
    "what a person did has no wait": (
        Moment(NOW - 10_000, "repaired", wait=5, duration=5, by="ana"), f"- repaired {WHEN} by ana",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOMENTS)
def test_a_moment(case: str) -> None:
    """What is known of it, and nothing else."""
    moment, said = MOMENTS[case]
    assert lines_of(f"<main>{pages._moment(moment, NOW)}</main>") == [said]


#: A receiver, and its row behind the channel's name.
RECEIVERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "nothing is known": ({}, "0 attempts | none tried | none | none | nothing on record | none |"),
    "all went well": ({"tried": 2}, "2 attempts | 0 of 2 | none | none | nothing on record | none |"),
    "it fails": (
        {
            "tried": 3, "refused": 1, "unknown": 2, "waiting": 1_000, "due": NOW - 10_000,
            "skip": "the breaker is open", "error": "no", "error_at": NOW - 5_000,
        },
        ("3 attempts | 1 of 3, 2 unknown | 1,000 </?receiver=ops&state=unfinished> |"
        f" {WHEN} | the breaker is open (bad) | no 5s ago |"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RECEIVERS)
def test_a_receiver(case: str) -> None:
    """What goes there, what fails, what waits, and why."""
    changes, said = RECEIVERS[case]
    page = pages.receivers(
        Overview({C: Receiver(C, **changes)}, more=False, missing="", now=NOW), missing=()
    )
    assert lines_of(page)[-1] == f"| slack:ops </?receiver=ops> | {said}"


def test_the_receivers_that_need_attention_come_first() -> None:
    """Those with the most that waits, then the most that failed, then by name."""
    found = {
        name: Receiver(name, waiting=waiting, refused=refused)
        for name, waiting, refused in (
            ("a:quiet", 0, 0), ("b:also", 0, 0), ("a:failing", 0, 3), ("a:waits", 2, 0), ("a:most", 5, 0),
            ("b:failing", 0, 3),
        )
    }  # fmt: skip
    lines = lines_of(
        pages.receivers(Overview(found, more=True, missing="m", now=NOW), missing=["n"])
    )
    assert lines[:4] == ["Not all of this is up to date:", "- n", "- m", "# Receivers"]
    assert lines[5:7] == [
        "Receivers",
        "| Receiver | Last hour | Failed in it | Waiting | Oldest due | Kept back | Last error |",
    ]
    assert [line.split()[1] for line in lines if " </?" in line] == [
        "a:most", "a:waits", "a:failing", "b:failing", "b:also", "a:quiet",
    ]  # fmt: skip
    assert lines[-1] == "There are more than 500 channels; the others are not shown."
    none = lines_of(pages.receivers(Overview({}, more=False, missing="", now=NOW), missing=()))
    assert none[2:] == ["No notification has been routed yet."]


#: The Leases, and the page.
SHARDS: Final[dict[str, tuple[LeaseFacts, list[str]]]] = {
    "one has no owner": (
        LeaseFacts(3, "i-1", "", ["b", "", "a", "b"]),
        [
            "# Shards",
            "Installation $ i-1",
            ("1 without an owner (bad) Their notifications are not sent. Start a replica, or find out why"
            " those that run are not ready: $ kubectl ledger doctor"),
            "## Owners",
            "Replicas",
            "| Replica | Shards | Which |",
            "| a | 1 | 2 |",
            "| b | 2 | 0, 3 |",
            "## Shards",
            "Shards",
            "| Shard | Owner |",
            "| 0 | b |",
            "| 1 | no owner (bad) |",
            "| 2 | a |",
            "| 3 | b |",
        ],
    ),
    "they could not be read": (
        LeaseFacts(problem="refused"),
        [
            "Not all of this is up to date:", "- the owners of the shards are not known: refused",
            "# Shards",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_shards(case: str) -> None:
    """Who owns what; what nobody owns is said first, with what to do."""
    facts, said = SHARDS[case]
    assert lines_of(pages.shards(facts, missing=())) == said


def test_health() -> None:
    """How many of each grade, and the worst first."""
    found = [
        ok("a", "fine"),
        unknown("b", "not asked"),
        fail("c", "bad", "mend it"),
        warn("d", "odd", "look"),
    ]
    lines = lines_of(pages.health(found, missing=["m"]))
    assert lines[2:-1] == [
        "# Health",
        "1 fail, 1 warn, 1 unknown, 1 ok",
        "Findings",
        "| Grade | Check | Found | Fix |",
        "| fail (bad) | c | bad | mend it |",
        "| warn (odd) | d | odd | look |",
        "| unknown (odd) | b | not asked | |",
        "| ok (good) | a | fine | |",
    ]
    assert lines_of(pages.health([], missing=()))[:2] == [
        "# Health",
        "0 fail, 0 warn, 0 unknown, 0 ok",
    ]


#: A page, its title, and the link of the navigation that leads to where one is.
PAGES: Final[dict[str, tuple[Callable[[], str], str, str]]] = {
    "the list": (
        lambda: pages.listed(
            [], Heads({}), Query(), totals(), AT_NOW, more=False, missing=()
        ),
        "Notifications", "/",
    ),
    "receivers": (
        lambda: pages.receivers(Overview({}, more=False, missing="", now=NOW), missing=()),
        "Receivers", "/receivers",
    ),
    "shards": (lambda: pages.shards(LeaseFacts(), missing=()), "Shards", "/shards"),
    "health": (lambda: pages.health([], missing=()), "Health", "/health"),
    "a problem": (lambda: pages.problem("Not here", "x"), "Not here", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", PAGES)
def test_every_page_has_its_title_and_its_place(case: str) -> None:
    """The title names it, and the navigation shows where one is, for screen readers too."""
    make, title, here = PAGES[case]
    text = make()
    assert f"<title>{title} · notification-ledger</title>" in text
    assert f"<h1>{title}</h1>" in text
    marked = [part.split('"')[1] for part in text.split("<a ") if 'aria-current="page"' in part]
    assert marked == ([here] if here else [])
    assert "defer></script>" in text
    assert ('data-events="/events"' in text) is (here in {"/", "/receivers"})


def test_a_second_attempt_waits_for_the_first() -> None:
    """Its wait is counted from the end of the one before, and a stopped one has no duration."""
    lines = the_page(
        known(request(), PLAN, opened(A1), failed(A1), opened(A2, at=NOW - 19_000), missing=("m",))
    )
    assert lines[lines.index("## More") - 1] == (
        "- under way slack:ops 2027-01-15T07:59:41.000Z (19 seconds ago) attempt 0.7-2, after a wait of"
        " 30.0 s"
    )
