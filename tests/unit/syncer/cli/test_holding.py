"""What `hold`, `hold list` and `hold end` say, and what other commands say of holds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest

from syncer.cli.exits import Refused
from syncer.cli.hold import (
    _as_json,
    _Count,
    _counted,
    _end,
    _ending,
    _Here,
    _place,
    columns_of,
)
from syncer.cli.installation import routed
from syncer.cli.scan import Scan
from syncer.kube.notification_requests import Unreadable
from syncer.model.errors import Conflict
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


def here(at: Any = None, **options: Any) -> _Here:
    """What the command works with."""
    return _Here(
        at, cast("Any", None), argparse.Namespace(**{"config": None, "rate": None, **options})
    )


#: Holds, what else is in force, and how many wait; without others also what waits in any case counts.
COUNTED: Final[dict[str, tuple[Hold, list[Hold] | None, dict[str, int]]]] = {
    "a drop of all": (replace(HOLD, drop_before=NOW), None, {HOLD.name: 3}),
    "a drop of what is older": (replace(HOLD, drop_before=NOW - 2 * HOUR), None, {}),
    "without what its author holds": (HOLD, [], {HOLD.name: 2}),
    "without what another hold keeps": (HOLD, [ALL], {HOLD.name: 1}),
    "with what another has kept": (HOLD, [replace(ALL, until=NOW)], {HOLD.name: 2}),
}


async def test_what_waits_is_counted_by_hold() -> None:
    """What is due and held, for each hold that is about it; and which names were seen on the way."""
    due, waits = replace(request(), uid="due"), replace(request(), uid="waits")
    mine, done = replace(request(hold="x"), uid="mine"), replace(request(phase="Sent"), uid="done")
    other = replace(request(), uid="other", namespace="else")
    world = World(Objects(page(due, waits, mine, done, other, BAD)))
    world.settings.delivery = SimpleNamespace(at_most_once=False, paused=False, max_age=0.0)
    for one in (due, mine, done, other):
        world.put(one.uid, elements(PLAN))
    world.put("waits", elements(PLAN, opened(A1), failed(A1, wait=60_000)))
    found = await _counted(here(world.at), [HOLD, DEV, ALL])
    assert found.held == {HOLD.name: 3, ALL.name: 2}
    assert found.problem == "1 notification(s) cannot be read, and were not counted"
    # What cannot be read hides no count of the rest.
    assert (found.of(HOLD), found.of(DEV)) == (3, 0)
    assert (C in found.scan.channels, found.scan.namespaces) == (True, {"ns", "else"})
    for case, (hold, others, held) in COUNTED.items():
        world.objects.pages[None] = [page(due, waits, mine, done, other)]
        assert (await _counted(here(world.at), [hold], others)).held == held, case


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
DROPPING: Final = {
    "rate": None, "dropBefore": "2027-01-15T08:00:00.000Z", "until": "2027-01-15T09:00:00.000Z",
}  # fmt: skip
#: Rate, None to drop; the hold, and how many wait for it; what is changed of it, and what is said.
ENDINGS: Final[dict[str, tuple[float | None, Hold, int | None, dict[str, Any], str]]] = {
    "at once": (
        0.0, HOLD, 3, {"until": "2027-01-15T08:00:00.000Z"}, "ended; 3 notification(s) wait and go now",
    ),
    "at once, before it has begun, so that it never does": (
        0.0, replace(HOLD, start=NOW + 1000), 0, {"until": "2027-01-15T08:00:01.000Z"},
        "ended; 0 notification(s) wait and go now",
    ),
    "by a rate, with time to spare": (
        5.0, HOLD, 2000, {"rate": 5.0, **NO_DROP, "until": "2027-01-15T08:23:20.000Z"},
        (
            "2000 notification(s) wait and go at 5/s over 6 minutes, the oldest first; it ends at"
            " 2027-01-15T08:23:20Z"
        ),
    ),
    "by a rate, where nothing waits": (
        5.0, HOLD, 0, {"until": "2027-01-15T08:00:00.000Z"}, "ended; 0 notification(s) wait and go now",
    ),
    "by a rate, of what was not counted": (
        5.0, HOLD, None, {"rate": 5.0, **NO_DROP, "until": "2027-01-15T09:00:00.000Z"},
        (
            "an unknown number of notifications wait and go at 5/s, the oldest first; it ends at"
            " 2027-01-15T09:00:00Z"
        ),
    ),
    "dropped": (
        None, HOLD, 300, DROPPING,
        "300 notification(s) wait and fail, 'dropped with hold hold-1'; younger ones go on",
    ),
    "dropped, which lasts an hour whatever it had left": (
        None, replace(HOLD, until=NOW + 48 * HOUR), 1, DROPPING,
        "1 notification(s) wait and fail, 'dropped with hold hold-1'; younger ones go on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_how_a_hold_ends(case: str) -> None:
    """What is changed of it, and what is said; a rate by which it would take too long is refused."""
    rate, hold, held, spec, said = ENDINGS[case]
    assert _ending(here(drop=rate is None, rate=rate), hold, held, NOW) == (spec, said)
    with pytest.raises(
        Refused, match=r"takes 23 days, and hold-1 lasts until .* name a higher rate"
    ):
        _ending(here(drop=False, rate=0.001), HOLD, 2000, NOW)


async def test_what_is_dropped_is_counted_once_nothing_goes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hold that lets go is stopped first; no write undoes another, and a condition is no matter."""
    kept, done = {"h": replace(HOLD, name="h", rate=5.0, reason="\u202e"), DEV.name: DEV}, []
    meanwhile: dict[str, Any] = {"matched": ("True", "something known matches each pattern")}
    listed = AsyncMock(side_effect=lambda: (tuple(kept.values()), "1"))

    async def patch(name: str, body: Any) -> None:
        if body["metadata"]["resourceVersion"] != kept[name].resource_version:
            raise Conflict("changed")
        done.append(sorted(body["spec"]))
        version = f"{int(kept[name].resource_version) + 1}"
        kept[name] = replace(kept[name], resource_version=version, rate=0.0)

    async def counted(_here: _Here, holds: Any, others: Any) -> _Count:
        done.append([(h.name, h.drop_before) for h in (*holds, *others)])
        version = f"{int(kept['h'].resource_version) + 1}"
        kept["h"] = replace(kept["h"], resource_version=version, **meanwhile)
        return _Count(NOW)

    monkeypatch.setattr("syncer.cli.hold._counted", counted)
    monkeypatch.setattr("syncer.cli.hold._OBEYED", 0)
    holds = cast("Any", SimpleNamespace(list=listed, patch=patch))
    options: dict[str, Any] = {
        "hold": ["h"], "drop": True, "dry_run": False, "json": False, "by": "ben",
    }  # fmt: skip
    at = World(Objects()).at
    assert await _end(here(at, **options)._replace(holds=holds)) == 0
    assert done == [["rate"], [("h", NOW)], ["dropBefore", "endedBy", "rate", "until"]]
    # Nothing that waits for another hold goes with the end of this one.
    trial = options | {"drop": False, "dry_run": True}
    assert await _end(here(at, **trial)._replace(holds=holds)) == 0
    assert done[3:] == [[("h", 0), (DEV.name, 0)]]
    meanwhile["until"] = HOLD.until + 1
    with pytest.raises(Refused, match="has changed meanwhile"):
        await _end(here(at, **options)._replace(holds=holds))
    stale = (replace(kept["h"], resource_version="1"),)
    monkeypatch.setattr(holds, "list", AsyncMock(return_value=(stale, "1")))
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

    async def counted(_here: _Here, _holds: Any, others: Any) -> _Count:
        assert others == [DEV]
        done.append("counted")
        return _Count(NOW, Scan(channels={"slack:ops", "slack:dev"}))

    listed = AsyncMock(return_value=((HOLD, DEV), "1"))
    monkeypatch.setattr("syncer.cli.hold._counted", counted)
    monkeypatch.setattr("syncer.cli.hold.routed", lambda: {"slack:ops"})
    monkeypatch.setattr("syncer.cli.hold.watched", lambda _at: ())
    options: dict[str, Any] = {
        "receiver": ["ops"], "namespace": None, "type": None, "severity": None, "until": "1h",
        "reason": "why", "by": "me", "anyway": False, "dry_run": False, "json": False, **given,
    }  # fmt: skip
    await _place(
        here(World(Objects()).at, **options)._replace(
            holds=cast("Any", SimpleNamespace(create=create, list=listed))
        )
    )
    assert done == wanted
