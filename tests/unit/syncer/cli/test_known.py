"""What is known of one notification, over a Redis in memory: by object, by name, and what was not."""

from __future__ import annotations

import asyncio
from typing import Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.cli.explain import as_json, as_text
from syncer.cli.known import Asker, Known, Missing, find_uid, know
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    ContractError,
    Gone,
    Unauthorised,
    Unavailable,
)
from syncer.model.record import Header, Kind, Record, attempt_record
from syncer.model.resource import NotificationRequest
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
from tests.unit.syncer.cli.world import Objects, World

OPENED: Final = opened(A1, at=10)
FAILED: Final = failed(A1, at=11)
SENT: Final = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, started=10, ended=11))


def world_of(
    answer: NotificationRequest | Exception | None = None, *records: Record, ttl: float = -1
) -> World:
    """An API server that answers so for ns/n, and its log, if it has records."""
    world = World(Objects())
    world.objects.kept["ns/n"] = answer or ConfigError("not asked")
    if records:
        world.put("u", elements(*records), ttl=ttl)
    return world


async def known(world: World, *, strict: bool = True) -> Known:
    """Look at ns/n, of which something is known."""
    found = await know(world.at, "ns/n", Asker(5.0, strict=strict))
    assert found is not None
    return found


# -- finding --------------------------------------------------------------------------------------


async def test_the_object_names_the_log() -> None:
    """The log of its uid is read, whatever other log bears the name, with its expiry."""
    world = world_of(request(), PLAN, ttl=0.4)
    world.put("old", elements(PLAN, OPENED))
    found = await known(world)
    assert (found.uid, found.key, found.ttl, len(found.lines)) == ("u", "ns/n", 0, 1)
    assert (found.object_problem, found.compared) == ("", True)
    assert "LOG     1 records, epoch 0.7, published up to 0, expires in 0 s" in as_text(found)


NAMES: Final[dict[str, tuple[dict[str, float], str]]] = {
    "the one that does not expire": ({"a": 900, "b": -1, "c": 950}, "b"),
    "else the one that lasts longest": ({"a": 900, "b": 0.4, "c": 950}, "c"),
    "none": ({}, ""),
}


@pytest.mark.parametrize("case", NAMES)
async def test_the_newest_log_of_a_name(case: str) -> None:
    """Of several logs that bear a name the newest is taken; others and foreign keys are passed over."""
    expiries, wanted = NAMES[case]
    world = World(Objects())
    world.put("first", (b"something else",))
    world.put("other", elements(PLAN, header=Header("ns/other")))
    for uid, ttl in expiries.items():
        world.put(uid, elements(PLAN), ttl=ttl)
    world.put("last", (b"damage",))
    assert await find_uid(world.log, "ns/n") == wanted


UNREAD: Final[dict[str, tuple[Exception | None, str]]] = {
    "there is no way to it": (None, "not asked"),
    "it is gone": (Gone("g"), "there is no such object"),
    "the server does not answer": (
        Unavailable("no answer"), "no answer",
    ),
    "it cannot be parsed": (ContractError("no uid"), "it does not parse (no uid)"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
async def test_without_its_object(case: str) -> None:
    """The log is found by the name in its header; that it was not compared is said, and why."""
    answer, says = UNREAD[case]
    found = await known(world_of(answer, PLAN, OPENED, SENT))
    assert (found.uid, found.request, found.object_problem) == ("u", None, says)
    assert (found.compared, found.differences) == (False, ())
    document, text = as_json(found), list(as_text(found))
    assert (document["status"], document["fold"]["phase"]) == (None, "")
    assert "LOG     3 records, epoch 0.7, published up to 0, kept" in text
    assert f"STATUS  not read: {says}" in text
    assert text[-1] == "log and status were not compared: the status was not read"


async def test_nothing_bears_the_name() -> None:
    """Neither an object nor a log: that is an answer; what was not read may be there, and is no answer."""
    assert await know(world_of(Gone("g")).at, "ns/n", Asker(5.0)) is None
    for answer in (None, ContractError("no uid"), Unavailable("away")):
        found = await known(world_of(answer))
        assert (found.uid, len(found.missing)) == ("", 1)
    refused = Unauthorised("may not get", reason="Forbidden")
    found = await known(world_of(refused))
    assert (found.refused, found.object_problem) == (refused, "may not get")
    shown = await known(world_of(refused), strict=False)
    assert shown.refused is None
    assert shown.missing == [
        "the object could not be read: the API server could not be reached (may not get)"
    ]


# -- comparing ------------------------------------------------------------------------------------

#: Records of the log, none without one; attempts of the status and its phase; what `verify` calls the
#: difference; the attempts as they are shown behind id and channel.
COMPARED: Final[
    dict[str, tuple[list[Record], list[tuple[str, str]], str, list[str], list[str]]]
] = {
    "both say the same, but for what is counted": (
        [PLAN, OPENED, SENT], [(A1, "success")], "Sent", ["status-differs"], ["1 success success"],
    ),
    "an attempt is open": (
        [PLAN, OPENED], [], "Sending", ["open-attempt"],
        ["- intent - open: being sent, or its sender is gone"],
    ),
    "a result is not published yet": (
        [PLAN, OPENED, FAILED], [], "Sending",
        ["status-behind"], ["- failed - not published yet"],
    ),
    "the log knows more of an attempt": (
        [PLAN, OPENED, SENT], [(A1, "failed")], "Sending",
        ["status-behind"], ["1 success failed differs"],
    ),
    "the log has lost an attempt": (
        [PLAN, OPENED, SENT], [(A2, "failed"), (A1, "success")], "Sent",
        ["log-behind"], ["2 success success", "1 - failed only in the status"],
    ),
    "the log is lost": (
        [], [(A1, "failed")], "Sending", ["log-missing"],
        ["1 - failed only in the status"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPARED)
async def test_differences(case: str) -> None:
    """Each difference is named once, beside the attempt as well, and agreement is said."""
    records, attempts, phase, differences, rows = COMPARED[case]
    shown = [entry(state, number, identity) for number, (identity, state) in enumerate(attempts, 1)]
    found = await known(world_of(request(*shown, phase=phase), *records))
    assert [text.partition(":")[0] for text in found.differences] == differences
    text = list(as_text(found))
    assert [line for line in text if line.startswith("! ")] == [f"! {d}" for d in found.differences]
    assert (text[-1] == "log and status agree") is (not differences)
    at = text.index("ATTEMPTS")
    head, *table = (line.split() for line in text[at + 1 : text.index("", at)])
    assert head == ["id", "channel", "no", "log", "status"]
    assert [" ".join(row[2:]) for row in table] == rows


async def test_a_record_that_cannot_be_read() -> None:
    """It is shown in its place, with what is wrong, and counts as a difference."""
    log = list(elements(PLAN, OPENED, SENT))
    log[2] = log[2][:-1] + b"\xff"
    world = world_of(request())
    world.put("u", log)
    found = await known(world)
    assert [line.position for line in found.lines] == [1, 2, 3]
    assert found.lines[1].record is None
    assert found.differences[0].startswith("unreadable: record 2: ")


async def test_an_inspection_as_json_and_as_text() -> None:
    """Log, fold and status stand beside each other; the keys are an interface."""
    found = await known(world_of(request(entry("failed")), PLAN, OPENED, SENT, ttl=60))
    document = as_json(found)
    records = document["log"].pop("records")
    assert document["log"] == {
        "epoch": "0.7", "acked": 0, "audited": 0, "length": 3, "ttlSeconds": 60,
    }  # fmt: skip
    assert [(r["position"], r["kind"], r["id"], r["channel"], r["at"]) for r in records] == [
        (1, "plan", "plan", "-", NOW - 60_000), (2, "intent", A1, C, 10), (3, "success", A1, C, 11),
    ]  # fmt: skip
    assert [len(r["chain"]) for r in records] == [8, 8, 8]
    assert document["fold"] == {
        "channels": [C],
        "attempts": [
            {"id": A1, "channel": C, "state": "success", "ended": "1970-01-01T00:00:00.011Z"}
        ],
        "phase": "Sent",
    }
    shown = document["status"].pop("attempts")
    assert document["status"] == {
        "phase": "Sending", "reason": "", "message": "", "totalAttempts": 0, "resourceVersion": "9",
    }  # fmt: skip
    assert [(a["id"], a["state"], a["attempt"], a["class"]) for a in shown] == [
        (A1, "failed", 1, "transient")
    ]
    assert (document["uid"], document["object"], document["compared"]) == ("u", "ns/n", True)
    assert document["objectProblem"] is None
    text = list(as_text(found))
    assert text[:3] == [
        "ns/n  uid u", "", "LOG     3 records, epoch 0.7, published up to 0, expires in 60 s",
    ]  # fmt: skip
    assert {"STATUS  Sending", "FOLD    Sent"} < set(text)
    rows = [line.split()[:4] for line in text[3:7]]
    assert rows == [
        ["#", "kind", "id", "channel"], ["1", "plan", "plan", "-"], ["2", "intent", A1, C],
        ["3", "success", A1, C],
    ]  # fmt: skip


async def test_an_object_without_a_log() -> None:
    """It is shown all the same, each part behind a blank line; nothing differs."""
    found = await known(world_of(request(phase="")))
    assert (found.lines, found.ttl) == ((), -2)
    document = as_json(found)
    assert (document["log"], document["fold"]) == (
        None, {"channels": [], "attempts": [], "phase": "Pending"},
    )  # fmt: skip
    assert list(as_text(found)) == [
        "ns/n  uid u", "", "LOG     none", "", "ATTEMPTS", "  none", "", "STATUS  (none)",
        "FOLD    Pending", "", "log and status agree",
    ]  # fmt: skip


async def test_a_log_whose_header_is_damaged() -> None:
    """Its records are shown by their place, each with what is wrong; it counts as there."""
    world = world_of(request())
    world.put("u", (b"no header", b"damage"))
    found = await known(world)
    (line,) = found.lines
    assert as_json(found)["log"] == {
        "epoch": "", "acked": 0, "audited": 0, "length": 1, "ttlSeconds": -1,
        "records": [{"position": 0, "error": line.error}],
    }  # fmt: skip
    text = list(as_text(found))
    assert not [row for row in text if row.startswith("LOG")]
    assert [row.split()[:2] for row in text[2:4]] == [["#", "kind"], ["0", "?"]]
    assert text[3].endswith(line.error)


async def test_what_is_shown_of_a_record() -> None:
    """Class and error of an attempt in full; in its row so much of a text, and a time if it has one."""
    ended = Attempt(
        A1, C, AttemptState.FAILED, started=10, ended=11, failure=FailureClass.PERMANENT,
        error="x\ny" * 40,
    )  # fmt: skip
    repair = Record(Kind.REPAIR, "repair:1", "-", {"by": "me"})
    found = await known(world_of(None, PLAN, OPENED, attempt_record(ended), repair))
    (attempt,) = as_json(found)["fold"]["attempts"]
    assert (attempt["class"], attempt["error"]) == ("permanent", "x\ny" * 40)
    assert "attempt" not in attempt
    *_, failure, last = list(as_text(found))[4:8]
    assert failure.endswith(f"error={('x y' * 40)[:79]}…")
    assert last.split() == ["4", "repair", "repair:1", "-", "by=me"]


@pytest.mark.parametrize("error", [Unavailable("away"), Ambiguous("lost"), TimeoutError()])
async def test_while_redis_is_silent_the_status_speaks(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is shown and explained, nothing is compared, and the silence is a sentence."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", "home")
    world = world_of(request(entry("failed")))
    monkeypatch.setattr(world.client, "command", AsyncMock(side_effect=error))
    found = await known(world)
    why = str(error) or "no answer within 5 s"
    assert (found.unread, found.compared, found.differences) == (why, False, ())
    assert found.explanation is not None
    assert found.explanation.unread == why
    text = list(as_text(found))
    assert f"LOG     not read: {why}" in text
    assert text[-1] == "log and status were not compared: the log was not read"
    assert (as_json(found)["log"], as_json(found)["logProblem"]) == (None, why)


async def test_a_refusal_of_redis_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that Redis does not take are for the operator to mend; a page shows the rest."""
    world = world_of(request(entry("failed")))
    monkeypatch.setattr(
        world.client,
        "command",
        AsyncMock(side_effect=Unauthorised("Redis refuses", reason="NOPERM")),
    )
    with pytest.raises(Unauthorised):
        await known(world)
    shown = await known(world, strict=False)
    assert "Redis refuses" in shown.unread


async def test_a_silent_server_is_left_alone_for_a_while() -> None:
    """Each page would wait for it; what asks for much says nothing of the server by taking long."""
    asker, hangs = Asker(0.01), Mock(side_effect=lambda: asyncio.sleep(5))
    for walks, wanted in ((True, 1), (True, 2), (False, 3), (False, 3)):
        with pytest.raises(
            Missing, match=r"Redis could not be reached \(no answer within 0.01 s\)"
        ):
            await asker.ask("Redis", hangs, walks=walks)
        assert hangs.call_count == wanted
