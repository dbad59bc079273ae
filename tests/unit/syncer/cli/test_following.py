"""What `syncer tail` shows: which records, in which words, and how new ones are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli import tail
from syncer.cli.arguments import STATES
from syncer.cli.tail import _STATES, Event, Follower, Wanted, _batches, columns_of
from syncer.ledger.ends import read_ends, read_lengths
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, receiver_of
from syncer.model.errors import Unavailable
from syncer.model.record import Header, Kind, Record, attempt_record, resolution_record, skip_record
from syncer.model.resource import parse_object
from syncer.rules.holds import on_channel
from tests.unit.syncer.cli.samples import A1, A2, NOW, PLAN, C, elements, failed, opened
from tests.unit.syncer.cli.world import Objects, World

ALL: Final = Wanted(tuple(s for s in STATES if s != "intent"))
SENT: Final = attempt_record(
    Attempt(A2, C, AttemptState.SUCCESS, ended=NOW - 10_000, duration=1250)
)
LOST: Final = attempt_record(
    Attempt(A2, C, AttemptState.UNKNOWN, ended=NOW - 9_000, failure=FailureClass.UNCERTAIN)
)


def event(record: Record, key: str = "payments/disk-full") -> Event:
    """A record of a notification."""
    return Event("u", key, replace(record, position=3))


#: A record, and its cells behind name and channel.
LINES: Final[dict[str, tuple[Record, tuple[str, str]]]] = {
    "a failure that is tried again": (
        failed(A1), ("failed", "503 slack said no (if attempts are left, next in 30 seconds)"),
    ),
    "a failure for good": (failed(A1, wait=0), ("failed for good", "503 slack said no")),
    "a success": (SENT, ("success", "after 1.2 s")),
    "a result that is not known": (LOST, ("unknown", "")),
    "an attempt that did not leave": (
        attempt_record(
            Attempt(A1, C, AttemptState.FAILED, ended=NOW, failure=FailureClass.NOT_SENT, error="lease")
        ),
        ("not sent", "lease"),
    ),
    "the beginning of an attempt": (opened(A1), ("opened", "")),
    "why none was made": (
        skip_record("skip:1", C, at=NOW, why="circuit open"), ("skipped", "circuit open"),
    ),
    "what an operator says": (
        resolution_record(
            Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN),
            delivered=True, at=NOW, by="me", why="seen",
        ),
        ("resolved: success", "seen (by me)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_a_line(case: str) -> None:
    """Result and detail say in words what a record states."""
    record, wanted = LINES[case]
    found = event(record)
    assert [cell(found) for cell in columns_of(dated=False).values()][1:4] == [
        "payments/disk-full",
        "-",
        C,
    ]
    assert (found.result, found.detail) == wanted


def test_the_time_of_a_line() -> None:
    """It is UTC, with the day where it may be another one; the uid stands for a name that is not known."""
    first = Event("u", "", SENT)
    assert [cell(first) for cell in columns_of(dated=False).values()][:2] == ["07:59:50", "u"]
    assert columns_of(dated=True)["UTC"](first) == "2027-01-15 07:59:50"
    timeless = replace(SENT, body={})
    assert (Event("u", "", timeless).at, Event("u", "", timeless).as_json()["at"]) == (0, None)


def test_a_json_line() -> None:
    """Its keys are an interface; what a record does not state is null."""
    found = event(failed(A1)).as_json()
    assert found == {
        "at": "2027-01-15T07:59:11.000Z", "object": "payments/disk-full", "uid": "u", "position": 3,
        "severity": None, "subject": None,
        "channel": C, "receiver": "ops", "state": "failed", "class": "transient", "attempt": A1,
        "code": 503, "error": "slack said no", "durationMs": None,
        "due": "2027-01-15T07:59:41.000Z", "by": None, "resolved": False,
        "templates": None,
    }  # fmt: skip
    skipped = event(skip_record("skip:1", C, at=NOW, why="circuit open")).as_json()
    assert (skipped["attempt"], skipped["state"], skipped["error"]) == (
        None,
        "skip",
        "circuit open",
    )
    assert skipped["due"] is None
    assert event(SENT).as_json()["durationMs"] == 1250
    unclear = Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
    decided = resolution_record(unclear, delivered=True, at=NOW, by="me", why="seen")
    assert event(decided).as_json()["by"] == "me"


#: Conditions, and whether they take the failure on slack:ops.
CONDITIONS: Final[dict[str, tuple[dict[str, Any], bool]]] = {
    "none": ({}, True),
    "its state": ({"states": ("failed",)}, True),
    "another state": ({"states": ("success",)}, False),
    "its namespace": ({"namespaces": ("a", "payments")}, True),
    "another namespace": ({"namespaces": ("pay",)}, False),
    "its channel": ({"receivers": ("slack:ops",)}, True),
    "a pattern of its channel": ({"receivers": ("dev", "slack:*")}, True),
    "another channel": ({"receivers": ("slack",)}, False),
    "its receiver": ({"receivers": ("ops",)}, True),
    "another receiver": ({"receivers": ("dev",)}, False),
    "its time": ({"since": NOW - 49_000}, True),
    "a later time": ({"since": NOW - 48_999}, False),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions(case: str) -> None:
    """Each that is set must hold."""
    conditions, wanted = CONDITIONS[case]
    assert replace(ALL, **conditions).matches(event(failed(A1))) is wanted
    assert replace(ALL, **conditions).since == conditions.get("since", 0)


def test_what_can_be_asked_for() -> None:
    """States are those of records; what was restored is no news, and no intent is shown unasked."""
    assert set(STATES) == set(_STATES.values())
    assert not any(kind.value.startswith("seed") for kind in _STATES)
    assert not ALL.matches(event(opened(A1)))
    assert not ALL.matches(event(PLAN))
    assert event(Record(Kind.SEED_FAILED, A1, C, {"at": NOW})).state == ""


@pytest.mark.parametrize(
    ("channel", "receiver"),
    [("slack:ops", "ops"), ("webhook:ops:2", "ops"), ("console", "console"), ("a:", "")],
)
def test_the_receiver_of_a_channel(channel: str, receiver: str) -> None:
    """It is what stands behind the kind."""
    assert receiver_of(channel) == receiver
    assert on_channel(channel, (receiver,))


# -- finding ------------------------------------------------------------------------------


class Logs:
    """Logs in memory that grow."""

    def __init__(self) -> None:
        self.world = World(Objects())
        self.records: dict[str, list[Record]] = {}

    def append(self, uid: str, *records: Record, namespace: str = "ns") -> None:
        """Append to a log, which may be new."""
        self.records.setdefault(uid, []).extend(records)
        header = Header(f"{namespace}/n{uid}")
        self.world.put(uid, elements(*self.records[uid], header=header))


@pytest.fixture
def logs() -> Logs:
    """No log yet."""
    return Logs()


def shown(events: Sequence[Event]) -> list[str]:
    """Names and states."""
    return [f"{e.object} {e.state}" for e in events]


async def swept(follower: Follower) -> list[str]:
    """What one sweep finds."""
    return [line async for events in follower.sweep() for line in shown(events)]


def at(record: Record, time: int, **more: Any) -> Record:
    """A record of another time."""
    return replace(record, body={**record.body, "at": time}, **more)


RECENT: Final = replace(ALL, since=NOW - 600_000)
#: From when on, how many of the past, and what is appended in turn with what is shown of it.
Course = tuple[Wanted, int, list[tuple[Callable[[Any], object], list[str]]]]
COURSES: Final[dict[str, Course]] = {
    "the past is in the order of time, then each record comes once": (
        RECENT, 0, [
            (lambda w: (w.append("2", PLAN, opened(A1), failed(A1), opened(A2), SENT),
                        w.append("1", PLAN, opened(A1), failed(A1, at=NOW - 20_000)),
                        w.append("old", PLAN, failed(A1, at=NOW - 3_600_000))),
             ["ns/n2 failed", "ns/n1 failed", "ns/n2 success"]),
            (lambda _: None, []),
            (lambda w: (w.append("1", opened(A2), SENT), w.append("3", PLAN)), ["ns/n1 success"]),
            (lambda w: (w.append("3", opened(A1), failed(A1)), w.append("old", opened(A2), LOST)),
             ["ns/n3 failed", "ns/nold unknown"]),
            (lambda w: w.append("4", failed(A1)), ["ns/n4 failed"]),
            (lambda _: None, []),
        ],
    ),
    "of the past the newest are shown": (
        RECENT, 2,
        [(lambda w: [w.append(str(n), PLAN, failed(A1, at=NOW - 1_000 * n)) for n in range(5)],
          ["ns/n1 failed", "ns/n0 failed"])],
    ),
    "records of the same moment stay in their order": (
        ALL, 0, [(lambda w: w.append("1", PLAN, failed(A1, at=NOW), at(LOST, NOW)),
                  ["ns/n1 failed", "ns/n1 unknown"])],
    ),
    "also where only the newest are shown": (
        ALL, 2, [(lambda w: w.append("1", PLAN, failed(A1, at=NOW), at(LOST, NOW)),
                  ["ns/n1 failed", "ns/n1 unknown"])],
    ),
    "a log that has shrunk was lost, and is shown from its first record on": (
        ALL, 0, [
            (lambda w: w.append("1", PLAN, opened(A1), failed(A1), opened(A2), LOST),
             ["ns/n1 failed", "ns/n1 unknown"]),
            (lambda w: (w.records.clear(), w.append("1", PLAN, SENT)), ["ns/n1 success"]),
            (lambda w: (w.records.clear(), w.append("1", failed(A1))), ["ns/n1 failed"]),
            (lambda w: w.world.redis.twin.logs.clear(), []),
            (lambda w: (w.records.clear(), w.append("1", PLAN, SENT)), ["ns/n1 success"]),
        ],
    ),
    "the last record may have ended before another, as channels end at once": (
        replace(ALL, since=NOW - 2_000), 0, [
            (lambda w: (w.append("1", PLAN, SENT, at(SENT, NOW - 3_000, channel="file")),
                        w.append("2", PLAN, at(SENT, NOW - 1_000),
                                 at(SENT, NOW - 3_000, channel="file"))),
             ["ns/n2 success"]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COURSES)
async def test_what_is_shown_in_the_course_of_things(logs: Logs, case: str) -> None:
    """The past first, then each record once, whatever becomes of its log."""
    wanted, limit, ((begins, past), *course) = COURSES[case]
    follower = Follower(logs.world.at, wanted)
    begins(logs)
    assert shown(await follower.past(limit)) == past
    assert follower.checked == NOW
    assert follower.passed_over == (3 if case == "of the past the newest are shown" else 0)
    for happens, found in course:
        happens(logs)
        assert await swept(follower) == found


async def test_what_it_was_about_is_told(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subject and severity come from the object, once; not from another one that has its name now."""
    logs.append("1", PLAN, failed(A1))
    logs.append("2", PLAN, failed(A1))
    spec = {"type": "Simple", "subject": "disk full", "severity": "high"}
    kept = {f"ns/n{uid}": parse_object({"metadata": {"uid": uid, "namespace": "ns", "name": f"n{uid}"},
            "spec": spec}) for uid in ("1", "3")}  # fmt: skip
    logs.world.objects.kept = {"ns/n1": kept["ns/n1"], "ns/n2": kept["ns/n3"]}
    logs.world.store = logs.world.objects
    follower = Follower(logs.world.at, replace(ALL, since=NOW - 600_000))
    told = {e.object: (e.severity, e.subject) for e in await follower.past(0)}
    assert told == {"ns/n1": ("high", "disk full"), "ns/n2": ("", "")}
    logs.world.objects.kept = {}
    logs.append("1", opened(A2), SENT)
    (event,) = [event async for events in follower.sweep() for event in events]
    cells = [cell(event) for cell in columns_of(dated=False).values()]
    assert cells[2:6] == ["high", C, "success", "disk full"]


async def test_old_logs_are_not_read(logs: Logs) -> None:
    """Of a log whose last record is too old nothing but that is read."""
    logs.append(
        "1", PLAN, *(failed(AttemptId(f"0.7-{n}"), at=NOW - 3_600_000) for n in range(1, 30))
    )
    follower = Follower(logs.world.at, replace(ALL, since=NOW - 600_000))
    assert await follower.past(0) == []
    calls = logs.world.redis.calls
    assert (calls.count("LRANGE"), calls.count("KEYS")) == (1, 0)
    calls.clear()
    assert await swept(follower) == []
    assert "LRANGE" not in calls


async def test_a_log_that_goes_while_it_is_looked_at_is_new_when_it_comes_back(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a length and has no record any more; nothing of the next one is passed over."""
    logs.append("1", PLAN, failed(A1))
    follower = Follower(logs.world.at, replace(ALL, since=NOW - 600_000))

    async def after_its_loss(*arguments: Any) -> Any:
        logs.world.redis.twin.logs.clear()
        return await read_ends(*arguments)

    monkeypatch.setattr(tail, "read_ends", after_its_loss)
    assert await follower.past(0) == []
    monkeypatch.setattr(tail, "read_ends", read_ends)
    logs.records["1"] = []
    logs.append("1", SENT)
    assert await swept(follower) == ["ns/n1 success"]


async def test_some_notifications_alone(logs: Logs) -> None:
    """Nothing else is looked at."""
    logs.append("1", PLAN, failed(A1))
    logs.append("2", PLAN, failed(A1))
    follower = Follower(logs.world.at, ALL, ["2"])
    assert shown(await follower.past(0)) == ["ns/n2 failed"]
    logs.append("1", SENT)
    assert await swept(follower) == []
    assert "SCAN" not in logs.world.redis.calls


async def test_what_cannot_be_read_is_said_once(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is before it is shown, and others go on."""
    logs.append("1", PLAN, failed(A1))
    log = logs.world.redis.twin.logs["nl:{1}"]
    log.append(b"success 0.7-2 nonsense")
    follower = Follower(logs.world.at, ALL)
    assert shown(await follower.past(0)) == ["ns/n1 failed"]
    log.append(b"more")
    logs.append("2", PLAN, failed(A1))
    assert await swept(follower) == ["ns/n2 failed"]
    said = capsys.readouterr().err
    assert said == "syncer: ns/n1: what follows cannot be read (record 3: prefix is malformed)\n"


async def _collect(follower: Follower, found: list[str]) -> None:
    async for events in follower.sweep():
        found += shown(events)


async def test_a_sweep_that_fails_loses_and_repeats_nothing(logs: Logs) -> None:
    """What it has shown before is not shown again by the next, and everything else is."""
    follower = Follower(logs.world.at, ALL)
    await follower.past(0)
    checked = follower.checked
    logs.append("1", PLAN, failed(A1))
    logs.append("2", PLAN, failed(A1))
    follower._at.log._patience = 0
    pages = follower._pages

    async def broken() -> Any:
        yield ["1"]
        raise Unavailable("away")

    follower._pages = broken  # type: ignore[method-assign]  # one sweep of it
    found: list[str] = []
    with pytest.raises(Unavailable):
        await _collect(follower, found)
    assert found == ["ns/n1 failed"]
    assert follower.checked == checked
    follower._pages = pages  # type: ignore[method-assign]  # as it was
    assert await swept(follower) == ["ns/n2 failed"]


async def test_what_was_read_beside_what_could_not_be_comes_later(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page whose second half cannot be read has shown nothing, so the next sweep shows all of it."""
    follower = Follower(logs.world.at, ALL)
    await follower.past(0)
    logs.append("1", PLAN, failed(A1))
    logs.append("2", PLAN, failed(A1))
    monkeypatch.setattr(tail, "_RECORDS", 1)
    halves = 0

    async def half(*arguments: Any) -> Any:
        nonlocal halves
        halves += 1
        if halves == 2:
            raise Unavailable("away")
        return await read_ends(*arguments)

    monkeypatch.setattr(tail, "read_ends", half)
    with pytest.raises(Unavailable):
        await swept(follower)
    assert await swept(follower) == ["ns/n1 failed", "ns/n2 failed"]


async def test_what_is_appended_late_is_found_by_who_goes_on(logs: Logs) -> None:
    """An attempt that ended before the last sweep, and was recorded behind it, comes to the next run."""
    first = Follower(logs.world.at, ALL)
    await first.past(0)
    assert first.checked == NOW
    late = replace(SENT, body={**SENT.body, "at": NOW - 500})
    logs.append("1", PLAN, late)
    later = Follower(logs.world.at, replace(ALL, since=first.resume))
    assert shown(await later.past(0)) == ["ns/n1 success"]
    assert Follower(logs.world.at, replace(ALL, since=NOW)).resume == NOW, (
        "never before its own beginning"
    )


def test_little_is_read_together() -> None:
    """A few long logs are read one by one, many short ones together; each is read."""
    long, short = {f"l{n}": 4_000 for n in range(3)}, {f"s{n}": 11 for n in range(600)}
    logs = [(uid, 1) for uid in (*long, *short)]
    batches = list(_batches(logs, long | short))
    assert [log for batch in batches for log in batch] == logs
    assert [len(batch) for batch in batches[:2]] == [1, 1]
    assert len(batches) == 4
    assert list(_batches([("huge", 1)], {"huge": 10**6})) == [[("huge", 1)]]
    assert list(_batches([], {})) == []
    full = {"a": tail._RECORDS - 1, "b": 1, "c": 1}
    assert list(_batches([(uid, 0) for uid in full], full)) == [[("a", 0), ("b", 0)], [("c", 0)]]


async def test_a_rest_is_as_long_as_a_sweep_is_dear(logs: Logs) -> None:
    """At least the period; four times as long as the last sweep took where that is more, the past aside."""
    follower = Follower(logs.world.at, ALL)
    assert follower.pause(1.0) == 1.0
    logs.append("1", PLAN)
    logs.world.redis.delay = lambda: 0.02
    await follower.past(0)
    assert follower.pause(0) == 0
    await swept(follower)
    assert 4 * 0.04 < follower.pause(0) < 20
    assert follower.pause(1_000.0) == 1_000.0


async def test_ends_of_logs(logs: Logs) -> None:
    """From the first position that is wanted, with the chain of the one before; none of what is gone."""
    logs.append("1", PLAN, opened(A1), failed(A1))
    log = logs.world.log
    assert await read_lengths(log, ["1", "gone"]) == [4, 0]
    assert await read_lengths(log, []) == []
    assert await read_ends(log, []) == []
    whole, last, gone = await read_ends(log, [("1", 1), ("1", 3), ("gone", 1)])
    assert (whole.object, whole.length, whole.problem) == ("ns/n1", 4, "")
    assert [r.kind for r in whole.records] == [Kind.PLAN, Kind.INTENT, Kind.FAILED]
    assert last.records == whole.records[2:]
    assert gone == ("", 0, (), "")
    logs.world.redis.twin.logs["nl:{1}"][2] = b"no record"
    (broken,) = await read_ends(log, [("1", 3)])
    assert (broken.length, broken.problem) == (4, "the record before has no legible prefix")
