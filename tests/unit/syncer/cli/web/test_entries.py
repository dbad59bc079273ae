"""What the explorer keeps of a notification, and what an address asks for."""

from __future__ import annotations

from typing import Any, Final

import pytest

from syncer.cli.web import entries as module
from syncer.cli.web.entries import (
    DELETING,
    HELD,
    QUARANTINE,
    Channel,
    EntryMaker,
    Failure,
    Placed,
    Query,
)
from syncer.model.carried import fold
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest, parse_object
from tests.unit.syncer.cli.samples import NOW, C

UID: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
ENDED: Final = "2027-01-15T07:59:11.000Z"


def made(uid: str = "u", phase: str = "Failed", **changes: Any) -> NotificationRequest:
    """An object; `changes` are of its status, but for `meta` and `severity`."""
    meta, severity = changes.pop("meta", {}), changes.pop("severity", "")
    return parse_object({
        "metadata": {
            "uid": uid, "namespace": "ns", "name": "n", "resourceVersion": "9",
            "creationTimestamp": "2027-01-15T07:00:00Z", **meta,
        },
        "spec": {"type": "Simple", "severity": severity},
        "status": fold({"phase": phase, "totalAttempts": 3, **changes}),
    })  # fmt: skip


def attempt(identity: str, error: str = "", *, at: str = ENDED, channel: str = C) -> dict[str, Any]:
    """An attempt that a status shows."""
    return {
        "id": identity, "channel": channel, "attempt": 1, "status": "failed" if error else "success",
        "timestamp": at, "error": error,
    }  # fmt: skip


def test_an_entry_is_what_the_status_shows() -> None:
    """Names, numbers, channels with what is due, and the failure that came last."""
    found = EntryMaker().entry(
        made(
            phase="Retrying",
            channels=[
                {"name": C, "state": "Retrying", "nextRetryTime": ENDED},
                {"name": "console"},
            ],
            deliveryAttempts=[
                attempt("0.7-1", "the latest", channel="slack:a"),
                attempt("0.7-2", "earlier", at="2027-01-15T07:59:10.000Z"),
                attempt("0.7-3", at="2027-01-15T07:59:12.000Z"),
                attempt("0.7-4", at="2027-01-15T07:59:09.000Z") | {"status": "unknown"},
            ],
        ),
        4,
    )
    at = NOW - 49_000
    assert (found.key, found.uid, found.created) == ("ns/n", "u", NOW - 3_600_000)
    assert (found.phase, found.attempts, found.unknown, found.flags) == ("Retrying", 3, 1, 0)
    assert found.channels == (Channel(C, "Retrying", at), Channel("console", "", 0))
    assert (found.failure, found.last) == (Failure("slack:a", "the latest"), at + 1_000)
    assert (found.listing, found.finished) == (4, False)


def test_what_has_ended_has_nothing_due() -> None:
    """Whatever its status says; and what was sent has no failure."""
    channels = [{"name": C, "state": "Retrying", "nextRetryTime": ENDED}]
    for phase, failures in (("Failed", 1), ("Sent", 0)):
        found = EntryMaker().entry(
            made(phase=phase, channels=channels, deliveryAttempts=[attempt("0.7-1", "no")])
        )
        assert found.finished
        assert found.channels[0].due == 0
        assert (found.failure is not None, found.last > 0) == (failures, failures)


@pytest.mark.parametrize("uid", [UID, UID.upper(), "u"])
def test_a_uid_comes_back_as_it_was(uid: str) -> None:
    """One of the usual form takes half the place."""
    found = EntryMaker().entry(made(uid))
    assert found.uid == uid
    assert isinstance(found.identity, bytes) is (uid == UID)


#: Changes of an object, and its flags.
FLAGS: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "nothing": ({}, 0),
    "held": ({"meta": {"annotations": {"notification-ledger/hold": "why"}}}, HELD),
    "being deleted": ({"meta": {"deletionTimestamp": ENDED}}, DELETING),
    "quarantined": ({"conditions": [{"type": "Quarantined", "status": "True"}]}, QUARANTINE),
    "quarantined before": ({"conditions": [{"type": "Quarantined", "status": "False"}]}, 0),
    "two of them": (
        {
            "meta": {"annotations": {"notification-ledger/hold": "why"}},
            "conditions": [{"type": "Quarantined", "status": "True"}],
        },
        HELD | QUARANTINE,
    ),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(case: str) -> None:
    """What a list can be limited to, told apart."""
    changes, flags = FLAGS[case]
    found = EntryMaker().entry(made(**changes))
    assert found.flags == flags
    for state, flag in (("held", HELD), ("quarantined", QUARANTINE)):
        assert Query(state=state).matches(found, Placed()) is bool(flags & flag)


#: What a hold is about, and whether it keeps back an unfinished notification, and one that has ended.
HOLDS: Final[dict[str, tuple[dict[str, Any], bool]]] = {
    "its receiver": ({"receivers": ("ops",)}, True),
    "another receiver": ({"receivers": ("dev",)}, False),
    "a receiver that has it already": ({"receivers": ("done",)}, False),
    "its namespace": ({"namespaces": ("ns",)}, True),
    "another namespace": ({"namespaces": ("else",)}, False),
    "its type": ({"types": ("Simple",)}, True),
    "another type": ({"types": ("Approval",)}, False),
    "its severity": ({"severities": ("critical",)}, True),
    "another severity": ({"severities": ("low",)}, False),
}


@pytest.mark.parametrize("case", HOLDS)
def test_a_hold_is_found_by_what_it_is_about(case: str) -> None:
    """In the states of what it keeps back, and as long as it is in force; what has ended is not held."""
    about, wanted = HOLDS[case]
    hold = Hold("00000001", "1", NOW - 1, NOW + 1, "alice", "they mend it", **about)
    shown = [{"name": C, "state": "Retrying"}, {"name": "slack:done", "state": "Delivered"}]
    waits, ended = (
        EntryMaker().entry(
            made(phase=phase, channels=shown, uncertainAttempts=0, severity="Critical")
        )
        for phase in ("Pending", "Sent")
    )
    for state in ("held", "attention"):
        query = Query(state=state)
        assert query.matches(waits, Placed((hold,), NOW)) is wanted
        assert not query.matches(ended, Placed((hold,), NOW))
        assert not query.matches(waits, Placed((hold,), NOW + 1))


def test_what_repeats_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries of one kind hold the same channels and failure, as long as there is place."""
    monkeypatch.setattr(module, "_SHARED", 4)
    maker = EntryMaker()
    one = made(channels=[{"name": C}], deliveryAttempts=[attempt("0.7-1", "no")])
    two = made(channels=[{"name": "slack:b"}], deliveryAttempts=[attempt("0.7-1", "yes")])
    first, other, again, another = (maker.entry(each) for each in (one, two, one, two))
    assert first.channels is again.channels
    assert first.failure is again.failure
    assert other.channels == another.channels == (Channel("slack:b", "", 0),)
    assert other.channels is not another.channels


def test_what_is_kept_is_bounded() -> None:
    """Of an error its beginning, of many channels the first."""
    found = EntryMaker().entry(
        made(
            channels=[{"name": f"slack:{n}"} for n in range(30)],
            deliveryAttempts=[attempt("0.7-1", "x" * 500)],
        )
    )
    assert found.failure == Failure(C, "x" * 120)
    assert [c.name for c in found.channels] == [f"slack:{n}" for n in range(20)]


#: Words of an address, and the filters that they mean.
ASKED: Final[dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    "nothing": ({}, {}),
    "everything": (
        {"q": " Disk ", "phase": "SENT", "state": "Held", "namespace": "ns", "receiver": "ops*"},
        {"q": "Disk", "phase": "sent", "state": "held", "namespace": "ns", "receiver": "ops*"},
    ),
    "what there is none of": ({"phase": "x", "state": "y", "other": "z"}, {}),
    "too long": ({"q": "x" * 300}, {"q": "x" * 253}),
}


@pytest.mark.parametrize("case", ASKED)
def test_an_address_says_what_is_asked_for(case: str) -> None:
    """Its filters are those of the links to further pages."""
    words, filters = ASKED[case]
    found = Query.of(words)
    assert found.filters == filters
    assert found.after is None
    after = Query.of({**words, "after": f"{NOW}.ns/n"})
    assert (after.filters, after.after) == (filters, (NOW, "ns", "n"))


#: A phase, flags, the unknown results, and in which states it is.
IN_STATES: Final = {
    "sent": ("Sent", 0, set()),
    "failed": ("Failed", 0, {"attention"}),
    "sent in part": ("PartiallySent", 0, {"attention"}),
    "retrying": ("Retrying", 0, {"attention", "unfinished"}),
    "before its first status": ("", 0, {"unfinished"}),
    "a result that is not known": ("Sent", 1, {"attention", "unknown"}),
}


@pytest.mark.parametrize("case", IN_STATES)
def test_states(case: str) -> None:
    """Each state takes what it says."""
    phase, unknown, states = IN_STATES[case]
    shown = [attempt("0.7-1") | {"status": "unknown"}] * unknown
    found = EntryMaker().entry(made(phase=phase, deliveryAttempts=shown))
    assert {
        state for state in module.STATES if Query(state=state).matches(found, Placed())
    } == states
    taken = {each for each in module.PHASES if Query(phase=each).matches(found, Placed())}
    assert taken == {phase.lower() or "none"}
