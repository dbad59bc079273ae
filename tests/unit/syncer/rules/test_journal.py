"""Who may send without the log, and what a write ahead shows."""

from __future__ import annotations

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.journal import Note, note_after, parse_note
from syncer.model.record import Plan
from syncer.model.rendering import render_status
from syncer.model.resource import NotificationRequest, RetryPolicy, Status, parse_status
from syncer.rules.fold import LogView
from syncer.rules.journal import BORN_MARGIN, Basis, basis
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


@pytest.mark.parametrize(
    ("read", "note", "known_in", "why"),
    [
        pytest.param(request(), None, EPOCH, Basis.NO_NOTE, id="no note is confirmed"),
        pytest.param(request(), NOTE, EPOCH, Basis.MEMORY, id="claimed in this term"),
        pytest.param(request(), NOTE, Epoch("0.19"), Basis.OLDER, id="claimed in an earlier term"),
        pytest.param(request(journal="0.20-1"), NOTE, None, Basis.MARKED, id="marked under this note"),
        pytest.param(request(journal="0.11-1"), NOTE, None, Basis.OLDER, id="marked under another one"),
        pytest.param(
            request(created=NOTE.since + BORN_MARGIN), NOTE, None, Basis.BORN, id="born after it"
        ),
        pytest.param(
            request(created=NOTE.since + BORN_MARGIN - 1000), NOTE, None, Basis.OLDER,
            id="born within the margin",
        ),
        pytest.param(request(created=0), NOTE, None, Basis.OLDER, id="nobody knows when"),
    ],
)  # fmt: skip
def test_who_knows_all(
    read: NotificationRequest, note: Note | None, known_in: Epoch | None, why: Basis
) -> None:
    """One of three reasons is enough, and only under a note that is confirmed."""
    found = basis(read, note, known_in=known_in, epoch=EPOCH)
    assert found is why
    assert found.complete == (why in {Basis.MEMORY, Basis.MARKED, Basis.BORN})


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
    return Facts(1, RetryPolicy(max_attempts=1), at_most_once, in_hand=frozenset(in_hand))


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


def test_a_result_raises_what_was_written_ahead() -> None:
    """A success wins over the unknown that the status shows, and ends the notification."""
    ahead = merge(Status(), view_with(OPEN), facts(OPEN.id), now=1000, journal="0.20-1").status
    view = view_with(OPEN, Attempt(OPEN.id, OPEN.channel, AttemptState.SUCCESS, 900, 1100))
    done = merge(ahead, view, facts(), now=1200, journal="0.20-1").status
    assert [a.state for a in done.attempts] == [AttemptState.SUCCESS]
    assert (done.phase, done.total_attempts, done.uncertain) == ("Sent", 1, 0)


def test_a_mark_survives_its_status() -> None:
    """The mark is read back as it is written, and its absence too."""
    assert parse_status(render_status(Status(journal="0.20-1"))).journal == "0.20-1"
    assert parse_status({}).journal is None


@pytest.mark.parametrize(
    ("created", "since", "why"),
    [
        pytest.param(5000, 2000, Basis.OWN, id="later than the term, by the margin"),
        pytest.param(4000, 2000, Basis.OLDER, id="within the margin"),
        pytest.param(5000, 0, Basis.OLDER, id="nobody knows when the term began"),
        pytest.param(0, 2000, Basis.OLDER, id="nobody knows when it was created"),
    ],
)
def test_what_an_owner_has_seen_from_the_beginning(created: int, since: int, why: Basis) -> None:
    """Before an object of its own term nobody has recorded anything, whatever the note says."""
    found = basis(request(created=created), NOTE, known_in=None, epoch=EPOCH, since=since)
    assert found is why


@pytest.mark.parametrize(
    ("state", "phase"), [(AttemptState.UNKNOWN, "Sending"), (AttemptState.FAILED, "Failed")]
)
def test_nothing_is_called_failed_that_the_log_may_know_better(
    state: AttemptState, phase: str
) -> None:
    """While it cannot be read a result that is not known ends nothing, and one that is does."""
    view = view_with(Attempt(OPEN.id, OPEN.channel, state, 900, 1100))
    rules = Facts(1, RetryPolicy(max_attempts=1), unread=True)
    assert merge(Status(), view, rules, now=1200).status.phase == phase


def test_a_success_is_final_whatever_the_log_says() -> None:
    """No record takes it back."""
    view = view_with(Attempt(OPEN.id, OPEN.channel, AttemptState.SUCCESS, 900, 1100))
    rules = Facts(1, RetryPolicy(max_attempts=1), unread=True)
    assert merge(Status(), view, rules, now=1200).status.phase == "Sent"


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
