"""What `hold`, `hold list` and `hold end` say, and what other commands say of holds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli.exits import Misused, Refused
from syncer.cli.hold import (
    _as_json,
    _Count,
    _counted,
    _end,
    _ending,
    _Here,
    _place,
    columns_of,
    run,
)
from syncer.cli.installation import routed
from syncer.cli.main import _parser
from syncer.cli.scan import Scan
from syncer.cli.times import end_of
from syncer.kube.notification_requests import Unreadable
from syncer.model.errors import ConfigError, Conflict
from syncer.model.hold import Hold
from tests.unit.syncer.cli.samples import A1, NOW, PLAN, C, elements, failed, opened, request
from tests.unit.syncer.cli.world import Objects, World, page

HOUR: Final = 3_600_000
HOLD: Final = Hold(
    "hold-1", "1", NOW - HOUR, NOW + HOUR, "alice@desk", "they mend it", receivers=(C,)
)
DEV: Final = replace(HOLD, name="hold-2", receivers=("dev",))
BAD: Final = Unreadable("bad", "ns", "x", "1", problem="ValueError")
ALL: Final = replace(HOLD, name="hold-3", receivers=(), namespaces=("ns",), until=NOW + 1)


def here(at: Any = None, *, rate: float = 0.0, **options: Any) -> _Here:
    """What the command works with."""
    return _Here(at, cast("Any", None), argparse.Namespace(config=None, **options), rate)


async def test_what_waits_is_counted_by_hold() -> None:
    """What is due and held, for each hold that is about it; and which names were seen on the way."""
    due, waits = replace(request(), uid="due"), replace(request(), uid="waits")
    done = replace(request(phase="Sent"), uid="done")
    other = replace(request(), uid="other", namespace="else")
    world = World(Objects(page(due, waits, done, other, BAD)))
    world.settings.delivery = SimpleNamespace(at_most_once=False, paused=False, max_age=0.0)
    for one in (due, done, other):
        world.put(one.uid, elements(PLAN))
    world.put("waits", elements(PLAN, opened(A1), failed(A1, wait=60_000)))
    found = await _counted(here(world.at), [HOLD, DEV, ALL])
    assert found.held == {HOLD.name: 2, ALL.name: 1}
    assert found.problem == "1 notification(s) cannot be read, and were not counted"
    # What cannot be read hides no count of the rest.
    assert (found.of(HOLD), found.of(DEV)) == (2, 0)
    assert (C in found.scan.channels, found.scan.namespaces) == (True, {"ns", "else"})
    for before, held in ((NOW, {HOLD.name: 2}), (NOW - 2 * HOUR, {})):
        world.objects.pages[None] = [page(due, waits, done, other)]
        dropping = await _counted(here(world.at), [replace(HOLD, drop_before=before)])
        assert dropping.held == held, "what is younger goes on"


def test_names_come_from_the_routing_file_as_well(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this runs beside it; a receiver that has had no notification is known all the same."""
    assert routed() == set()
    file = tmp_path / "routing.yaml"
    monkeypatch.setenv("ROUTING_CONFIG_PATH", str(file))
    assert routed() == set()
    file.write_text("receivers: [{name: ops, slackConfigs: [{}], pagerdutyConfigs: [{}]}, 7]\n")
    assert routed() == {"slack:ops", "pagerduty:ops"}
    file.write_text("receivers: 7\n")
    assert routed() == set()


def test_a_hold_as_a_row() -> None:
    """When it begins and ends, and how it lets go; what is not known is a dash."""

    def cells(number: int | None = 3, **more: Any) -> list[str]:
        return [cell((replace(HOLD, **more), number)) for cell in columns_of(NOW).values()]

    assert cells() == [
        "hold-1", "in 1 hour", "alice@desk", "3", "--receiver slack:ops", "they mend it",
    ]  # fmt: skip
    assert cells(None)[1:4] == ["in 1 hour", "alice@desk", "-"]
    assert cells(start=NOW + HOUR)[1] == "begins in 1 hour"
    assert cells(rate=0.5)[4] == "--receiver slack:ops, lets go 0.5/s"
    assert cells(drop_before=NOW)[4] == "--receiver slack:ops, drops"


def test_a_hold_as_json() -> None:
    """Every member; what is not there is null or empty."""
    assert _as_json(replace(HOLD, matched=("False", "no")), None, NOW) == {
        "name": "hold-1", "inForce": True, "created": "2027-01-15T07:00:00.000Z", "start": None,
        "until": "2027-01-15T09:00:00.000Z", "author": "alice@desk", "reason": "they mend it",
        "receivers": ["slack:ops"], "namespaces": [], "types": [], "severities": [],
        "endedBy": None, "rate": None, "dropBefore": None, "matched": False, "holds": None,
        "recurrence": None,
    }  # fmt: skip


NO_DROP: Final = {"dropBefore": None}
ENDINGS: Final[dict[str, tuple[dict[str, Any], int | None, dict[str, Any], str]]] = {
    "at once": (
        {"drop": False}, 3, {"until": "2027-01-15T08:00:00.000Z"},
        "ended; 3 notification(s) wait and go now",
    ),
    "by a rate, with time to spare": (
        {"drop": False, "rate": 5.0}, 2000, {"rate": 5.0, **NO_DROP, "until": "2027-01-15T08:23:20.000Z"},
        (
            "2000 notification(s) wait and go at 5/s over 6 minutes, the oldest first; it ends at"
            " 2027-01-15T08:23:20Z"
        ),
    ),
    "by a rate, where nothing waits": (
        {"drop": False, "rate": 5.0}, 0, {"until": "2027-01-15T08:00:00.000Z"},
        "ended; 0 notification(s) wait and go now",
    ),
    "by a rate, of what was not counted": (
        {"drop": False, "rate": 5.0}, None, {"rate": 5.0, **NO_DROP, "until": "2027-01-15T09:00:00.000Z"},
        (
            "an unknown number of notifications wait and go at 5/s, the oldest first; it ends at"
            " 2027-01-15T09:00:00Z"
        ),
    ),
    "dropped": (
        {"drop": True}, 300,
        {"rate": None, "dropBefore": "2027-01-15T08:00:00.000Z", "until": "2027-01-15T09:00:00.000Z"},
        "300 notification(s) wait and fail, 'dropped with hold hold-1'; younger ones go on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS.values(), ids=ENDINGS.keys())
def test_how_a_hold_ends(case: tuple[dict[str, Any], int | None, dict[str, Any], str]) -> None:
    """What is changed of it, and what is said; one that has not begun never does."""
    given, held, spec, said = case
    assert _ending(here(**given), HOLD, held, NOW) == (spec, said)
    # A drop lasts an hour, whatever the hold had left.
    ends = _ending(here(drop=True), replace(HOLD, until=NOW + 48 * HOUR), 1, NOW)[0]["until"]
    assert ends == "2027-01-15T09:00:00.000Z"
    with pytest.raises(
        Refused, match=r"takes 23 days, and hold-1 lasts until .* name a higher rate"
    ):
        _ending(here(drop=False, rate=0.001), HOLD, 2000, NOW)
    later = replace(HOLD, start=NOW + 1000)
    assert _ending(here(drop=False), later, 0, NOW)[0] == {"until": "2027-01-15T08:00:01.000Z"}
    assert _Count(NOW).problem == ""


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


@pytest.mark.parametrize(
    "words", [["end"], ["list", "hold-1"], ["end", "x", "--rate", "0"]], ids=" ".join
)
async def test_words_that_do_not_belong_together(words: list[str]) -> None:
    """They are refused before anything is asked."""
    with pytest.raises(Misused):
        await run(_parser().parse_args(["hold", *words]))


async def test_what_is_dropped_is_counted_once_nothing_goes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hold that lets go is stopped first; no write undoes another."""
    kept, done = {"h": replace(HOLD, name="h", rate=5.0, reason="\u202e")}, []

    async def listed() -> tuple[tuple[Hold, ...], str]:
        return tuple(kept.values()), "1"

    async def patch(name: str, body: Any) -> None:
        if body["metadata"]["resourceVersion"] != kept[name].resource_version:
            raise Conflict("changed")
        done.append(sorted(body["spec"]))
        version = f"{int(kept[name].resource_version) + 1}"
        kept[name] = replace(kept[name], resource_version=version, rate=0.0)

    async def counted(_here: _Here, holds: Any, _others: Any) -> _Count:
        done.append([h.drop_before for h in holds])
        return _Count(NOW)

    monkeypatch.setattr("syncer.cli.hold._counted", counted)
    monkeypatch.setattr("syncer.cli.hold._OBEYED", 0)
    holds = cast("Any", SimpleNamespace(list=listed, patch=patch))
    options: dict[str, Any] = {
        "hold": ["h"],
        "drop": True,
        "dry_run": False,
        "json": False,
        "by": "ben",
    }
    at = World(Objects()).at
    assert await _end(here(at, **options)._replace(holds=holds)) == 0
    assert done == [["rate"], [NOW], ["dropBefore", "endedBy", "rate", "until"]]

    async def stale() -> tuple[tuple[Hold, ...], str]:
        return (replace(kept["h"], resource_version="1"),), "1"

    monkeypatch.setattr(holds, "list", stale)
    with pytest.raises(Refused, match="has changed meanwhile"):
        await _end(here(at, **options)._replace(holds=holds))


ORDERS: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "a name that the routing file has": ({}, ["tried", "placed", "counted"]),
    "a name that only notifications know": ({"receiver": ["dev"]}, ["tried", "counted", "placed"]),
    "a name that nobody knows, anyway": (
        {"receiver": ["x"], "anyway": True}, ["tried", "placed", "counted"],
    ),
    "a trial": ({"dry_run": True}, ["tried", "counted"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS.values(), ids=ORDERS.keys())
async def test_a_flood_does_not_wait_until_it_is_counted(
    case: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the files know is held before anything is scanned; what they do not know, afterwards."""
    given, wanted = case
    done: list[str] = []

    async def create(_name: str, _spec: Any, *, dry_run: bool = False) -> Hold:
        done.append("tried" if dry_run else "placed")
        return replace(HOLD, receivers=tuple(options["receiver"]))

    async def counted(_here: _Here, _holds: Any, _others: Any) -> _Count:
        done.append("counted")
        return _Count(NOW, Scan(channels={"slack:ops", "slack:dev"}))

    async def no_others() -> tuple[tuple[Hold, ...], str]:
        return (), "1"

    monkeypatch.setattr("syncer.cli.hold._counted", counted)
    monkeypatch.setattr("syncer.cli.hold.routed", lambda: {"slack:ops"})
    monkeypatch.setattr("syncer.cli.hold.watched", lambda _at: ())
    options: dict[str, Any] = {
        "receiver": ["ops"], "namespace": None, "type": None, "severity": None, "until": "1h",
        "reason": "why", "by": "me", "anyway": False, "dry_run": False, "json": False, **given,
    }  # fmt: skip
    await _place(
        here(World(Objects()).at, **options)._replace(
            holds=cast("Any", SimpleNamespace(create=create, list=no_others))
        )
    )
    assert done == wanted
