"""What `hold`, `holds` and `release` say, and what other commands say of holds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from syncer.cli import hold
from syncer.cli.counting import count_held
from syncer.cli.doctor.redis import check_holds
from syncer.cli.doctor.result import Grade
from syncer.cli.exits import Misused
from syncer.cli.hold import _patterns
from syncer.cli.holding import as_json, cells_of, is_held, read_holds
from syncer.cli.times import end_of
from syncer.kube.notification_requests import Meta, Unreadable
from syncer.model.errors import ConfigError
from syncer.model.hold import Hold
from syncer.rules.holds import encode
from tests.unit.syncer.cli.samples import A1, NOW, PLAN, C, elements, failed, opened, request
from tests.unit.syncer.cli.world import Objects, World, page

HOUR: Final = 3_600_000
HOLD: Final = Hold("00000001", NOW - HOUR, NOW + HOUR, "alice@desk", "they mend it", (C,))
DEV: Final = replace(HOLD, id="00000002", receivers=("dev",))
BAD: Final = Meta("bad", "ns", "x", "1")
ALL: Final = replace(HOLD, id="00000003", receivers=(), namespaces=("ns",), until=NOW + 1)


def test_whether_a_row_is_held() -> None:
    """By the channels that its status shows as unfinished; before that, by what holds every channel."""

    def shows(name: str, state: str) -> dict[str, Any]:
        return {"name": name, "state": state}

    waits = request(channels=[shows(C, "Retrying"), shows("slack:dev", "Delivered")])
    new, over = request(phase=""), request(phase="Sent", channels=[shows(C, "Retrying")])
    ended = request(channels=[shows(C, "Delivered")])
    found = {
        name: [is_held(one, [hold], now=NOW) for one in (waits, new, over, ended)]
        for name, hold in (("it", HOLD), ("another", DEV), ("the namespace", ALL))
    }
    assert found == {
        "it": [True, False, False, False],
        "another": [False, False, False, False],
        "the namespace": [True, True, False, False],
    }
    assert not is_held(waits, [HOLD], now=HOLD.until)
    assert not is_held(waits, [], now=NOW)


async def test_what_waits_is_counted_by_hold() -> None:
    """What is due and held, for each hold that is about it; not what has ended or waits for its time."""
    due, waits = replace(request(), uid="due"), replace(request(), uid="waits")
    done = replace(request(phase="Sent"), uid="done")
    other = replace(request(), uid="other", namespace="else")
    world = World(Objects(page(due, waits, done, other, Unreadable(BAD, "ValueError"))))
    world.settings.delivery = SimpleNamespace(at_most_once=False, paused=False, max_age=0.0)
    for one in (due, done, other):
        world.put(one.uid, elements(PLAN))
    world.put("waits", elements(PLAN, opened(A1), failed(A1, wait=60_000)))
    found, unread = await count_held(world.at, [HOLD, DEV, ALL], (), now=NOW)
    assert found == {HOLD.id: 2, ALL.id: 1}
    assert len(unread) == 1


def test_a_hold_as_a_row() -> None:
    """When it ends, or how it has; what is not known is a dash."""
    assert cells_of(HOLD, 3, NOW) == (
        "00000001", "in 1 hour", "alice@desk", "3", "--receiver slack:ops", "they mend it",
    )  # fmt: skip
    assert cells_of(HOLD, None, HOLD.until)[1:4] == ("ended", "alice@desk", "-")
    gone = replace(HOLD, released=NOW, released_by="bob")
    assert cells_of(gone, 0, NOW)[1:3] == ("released", "alice@desk, bob")


def test_a_hold_as_json() -> None:
    """Every member; what is not there is null or empty."""
    gone = replace(HOLD, released=NOW, released_by="bob")
    assert as_json(gone, None, NOW) == {
        "id": "00000001", "inForce": False, "placed": "2027-01-15T07:00:00.000Z",
        "until": "2027-01-15T09:00:00.000Z", "by": "alice@desk", "reason": "they mend it",
        "receivers": ["slack:ops"], "namespaces": [], "types": [], "severities": [],
        "released": "2027-01-15T08:00:00.000Z", "releasedBy": "bob", "holds": None,
    }  # fmt: skip
    assert as_json(HOLD, 3, NOW)["inForce"] is True
    assert as_json(HOLD, 3, NOW)["released"] is None


async def test_holds_that_cannot_be_read_are_reported() -> None:
    """A command that can do without them goes on, and says why it does not know."""
    world = World(Objects())
    assert await read_holds(world.at) == ((), "")
    world.redis.strings["nl:holds"] = encode([HOLD])
    assert await read_holds(world.at) == ((HOLD,), "")
    world.redis.strings["nl:holds"] = b"nonsense"
    assert (await read_holds(world.at))[1].startswith("the holds under nl:holds cannot be read")


def test_patterns_are_taken_apart() -> None:
    """Given again or joined by commas."""
    assert _patterns(["a,b", " c "], "--type") == ("a", "b", "c")
    assert _patterns(None, "--type") == ()
    with pytest.raises(Misused, match="--type: a pattern is a name"):
        _patterns(["a,,b"], "--type")


ENDS: Final = {
    "a span of time": ("2h", NOW + 2 * HOUR),
    "days": ("1d1h", NOW + 25 * HOUR),
    "a time": ("2027-01-15T10:00:00Z", NOW + 2 * HOUR),
}


@pytest.mark.parametrize("case", ENDS.values(), ids=ENDS.keys())
def test_an_end(case: tuple[str, int]) -> None:
    """So long from now, or a time."""
    text, wanted = case
    assert end_of(text, "--until", NOW) == wanted


@pytest.mark.parametrize("text", ["tomorrow", "", "2h!", "2027-13-01T00:00:00Z"])
def test_an_end_that_is_none(text: str) -> None:
    """The option is named."""
    with pytest.raises(ConfigError, match="--until: "):
        end_of(text, "--until", NOW)


def test_an_old_hold_is_a_finding() -> None:
    """After a week somebody must know it, or release it; what cannot be read is worse."""
    none = check_holds([replace(HOLD, released=NOW, released_by="bob")], "", now=NOW)
    assert (none.grade, none.text) == (Grade.OK, "no hold is in force")
    young = check_holds([HOLD], "", now=NOW)
    assert young.grade is Grade.OK
    assert young.text == (
        "1 in force: 00000001 --receiver slack:ops until 2027-01-15T09:00:00Z by alice@desk"
    )
    old = check_holds([replace(HOLD, at=NOW - 8 * 24 * HOUR), DEV], "", now=NOW)
    assert (old.grade, old.fix) == (Grade.WARN, "syncer release 00000001, or keep them on purpose")
    assert old.text.startswith("in force for 8 days: 00000001")
    broken = check_holds([], "nl:holds cannot be read", now=NOW)
    assert (broken.grade, broken.text) == (Grade.FAIL, "nl:holds cannot be read")


def test_the_command_needs_an_end_and_a_reason() -> None:
    """A hold without one is none."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    hold.add_arguments(parser)
    for words in (["--receiver", "a", "--reason", "x"], ["--receiver", "a", "--until", "2h"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
