"""Who may send without the log, and what a write ahead shows."""

from __future__ import annotations

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.conditions import LOG_UNAVAILABLE, Condition, find_condition
from syncer.model.journal import Note, note_after, parse_note
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, RetryPolicy, Status
from syncer.rules.fold import LogView
from syncer.rules.journal import BORN_MARGIN, INCOMPLETE, Basis, basis, held_because
from syncer.rules.merge import WRITTEN_AHEAD, Facts, merge

EPOCH = Epoch("0.20")
NOTE = Note("0.20-1", since=1_000_000, kept=3)


def request(*, created: int = 1, journal: str | None = None) -> NotificationRequest:
    """An object as it was read."""
    return NotificationRequest(
        uid="u", namespace="n", name="o", resource_version="7", generation=1, created=created,
        deleting=False, priority="Medium", policy=RetryPolicy(max_attempts=1), retention_days=7,
        status=Status(journal=journal),
    )  # fmt: skip


#: What was read, under which note, the epoch of the claim, since when the term is, and what is known.
KNOWN: dict[str, tuple[NotificationRequest, Note | None, Epoch | None, int, Basis]] = {
    "no note is confirmed": (request(), None, EPOCH, 0, Basis.NO_NOTE),
    "claimed in this term": (request(), NOTE, EPOCH, 0, Basis.MEMORY),
    "claimed in an earlier term": (request(), NOTE, Epoch("0.19"), 0, Basis.OLDER),
    "marked under this note": (request(journal="0.20-1"), NOTE, None, 0, Basis.MARKED),
    "marked under another one": (request(journal="0.11-1"), NOTE, None, 0, Basis.OLDER),
    "born after it": (request(created=NOTE.since + BORN_MARGIN), NOTE, None, 0, Basis.BORN),
    "born within the margin": (
        request(created=NOTE.since + BORN_MARGIN - 1000), NOTE, None, 0, Basis.OLDER,
    ),
    "nobody knows when it was born": (request(created=0), NOTE, None, 0, Basis.OLDER),
    "born later than the term, by the margin": (request(created=5000), NOTE, None, 2000, Basis.OWN),
    "born within the margin of the term": (request(created=4000), NOTE, None, 2000, Basis.OLDER),
    "nobody knows when the term began": (request(created=5000), NOTE, None, 0, Basis.OLDER),
    "nobody knows when it was born, of a term": (request(created=0), NOTE, None, 2000, Basis.OLDER),
}  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_who_knows_all(case: str) -> None:
    """One of four reasons is enough, and only under a note that is confirmed."""
    read, note, known_in, since, why = KNOWN[case]
    found = basis(read, note, known_in=known_in, epoch=EPOCH, since=since)
    assert found is why
    assert found.complete == (why in {Basis.MEMORY, Basis.MARKED, Basis.BORN, Basis.OWN})


def test_a_note_survives_its_text() -> None:
    """What is written into the annotation is read back."""
    assert parse_note(NOTE.text()) == NOTE


@pytest.mark.parametrize("text", ["", "true", "0.20-1", "0.20-0 since=1 kept=1", f"{NOTE.text()} "])
def test_what_is_no_note(text: str) -> None:
    """An annotation that cannot be relied on says nothing."""
    assert parse_note(text) is None


@pytest.mark.parametrize(
    ("transitions", "incarnation", "kept"),
    [
        pytest.param(3, 0, Note("0.20-1", 1_000_000, 4), id="the last acquisition kept it"),
        pytest.param(4, 0, None, id="one in between did not know of it"),
        pytest.param(3, 1, None, id="it is of another incarnation"),
    ],
)
def test_what_an_acquisition_keeps(transitions: int, incarnation: int, kept: Note | None) -> None:
    """A note counts only if each acquisition since has kept it."""
    found = note_after(
        NOTE.text(), transitions=transitions, incarnation=incarnation, taken=transitions + 1
    )
    assert found == kept


def view_with(*attempts: Attempt) -> LogView:
    """Memory: a plan of one channel, and attempts."""
    view = LogView(plan=Plan(("slack:ops",), at=500))
    for attempt in attempts:
        view.learn(attempt)
    return view


OPEN = Attempt(AttemptId("0.20-1"), "slack:ops", AttemptState.INTENT, started=900)


def facts(*in_hand: AttemptId, at_most_once: bool = False) -> Facts:
    """One attempt is allowed."""
    return Facts(
        1, RetryPolicy(max_attempts=1), at_most_once, in_hand=dict.fromkeys(in_hand, "slack:ops")
    )


@pytest.mark.parametrize("at_most_once", [False, True])
def test_a_write_ahead_ends_nothing(at_most_once: bool) -> None:
    """The only attempt is shown as unknown, and the phase is that of one under way."""
    rules = facts(OPEN.id, at_most_once=at_most_once)
    ahead = merge(Status(), view_with(OPEN), rules, now=1000, journal="0.20-1").status
    (shown,) = ahead.attempts
    assert (shown.state, shown.failure, shown.error) == (
        AttemptState.UNKNOWN, FailureClass.UNCERTAIN, WRITTEN_AHEAD,
    )  # fmt: skip
    assert (ahead.phase, ahead.journal, ahead.channels[0].state) == ("Sending", "0.20-1", "Sending")
    # What the watch brings back is the same.
    again = merge(ahead, view_with(OPEN), rules, now=1000).status
    assert (again.phase, again.journal) == ("Sending", "0.20-1")
    # Another owner has it in nobody's hands: now it is used up.
    other = merge(ahead, view_with(), facts(at_most_once=at_most_once), now=1000).status
    assert other.phase == "Failed"


def test_without_a_journal_an_open_attempt_is_not_shown() -> None:
    """An ordinary write shows results alone, keeps a mark, or takes it away."""
    marked = Status(journal="0.20-1")
    assert merge(marked, view_with(OPEN), facts(OPEN.id), now=1).status.attempts == ()
    assert merge(marked, view_with(), facts(), now=1).status.journal == "0.20-1"
    assert merge(marked, view_with(), facts(), now=1, journal="").status.journal is None


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (AttemptState.UNKNOWN, "Sending"),
        (AttemptState.FAILED, "Failed"),
        (AttemptState.SUCCESS, "Sent"),
    ],
)
def test_nothing_is_called_failed_that_the_log_may_know_better(
    state: AttemptState, phase: str
) -> None:
    """While it cannot be read a result that is not known ends nothing, and one that is does."""
    view = view_with(Attempt(OPEN.id, OPEN.channel, state, 900, 1100))
    rules = Facts(1, RetryPolicy(max_attempts=1), unread=True)
    assert merge(Status(), view, rules, now=1200).status.phase == phase


def test_what_is_carried_out_elsewhere_stays_unknown() -> None:
    """An attempt in hand counts as open; one of a former owner does not, and is an attempt made."""
    former = Attempt(
        AttemptId("0.19-1"), "file", AttemptState.UNKNOWN, started=1, ended=2,
        failure=FailureClass.UNCERTAIN,
    )  # fmt: skip
    view = view_with(former, OPEN)
    view.plan = Plan(("slack:ops", "file"), at=500)
    found = merge(Status(), view, facts(OPEN.id, at_most_once=True), now=1000).status
    states = {channel.name: channel.state for channel in found.channels}
    assert states["slack:ops"] == "Sending"
    assert states["file"] != "Sending"
    assert [(a.id, a.state) for a in found.attempts] == [("0.19-1", AttemptState.UNKNOWN)]
    assert (found.uncertain, found.total_attempts) == (1, 1)


# -- what is said of an attempt that waits while others are journaled ------------------------------

AWAY = "A delivery is due and is held, because the log cannot be reached or accepts no writes"


def test_each_reason_to_hold_is_named() -> None:
    """Without a journal it waits for the log; with one, the reason tells why it is not journaled."""
    assert held_because(None) == ("DeliveryHeld", AWAY)
    assert {held_because(b) for b in Basis if b.complete} == {("DeliveryHeld", AWAY)}
    found = {held_because(b) for b in INCOMPLETE}
    assert {reason for reason, _ in found} == {
        "OutageNotRecorded", "RecordsNotRead",
    }  # fmt: skip
    assert all(text.startswith(f"{AWAY}, and it is not journaled: ") for _, text in found)
    assert set(INCOMPLETE) == {b for b in Basis if not b.complete}


@pytest.mark.parametrize(
    ("by", "reason"), [(None, "DeliveryHeld"), (Basis.OLDER, "RecordsNotRead")]
)
def test_the_condition_names_the_reason(by: Basis | None, reason: str) -> None:
    """The object says why it is held, and stops saying so."""
    facts = Facts(3, RetryPolicy(), held=held_because(by))
    status = merge(Status(), LogView(), facts, now=5_500).status
    wanted = Condition(LOG_UNAVAILABLE, "True", reason, held_because(by)[1], 5_000, 3)
    assert find_condition(status.conditions, LOG_UNAVAILABLE) == wanted
    later = merge(status, LogView(), Facts(3, RetryPolicy()), now=6_000).status
    assert find_condition(later.conditions, LOG_UNAVAILABLE) is None
