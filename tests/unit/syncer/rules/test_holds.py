"""Holds of operators: what they are about, how long, how copies are joined, how they are stored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules import holds as rules
from syncer.rules.holds import (
    Held,
    concerns,
    decode,
    encode,
    held_channels,
    holds_channel,
    join,
    patterns_of,
    place,
    reason_of,
    release,
    restored,
    selector_of,
    within_bounds,
)

NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
BASE: Final = Hold("00000001", NOW - HOUR, NOW + HOUR, "alice@desk", "they mend it", ("slack:ops",))


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
    assert holds_channel(replace(BASE, receivers=receivers), channel) is wanted


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


def test_a_hold_begins_at_once_and_ends_by_itself() -> None:
    """At its end to the millisecond, and as soon as it is released."""
    about = request()
    channels = ("console", "slack:ops")
    held = held_channels(about, channels, [BASE], now=NOW, clock=100.0)
    assert held == {"slack:ops": Held(reason_of(BASE), 100.0 + 3600, BASE.at)}
    for now in (BASE.until, BASE.until + 1):
        assert not held_channels(about, channels, [BASE], now=now, clock=0.0)
    assert held_channels(about, channels, [BASE], now=BASE.until - 1, clock=0.0)
    gone = replace(BASE, released=NOW - 1, released_by="bob")
    assert not held_channels(about, channels, [gone], now=NOW, clock=0.0)


def test_of_two_holds_the_later_end_counts() -> None:
    """So the reason on record stays when the other ends."""
    longer = replace(BASE, id="00000002", until=BASE.until + 1)
    for holds in ([BASE, longer], [longer, BASE]):
        held = held_channels(request(), ("slack:ops",), holds, now=NOW, clock=0.0)
        assert held["slack:ops"].reason == reason_of(longer)


def test_the_reason_names_everything_that_an_operator_needs() -> None:
    """Until when, who, why, and the command that lets go; on one line, whatever was typed."""
    assert reason_of(BASE) == (
        "held until 2027-01-15T09:00:00Z by alice@desk: they mend it (syncer release 00000001)"
    )
    assert reason_of(replace(BASE, reason="a\nb\x1b[31m", by="x\r")).isprintable()


def test_an_end_beyond_the_calendar_holds_and_is_told() -> None:
    """Somebody may write the largest number by hand that is read as a time."""
    (endless,) = rules.decode(rules.encode([replace(BASE, until=(1 << 53) - 1)]))
    (held,) = held_channels(request(), ["slack:ops"], [endless], now=NOW, clock=0.0).values()
    assert "held until 9999-12-31T23:59:59Z by alice@desk" in held.reason


def test_the_selector_can_be_typed_again() -> None:
    """As options of the command."""
    hold = replace(BASE, receivers=("slack:*", "ops"), namespaces=("pay",), severities=("low",))
    assert selector_of(hold) == "--receiver 'slack:*,ops' --namespace pay --severity low"


# -- joining ----------------------------------------------------------------------------------------


def test_a_release_wins_over_a_copy_that_does_not_know_it() -> None:
    """In either order; of two releases the earlier one stands."""
    early = replace(BASE, released=NOW - 2, released_by="bob")
    late = replace(BASE, released=NOW - 1, released_by="carol")
    for copies in ([BASE, early, late], [late, early, BASE]):
        assert join(*([c] for c in copies)) == (early,)


def test_what_the_record_has_lost_comes_back_while_it_is_in_force() -> None:
    """A hold, and the release of one that is there; nothing that is over."""
    released = replace(BASE, released=NOW - 1, released_by="bob")
    ended = replace(BASE, id="00000002", until=NOW)
    assert restored([], [BASE], now=NOW) == (BASE,)
    assert restored([], [released, ended], now=NOW) == ()
    assert restored([BASE], [released], now=NOW) == (released,)
    assert restored([released], [BASE], now=NOW) == (released,)


# -- placing and releasing --------------------------------------------------------------------------


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing is named": ({"receivers": ()}, "name what to hold with --receiver"),
    "it ends now": ({"until": NOW}, "--until must be in the future"),
    "it never ends, nearly": ({"until": NOW + rules.LONGEST + 1}, "--until must be within 30 days"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_placed(case: tuple[dict[str, Any], str]) -> None:
    """The option is named."""
    members, text = case
    with pytest.raises(ValueError, match=text):
        place([], replace(BASE, **members), now=NOW)


def test_a_hold_may_last_for_thirty_days() -> None:
    """To the millisecond: the bound is within what may be asked for."""
    longest = replace(BASE, until=NOW + 30 * 86_400_000)
    assert place([], longest, now=NOW) == (longest,)
    with pytest.raises(ValueError, match="within 30 days"):
        place([], replace(longest, until=longest.until + 1), now=NOW)


@pytest.mark.parametrize("kind", ["receivers", "namespaces", "types", "severities"])
def test_a_hold_may_be_about_one_kind_alone(kind: str) -> None:
    """Whatever it names, the rest is then everything."""
    members: dict[str, Any] = {"receivers": (), kind: ("x",)}
    hold = replace(BASE, **members)
    assert place([], hold, now=NOW) == (hold,)


def test_a_hold_is_placed_beside_others_once() -> None:
    """Placed again after a lost reply it is the same one."""
    other = replace(BASE, id="00000000")
    placed = place([BASE], other, now=NOW)
    assert placed == (other, BASE)
    assert place(placed, other, now=NOW) == placed


def test_so_many_are_kept() -> None:
    """What is over goes first, the oldest of it; then the next one is refused."""
    many = [replace(BASE, id=f"{n:08x}") for n in range(rules.MOST - 2)]
    over = [replace(BASE, id=f"{n:08x}", until=NOW - n) for n in range(900, 903)]
    kept = within_bounds([*many, *over], now=NOW)
    assert len(kept) == rules.MOST
    assert {h.id for h in kept if not h.in_force(NOW)} == {f"{n:08x}" for n in (900, 901)}
    full = [replace(BASE, id=f"{n:08x}") for n in range(rules.MOST)]
    assert within_bounds([*full, over[0]], now=NOW) == tuple(full)
    with pytest.raises(ValueError, match="no more than 100 holds"):
        place(full, replace(BASE, id="ffffffff"), now=NOW)


def test_holds_are_bounded_in_bytes() -> None:
    """Long patterns use the space of others."""
    wide = tuple(f"{n:03}" + "x" * 240 for n in range(rules.MOST_PATTERNS))
    fat = [replace(BASE, id=f"{n:08x}", receivers=wide) for n in range(20)]
    with pytest.raises(ValueError, match="of 65536 bytes together"):
        within_bounds(fat, now=NOW)
    over = [replace(h, until=NOW - 1) for h in fat]
    assert len(encode(within_bounds(over, now=NOW))) <= rules.MOST_BYTES


def test_a_release_makes_no_space_before_it_is_known() -> None:
    """A replica that has not read it would put the hold back; an hour later, or once it ends, it may go."""
    let_go = replace(BASE, id="fffffffe", until=NOW + 2 * HOUR, released=NOW, released_by="bob")
    others = [replace(BASE, id=f"{n:08x}", until=NOW + 2 * HOUR) for n in range(rules.MOST - 1)]
    full, one_more = [*others, let_go], replace(BASE, id="ffffffff", until=NOW + 2 * HOUR)
    with pytest.raises(ValueError, match="each makes space an hour later"):
        place(full, one_more, now=NOW + HOUR - 1)
    assert place(full, one_more, now=NOW + HOUR) == (*others, one_more)
    ended = [*others, replace(let_go, until=NOW + 1)]
    assert place(ended, one_more, now=NOW + 1) == (*others, one_more)


def test_what_is_placed_can_be_released() -> None:
    """The last of the space is for that alone; where even that is used up, it is said and not forgotten."""
    wide = tuple(f"{n:03}" + "x" * 240 for n in range(rules.MOST_PATTERNS))
    fat: tuple[Hold, ...] = ()
    for n in range(14):
        fat = place(fat, replace(BASE, id=f"{n:08x}", receivers=wide), now=NOW)
    with pytest.raises(ValueError, match="of 57344 bytes together"):
        place(fat, replace(BASE, id="ffffffff", receivers=wide), now=NOW)
    after = release(fat, [h.id for h in fat], now=NOW, by="b" * 128)
    assert [h.released for h in after] == [NOW] * len(fat)
    full = [replace(h, reason="x" * 256, by="y" * 128) for h in fat]
    while len(encode(full)) <= rules.MOST_BYTES - 600:
        full.append(replace(BASE, id=f"{len(full):08x}", reason="x" * 256, by="y" * 128))
    with pytest.raises(ValueError, match="of 65536 bytes together"):
        release(full, [h.id for h in full], now=NOW, by="b" * 128)


def test_what_has_been_over_for_a_week_is_forgotten() -> None:
    """A released one from its release on."""
    week = 7 * 86_400_000
    old = replace(BASE, released=NOW - week, released_by="bob")
    young = replace(BASE, id="00000002", released=NOW - week + 1, released_by="bob")
    assert within_bounds([old, young], now=NOW) == (young,)


def test_a_release_says_who_and_when() -> None:
    """Once: what is over stays as it is, and what is not there is refused."""
    other = replace(BASE, id="00000002", until=NOW - 1)
    after = release([BASE, other], [BASE.id, other.id], now=NOW, by="bob")
    assert after == (replace(BASE, released=NOW, released_by="bob"), other)
    assert release(after, [BASE.id], now=NOW + 5, by="carol") == after
    with pytest.raises(ValueError, match="there is no hold 'nonsense'"):
        release([BASE], ["nonsense"], now=NOW, by="bob")


# -- as stored --------------------------------------------------------------------------------------


def test_what_is_stored_is_read_again() -> None:
    """All members, and nothing at all."""
    full = Hold(
        "0000000a", NOW, NOW + 1, "alice", "why", ("a b",), ("n",), ("T",), ("s",), NOW, "bob"
    )
    assert decode(encode([BASE, full])) == (BASE, full)
    assert decode(b"") == decode(None) == ()


def document(**members: Any) -> bytes:
    """A stored record of one hold with these members changed; None takes one away."""
    hold = json.loads(encode([BASE]))["holds"][0] | members
    kept = {k: v for k, v in hold.items() if v is not None}
    return json.dumps({"v": 1, "holds": [kept]}).encode()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"nonsense", "not JSON"),
    "no text": (b"\xff\xfe", "not JSON"),
    "too deep": (b"[" * 60_000, "not JSON"),
    "no object": (b"[]", "v: must be 1"),
    "another format": (b'{"v":2,"holds":[]}', "v: must be 1; a newer version"),
    "no list": (b'{"v":1,"holds":{}}', "holds: must be a list"),
    "too many": (json.dumps({"v": 1, "holds": [{}] * 101}).encode(), "a list of at most 100"),
    "too large": (b" " * 65_537, "65537 bytes"),
    "a hold that is none": (b'{"v":1,"holds":[7]}', r"holds\[0\]: must be an object"),
    "an id of another form": (document(id="x"), r"holds\[0\].id: must be eight hex digits"),
    "no end": (document(until=None), r"holds\[0\].until: must be a time"),
    "an end that is true": (document(until=True), r"holds\[0\].until: must be a time"),
    "an endless end": (document(until=1 << 53), r"holds\[0\].until: must be a time"),
    "a time before all times": (document(at=-1), r"holds\[0\].at: must be a time"),
    "a long name": (document(by="x" * 129), r"holds\[0\].by: must be a text of at most 128"),
    "a long reason": (document(reason="x" * 257), r"holds\[0\].reason: must be a text of at most"),
    "patterns that are none": (document(receivers="ops"), r"holds\[0\].receivers: must be at most"),
    "a pattern that is none": (document(types=[7]), r"holds\[0\].types: a pattern is a name"),
    "a release that is none": (document(released="x"), r"holds\[0\].released: must be a time"),
}


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_named(case: tuple[bytes, str]) -> None:
    """By the member; nothing is guessed."""
    stored, text = case
    with pytest.raises(ValueError, match=text):
        decode(stored)


def test_what_is_within_the_bounds_to_the_last_is_read() -> None:
    """The longest texts and times, as many patterns and holds as may be, and bytes."""
    pattern = "x" * rules.LONGEST_PATTERN
    patterns = tuple(f"{n:02}" for n in range(rules.MOST_PATTERNS - 1))
    widest = Hold(
        "00000001", 0, (1 << 53) - 1, "b" * 128, "r" * 256, (pattern, *patterns),
        released=1, released_by="c" * 128,
    )  # fmt: skip
    assert decode(encode([widest])) == (widest,)
    most = [replace(BASE, id=f"{n:08x}") for n in range(rules.MOST)]
    assert len(decode(encode(most))) == rules.MOST
    assert decode(encode([BASE]).ljust(rules.MOST_BYTES)) == (BASE,)


def test_the_space_may_be_used_up_to_the_last_byte() -> None:
    """A record of just that size is kept whole, with what is over in it."""
    holds = [replace(BASE, id=f"{n:08x}", until=NOW) for n in range(90)]
    space = rules.MOST_BYTES - len(encode(holds))
    each, rest = divmod(space, len(holds))
    full = [replace(h, reason=h.reason + "x" * (each + (n < rest))) for n, h in enumerate(holds)]
    assert len(encode(full)) == rules.MOST_BYTES
    assert within_bounds(full, now=NOW) == tuple(full)
    longer = replace(full[0], reason=full[0].reason + "x")
    assert len(within_bounds([longer, *full[1:]], now=NOW)) == len(full) - 1


def test_members_of_a_newer_version_are_passed_over() -> None:
    """They may say more, and mean no less."""
    assert decode(document(ticket="CHG-1")) == (BASE,)


@pytest.mark.parametrize(
    "pattern", ["", "a,b", "[a]", "x" * 254, "a\tb", "\x1b"],
    ids=["empty", "comma", "bracket", "long", "tab", "escape"],
)  # fmt: skip
def test_a_pattern_that_cannot_be_one(pattern: str) -> None:
    """The option is named."""
    with pytest.raises(ValueError, match="--receiver: a pattern is a name"):
        patterns_of([pattern], "--receiver")


def test_patterns_are_few() -> None:
    """And each counts once."""
    assert patterns_of(["a", "b c", "a"], "--type") == ("a", "b c")
    with pytest.raises(ValueError, match="--type: must be at most 16 patterns"):
        patterns_of(list("abcdefghijklmnopq"), "--type")
