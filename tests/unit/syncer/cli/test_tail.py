"""What `syncer tail` shows: which records, in which words, and how new ones are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest

from syncer.cli import tail
from syncer.cli.main import _parser
from syncer.cli.tail import COLUMNS, Event, Tail
from syncer.ledger.ends import read_ends, read_lengths
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, receiver_of
from syncer.model.errors import Unavailable
from syncer.model.record import Header, Kind, Record, attempt_record, resolution_record, skip_record
from syncer.model.resource import parse_object
from syncer.rules.holds import on_channel
from tests.unit.syncer.cli.samples import A1, A2, NOW, PLAN, C, elements, failed, opened
from tests.unit.syncer.cli.world import Objects, World

SENT: Final = attempt_record(
    Attempt(A2, C, AttemptState.SUCCESS, ended=NOW - 10_000, duration=1250)
)
LOST: Final = attempt_record(
    Attempt(A2, C, AttemptState.UNKNOWN, ended=NOW - 9_000, failure=FailureClass.UNCERTAIN)
)


#: A record, its result and detail, and members of its document.
LINES: Final[dict[str, tuple[Record, tuple[str, str], dict[str, Any]]]] = {
    "a failure that is tried again": (
        failed(A1), ("failed", "503 slack said no (if attempts are left, next in 30 seconds)"),
        {
            "at": "2027-01-15T07:59:11.000Z", "object": "payments/disk-full", "uid": "u", "position": 3,
            "severity": None, "subject": None,
            "channel": C, "receiver": "ops", "state": "failed", "class": "transient", "attempt": A1,
            "code": 503, "error": "slack said no", "durationMs": None,
            "due": "2027-01-15T07:59:41.000Z", "by": None, "resolved": False, "templates": None,
        },
    ),
    "a failure for good": (failed(A1, wait=0), ("failed for good", "503 slack said no"), {"due": None}),
    "a success": (SENT, ("success", "after 1.2 s"), {"state": "success", "durationMs": 1250}),
    "a result that is not known": (LOST, ("unknown", ""), {"state": "unknown", "error": None}),
    "an attempt that did not leave": (
        attempt_record(
            Attempt(A1, C, AttemptState.FAILED, ended=NOW, failure=FailureClass.NOT_SENT, error="lease")
        ),
        ("not sent", "lease"), {"state": "failed", "class": "notSent"},
    ),
    "why none was made": (
        skip_record("skip:1", C, at=NOW, why="circuit open"), ("skipped", "circuit open"),
        {"state": "skipped", "error": "circuit open", "attempt": None, "due": None},
    ),
    "what an operator says": (
        resolution_record(
            Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN),
            delivered=True, at=NOW, by="me", why="seen",
        ),
        ("resolved: success", "seen (by me)"), {"state": "success", "by": "me", "resolved": True},
    ),
    "one without a time": (replace(SENT, body={}), ("success", ""), {"at": None, "durationMs": None}),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_a_line(case: str) -> None:
    """Result and detail say in words what a record states; what it does not state is null."""
    record, wanted, members = LINES[case]
    found = Event("u", "payments/disk-full", replace(record, position=3))
    cells = [cell(found) for cell in COLUMNS.values()]
    assert cells[1:4] == ["payments/disk-full", "-", C]
    assert (found.result, found.detail) == wanted
    document = found.as_json()
    assert members.items() <= document.items()
    assert document.keys() == LINES["a failure that is tried again"][2].keys()


def test_the_time_of_a_line() -> None:
    """It is UTC; the uid stands for a name that is not known."""
    first = Event("u", "", SENT)
    assert [cell(first) for cell in COLUMNS.values()][:2] == ["2027-01-15 07:59:50", "u"]


# -- finding ------------------------------------------------------------------------------


def append(world: World, uid: str, *records: Record) -> None:
    """Append to a log, which may be new."""
    there = read_log(world.redis.twin.logs.get(f"nl:{{{uid}}}", [])).records
    world.put(uid, elements(*there, *records, header=Header(f"ns/n{uid}")))


@pytest.fixture
def world() -> World:
    """No log yet."""
    return World(Objects())


#: What is typed, and whether that takes a failure on slack:ops of `payments`.
CONDITIONS: Final[dict[str, tuple[str, bool]]] = {
    "nothing": ("", True),
    "its namespace": ("-n a -n payments", True),
    "another namespace": ("-n pay", False),
    "its channel": ("--receiver slack:ops", True),
    "a pattern of its channel": ("--receiver dev --receiver slack:*", True),
    "another channel": ("--receiver slack", False),
    "its receiver": ("--receiver ops", True),
    "another receiver": ("--receiver dev", False),
}


def tailed(world: World, typed: str = "", since: int = 0) -> Tail:
    """What a command line follows."""
    return Tail(world.at, _parser().parse_args(["tail", *typed.split()]), since)


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions(case: str, world: World) -> None:
    """Each that is set must hold."""
    typed, wanted = CONDITIONS[case]
    found = Event("u", "payments/disk-full", failed(A1))
    assert tailed(world, typed, NOW - 49_000)._wanted(found) is wanted
    assert not tailed(world, typed, NOW - 48_999)._wanted(found)


@pytest.mark.parametrize(
    ("channel", "receiver"),
    [("slack:ops", "ops"), ("webhook:ops:2", "ops"), ("console", "console"), ("a:", "")],
)
def test_the_receiver_of_a_channel(channel: str, receiver: str) -> None:
    """It is what stands behind the kind."""
    assert receiver_of(channel) == receiver
    assert on_channel(channel, (receiver,))


def shown(events: Sequence[Event]) -> list[str]:
    """Names and states."""
    return [f"{e.object} {e.as_json()['state']}" for e in events]


def at(record: Record, time: int, **more: Any) -> Record:
    """A record of another time."""
    return replace(record, body={**record.body, "at": time}, **more)


#: From when on; then in turn whether all logs are lost, what is appended to which, and what is shown of it.
Course = tuple[int, list[tuple[bool, dict[str, list[Record]], list[str]]]]
COURSES: Final[dict[str, Course]] = {
    "the past is in the order of time, then each record comes once, but what was restored": (
        NOW - 600_000, [
            (False, {
                "2": [PLAN, opened(A1), failed(A1), opened(A2), SENT],
                "1": [PLAN, opened(A1), failed(A1, at=NOW - 20_000)],
                "old": [PLAN, failed(A1, at=NOW - 3_600_000)],
            }, ["ns/n2 failed", "ns/n1 failed", "ns/n2 success"]),
            (False, {}, []),
            (False, {"1": [opened(A2), SENT], "3": [PLAN]}, ["ns/n1 success"]),
            (False, {"3": [opened(A1), failed(A1)], "old": [opened(A2), LOST]},
             ["ns/n3 failed", "ns/nold unknown"]),
            (False, {"4": [Record(Kind.SEED_FAILED, A2, C, {"at": NOW}), failed(A1)]}, ["ns/n4 failed"]),
            (False, {}, []),
        ],
    ),
    "of the past the newest are shown": (
        NOW - 600_000,
        [(False, {str(n): [PLAN, failed(A1, at=NOW - 1_000 * n)] for n in range(5)},
          ["ns/n1 failed", "ns/n0 failed"])],
    ),
    "of a long log its end": (
        0, [(False, {"1": [PLAN, *(failed(AttemptId(f"0.7-{n}")) for n in range(8)), SENT]},
             ["ns/n1 failed", "ns/n1 success"])],
    ),
    "records of the same moment stay in their order": (
        0, [(False, {"1": [PLAN, failed(A1, at=NOW), at(LOST, NOW)]}, ["ns/n1 failed", "ns/n1 unknown"])],
    ),
    "a log that has shrunk was lost, and is shown from its first record on": (
        0, [
            (False, {"1": [PLAN, opened(A1), failed(A1), opened(A2), LOST]},
             ["ns/n1 failed", "ns/n1 unknown"]),
            (True, {"1": [PLAN, SENT]}, ["ns/n1 success"]),
            (True, {"1": [failed(A1)]}, ["ns/n1 failed"]),
            (True, {}, []),
            (False, {"1": [PLAN, SENT]}, ["ns/n1 success"]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COURSES)
async def test_what_is_shown_in_the_course_of_things(
    world: World, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The past first, then each record once, whatever becomes of its log."""
    monkeypatch.setattr(tail, "MOST", 2 if "newest" in case else 1000)
    monkeypatch.setattr(tail, "_PAST", 2 if "long" in case else 50)
    since, course = COURSES[case]
    following = tailed(world, since=since)
    for lost, appended, found in course:
        if lost:
            world.redis.twin.logs.clear()
        for uid, records in appended.items():
            append(world, uid, *records)
        assert shown(await following.sweep()) == found


async def test_what_it_was_about_is_told(world: World) -> None:
    """Subject and severity come from the object, once; not from another one that has its name now."""
    append(world, "1", PLAN, failed(A1))
    append(world, "2", PLAN, failed(A1))
    spec = {"type": "Simple", "subject": "disk full", "severity": "high"}
    kept = {f"ns/n{uid}": parse_object({"metadata": {"uid": uid, "namespace": "ns", "name": f"n{uid}"},
            "spec": spec}) for uid in ("1", "3")}  # fmt: skip
    world.objects.kept = {"ns/n1": kept["ns/n1"], "ns/n2": kept["ns/n3"]}
    following = tailed(world)
    told = {e.object: (e.severity, e.subject) for e in await following.sweep()}
    assert told == {"ns/n1": ("high", "disk full"), "ns/n2": ("", "")}
    world.objects.kept = {}
    append(world, "1", opened(A2), SENT)
    (event,) = await following.sweep()
    cells = [cell(event) for cell in COLUMNS.values()]
    assert cells[2:6] == ["high", C, "success", "disk full"]


async def test_a_log_that_goes_while_it_is_looked_at_is_new_when_it_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a length and has no record any more; nothing of the next one is passed over."""
    append(world, "1", PLAN, failed(A1))
    following = tailed(world)

    async def after_its_loss(*arguments: Any) -> Any:
        world.redis.twin.logs.clear()
        return await read_ends(*arguments)

    monkeypatch.setattr(tail, "read_ends", after_its_loss)
    assert await following.sweep() == []
    monkeypatch.setattr(tail, "read_ends", read_ends)
    append(world, "1", SENT)
    assert shown(await following.sweep()) == ["ns/n1 success"]


async def test_what_cannot_be_read_is_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is before it is shown, and others go on."""
    append(world, "1", PLAN, failed(A1))
    world.redis.twin.logs["nl:{1}"].append(b"success 0.7-2 nonsense")
    following = tailed(world)
    assert shown(await following.sweep()) == ["ns/n1 failed"]
    append(world, "2", PLAN, failed(A1))
    assert shown(await following.sweep()) == ["ns/n2 failed"]
    said = capsys.readouterr().err
    assert said == "syncer: ns/n1: what follows cannot be read (record 3: prefix is malformed)\n"


async def test_a_sweep_that_fails_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has shown nothing, so the next one shows all of it."""
    following = tailed(world)
    assert await following.sweep() == []
    append(world, "1", PLAN, failed(A1))
    monkeypatch.setattr(tail, "read_ends", AsyncMock(side_effect=Unavailable("away")))
    with pytest.raises(Unavailable):
        await following.sweep()
    monkeypatch.setattr(tail, "read_ends", read_ends)
    assert shown(await following.sweep()) == ["ns/n1 failed"]


async def test_ends_of_logs(world: World) -> None:
    """From the first position that is wanted, with the chain of the one before; none of what is gone."""
    append(world, "1", PLAN, opened(A1), failed(A1))
    log = world.log
    assert await read_lengths(log, ["1", "gone"]) == [4, 0]
    assert await read_lengths(log, []) == []
    assert await read_ends(log, []) == []
    whole, last, gone = await read_ends(log, [("1", 1), ("1", 3), ("gone", 1)])
    assert (whole.object, whole.length, whole.problem) == ("ns/n1", 4, "")
    assert [r.kind for r in whole.records] == [Kind.PLAN, Kind.INTENT, Kind.FAILED]
    assert last.records == whole.records[2:]
    assert gone == ("", 0, (), "")
    world.redis.twin.logs["nl:{1}"][2] = b"no record"
    (broken,) = await read_ends(log, [("1", 3)])
    assert (broken.length, broken.problem) == (4, "the record before has no legible prefix")
