"""Holds of operators: how they are read, what they are about, how long, and what matches nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.model.errors import ContractError
from syncer.model.hold import LONGEST, Hold
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.holds import (
    Held,
    concerns,
    held_channels,
    on_channel,
    reason_of,
    selector_of,
    unmatched,
)

NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
BASE: Final = Hold(
    "00000001", "1", NOW - HOUR, NOW + HOUR, "alice@desk", "they mend it", receivers=("slack:ops",)
)


def request(namespace: str = "payments", **spec: Any) -> NotificationRequest:
    """An object of these members of the spec."""
    return parse_object(
        {"metadata": {"uid": "u", "namespace": namespace, "name": "n"}, "spec": spec}
    )


CHANNELS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "its full name": (("slack:ops",), "slack:ops", True),
    "another kind of channel": (("slack:ops",), "pagerduty:ops", False),
    "the name of the receiver alone": (("ops",), "pagerduty:ops", True),
    "a receiver of several channels of a kind": (("ops",), "slack:ops:2", True),
    "a channel without a receiver": (("console",), "console", True),
    "a pattern of full names": (("slack:*",), "slack:dev", True),
    "a pattern of full names does not reach a channel without one": (("*:*",), "console", False),
    "everything": (("*",), "console", True),
    "one of several": (("dev", "slack:o?s"), "slack:ops", True),
    "case matters": (("slack:OPS",), "slack:ops", False),
    "no receiver is named": ((), "slack:ops", True),
}


@pytest.mark.parametrize("case", CHANNELS.values(), ids=CHANNELS.keys())
def test_which_channels_a_hold_is_about(case: tuple[tuple[str, ...], str, bool]) -> None:
    """With a colon a pattern is of channels, without one of receivers."""
    receivers, channel, wanted = case
    assert on_channel(channel, receivers) is wanted


KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing else is said": ({}, True),
    "its namespace": ({"namespaces": ("payments",)}, True),
    "a pattern of namespaces": ({"namespaces": ("pay*",)}, True),
    "another namespace": ({"namespaces": ("billing",)}, False),
    "its namespace, in another case": ({"namespaces": ("Payments",)}, False),
    "its type, in another case": ({"types": ("escalation",)}, True),
    "another type": ({"types": ("Simple", "Approval")}, False),
    "its severity, in another case": ({"severities": ("CRIT*",)}, True),
    "another severity": ({"severities": ("low",)}, False),
    "all of several kinds": ({"namespaces": ("payments",), "types": ("Escalation",)}, True),
    "it drops what is older": ({"drop_before": 1}, True),
    "it drops what is older than the zero of Go": ({"drop_before": -62_135_596_800_000}, False),
    "not all of several kinds": ({"namespaces": ("payments",), "severities": ("low",)}, False),
}


@pytest.mark.parametrize("case", KINDS.values(), ids=KINDS.keys())
def test_which_notifications_a_hold_is_about(case: tuple[dict[str, Any], bool]) -> None:
    """Of one kind any pattern, of several kinds each."""
    members, wanted = case
    about = request(type="Escalation", severity="critical")
    assert concerns(replace(BASE, **members), about) is wanted


def test_a_notification_without_a_severity_has_none() -> None:
    """Only a pattern of everything is about it."""
    bare = request(type="Simple")
    assert not concerns(replace(BASE, severities=("critical",)), bare)
    assert concerns(replace(BASE, severities=("*",)), bare)


def test_a_long_severity_is_matched_by_its_head() -> None:
    """Its author decides how long it is, and it is kept for every notification."""
    assert len(request(severity="x" * 1024).severity) == 253


def test_a_hold_begins_and_ends_by_itself() -> None:
    """At its start and its end to the millisecond; without a start at once, whatever a clock says."""
    about = request()
    channels = ("console", "slack:ops")
    held = held_channels(about, channels, [BASE], now=NOW, clock=100.0)
    assert held == {"slack:ops": Held(reason_of(BASE), 100.0 + 3600, BASE.since)}
    later = replace(BASE, start=NOW + 1)
    found = {
        (hold is later, now): bool(held_channels(about, channels, [hold], now=now, clock=0.0))
        for hold in (BASE, later)
        for now in (BASE.created - 1, NOW, NOW + 1, BASE.until - 1, BASE.until)
    }
    assert [at for (begins, at), it_holds in found.items() if not begins and not it_holds] == [
        BASE.until
    ]
    assert [at for (begins, at), it_holds in found.items() if begins and it_holds] == [
        NOW + 1, BASE.until - 1,
    ]  # fmt: skip


def test_of_two_holds_the_later_end_counts() -> None:
    """So the reason on record stays when the other ends; but what is dropped waits for neither."""
    longer = replace(BASE, name="b", until=BASE.until + 1)
    dropping = replace(BASE, name="c", until=BASE.until - 1, drop_before=NOW)
    for holds, named in (([BASE, longer], longer), ([longer, dropping, BASE], dropping)):
        held = held_channels(request(), ("slack:ops",), holds, now=NOW, clock=0.0)
        assert held["slack:ops"].reason == reason_of(named)
        assert held["slack:ops"].dropped is (named is dropping)


def test_a_drop_is_about_what_was_there() -> None:
    """What was created before is given up; what came later goes on."""
    dropping, about = replace(BASE, drop_before=NOW), request()
    for created, wanted in ((NOW - 1, {"slack:ops": True}), (NOW, {})):
        one = replace(about, created=created)
        held = held_channels(one, ("slack:ops",), [dropping], now=NOW, clock=0.0)
        assert {c: h.dropped for c, h in held.items()} == wanted


def test_the_reason_names_everything_that_an_operator_needs() -> None:
    """Until when, who, why, and the command that lets go; on one line, whatever was typed."""
    assert reason_of(BASE) == (
        "held until 2027-01-15T09:00:00Z by alice@desk: they mend it (syncer hold end 00000001)"
    )
    ended = replace(BASE, ended_by="ben\x1b")
    for hold, text in (
        (replace(BASE, drop_before=NOW), "dropped with hold 00000001 of alice@desk: they mend it"),
        (replace(ended, drop_before=NOW), "dropped with hold 00000001 of alice@desk, by ben: they mend it"),
        (
            replace(ended, rate=2.0),
            (
                "waits its turn, 2/s with the oldest first, after hold 00000001 of alice@desk, by ben:"
                " they mend it"
            ),
        ),
    ):  # fmt: skip
        assert reason_of(hold) == text
    assert reason_of(replace(BASE, reason="a\nb\x1b[31m", author="x\r")).isprintable()


def test_the_selector_can_be_typed_again() -> None:
    """As options of the command."""
    hold = replace(BASE, receivers=("slack:*", "ops"), namespaces=("pay",), severities=("low",))
    assert selector_of(hold) == "--receiver 'slack:*,ops' --namespace pay --severity low"


STRANGE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "everything is known": (
        {"receivers": ("ops", "slack:*"), "namespaces": ("pay*",), "types": ("simple",)}, (),
    ),
    "a typo in a receiver": ({"receivers": ("opps",)}, ("no receiver matches opps; did you mean ops?",)),
    "a channel of another kind": (
        {"receivers": ("pagerduty:ops",)}, ("no receiver matches pagerduty:ops",),
    ),
    "a namespace and a type": (
        {"namespaces": ("zzz",), "types": ("Escalate",)},
        ("no namespace matches zzz", "no type matches Escalate; did you mean Escalation?"),
    ),
    "one pattern of two": ({"receivers": ("ops", "qqqq")}, ("no receiver matches qqqq",)),
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE.values(), ids=STRANGE.keys())
def test_patterns_that_match_nothing_are_told(case: tuple[dict[str, Any], tuple[str, ...]]) -> None:
    """Each with the nearest name that is known."""
    about, wanted = case
    hold = replace(BASE, **({"receivers": ()} | about))
    assert unmatched(hold, ["slack:ops", "console"], ["payments"]) == wanted


def test_which_namespaces_there_are_may_be_unknown() -> None:
    """Then none is strange."""
    assert unmatched(replace(BASE, namespaces=("zzz",)), ["slack:ops"], None) == ()


# -- as objects -------------------------------------------------------------------------------------


def document(**spec: Any) -> dict[str, Any]:
    """An object as the API server shows it."""
    return {
        "metadata": {
            "name": "00000001", "resourceVersion": "1", "creationTimestamp": "2027-01-15T07:00:00Z",
        },
        "spec": {
            "receivers": ["slack:ops"], "until": "2027-01-15T09:00:00Z", "author": "alice@desk",
            "reason": "they mend it", **spec,
        },
    }  # fmt: skip


def test_an_object_is_read() -> None:
    """Every member; an end of any zone, and no later than thirty days after the beginning."""
    assert Hold.of(document()) == BASE
    more = Hold.of(
        document(start="2027-01-15T08:00:00+01:00", until="2099-01-01T00:00:00Z", rate=5)
        | {"status": {"conditions": [{"type": "Matched", "status": "False", "message": "m"}]}}
    )
    assert more == replace(
        BASE, start=NOW - HOUR, until=NOW - HOUR + LONGEST, rate=5.0, matched=("False", "m")
    )
    assert Hold.of(document(until="2099-01-01T00:00:00Z")).until == BASE.created + LONGEST
    assert Hold.of(document(dropBefore="2027-01-15T08:00:00Z")).drop_before == NOW
    assert not Hold.of(document(until="0000-01-01T00:00:00Z")).in_force(NOW), (
        "as the server takes it"
    )


@pytest.mark.parametrize("spec", [{"receivers": 7}, {"rate": "x"}])
def test_an_object_that_cannot_be_read_is_named(spec: dict[str, Any]) -> None:
    """Whoever changed the definition learns which one it is."""
    with pytest.raises(ContractError, match="the hold 00000001 cannot be read"):
        Hold.of(document(**spec))
