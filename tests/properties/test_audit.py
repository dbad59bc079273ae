"""Laws of the audit events, over logs that real writers could leave behind, and worse ones."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from notifier.audit.events import EventKind, events_of
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
from syncer.rules.fold import fold
from tests.examples import examples
from tests.unit.notifier.audit.told import log_of, notification

CHANNELS = ("console", "slack:ops", "teams:on call")
ATTEMPT_EVENTS = (EventKind.SENT, EventKind.FAILED)


#: It allows three attempts a channel.
REQUEST: Final = notification(retryPolicy={"maxAttempts": 3})


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
    return log_of(*steps)


@examples(200)
@given(logs())
def test_every_settled_attempt_yields_exactly_one_event(records: list[Record]) -> None:
    """One sent or failed id for each attempt with a result, of the kind that the fold says."""
    told = Counter(e.id for e in events_of(records, REQUEST) if e.kind in ATTEMPT_EVENTS)
    expected = Counter(
        f"uid-1/{a.id}/{'sent' if a.state is AttemptState.SUCCESS else 'failed'}"
        for a in fold(records).attempts.values()
        if not a.open
    )
    assert told == expected


@examples(200)
@given(logs(), st.integers(0, 15))
def test_nothing_is_missed_whenever_the_mark_was_moved(records: list[Record], cut: int) -> None:
    """What a shorter log yielded, and what the longer one yields above it, is everything."""
    cut = min(cut, len(records))
    earlier = {e.id for e in events_of(records[:cut], REQUEST)}
    later = {e.id for e in events_of(records, REQUEST, after=cut)}
    assert earlier | later >= {e.id for e in events_of(records, REQUEST)}


@examples(200)
@given(logs(), st.integers(0, 15))
def test_the_end_is_told_once_and_for_all(records: list[Record], cut: int) -> None:
    """At most one end; later records neither move nor change it."""

    def ends(part: list[Record]) -> list[str]:
        return [e.id for e in events_of(part, REQUEST) if e.kind not in ATTEMPT_EVENTS]

    whole, prefix = ends(records), ends(records[:cut])
    assert len(whole) <= 1
    assert not prefix or whole == prefix


@examples(100)
@given(logs())
def test_events_follow_the_records(records: list[Record]) -> None:
    """Positions never fall, and every one is that of a record."""
    positions = [e.position for e in events_of(records, REQUEST)]
    assert positions == sorted(positions)
    assert all(1 <= p <= len(records) for p in positions)
