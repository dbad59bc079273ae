"""The merge: every phase with its exact words, and what must never happen to a status."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from syncer.ledger.codec import encode_log
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.conditions import Condition
from syncer.model.record import (
    Fallback,
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import (
    ChannelRollup,
    ChannelStatus,
    RetryPolicy,
    Rollup,
    Status,
)
from syncer.rules.divergence import unfounded
from syncer.rules.fold import LogView
from syncer.rules.journal import held_because
from syncer.rules.merge import (
    ALL_FAILED,
    Facts,
    channel_states_of,
    exceeds,
    lacking,
    merge,
    quarantine,
)

INTENT, UNKNOWN, FAILED, SUCCESS = AttemptState
NOW = 1_700_000_100_000
BEGUN = 1_700_000_000_000
FACTS = Facts(generation=1, policy=RetryPolicy(max_attempts=2))
RULES = "Matched rules [r1] (attributes: type=simple) → channels: a, b"
PLAN = Plan(("a", "b"), "RoutingRuleMatched", RULES, BEGUN)
ONE = replace(PLAN, channels=("a",))


def attempt(
    n: int,
    channel: str,
    state: AttemptState,
    failure: FailureClass | None = None,
    *,
    wait: int = 30_000,
    error: str = "",
) -> Attempt:
    """The n-th attempt of an epoch; it began after n seconds and took one."""
    started = BEGUN + n * 1_000
    if state is INTENT:
        return Attempt(AttemptId(f"0.7-{n}"), channel, state, started=started)
    if failure is None and state is not SUCCESS:
        failure = FailureClass.UNCERTAIN if state is UNKNOWN else FailureClass.TRANSIENT
    ended = started + 1_000
    due = ended + wait if state in (UNKNOWN, FAILED) else 0
    return Attempt(
        AttemptId(f"0.7-{n}"), channel, state, started, ended, due, 1_000, failure, error
    )


def log(plan: Plan | None, *attempts: Attempt, notes: tuple[Record, ...] = ()) -> LogView:
    """A log in which all attempts were opened in order and then settled in order."""
    records = [plan_record(plan)] if plan else []
    for a in attempts:
        records.append(intent_record(a.id, a.channel, at=a.started, by="pod-a"))
        if a.state is not INTENT:
            records.append(attempt_record(a))
    return read_log(encode_log(Header("ns/n", Epoch("0.7")), [*records, *notes])).view


def shown(status: Status, view: LogView, facts: Facts = FACTS, now: int = NOW) -> Status:
    """The merged status."""
    return merge(status, view, facts, now=now).status


PERMANENT, SUPERSEDED = FailureClass.PERMANENT, FailureClass.SUPERSEDED
#: A plan in which b stands by for a, from a minute on in any case.
STOOD_BY = replace(PLAN, fallbacks=(Fallback("b", ("a",), 60_000),))


@dataclass(frozen=True)
class Phase:
    """What a log holds, and what the status says of it."""

    plan: Plan | None
    attempts: tuple[Attempt, ...]
    phase: str
    reason: str
    message: str
    why: str
    ready: tuple[str, str, str] | None = None
    channels: dict[str, str] = field(default_factory=dict)


DELIVERED = ("True", "Ready", "Notification delivered")
PARTIALLY = ("True", "Ready", "Notification partially delivered")
NOT_DELIVERED = ("False", "NotReady", "Notification delivery failed")
SENDING = ("Sending", "ProcessingDeliveries", "Processing delivery channels")

PHASES = {
    "nothing is on record": Phase(
        None, (), "Pending", "Initialized", "Notification request received", "not planned yet"
    ),
    "no channel was resolved": Phase(
        replace(PLAN, channels=()), (), "Failed", "NoChannelsResolved", ALL_FAILED,
        "no channel was resolved", NOT_DELIVERED,
    ),
    "planned, nothing sent": Phase(
        PLAN, (), *SENDING, "attempts under way", None, {"a": "Pending", "b": "Pending"}
    ),
    "an attempt is on the wire": Phase(
        PLAN, (attempt(1, "a", INTENT),), *SENDING, "attempts under way", None,
        {"a": "Sending", "b": "Pending"},
    ),
    "all failed, all to be retried": Phase(
        PLAN, (attempt(1, "a", FAILED), attempt(2, "b", UNKNOWN)), *SENDING,
        "attempts under way", None, {"a": "Retrying", "b": "Retrying"},
    ),
    "one delivered, the other not tried": Phase(
        PLAN, (attempt(1, "a", SUCCESS),), *SENDING, "attempts under way", None,
        {"a": "Delivered", "b": "Pending"},
    ),
    "one delivered, the other to be retried": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED)),
        "Retrying", "PartialFailureRetrying",
        "Delivered to 1/2 channel(s), retrying failed channels with backoff 30s",
        "some channels delivered, others to be retried", None,
        {"a": "Delivered", "b": "Retrying"},
    ),
    "the back-off is printed as Go prints it": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, wait=91_050)),
        "Retrying", "PartialFailureRetrying",
        "Delivered to 1/2 channel(s), retrying failed channels with backoff 1m31.05s",
        "some channels delivered, others to be retried",
    ),
    "the back-off is the shortest of those to be retried": Phase(
        replace(PLAN, channels=("a", "b", "c")),
        (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, wait=90_000), attempt(3, "c", FAILED)),
        "Retrying", "PartialFailureRetrying",
        "Delivered to 1/3 channel(s), retrying failed channels with backoff 30s",
        "some channels delivered, others to be retried",
    ),
    "a back-off that a clock turned around is none": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, wait=-5_000)),
        "Retrying", "PartialFailureRetrying",
        "Delivered to 1/2 channel(s), retrying failed channels with backoff 0s",
        "some channels delivered, others to be retried",
    ),
    "without one to be retried yet there is no back-off": Phase(
        replace(PLAN, channels=("a", "b", "c")),
        (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, failure=FailureClass.PERMANENT)),
        "Retrying", "PartialFailureRetrying",
        "Delivered to 1/3 channel(s), retrying failed channels with backoff 0s",
        "some channels delivered, others to be retried", None,
        {"a": "Delivered", "b": "Failed", "c": "Pending"},
    ),
    "all delivered": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", SUCCESS)),
        "Sent", "AllDeliveriesSucceeded", "Successfully delivered to 2 channel(s)",
        "every channel delivered", DELIVERED, {"a": "Delivered", "b": "Delivered"},
    ),
    "delivered at the second try": Phase(
        ONE, (attempt(1, "a", FAILED), attempt(2, "a", SUCCESS)),
        "Sent", "AllDeliveriesSucceeded", "Successfully delivered to 1 channel(s)",
        "every channel delivered", DELIVERED, {"a": "Delivered"},
    ),
    "one delivered, the other refused for good": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, PERMANENT)),
        "PartiallySent", "PartialDeliverySuccess",
        "Delivered to 1/2 channel(s), others failed", "every channel finished", PARTIALLY,
        {"a": "Delivered", "b": "Failed"},
    ),
    "one delivered, the other out of attempts": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED), attempt(3, "b", UNKNOWN)),
        "PartiallySent", "PartialDeliverySuccess",
        "Delivered to 1/2 channel(s), others failed", "every channel finished", PARTIALLY,
        {"a": "Delivered", "b": "Exhausted"},
    ),
    "all refused for good": Phase(
        PLAN, (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", FAILED, PERMANENT)),
        "Failed", "AllDeliveriesFailed", ALL_FAILED, "every channel finished", NOT_DELIVERED,
        {"a": "Failed", "b": "Failed"},
    ),
    "one refused for good, the other out of attempts": Phase(
        PLAN,
        (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", FAILED), attempt(3, "b", FAILED)),
        "Failed", "MaxRetriesExhausted", ALL_FAILED, "every channel finished", NOT_DELIVERED,
        {"a": "Failed", "b": "Exhausted"},
    ),
    "all out of attempts": Phase(
        ONE, (attempt(1, "a", FAILED), attempt(2, "a", FAILED)),
        "Failed", "MaxRetriesExhausted", ALL_FAILED, "every channel finished", NOT_DELIVERED,
        {"a": "Exhausted"},
    ),
    "one delivered, the other superseded": Phase(
        PLAN, (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, SUPERSEDED)),
        "Sent", "AllDeliveriesSucceeded", "Successfully delivered to 1 channel(s)",
        "every channel delivered", DELIVERED, {"a": "Delivered", "b": "Superseded"},
    ),
    "one refused for good, the other superseded": Phase(
        PLAN, (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", FAILED, SUPERSEDED)),
        "Failed", "AllDeliveriesFailed", ALL_FAILED, "every channel finished", NOT_DELIVERED,
        {"a": "Failed", "b": "Superseded"},
    ),
    "one delivered, one superseded, one to be tried": Phase(
        replace(PLAN, channels=("a", "b", "c")),
        (attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, SUPERSEDED)), *SENDING,
        "attempts under way", None, {"a": "Delivered", "b": "Superseded", "c": "Pending"},
    ),
    "all superseded": Phase(
        ONE, (attempt(1, "a", FAILED), attempt(2, "a", FAILED, SUPERSEDED, error="superseded by x")),
        "Failed", "Superseded", "Not sent: superseded by x", "every channel is superseded",
        ("False", "Superseded", "Not sent: superseded by x"), {"a": "Superseded"},
    ),
    "what has arrived needs no fallback": Phase(
        STOOD_BY, (attempt(1, "a", SUCCESS),),
        "Sent", "AllDeliveriesSucceeded", "Successfully delivered to 1 channel(s)",
        "every channel delivered", DELIVERED, {"a": "Delivered", "b": "NotNeeded"},
    ),
    "a fallback that was tried in vain does not matter once the rest has arrived": Phase(
        STOOD_BY, (attempt(1, "a", FAILED), attempt(2, "b", FAILED), attempt(3, "a", SUCCESS)),
        "Sent", "AllDeliveriesSucceeded", "Successfully delivered to 1 channel(s)",
        "every channel delivered", DELIVERED, {"a": "Delivered", "b": "NotNeeded"},
    ),
    "a fallback stands by while there are attempts left": Phase(
        STOOD_BY, (attempt(1, "a", FAILED),), *SENDING, "attempts under way", None,
        {"a": "Retrying", "b": "Standby"},
    ),
    "a fallback is due where another channel has ended in vain": Phase(
        STOOD_BY, (attempt(1, "a", FAILED, PERMANENT),), *SENDING, "attempts under way", None,
        {"a": "Failed", "b": "Pending"},
    ),
    "a notification that only its fallback got": Phase(
        STOOD_BY, (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", SUCCESS)),
        "PartiallySent", "PartialDeliverySuccess", "Delivered to 1/2 channel(s), others failed",
        "every channel finished", PARTIALLY, {"a": "Failed", "b": "Delivered"},
    ),
    "a superseded one needs no fallback": Phase(
        STOOD_BY, (attempt(1, "a", FAILED, SUPERSEDED, error="superseded by x"),),
        "Failed", "Superseded", "Not sent: superseded by x", "every channel is superseded",
        ("False", "Superseded", "Not sent: superseded by x"), {"a": "Superseded", "b": "NotNeeded"},
    ),
    "an open attempt keeps a failure from being final": Phase(
        PLAN, (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", INTENT)), *SENDING,
        "attempts under way", None, {"a": "Failed", "b": "Sending"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PHASES)
def test_phase(case: str) -> None:
    """Phase, reason, message and the Ready condition are exactly these."""
    wanted = PHASES[case]
    # Of a backup that was restored, or of somebody else.
    before = Status(observed_generation=9)
    merged = merge(before, log(wanted.plan, *wanted.attempts), FACTS, now=NOW)
    status = merged.status
    assert (status.phase, status.reason, status.message) == (
        wanted.phase, wanted.reason, wanted.message,
    )  # fmt: skip
    assert merged.reason == wanted.why
    ready = [c for c in status.conditions if c.type == "Ready"]
    assert [(c.status, c.reason, c.message) for c in ready] == (
        [wanted.ready] if wanted.ready else []
    )
    assert status.terminal is (wanted.ready is not None)
    if wanted.channels:
        assert {c.name: c.state for c in status.channels} == wanted.channels
    assert status.observed_generation == 1
    if status.terminal:
        states = [c.state for c in status.channels]
        neither = sum(map(states.count, ("Delivered", "Superseded", "NotNeeded")))
        assert status.failed == len(states) - neither
        assert unfounded(status, merged.channel_states) == []


# -- numbers, lists, counters ---------------------------------------------------------------------


@pytest.mark.parametrize("edited", [10**14 - 1, 10**14, 2**63 - 1])
@pytest.mark.parametrize("folded", [False, True])
def test_no_number_makes_a_status_unacceptable(edited: int, *, folded: bool) -> None:
    """Whatever number an edited status shows, the next ones are its own and fit an int64."""
    one, two, three, four = (attempt(n, "a", FAILED) for n in (1, 2, 3, 4))
    status = Status(attempts=(replace(one, number=edited), replace(two, number=2)))
    if folded:
        rollup = Rollup(1, (ChannelRollup("a", 1, AttemptId("0.7-1"), edited),))
        status = Status(attempts=status.attempts[1:], rollup=rollup)
    found = shown(status, log(ONE, two, three))
    found = shown(found, log(ONE, two, three, four))
    numbers = [a.number for a in found.attempts]
    assert len({*numbers, edited}) == 4
    assert max(n for n in numbers if n != edited) <= 10**14 + 2
    assert [n for n in numbers if n not in (2, edited)] == sorted(set(numbers) - {2, edited})


# -- phases over time -----------------------------------------------------------------------------


def test_an_order_after_the_end_changes_no_phase() -> None:
    """An operator's attempt after a final failure is listed; the phase stays."""
    order = Record(Kind.ORDER, "order:1", "a", {"at": 1})
    final = shown(Status(), log(ONE, attempt(1, "a", FAILED), attempt(2, "a", FAILED)))
    third = intent_record(AttemptId("0.7-3"), "a", at=NOW, by="pod-a")
    notes = (order, third, attempt_record(attempt(3, "a", SUCCESS)))
    view = log(ONE, attempt(1, "a", FAILED), attempt(2, "a", FAILED), notes=notes)
    found = shown(final, view)
    assert (found.phase, len(found.attempts), found.successful) == ("Failed", 3, 1)


# -- quarantine, hold -----------------------------------------------------------------------------


def test_quarantine_touches_nothing_else() -> None:
    """A log that cannot be read changes conditions alone; the next readable log takes that back."""
    status = shown(Status(), log(ONE, attempt(1, "a", FAILED)))
    found = quarantine(status, "record 3: checksum does not match", FACTS, now=NOW + 1)
    assert replace(found, conditions=status.conditions) == status
    assert found.conditions[1:] == tuple(
        Condition(kind, "True", "LogUndecodable", "record 3: checksum does not match", NOW, 1)
        for kind in ("Quarantined", "Stalled")
    )
    away = quarantine(status, "", replace(FACTS, held=held_because(None)), now=NOW + 1)
    assert replace(away, conditions=away.conditions[:-1]) == status
    assert away.conditions[-1].type == "LogUnavailable"
    for stopped in (found, away):
        healed = shown(stopped, log(ONE, attempt(1, "a", FAILED)))
        assert [c.type for c in healed.conditions] == ["RoutingResolved", "Reconciling"]


def test_held_deliveries() -> None:
    """A delivery that has been held for long is told by a condition, and only while it is."""
    view = log(ONE)
    held = shown(Status(), view, replace(FACTS, held=held_because(None)))
    assert [(c.type, c.status, c.reason) for c in held.conditions][-1] == (
        "LogUnavailable", "True", "DeliveryHeld",
    )  # fmt: skip
    assert held.phase == "Sending"
    assert not [c for c in shown(held, view).conditions if c.type == "LogUnavailable"]
    sent = shown(held, log(ONE, attempt(1, "a", SUCCESS)), replace(FACTS, held=held_because(None)))
    assert sent.phase == "Sent"
    assert not [c for c in sent.conditions if c.type == "LogUnavailable"]


def test_attempts_that_do_not_leave_are_said_and_unsaid() -> None:
    """Six in a row are a minute of waiting; they end nothing, and the next one that leaves ends it."""
    unsent = [
        attempt(n, "a", FAILED, FailureClass.NOT_SENT, error="the log did not answer")
        for n in range(1, 7)
    ]
    said = shown(Status(), log(ONE, *unsent))
    (found,) = [c for c in said.conditions if c.type == "AttemptsNotSent"]
    assert (found.status, found.reason, found.message) == (
        "True", "RepeatedlyNotSent",
        "a: 6 attempts in a row were not sent (the log did not answer)",
    )  # fmt: skip
    assert (said.phase, said.total_attempts, [c.state for c in said.channels]) == (
        "Sending", 6, ["Retrying"],
    )  # fmt: skip
    silent = [replace(a, error="") for a in unsent]
    (found,) = [
        c for c in shown(Status(), log(ONE, *silent)).conditions if c.type == "AttemptsNotSent"
    ]
    assert found.message == "a: 6 attempts in a row were not sent"
    assert not [
        c for c in shown(Status(), log(ONE, *unsent[:5])).conditions if c.type == "AttemptsNotSent"
    ]
    for last in (attempt(7, "a", FAILED), attempt(7, "a", SUCCESS)):
        after = shown(said, log(ONE, *unsent, last))
        assert not [c for c in after.conditions if c.type == "AttemptsNotSent"]


# -- adoption -------------------------------------------------------------------------------------


# -- comparison of log and object -----------------------------------------------------------------

A_FAILED = replace(attempt(1, "a", FAILED), number=1)
COMPARISONS: dict[str, tuple[Status, LogView, bool, list[str]]] = {
    "both empty": (Status(), LogView(), False, []),
    "equal": (Status(attempts=(A_FAILED,)), log(ONE, A_FAILED), False, []),
    "an open attempt is nothing to publish": (
        Status(), log(ONE, attempt(1, "a", INTENT)), False, [],
    ),
    "the log knows an attempt more": (Status(), log(ONE, A_FAILED), True, []),
    "the log knows an attempt better": (
        Status(attempts=(attempt(1, "a", UNKNOWN),)), log(ONE, attempt(1, "a", SUCCESS)), True, [],
    ),
    "the object knows an attempt more": (
        Status(attempts=(A_FAILED,)), LogView(), False, ["0.7-1"],
    ),
    "the object knows an attempt better": (
        Status(attempts=(attempt(1, "a", SUCCESS),)), log(ONE, attempt(1, "a", INTENT)),
        False, ["0.7-1"],
    ),
    "each knows more": (
        Status(attempts=(A_FAILED,)), log(ONE, attempt(2, "a", FAILED)), True, ["0.7-1"],
    ),
    "a folded failure is shown": (
        Status(rollup=Rollup(1, (ChannelRollup("a", 1, AttemptId("0.7-1"), 1),))),
        log(ONE, A_FAILED), False, [],
    ),
    "a failure after the folded ones is not": (
        Status(rollup=Rollup(1, (ChannelRollup("a", 1, AttemptId("0.7-1"), 1),))),
        log(ONE, A_FAILED, attempt(2, "a", FAILED)), True, [],
    ),
    "a failure of another channel is not": (
        Status(rollup=Rollup(1, (ChannelRollup("b", 1, AttemptId("0.7-9"), 1),))),
        log(ONE, A_FAILED), True, [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPARISONS)
def test_comparison(case: str) -> None:
    """What each side lacks is told by attempts and states, not by counts."""
    status, view, log_above, lost = COMPARISONS[case]
    assert exceeds(view, status) is log_above
    assert [a.id for a in lacking(view, status)] == lost


def test_channels_without_a_plan() -> None:
    """Without a plan the channels that the object shows are the planned ones, else those tried."""
    listed = Status(channels=(ChannelStatus("b", "Pending"), ChannelStatus("a", "Pending")))
    assert [s.channel for s in channel_states_of(LogView(), listed, FACTS)] == ["b", "a"]
    tried = Status(attempts=(attempt(1, "b", FAILED), attempt(2, "a", FAILED)))
    assert [s.channel for s in channel_states_of(LogView(), tried, FACTS)] == ["b", "a"]
