"""Resending after an incident: each is found first, and read again when its turn comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import pytest

from syncer.cli import resend
from syncer.cli.main import _parser
from syncer.cli.scan import PAGE
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import Expired
from syncer.model.hold import Hold
from syncer.model.outcome import Outcome
from syncer.model.record import resolution_record
from syncer.model.resource import NotificationRequest
from syncer.rules.holds import reason_of
from tests.unit.syncer.cli.samples import A1, NOW, PLAN, C, elements, entry, failed, opened, request
from tests.unit.syncer.cli.world import Held, Objects, World, page


def gave_up(uid: str) -> NotificationRequest:
    """One that failed for good."""
    shown = request(entry("failed"), phase="Failed", channels=[{"name": C, "state": "Failed"}])
    return replace(shown, uid=uid, name=f"n{uid}")


async def test_the_place_in_the_list_may_expire(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list goes on from its beginning; each is requested once, and only if it is still as it was."""
    a, b, sent, gone, anew = (gave_up(uid) for uid in "abcde")
    first, second = page(a, b, token="t"), page(sent, gone, anew)
    objects = Objects(first, Expired("410"), first, second)
    world = World(objects)
    now_sent = replace(sent, status=request(phase="Sent").status)
    objects.kept = {one.key: one for one in (a, b, now_sent, replace(anew, uid="other"))}
    for one in (a, b, sent, gone, replace(anew, uid="other")):
        world.put(one.uid, elements(PLAN, opened(A1), failed(A1)))

    world.give(monkeypatch, resend)
    options = _parser().parse_args(
        ["resend", "--failed", "--rate", "1000/s", "--by", "me", "-o", "json"]
    )
    assert await resend.run(options) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line.get("uid") for line in lines] == ["a", "b", None]
    assert lines[-1]["summary"] == {"requested": 2, "leftOut": 0, "unread": 0, "dryRun": False}
    assert f"there is no object {gone.key}" in said.err
    assert [token for _, limit, token in objects.asked if limit == PAGE] == ["", "t", "", "t"]


HOLD: Final = Hold("h", "1", 1, NOW, "sam", "their flood", drop_before=NOW)
DROPPED: Final = Outcome.permanent(reason_of(HOLD)).error
RESOLVED: Final = str(
    resolution_record(
        Attempt(A1, C, AttemptState.UNKNOWN), delivered=False, at=NOW, by="sam", why="asked them"
    ).body["error"]
)

#: More words, and which of a dropped, a resolved and a refused notification are sent again.
CHOSEN: Final[dict[str, tuple[str, list[str]]]] = {
    "without what was dropped": ("--failed", ["refused", "resolved"]),
    "of a receiver": ("--receiver ops", ["refused", "resolved"]),
    "with what was dropped": ("--failed --even-dropped", ["refused", "dropped", "resolved"]),
}


@pytest.mark.parametrize("case", CHOSEN)
async def test_what_is_sent_again_is_told(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The oldest first, with age, subject and error; a drop is a person's decision, and counted."""
    words, names = CHOSEN[case]
    errors = {"resolved": RESOLVED, "dropped": DROPPED, "refused": "404: no such channel"}
    world = World(Held(*(
        replace(
            request(
                entry("failed") | {"error": error}, phase="Failed",
                channels=[{"name": C, "state": "Failed"}],
            ),
            uid=name, name=name, created=NOW - hours * 3_600_000,
        )
        for hours, (name, error) in enumerate(errors.items(), 3)
    )))  # fmt: skip
    for name in errors:
        world.put(name, elements(PLAN, opened(A1), failed(A1)))
    world.give(monkeypatch, resend)
    options = _parser().parse_args(["resend", *words.split(), "--dry-run", "--by", "me"])
    assert await resend.run(options) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    ages = {"refused": "5h", "dropped": "4h", "resolved": "3h"}
    assert lines[:-1:2] == [f"ns/{n}  {ages[n]} old    {C}: {errors[n]}" for n in names]
    left = "" if "dropped" in names else (
        "syncer: 1 left out that an operator has dropped (--even-dropped takes them)\n"
    )  # fmt: skip
    assert said.err == left
