"""Conditions: kept by type, dated by change, bounded in size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.model.conditions import (
    MESSAGE_BYTES,
    Condition,
    bounded,
    set_condition,
)

READY = Condition("Ready", "True", "Ready", "Notification delivered", 5_000, 1)
ROUTED = Condition("RoutingResolved", "True", "RoutingRuleMatched", "m", 4_000, 1)


LATER = replace(ROUTED, status="False", transition=9_000)
AGAIN = replace(ROUTED, reason="RoutingFallback", message="other", transition=9_000)
#: A list, what is set in it, and the list afterwards.
SET = {
    "the first one is added": ((), READY, (READY,)),
    "a new type goes to the end": ((ROUTED,), READY, (ROUTED, READY)),
    "a known type is replaced in its place": ((ROUTED, READY), LATER, (LATER, READY)),
    "the time of a transition stays while the status does": (
        (ROUTED,), AGAIN, (replace(AGAIN, transition=4_000),),
    ),
    "an equal one changes nothing": (
        (ROUTED, READY), replace(READY, transition=9_000), (ROUTED, READY),
    ),
    "two of a type, as somebody has written them, become one": (
        (READY, ROUTED, READY), READY, (READY, ROUTED),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SET)
def test_set(case: str) -> None:
    """There is one condition of a type, and it is dated by the last change of its status."""
    before, condition, after = SET[case]
    assert set_condition(before, condition) == after


def test_long_messages_are_cut() -> None:
    """A message is bounded when it is set, so that setting it twice compares equal."""
    long = replace(READY, message="ä" * 2_000)
    once = set_condition((), long)
    assert len(once[0].message.encode()) == MESSAGE_BYTES - 1  # the next code point has two
    assert set_condition(once, long) == once


def test_a_message_of_a_kilobyte_is_whole() -> None:
    """The bound is 1,024 bytes: a message of as many is shown, one more is cut."""
    for length, shown in ((1_024, "x" * 1_024), (1_025, "x" * 1_021 + "…")):
        (condition,) = set_condition((), replace(READY, message="x" * length))
        assert condition.message == shown


TEXTS = {
    "a text that fits": ("abc", 3, "abc"),
    "a text that is too long": ("abcdefgh", 7, "abcd…"),
    "there is space for the mark alone": ("abcdefgh", 3, "…"),
    "a code point is not cut in two": ("äöüß", 6, "ä…"),
    "a lone surrogate becomes a replacement": ("a\ud800", 10, "a\ufffd\ufffd\ufffd"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bounded(case: str) -> None:
    """A text is cut to bytes, at a code point, with a mark."""
    text, limit, wanted = TEXTS[case]
    found = bounded(text, limit)
    assert found == wanted
    assert len(found.encode()) <= limit


def test_cutting_twice() -> None:
    """Cutting to the smaller of two limits does not depend on the way there."""
    text = "füür " * 200
    assert bounded(bounded(text, 512), 128) == bounded(text, 128)
