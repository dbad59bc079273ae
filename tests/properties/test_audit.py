"""Laws of the audit events, over logs that real writers could leave behind, and worse ones."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from notifier.audit.events import EventKind, events_of
from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import (
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ROOT_CHAIN, fold
from tests.examples import examples

CHANNELS = ("console", "slack:ops", "teams:on call")
ATTEMPT_EVENTS = (EventKind.SENT, EventKind.FAILED)


def notification() -> NotificationRequest:
    """An object that allows three attempts a channel."""
    return parse_object(
        {
            "metadata": {"name": "n", "namespace": "ns", "uid": "u"},
            "spec": {
                "type": "Simple", "priority": "Low", "subject": "s", "body": "b",
                "retryPolicy": {"maxAttempts": 3},
            },
        }
    )  # fmt: skip


#: Superseded is what was never sent, and yields no event.
_SENT: Final = [each for each in FailureClass if each is not FailureClass.SUPERSEDED]


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """A log: mostly a plan first, then records of attempts in any order, repeats included."""
    steps: list[Record] = []
    if draw(st.integers(0, 9)):
        channels = draw(st.lists(st.sampled_from(CHANNELS), unique=True, max_size=3))
        steps.append(plan_record(Plan(tuple(channels), "RoutingRuleMatched", "r", 1)))
    for _ in range(draw(st.integers(0, 14))):
        n = draw(st.integers(1, 6))
        # An attempt belongs to one channel for ever.
        identity, channel = AttemptId(f"0.7-{n}"), CHANNELS[n % 3]
        choice = draw(st.integers(0, 9))
        if choice < 3:
            steps.append(intent_record(identity, channel, at=n, by="p"))
        elif choice < 8:
            state = draw(st.sampled_from(list(AttemptState)[1:]))
            failure = None
            if state is not AttemptState.SUCCESS:
                failure = draw(st.sampled_from(_SENT))
            attempt = Attempt(identity, channel, state, 1, 10 + n, failure=failure)
            steps.append(attempt_record(attempt, seed=draw(st.booleans())))
        elif choice == 8:
            steps.append(skip_record(f"skip:{len(steps)}:1", channel, at=1, why="breaker"))
        else:
            steps.append(Record(Kind.ORDER, f"order:{len(steps)}", channel, {"at": 1}))
    records: list[Record] = []
    chain = ROOT_CHAIN
    for position, step in enumerate(steps, 1):
        records.append(stored(step, chain, position))
        chain = records[-1].chain
    return records


@examples(200)
@given(logs())
def test_every_settled_attempt_yields_exactly_one_event(records: list[Record]) -> None:
    """One sent or failed id for each attempt with a result, of the kind that the fold says."""
    told = Counter(e.id for e in events_of(records, notification()) if e.kind in ATTEMPT_EVENTS)
    expected = Counter(
        f"u/{a.id}/{'sent' if a.state is AttemptState.SUCCESS else 'failed'}"
        for a in fold(records).attempts.values()
        if not a.open
    )
    assert told == expected


@examples(200)
@given(logs(), st.integers(0, 15))
def test_nothing_is_missed_whenever_the_mark_was_moved(records: list[Record], cut: int) -> None:
    """What a shorter log yielded, and what the longer one yields above it, is everything."""
    cut = min(cut, len(records))
    request = notification()
    earlier = {e.id for e in events_of(records[:cut], request)}
    later = {e.id for e in events_of(records, request, after=cut)}
    assert earlier | later >= {e.id for e in events_of(records, request)}


@examples(200)
@given(logs(), st.integers(0, 15))
def test_the_end_is_told_once_and_for_all(records: list[Record], cut: int) -> None:
    """At most one end; later records neither move nor change it."""
    request = notification()

    def ends(part: list[Record]) -> list[str]:
        return [e.id for e in events_of(part, request) if e.kind not in ATTEMPT_EVENTS]

    whole, prefix = ends(records), ends(records[:cut])
    assert len(whole) <= 1
    assert not prefix or whole == prefix


@examples(100)
@given(logs())
def test_events_follow_the_records(records: list[Record]) -> None:
    """Positions never fall, and every one is that of a record."""
    positions = [e.position for e in events_of(records, notification())]
    assert positions == sorted(positions)
    assert all(1 <= p <= len(records) for p in positions)
