"""What is known of one notification, over a Redis in memory: by object, by name, and what was not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli.access import Access
from syncer.cli.explain import as_json, as_text
from syncer.cli.known import Asker, Known, Missing, find_uid, know
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass
from syncer.model.carried import fold
from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    ContractError,
    Gone,
    Unauthorised,
    Unavailable,
)
from syncer.model.record import (
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.unit.syncer.cli.samples import A1, A2, NOW, C, elements

PLAN: Final = plan_record(Plan((C,), "RoutingRuleMatched", "m", at=1))
OPENED: Final = intent_record(A1, C, at=10, by="p")
FAILED: Final = attempt_record(
    Attempt(A1, C, AttemptState.FAILED, started=10, ended=11, failure=FailureClass.TRANSIENT)
)
SENT: Final = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, started=10, ended=11))


def request(
    uid: str = "u", *attempts: tuple[str, str], phase: str = "Sending"
) -> NotificationRequest:
    """An object that shows attempts: id and status of each."""
    return parse_object(
        {
            "metadata": {"uid": uid, "namespace": "ns", "name": "n", "resourceVersion": "1"},
            "spec": {"type": "simple", "retryPolicy": {"maxAttempts": 5}},
            "status": fold({
                "phase": phase,
                "deliveryAttempts": [
                    {
                        "id": identity, "channel": C, "attempt": number, "status": status,
                        "timestamp": "2027-01-15T07:59:11.000Z",
                    }
                    for number, (identity, status) in enumerate(attempts, 1)
                ],
            }),
        }
    )  # fmt: skip


class World:
    """A Redis and an API server."""

    def __init__(self, answer: NotificationRequest | Exception | None = None) -> None:
        self.redis = MemoryRedis(lambda: NOW)
        self.log: Any = MemoryLog(self.redis)
        self.client = self.log.client
        self.answer = answer or ConfigError("not asked")
        self.kube, self.store, self.problem = None, None, "not asked"
        self.configured = False
        self.settings = SimpleNamespace(
            sharding=SimpleNamespace(lease_name="nl"), sync=SimpleNamespace(max_status_bytes=4_000),
            delivery=SimpleNamespace(at_most_once=False, paused=False, max_age=0.0),
        )  # fmt: skip
        self.objects = SimpleNamespace(get=self._get)

    def put(self, uid: str, *records: Record, ttl: int = -1, name: str = "ns/n") -> None:
        """Store a log."""
        self.redis.twin.logs[f"nl:{{{uid}}}"] = list(
            elements(*records, header=Header(name, Epoch("0.7")))
        )
        if ttl >= 0:
            self.redis.twin.expires[f"nl:{{{uid}}}"] = NOW + ttl * 1000

    async def now(self) -> int:
        return NOW

    async def _get(self, namespace: str, name: str) -> NotificationRequest:
        assert (namespace, name) == ("ns", "n")
        if isinstance(self.answer, NotificationRequest):
            return self.answer
        raise self.answer

    async def know(self, *, strict: bool = True) -> Known | None:
        """Look at ns/n."""
        return await know(cast("Access", self), "ns/n", Asker(5.0, strict=strict))

    async def known(self, *, strict: bool = True) -> Known:
        """Look at ns/n, of which something is known."""
        found = await self.know(strict=strict)
        assert found is not None
        return found


# -- finding --------------------------------------------------------------------------------------


async def test_the_object_names_the_log() -> None:
    """The log of its uid is read, whatever other log bears the name, with its expiry."""
    world = World(request("u"))
    world.put("u", PLAN, ttl=60)
    world.put("old", PLAN, OPENED)
    found = await world.known()
    assert (found.uid, found.key, found.ttl, len(found.lines)) == ("u", "ns/n", 60, 1)
    assert (found.object_problem, found.compared) == ("", True)


async def test_an_object_without_a_log() -> None:
    """It is shown all the same."""
    found = await World(request("u")).known()
    assert (found.lines, found.ttl) == ((), -2)
    assert "LOG     none" in as_text(found)


NAMES: Final = {
    "the one that does not expire": ({"a": 900, "b": -1, "c": 950}, "b"),
    "else the one that lasts longest": ({"a": 900, "b": 0, "c": 950}, "c"),
    "none": ({}, ""),
}


@pytest.mark.parametrize("case", NAMES)
async def test_the_newest_log_of_a_name(case: str) -> None:
    """Of several logs that bear a name the newest is taken; others and foreign keys are passed over."""
    expiries, wanted = NAMES[case]
    world = World()
    world.put("other", PLAN, name="ns/other")
    world.redis.twin.logs["nl:{foreign}"] = [b"something else"]
    for uid, ttl in expiries.items():
        world.put(uid, PLAN, ttl=ttl)
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
    world = World(answer)
    world.put("u", PLAN, OPENED, SENT)
    found = await world.known()
    assert (found.uid, found.request, found.object_problem) == ("u", None, says)
    assert (found.compared, found.differences) == (False, ())
    text = list(as_text(found))
    assert f"STATUS  not read: {says}" in text
    assert text[-1] == "log and status were not compared: the status was not read"


async def test_nothing_bears_the_name() -> None:
    """Neither an object nor a log: that is an answer; what was not read may be there, and is no answer."""
    assert await World(Gone("g")).know() is None
    for answer in (None, ContractError("no uid"), Unavailable("away")):
        found = await World(answer).known()
        assert (found.uid, len(found.missing)) == ("", 1)
    refused = Unauthorised("may not get", reason="Forbidden")
    found = await World(refused).known()
    assert (found.refused, found.object_problem) == (refused, "may not get")
    shown = await World(refused).known(strict=False)
    assert shown.refused is None
    assert shown.missing == [
        "the object could not be read: the API server could not be reached (may not get)"
    ]


# -- comparing ------------------------------------------------------------------------------------

#: Records of the log, None without one; attempts of the status and its phase; what `verify` calls the
#: difference; remarks.
COMPARED: Final[
    dict[str, tuple[list[Record] | None, list[tuple[str, str]], str, list[str], list[str]]]
] = {
    "both say the same, but for what is counted": (
        [PLAN, OPENED, SENT], [(A1, "success")], "Sent", ["status-differs"], [""],
    ),
    "an attempt is open": (
        [PLAN, OPENED], [], "Sending", ["open-attempt"],
        ["open: being sent, or its sender is gone"],
    ),
    "a result is not published yet": (
        [PLAN, OPENED, FAILED], [], "Sending",
        ["status-behind"], ["not published yet"],
    ),
    "the log knows more of an attempt": (
        [PLAN, OPENED, SENT], [(A1, "failed")], "Sending",
        ["status-behind"], ["differs"],
    ),
    "the log has lost an attempt": (
        [PLAN, OPENED, SENT], [(A1, "success"), (A2, "failed")], "Sent",
        ["log-behind"], ["", "only in the status"],
    ),
    "the log is lost": (
        None, [(A1, "failed")], "Sending", ["log-missing"],
        ["only in the status"],
    ),
    "the log has expired": (None, [(A1, "success")], "Sent", [], ["only in the status"]),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPARED)
async def test_differences(case: str) -> None:
    """Each difference is named once, beside the attempt as well, and agreement is said."""
    records, attempts, phase, differences, remarks = COMPARED[case]
    world = World(request("u", *attempts, phase=phase))
    if records is not None:
        world.put("u", *records)
    found = await world.known()
    assert [text.partition(":")[0] for text in found.differences] == differences
    text = list(as_text(found))
    assert [line for line in text if line.startswith("! ")] == [f"! {d}" for d in found.differences]
    assert (text[-1] == "log and status agree") is (not differences)
    rows = text[text.index("ATTEMPTS") + 2 : text.index("", text.index("ATTEMPTS"))]
    assert [" ".join(row.split()[5:]) for row in rows] == remarks


async def test_a_record_that_cannot_be_read() -> None:
    """It is shown in its place, with what is wrong, and counts as a difference."""
    world = World(request("u"))
    world.put("u", PLAN, OPENED, SENT)
    log = world.redis.twin.logs["nl:{u}"]
    log[2] = log[2][:-1] + b"\xff"
    found = await world.known()
    assert [line.position for line in found.lines] == [1, 2, 3]
    assert found.lines[1].record is None
    assert found.differences[0].startswith("unreadable: record 2: ")


async def test_an_inspection_as_json_and_as_text() -> None:
    """Log, fold and status stand beside each other; the keys are an interface."""
    world = World(request("u", (A1, "failed")))
    world.put("u", PLAN, OPENED, SENT, ttl=60)
    found = await world.known()
    document = as_json(found)
    records = document["log"].pop("records")
    assert document["log"] == {
        "epoch": "0.7", "acked": 0, "audited": 0, "length": 3, "ttlSeconds": 60,
    }  # fmt: skip
    assert [(r["position"], r["kind"], r["id"], r["channel"], r["at"]) for r in records] == [
        (1, "plan", "plan", "-", 1), (2, "intent", A1, C, 10), (3, "success", A1, C, 11),
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
        "phase": "Sending", "reason": "", "message": "", "totalAttempts": 0, "resourceVersion": "1",
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
    assert "STATUS  Sending" in text
    assert "FOLD    Sent" in text
    rows = [line.split()[:4] for line in text[3:7]]
    assert rows == [
        ["#", "kind", "id", "channel"], ["1", "plan", "plan", "-"], ["2", "intent", A1, C],
        ["3", "success", A1, C],
    ]  # fmt: skip


async def test_an_inspection_of_an_object_without_a_log() -> None:
    """There is no log to show, and nothing that differs; without an object there is no phase."""
    found = await World(request("u")).known()
    document = as_json(found)
    assert (document["log"], document["fold"]) == (
        None, {"channels": [], "attempts": [], "phase": "Sending"},
    )  # fmt: skip
    text = list(as_text(found))
    assert text[2] == "LOG     none"
    assert not [line for line in text if line.startswith("LOG     0")]

    world = World()
    world.put("u", PLAN)
    alone = await world.known()
    document = as_json(alone)
    assert (document["status"], document["fold"]["phase"]) == (None, "")
    assert "LOG     1 records, epoch 0.7, published up to 0, kept" in as_text(alone)


async def test_a_log_that_is_damaged_hides_no_other() -> None:
    """A header that cannot be read is passed over, whichever comes first."""
    for damaged in ("a", "z"):
        world = World()
        world.put("u", PLAN)
        world.redis.twin.logs[f"nl:{{{damaged}}}"] = [b"damage"]
        assert await find_uid(world.log, "ns/n") == "u"


async def test_a_log_that_expires_this_second_is_no_log_that_stays() -> None:
    """Of two, the one that lasts; what is shown of it counts down to nothing."""
    world = World()
    world.put("a", PLAN, ttl=5)
    world.put("b", PLAN)
    world.redis.twin.expires["nl:{b}"] = NOW + 400
    found = await world.known()
    assert found.uid == "a"
    world.redis.twin.delete("nl:{a}")
    last = await world.known()
    assert list(as_text(last))[2] == (
        "LOG     1 records, epoch 0.7, published up to 0, expires in 0 s"
    )


async def test_a_log_whose_header_is_damaged() -> None:
    """Its records are shown by their place, each with what is wrong; it counts as there."""
    world = World(request("u"))
    world.redis.twin.logs["nl:{u}"] = [b"no header", b"damage"]
    found = await world.known()
    document = as_json(found)
    (line,) = found.lines
    assert document["log"] == {
        "epoch": "", "acked": 0, "audited": 0, "length": 1, "ttlSeconds": -1,
        "records": [{"position": 0, "error": line.error}],
    }  # fmt: skip
    text = list(as_text(found))
    assert not [row for row in text if row.startswith("LOG")]
    assert [row.split()[:2] for row in text[2:4]] == [["#", "kind"], ["0", "?"]]
    assert text[3].endswith(line.error)


async def test_the_parts_of_an_inspection_stand_apart() -> None:
    """A blank line before each; without records there is no table, without attempts that is said."""
    found = await World(request("u", phase="")).known()
    assert list(as_text(found)) == [
        "ns/n  uid u", "", "LOG     none", "", "ATTEMPTS", "  none", "", "STATUS  (none)",
        "FOLD    Pending", "", "log and status agree",
    ]  # fmt: skip


async def test_what_is_shown_of_an_attempt() -> None:
    """Class and error where there are such; a row has the first eighty characters of a text."""
    failed = attempt_record(
        Attempt(
            A1, C, AttemptState.FAILED, started=10, ended=11, failure=FailureClass.PERMANENT,
            error="x\ny" * 40,
        )
    )  # fmt: skip
    world = World()
    world.put("u", PLAN, OPENED, failed)
    found = await world.known()
    (attempt,) = as_json(found)["fold"]["attempts"]
    assert (attempt["class"], attempt["error"]) == ("permanent", "x\ny" * 40)
    assert "attempt" not in attempt
    row = next(line for line in as_text(found) if line.startswith("  3  failed"))
    assert row.endswith(f"error={('x y' * 40)[:79]}…")


async def test_an_attempt_of_the_status_alone_is_shown_between_others() -> None:
    """Each has its number by the status, its state by both sides, and a remark."""
    world = World(request("u", (A2, "failed"), (A1, "success"), phase="Sent"))
    world.put("u", PLAN, OPENED, SENT)
    found = await world.known()
    text = list(as_text(found))
    at = text.index("ATTEMPTS")
    assert [line.split() for line in text[at + 1 : at + 4]] == [
        ["id", "channel", "no", "log", "status"],
        [A1, C, "2", "success", "success"],
        [A2, C, "1", "-", "failed", "only", "in", "the", "status"],
    ]


async def test_a_record_without_a_time() -> None:
    """It is shown without one."""
    world = World()
    world.put("u", Record(Kind.REPAIR, "repair:1", "-", {"by": "me"}))
    found = await world.known()
    assert list(as_text(found))[4].split() == ["1", "repair", "repair:1", "-", "by=me"]


@pytest.mark.parametrize("error", [Unavailable("away"), Ambiguous("lost"), TimeoutError()])
async def test_while_redis_is_silent_the_status_speaks(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is shown and explained, nothing is compared, and the silence is a sentence."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", "home")
    world = World(request("u", (A1, "failed")))

    async def silent(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.client, "command", silent)
    found = await world.known()
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
    world = World(request("u", (A1, "failed")))

    async def refused(*_: object) -> None:
        raise Unauthorised("Redis refuses", reason="NOPERM")

    monkeypatch.setattr(world.client, "command", refused)
    with pytest.raises(Unauthorised):
        await world.know()
    shown = await world.known(strict=False)
    assert "Redis refuses" in shown.unread


async def test_a_silent_server_is_left_alone_for_a_while() -> None:
    """Each page would wait for it; what asks for much says nothing of the server by taking long."""
    asker, calls = Asker(0.01), 0

    async def hangs() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(5)

    for walks, wanted in ((True, 1), (True, 2), (False, 3), (False, 3)):
        with pytest.raises(
            Missing, match=r"Redis could not be reached \(no answer within 0.01 s\)"
        ):
            await asker.ask("Redis", hangs, walks=walks)
        assert calls == wanted
