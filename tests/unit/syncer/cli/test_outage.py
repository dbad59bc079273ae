"""What the operators' command says of notifications while Redis does not answer."""

from __future__ import annotations

from typing import Any, Final

import pytest

from syncer.cli.explanation import Rules, as_json, as_text, explain
from syncer.cli.owner import Owner, log_by_status
from syncer.cli.rows import Placed, row_of
from syncer.model.journal import Note
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.journal import BORN_MARGIN, Basis, held_because
from tests.unit.syncer.cli.samples import A1, NOW, C, entry, request

AWAY: Final = "Redis cannot be reached (Redis at r:6379, by --redis-url)"
#: The samples were created an hour before NOW.
CREATED: Final = NOW - 3_600_000
OLDER: Final = Note("0.7-1", since=NOW - 60_000, kept=3)
NEWER: Final = Note("0.7-1", since=CREATED - BORN_MARGIN, kept=3)
DUE: Final = [{"name": C, "state": "Retrying", "nextRetryTime": format_time(NOW + 20_000)}]
HELD: Final = [
    {
        "type": "LogUnavailable", "status": "True", "reason": "RecordsNotRead",
        "message": held_because(Basis.OLDER)[1], "lastTransitionTime": "2027-01-15T07:59:00Z",
    }
]  # fmt: skip


def by_status(found: NotificationRequest, owner: Owner) -> tuple[dict[str, Any], str]:
    """An explanation without the log, as JSON and as text."""
    answer = explain(found, log_by_status(found), Rules(), now=NOW, owner=owner, unread=AWAY)
    return as_json(answer), "\n".join(as_text(answer))


def of(*, note: Note | None, holder: str | None = "pod-a") -> Owner:
    """Who works on it."""
    return Owner(watched=True, shard=0, holder=holder, note=note)


MARKED: Final[dict[str, Any]] = {"journal": {"outage": "0.7-1"}}


@pytest.mark.parametrize(
    ("status", "owner", "said"),
    [
        pytest.param(
            {}, of(note=None),
            "nothing: Redis does not answer, and attempts are not journaled",
            id="nobody journals",
        ),
        pytest.param(
            {}, of(note=None, holder=None),
            "nothing: Redis does not answer, and whether attempts are journaled is not known",
            id="Leases may not be read",
        ),
        pytest.param(
            {}, of(note=None, holder=""), "nothing: no replica owns its shard (0)", id="nobody runs"
        ),
        pytest.param(
            {"conditions": HELD}, of(note=OLDER), f"nothing: {HELD[0]['message']}", id="it is held"
        ),
        pytest.param({"phase": "Sent"}, of(note=None), "nothing: it has ended", id="it has ended"),
        pytest.param(MARKED, of(note=OLDER), "an attempt at 2027-01-15T08:00:20.000Z", id="marked"),
        pytest.param({}, of(note=NEWER), "an attempt at 2027-01-15T08:00:20.000Z", id="born in it"),
        pytest.param({}, of(note=OLDER), "an attempt at 2027-01-15T08:00:20.000Z", id="by its owner"),
    ],
)  # fmt: skip
def test_what_comes_next(status: dict[str, Any], owner: Owner, said: str) -> None:
    """It is what the status says, if the shard journals and nothing holds it back."""
    found, text = by_status(request(entry("failed"), channels=DUE, **status), owner)
    assert f"NEXT    {said}" in text
    assert f"! its log was not read, so this comes from its status alone: {AWAY}" in text
    assert found["logUnread"] == AWAY
    assert [a["id"] for a in found["channels"][0]["attempts"]] == [A1]
    assert "it has no log" not in text
    assert ("it is older than the outage" in text) == (owner.note is OLDER and status is not MARKED)


def test_the_mark_and_the_note_are_named() -> None:
    """Which outage it is, since when, and whether the status belongs to it."""
    found, text = by_status(request(channels=DUE, **MARKED), of(note=OLDER))
    assert found["journal"] == {"outage": "0.7-1", "shard": "0.7-1"}
    assert "! attempts of its shard are journaled in the status since 2027-01-15T07:59:00" in text
    assert "in its status in the outage" not in text
    _, text = by_status(request(channels=DUE, journal={"outage": "0.5-2"}), of(note=OLDER))
    assert "! attempts were journaled in its status in the outage 0.5-2" in text
    assert "it is older than the outage" in text


def test_list_notes_marks_and_waits() -> None:
    """One that is journaled says so, and one that waits for the log."""
    at = Placed(now=1)
    for status, note, shown in (
        (MARKED, "journaled", ("0.7-1", False)),
        ({"conditions": HELD}, "waits for the log", (None, True)),
    ):
        row = row_of(request(**status))
        document = row.as_json(at)
        assert (row.notes(at), document["journaled"], document["waitsForLog"]) == ([note], *shown)
