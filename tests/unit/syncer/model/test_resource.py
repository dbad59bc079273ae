"""Parsing and rendering: tolerant of what is foreign, exact about what is ours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.carried import fold
from syncer.model.conditions import Condition
from syncer.model.packing import hash_of
from syncer.model.rendering import difference, render_status
from syncer.model.resource import (
    ChannelStatus,
    LogMark,
    RetryPolicy,
    Spec,
    Status,
    parse_object,
    parse_policy,
    parse_spec,
    parse_status,
)
from syncer.model.times import format_time, parse_time
from tests.unit.syncer.model.documents import FULL, ODD_TIMES, SECOND

LINK = {"service": "s", "url": "https://x", "label": "l"}


def document(**status: Any) -> dict[str, Any]:
    """An object as the API server sends it."""
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {
            "uid": "u-1", "namespace": "ns", "name": "n", "resourceVersion": "42",
            "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "m"}],
        },
        "spec": {"type": "simple", "priority": "High", "subject": "s", "body": "b"},
        "status": status,
    }  # fmt: skip


def test_zero_values_are_left_out() -> None:
    """An empty status renders to nothing, as upstream's types do."""
    assert render_status(Status()) == {}
    assert parse_status({}) == Status()


def test_attempts_on_the_wire() -> None:
    """An entry has upstream's members, and ours beside them."""
    first, second, _ = render_status(FULL)["deliveryAttempts"]
    assert first == {
        "channel": "a", "attempt": 1, "timestamp": "2023-11-14T22:13:20.002Z",
        "status": "success", "id": "0.7-1", "durationSeconds": 0.25,
        "startedAt": "2023-11-14T22:13:20.001Z", "code": 200,
    }  # fmt: skip
    assert (second["error"], second["class"], second["status"]) == ("503", "transient", "failed")


def test_condition_times_are_whole_seconds() -> None:
    """A condition's time has no fraction: `metav1.Time` takes none."""
    for condition in render_status(FULL)["conditions"]:
        assert condition["lastTransitionTime"] == "2023-11-14T22:13:20Z"


def test_a_condition_of_an_unknown_generation() -> None:
    """One that names no generation is of none, and stays so on the wire."""
    written = {"type": "Ready", "status": "True", "reason": "R", "message": "m"}
    status = parse_status({"conditions": [written]})
    assert status.conditions == (Condition("Ready", "True", "R", "m", 0, 0),)
    (condition,) = render_status(status)["conditions"]
    assert "observedGeneration" not in condition


def test_object() -> None:
    """An object is parsed once; its document stays at hand, without managed fields."""
    request = parse_object(document(phase="Sending"))
    assert (request.uid, request.key, request.resource_version) == ("u-1", "ns/n", "42")
    assert (request.generation, request.priority, request.deleting) == (2, "High", False)
    assert request.created == 1_767_225_600_000
    assert (request.status.phase, request.status.terminal) == ("Sending", False)
    assert "managedFields" not in request.document()["metadata"]
    assert request.document()["spec"] == document()["spec"]
    assert request.spec() == Spec("simple", "High", "s", "b")
    assert request.retention_days == 7
    going = document()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert parse_object(going).deleting


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"resourceVersion": "43"}},
        {"status": {"phase": "Sent"}},
        {"spec": {"type": "Simple"}},
        {},
    ],
    ids=["version", "status", "spec", "nothing"],
)
def test_what_is_known_is_not_parsed_again(change: dict[str, Any]) -> None:
    """An object that is the same in every byte is the very one that is known; any other is parsed."""
    known = parse_object(document(phase="Sending"))
    doc = document(phase="Sending")
    for member, value in change.items():
        doc[member] |= value
    read = parse_object(doc, known)
    assert (read is known) is not bool(change)
    assert read == parse_object(doc)


def test_what_is_known_in_outline_is_parsed() -> None:
    """Nothing of it is kept to compare with."""
    known = replace(parse_object(document()), raw=b"")
    assert parse_object(document(), known).raw


@pytest.mark.parametrize("missing", ["uid", "namespace", "name"])
def test_object_without_identity(missing: str) -> None:
    """An object that cannot be told from others is refused."""
    doc = document()
    del doc["metadata"][missing]
    with pytest.raises(ValueError, match="object without uid, namespace or name"):
        parse_object(doc)


Change = dict[str, Any]
UNREAD: dict[str, Change] = {
    "a member that this controller does not know": {"urgency": "Normal"},
    "what is meant without it": {
        "priority": "Medium", "retentionDays": 7,
        "retryPolicy": {"maxAttempts": 5, "initialBackoffSeconds": 30, "jitter": "full"},
    },
    "a member of the context that nobody reads": {
        "context": {"review": {"reason": "r", "circuitBreakerActivated": False, "tier": 1}},
    },
    "a part of the context that nobody reads": {
        "context": {"review": {"reason": "r"}, "fleet": {"region": "north"}},
    },
    "a member of a link": {"actionLinks": [{**LINK, "style": "primary"}]},
    "more of who asked": {"remediationRequestRef": {"name": "rr", "kind": "RemediationRequest"}},
}  # fmt: skip
READ: dict[str, Change] = {
    "another text": {"body": "other"},
    "a severity": {"severity": "critical"},
    "another way to retry": {"retryPolicy": {"maxAttempts": 1}},
    "an extension": {"extensions": {"team": "x"}},
    "a member of the context": {"context": {"review": {"reason": "r", "subReason": "s"}}},
    "a part of the context": {"context": {"review": {"reason": "r"}, "verification": {}}},
    "a name for the workflow": {
        "context": {"review": {"reason": "r"}, "workflow": {"workflowName": "w"}}
    },
    "a further link": {"actionLinks": [LINK, LINK]},
    "a spec that cannot be read": {"context": "text"},
}


@pytest.mark.parametrize("case", [*UNREAD, *READ])
def test_content_hash(case: str) -> None:
    """The digest stands for what is read of a spec: not for its order, the status, or further members."""
    doc = document(phase="Sending")
    doc["spec"] = {
        "type": "Simple", "subject": "s", "body": "b", "context": {"review": {"reason": "r"}},
        "actionLinks": [LINK], "remediationRequestRef": {"name": "rr"},
    }  # fmt: skip
    one = parse_object(doc).content_hash()
    assert len(one) == 64
    doc["spec"] = dict(reversed(doc["spec"].items())) | (UNREAD | READ)[case]
    doc["status"] = {}
    assert (parse_object(doc).content_hash() == one) is (case in UNREAD)


@pytest.mark.parametrize(
    "value",
    ["plain", "ü€", "\x7f", 1.5e-7, 0.5, 1e22, "1.5", {"é": 1, "z": 2}, [{"b": 1, "a": None}]],
)
def test_the_hash_is_that_of_the_standard_library_s_json(value: object) -> None:
    """Records hold it for weeks: whatever writes the JSON, the same content has the same hash."""
    text = json.dumps({"b": value, "a": 1}, sort_keys=True, separators=(",", ":"))
    assert hash_of({"b": value, "a": 1}) == hashlib.sha256(text.encode()).hexdigest()


def test_lone_surrogates_in_a_spec() -> None:
    """A text that no encoder takes does not keep an object from being read."""
    doc = document()
    doc["spec"]["body"] = "a\ud800b"
    request = parse_object(doc)
    assert len(request.content_hash()) == 64
    assert request.uid == "u-1"


def test_unknown_members_are_ignored() -> None:
    """What a later version or somebody else added does no harm."""
    status = render_status(FULL)
    status |= {"extra": {"x": 1}}
    status["deliveryAttempts"][0]["extra"] = 1
    status["channels"][0]["lastCode"] = 200
    assert parse_status(status) == FULL


def test_absent_and_null() -> None:
    """A member that is null is a member that is absent."""
    names = render_status(FULL)
    assert parse_status(dict.fromkeys(names)) == Status()
    doc = document()
    doc["status"] = None
    doc["spec"]["retryPolicy"] = None
    assert parse_object(doc).status == Status()
    assert parse_object(doc).policy == RetryPolicy(5, 30, 2, 480)


STATES: dict[str, tuple[dict[str, Any], AttemptState, FailureClass | None]] = {
    "a success": ({"status": "success"}, AttemptState.SUCCESS, None),
    "a failure": ({"status": "failed"}, AttemptState.FAILED, FailureClass.TRANSIENT),
    "upstream's prefix is permanent": (
        {"status": "failed", "error": "permanent failure: 404"},
        AttemptState.FAILED, FailureClass.PERMANENT,
    ),
    "the prefix counts at the beginning only": (
        {"status": "failed", "error": "slack webhook returned 404 (permanent failure): x"},
        AttemptState.FAILED, FailureClass.TRANSIENT,
    ),
    "a field wins over a text": (
        {"status": "failed", "class": "transient", "error": "permanent failure: 404", "id": "0-0"},
        AttemptState.FAILED, FailureClass.TRANSIENT,
    ),
    "a class of a later version may be tried again": (
        {"status": "failed", "class": "mystical"}, AttemptState.FAILED, FailureClass.TRANSIENT,
    ),
    "a timeout is a failure": ({"status": "timeout"}, AttemptState.FAILED, FailureClass.TRANSIENT),
    "and so is invalid": ({"status": "invalid"}, AttemptState.FAILED, FailureClass.TRANSIENT),
    "unknown is ours": (
        {"status": "unknown", "id": "0-0"}, AttemptState.UNKNOWN, FailureClass.UNCERTAIN,
    ),
    "a word of a later version is no success": (
        {"status": "perhaps"}, AttemptState.FAILED, FailureClass.TRANSIENT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_attempt_states(case: str) -> None:
    """Every word that the schema allows is read, and none is taken for a success by mistake."""
    entry, state, failure = STATES[case]
    (found,) = parse_status(fold({"deliveryAttempts": [{"channel": "a", **entry}]})).attempts
    assert (found.state, found.failure) == (state, failure)
    assert found.id == "0-0"


def test_an_id_that_is_none_and_one_that_is_given_twice() -> None:
    """Whoever may write a status may write anything into the condition: such an entry has no id."""
    entries = [
        {"channel": "a", "attempt": n, "id": identity}
        for n, identity in enumerate(("0.7-1", "7-1", "0.7-1", "0-3"))
    ]
    status = parse_status(fold({"deliveryAttempts": entries}))
    assert [a.id for a in status.attempts] == ["0.7-1", "0-1", "0-2", "0-3"]
    assert status.nameless == {"0-1", "0-2"}


def test_due_times_belong_to_the_newest_attempt() -> None:
    """The next retry of a channel is the due time of its newest entry, and of no other."""
    status = Status(
        attempts=tuple(
            Attempt(AttemptId(f"0.7-{n}"), channel, AttemptState.FAILED, ended=SECOND)
            for n, channel in enumerate(("a", "a", "b"), 1)
        ),
        channels=(ChannelStatus("a", "Retrying", 2, SECOND + 5),),
    )
    assert [a.due for a in parse_status(render_status(status)).attempts] == [0, SECOND + 5, 0]


TIMES = {
    "whole seconds": ("2023-11-14T22:13:20Z", SECOND),
    "milliseconds": ("2023-11-14T22:13:20.123Z", SECOND + 123),
    "microseconds, as events have them": ("2023-11-14T22:13:20.123456Z", SECOND + 123),
    "nanoseconds, as Go prints them": ("2023-11-14T22:13:20.123456789Z", SECOND + 123),
    "another zone": ("2023-11-15T00:13:20+02:00", SECOND),
    "no zone is UTC": ("2023-11-14T22:13:20", SECOND),
    "before the epoch": ("1969-12-31T23:59:59.500Z", -500),
}


@pytest.mark.parametrize("case", TIMES)
def test_times(case: str) -> None:
    """Times of any precision are read as Unix milliseconds."""
    text, ms = TIMES[case]
    assert parse_time(text) == ms
    assert parse_time(format_time(ms)) == ms


def test_absent_times() -> None:
    """No time is zero, both ways."""
    assert parse_time(None) == parse_time("") == 0
    assert format_time(0) == ""
    with pytest.raises(ValueError, match="noon"):
        parse_time("noon")


@pytest.mark.parametrize("ms", [-(10**14), -62_135_596_800_001, 253_402_300_800_000, 2**53, 10**30])
def test_a_number_beyond_the_calendar_is_shown(ms: int) -> None:
    """What somebody has edited by hand may hold one; that must end no command and no decision."""
    assert format_time(ms) in {"0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"}


@pytest.mark.parametrize("text", ODD_TIMES)
def test_odd_times(text: str) -> None:
    """A status is read whatever time the server takes for one, and each is written as a time."""
    condition = {
        "type": "T", "status": "True", "reason": "R", "message": "", "lastTransitionTime": text,
    }  # fmt: skip
    attempt = {"channel": "a", "attempt": 1, "status": "failed", "timestamp": text}
    status = parse_status(
        {"queuedAt": text, "conditions": [condition], "deliveryAttempts": [attempt]}
    )
    assert status.queued_at == status.attempts[0].ended == ODD_TIMES[text]
    wire = render_status(status)
    for written in (
        wire["conditions"][0]["lastTransitionTime"],
        wire["deliveryAttempts"][0]["timestamp"],
    ):
        assert parse_time(written) == pytest.approx(ODD_TIMES[text], abs=1000)
        assert len(written.partition("-")[0]) == 4


def test_numbers_without_measure() -> None:
    """The schema bounds neither the length of a call nor the form of an epoch."""
    status = parse_status(
        fold(
            {
                "deliveryAttempts": [
                    {"channel": "a", "durationSeconds": number} for number in (1e308, -1e308, -0.5)
                ],
                "log": {"position": 1, "epoch": "no epoch", "store": "s"},
            }
        )
    )
    assert [a.duration for a in status.attempts] == [10**12, -(10**12), -500]
    (bare,) = parse_status({"deliveryAttempts": [{"channel": "a"}]}).attempts
    assert (bare.duration, bare.code, bare.number, bare.started, bare.due) == (0, 0, 0, 0, 0)
    assert status.log == LogMark(1, "", "s")


def test_policy() -> None:
    """A retry policy keeps what is set and takes upstream's defaults for the rest."""
    assert parse_policy({"maxAttempts": 2, "maxBackoffSeconds": 60}) == replace(
        RetryPolicy(), max_attempts=2, max_backoff=60
    )


def test_spec() -> None:
    """A spec is read member by member."""
    spec = parse_spec(
        {
            "type": "escalation", "priority": "Critical", "subject": "s", "body": "b",
            "severity": "high", "phase": "p", "reviewSource": "r", "clusterID": "c",
            "remediationRequestRef": {"name": "rr-1"}, "context": {"x": {"y": 1}},
            "extensions": {"k": "v"}, "retentionDays": 3,
            "actionLinks": [{"service": "grafana", "url": "https://g.example", "label": "open"}],
        }
    )  # fmt: skip
    assert spec == Spec(
        "escalation", "Critical", "s", "b", "high", "p", "r", "c", "rr-1", {"x": {"y": 1}},
        {"k": "v"}, (("grafana", "https://g.example", "open"),), 3,
    )  # fmt: skip


# -- the merge patch between two statuses ---------------------------------------------------------

ONE = Attempt(AttemptId("0.7-1"), "a", AttemptState.FAILED, ended=1_000, number=1)
TWO = replace(ONE, id=AttemptId("0.7-2"), number=2)
SHOWN = Status(phase="Sending", reason="r", attempts=(ONE,), total_attempts=1, failed=1)
QUARANTINE = Condition("Quarantined", "True", "LogUndecodable", "m", 1_000)
MARK = LogMark(4, "0.7", "ff")

DIFFERENCES: dict[str, tuple[Status, Status, dict[str, Any]]] = {
    "equal": (SHOWN, SHOWN, {}),
    "only the mark of the log differs": (SHOWN, replace(SHOWN, log=MARK), {}),
    "only the mark of the log would go": (replace(SHOWN, log=MARK), SHOWN, {}),
    "one member differs": (SHOWN, replace(SHOWN, reason="s"), {"reason": "s"}),
    "a condition of others differs": (
        replace(SHOWN, conditions=(QUARANTINE,)), SHOWN, {},
    ),
    "the mark goes along": (
        SHOWN, replace(SHOWN, reason="s", log=MARK),
        {"reason": "s", "log": {"position": 4, "epoch": "0.7", "store": "ff"}},
    ),
    "a member falls away": (
        SHOWN, replace(SHOWN, failed=0, successful=1),
        {"failedDeliveries": None, "successfulDeliveries": 1},
    ),
    "a list is replaced whole": (
        SHOWN, replace(SHOWN, attempts=(ONE, TWO), total_attempts=2),
        {
            "deliveryAttempts": render_status(Status(attempts=(ONE, TWO)))["deliveryAttempts"],
            "totalAttempts": 2,
        },
    ),
    "from nothing": (Status(), Status(phase="Pending"), {"phase": "Pending"}),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENCES)
def test_difference(case: str) -> None:
    """The patch holds exactly the members that differ, and the conditions with the record."""
    shown, wanted, patch = DIFFERENCES[case]
    if (patch or shown.conditions) and "conditions" in (written := render_status(wanted)):
        patch = patch | {"conditions": written["conditions"]}
    assert difference(shown, wanted) == patch
