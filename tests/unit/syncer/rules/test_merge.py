"""The merge: every phase with its exact words, and what must never happen to a status."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.conditions import Condition
from syncer.model.record import (
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.rendering import render_status
from syncer.model.resource import (
    ChannelRollup,
    ChannelStatus,
    LogMark,
    RetryPolicy,
    Rollup,
    Status,
    parse_status,
)
from syncer.rules.fold import ROOT_CHAIN, LogView, fold
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
    view = LogView()
    for n, record in enumerate([*records, *notes], 1):
        view.apply(stored(record, view.chain, n))
    return view


def shown(status: Status, view: LogView, facts: Facts = FACTS, now: int = NOW) -> Status:
    """The merged status."""
    return merge(status, view, facts, now=now).status


PERMANENT = FailureClass.PERMANENT


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
    "an open attempt keeps a failure from being final": Phase(
        PLAN, (attempt(1, "a", FAILED, PERMANENT), attempt(2, "b", INTENT)), *SENDING,
        "attempts under way", None, {"a": "Failed", "b": "Sending"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PHASES)
def test_phase(case: str) -> None:
    """Phase, reason, message and the Ready condition are exactly these."""
    wanted = PHASES[case]
    merged = merge(Status(), log(wanted.plan, *wanted.attempts), FACTS, now=NOW)
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


@pytest.mark.parametrize("case", PHASES)
def test_merging_again_changes_nothing(case: str) -> None:
    """A second merge, at a later time and after a round over the wire, gives the same status."""
    view = log(PHASES[case].plan, *PHASES[case].attempts)
    once = shown(Status(), view)
    read_back = parse_status(render_status(once))
    assert render_status(shown(read_back, view, now=NOW + 60_000)) == render_status(once)


def test_every_reason_is_used() -> None:
    """The table above names every reason that upstream knows."""
    assert {p.reason for p in PHASES.values()} == {
        "Initialized", "ProcessingDeliveries", "PartialFailureRetrying",
        "AllDeliveriesSucceeded", "PartialDeliverySuccess", "AllDeliveriesFailed",
        "NoChannelsResolved", "MaxRetriesExhausted",
    }  # fmt: skip


def test_routing_condition() -> None:
    """RoutingResolved says what the plan recorded, dated once, in whole seconds."""
    status = shown(Status(), log(PLAN), now=NOW + 789)
    assert status.conditions[0] == Condition(
        "RoutingResolved", "True", "RoutingRuleMatched", RULES, NOW, 1
    )
    assert shown(status, log(PLAN), now=NOW + 9_000).conditions == status.conditions


def test_routing_fallback() -> None:
    """A plan that fell back to the console says so."""
    text = "No routing rules matched (no attributes), using console fallback"
    status = shown(Status(), log(Plan(("console",), "RoutingFallback", text, BEGUN)))
    assert (status.conditions[0].reason, status.conditions[0].message) == ("RoutingFallback", text)


# -- numbers, lists, counters ---------------------------------------------------------------------


def test_numbers_count_per_channel_in_log_order() -> None:
    """Numbers are given per channel at first publication, in the order of the log."""
    view = log(PLAN, attempt(1, "a", FAILED), attempt(2, "b", FAILED), attempt(3, "a", SUCCESS))
    assert [(a.channel, a.number) for a in shown(Status(), view).attempts] == [
        ("a", 1), ("b", 1), ("a", 2),
    ]  # fmt: skip


def test_open_attempts_are_not_published() -> None:
    """An open attempt is in the log only; it gets its number when its result is known."""
    first = shown(Status(), log(PLAN, attempt(1, "a", INTENT), attempt(2, "b", SUCCESS)))
    assert [a.id for a in first.attempts] == ["0.7-2"]
    assert first.total_attempts == 1
    later = shown(first, log(PLAN, attempt(1, "a", FAILED), attempt(2, "b", SUCCESS)))
    assert [(a.id, a.number) for a in later.attempts] == [("0.7-2", 1), ("0.7-1", 1)]


def test_numbers_of_the_object_win() -> None:
    """After a conflict the numbers that the object shows stay, and new ones continue from them."""
    one, two, three = (attempt(n, "a", FAILED) for n in (1, 2, 3))
    status = Status(attempts=(replace(two, number=1), replace(one, number=2)))
    found = shown(status, log(ONE, one, two, three), replace(FACTS, policy=RetryPolicy()))
    assert [(a.id, a.number) for a in found.attempts] == [
        ("0.7-2", 1), ("0.7-1", 2), ("0.7-3", 3),
    ]  # fmt: skip


def test_an_attempt_without_a_number_gets_the_first_that_is_free() -> None:
    """A writer of older types may have shown it without one; that counts as none."""
    one, two = (attempt(n, "a", FAILED) for n in (1, 2))
    found = shown(Status(attempts=(replace(one, number=0),)), log(ONE, one, two))
    assert [(a.id, a.number) for a in found.attempts] == [("0.7-1", 1), ("0.7-2", 2)]


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


def test_no_count_makes_a_status_unacceptable() -> None:
    """What an edited status has folded adds up to no more than an int64."""
    largest = 2**63 - 1
    rollup = Rollup(largest, (ChannelRollup("a", largest, AttemptId("0.7-1"), 1, largest),))
    status = parse_status(render_status(Status(rollup=rollup, total_attempts=largest)))
    found = shown(status, log(ONE, attempt(2, "a", FAILED), attempt(3, "a", FAILED)))
    assert found.total_attempts == largest
    assert [c.attempts for c in found.channels] == [10**14 + 2]


def test_numbers_continue_after_folded_entries() -> None:
    """The next number follows the highest one given, folded entries included."""
    rollup = Rollup(4, (ChannelRollup("a", 4, AttemptId("0.7-4"), 4),))
    view = log(ONE, *(attempt(n, "a", FAILED) for n in range(1, 6)))
    found = shown(Status(rollup=rollup), view)
    assert [(a.id, a.number) for a in found.attempts] == [("0.7-5", 5)]
    assert found.total_attempts == 5


def test_publication_order_stays() -> None:
    """What the object lists keeps its place; what it lacks follows in log order."""
    one, two, three = (attempt(n, "a", FAILED) for n in (1, 2, 3))
    status = shown(Status(), log(ONE, two))
    assert [a.id for a in shown(status, log(ONE, one, two, three)).attempts] == [
        "0.7-2", "0.7-1", "0.7-3",
    ]  # fmt: skip


def test_counters() -> None:
    """Successes and failures count channels, the total counts attempts, all from the list."""
    view = log(
        Plan(("a", "b", "c"), at=BEGUN),
        attempt(1, "a", FAILED), attempt(2, "a", SUCCESS),
        attempt(3, "b", UNKNOWN), attempt(4, "b", FAILED), attempt(5, "c", INTENT),
    )  # fmt: skip
    found = shown(Status(), view)
    assert (found.total_attempts, found.successful, found.failed, found.uncertain) == (4, 1, 1, 1)


def test_failed_channels_may_recover() -> None:
    """A later success takes its channel out of the failed ones; the unknown attempt stays told."""
    view = log(ONE, attempt(1, "a", UNKNOWN))
    before = shown(Status(), view)
    assert (before.failed, before.uncertain, before.successful) == (1, 1, 0)
    after = shown(before, log(ONE, attempt(1, "a", UNKNOWN), attempt(2, "a", SUCCESS)))
    assert (after.failed, after.uncertain, after.successful) == (0, 1, 1)


def test_counters_never_fall() -> None:
    """An object that shows more than its list keeps its totals: the server refuses a fall."""
    status = Status(total_attempts=7, successful=2)
    found = shown(status, log(ONE, attempt(1, "a", FAILED)))
    assert (found.total_attempts, found.successful) == (7, 2)


def test_an_entry_is_raised_never_lowered() -> None:
    """What the object knows better than the log stays as the object has it."""
    known = replace(attempt(1, "a", SUCCESS), number=1)
    found = shown(Status(attempts=(known,)), log(ONE, attempt(1, "a", UNKNOWN)))
    assert found.attempts == (known,)
    assert found.phase == "Sent"


def test_an_object_ahead_of_a_lost_log_keeps_everything() -> None:
    """A log that was lost takes nothing away from what the object shows."""
    view = log(PLAN, attempt(1, "a", FAILED), attempt(2, "b", SUCCESS))
    before = shown(Status(), view)
    after = shown(before, LogView())
    assert after.attempts == before.attempts
    assert (after.phase, after.total_attempts) == (before.phase, before.total_attempts)
    assert after.channels == before.channels


# -- phases over time -----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Sent", "PartiallySent", "Failed"])
def test_terminal_phases_absorb(phase: str) -> None:
    """A final phase keeps its words, its time and its Ready condition, whatever the log says."""
    ready = Condition("Ready", "False", "NotReady", "m", BEGUN, 1)
    status = Status(
        phase=phase, reason="r", message="m", queued_at=1, started_at=2, completed_at=3,
        conditions=(ready,),
    )  # fmt: skip
    merged = merge(status, log(ONE, attempt(1, "a", FAILED)), FACTS, now=NOW)
    found = merged.status
    assert merged.reason == "terminal phases absorb"
    assert (found.phase, found.reason, found.message) == (phase, "r", "m")
    assert (found.queued_at, found.started_at, found.completed_at) == (1, 2, 3)
    assert ready in found.conditions
    assert found.total_attempts == 1


def test_late_success() -> None:
    """A success after a final failure raises its attempt and sets a condition, not the phase."""
    failing = log(ONE, attempt(1, "a", UNKNOWN), attempt(2, "a", FAILED))
    final = shown(Status(), failing)
    assert final.phase == "Failed"
    late = log(ONE, attempt(1, "a", SUCCESS), attempt(2, "a", FAILED))
    found = shown(final, late, now=NOW + 5_000)
    assert found.phase == "Failed"
    assert [a.state for a in found.attempts] == [SUCCESS, FAILED]
    assert (found.successful, found.failed, found.uncertain) == (1, 0, 0)
    assert found.conditions[-1] == Condition(
        "LateSuccess", "True", "RecordedAfterTerminal",
        "Delivered after the phase was final: a", NOW + 5_000, 1,
    )  # fmt: skip
    assert shown(found, late, now=NOW + 9_000) == found


def test_success_before_the_end_is_not_late() -> None:
    """A success that was shown before the phase was final sets no condition."""
    view = log(PLAN, attempt(1, "a", SUCCESS), attempt(2, "b", FAILED, PERMANENT))
    final = shown(Status(), view)
    assert not [c for c in shown(final, view).conditions if c.type == "LateSuccess"]


def test_phases_do_not_go_back() -> None:
    """A phase that was shown stays, even if the log by itself is not that far."""
    status = Status(phase="Retrying", reason="PartialFailureRetrying", message="as it was")
    found = shown(status, log(PLAN, attempt(1, "a", FAILED)))
    assert (found.phase, found.message) == ("Retrying", "as it was")
    assert shown(Status(phase="Sending", reason="r"), LogView()).phase == "Sending"


def test_words_change_with_the_phase_only() -> None:
    """The message of Retrying is set when the phase is entered and not refreshed."""
    view = log(PLAN, attempt(1, "a", SUCCESS), attempt(2, "b", FAILED))
    first = shown(Status(), view)
    facts = replace(FACTS, policy=RetryPolicy(max_attempts=9))
    longer = log(
        PLAN, attempt(1, "a", SUCCESS), attempt(2, "b", FAILED),
        attempt(3, "b", FAILED, wait=60_000),
    )  # fmt: skip
    again = shown(first, longer, facts)
    assert again.message == first.message
    assert len(again.attempts) == 3


def test_an_order_after_the_end_changes_no_phase() -> None:
    """An operator's attempt after a final failure is listed; the phase stays."""
    order = Record(Kind.ORDER, "order:1", "a", {"at": 1})
    final = shown(Status(), log(ONE, attempt(1, "a", FAILED), attempt(2, "a", FAILED)))
    view = log(ONE, attempt(1, "a", FAILED), attempt(2, "a", FAILED), notes=(order,))
    third = intent_record(AttemptId("0.7-3"), "a", at=NOW, by="pod-a")
    view.apply(stored(third, view.chain, view.position + 1))
    done = attempt_record(attempt(3, "a", SUCCESS))
    view.apply(stored(done, view.chain, view.position + 1))
    found = shown(final, view)
    assert (found.phase, len(found.attempts), found.successful) == ("Failed", 3, 1)


def test_at_most_once_ends_at_an_unknown_result() -> None:
    """With at-most-once an unknown result ends the channel, and the status says why."""
    facts = replace(FACTS, at_most_once=True)
    found = shown(Status(), log(ONE, attempt(1, "a", UNKNOWN)), facts)
    assert (found.phase, found.reason) == ("Failed", "MaxRetriesExhausted")
    assert [(c.state, c.next_retry) for c in found.channels] == [("Uncertain", 0)]


def test_times() -> None:
    """Queued and begun are when the plan was made, completed is when the last attempt ended."""
    view = log(ONE, attempt(1, "a", SUCCESS))
    found = shown(Status(), view)
    assert (found.queued_at, found.started_at) == (BEGUN, BEGUN)
    assert found.completed_at == BEGUN + 2_000
    pending = shown(Status(), LogView(), now=BEGUN - 500)
    assert (pending.queued_at, pending.started_at, pending.completed_at) == (BEGUN - 500, 0, 0)
    both = shown(pending, view)
    assert both.queued_at <= both.started_at <= both.completed_at
    assert both.queued_at == BEGUN - 500


def test_times_are_in_order_under_a_clock_that_jumped() -> None:
    """Whatever the clocks said, the three times of a status never contradict each other."""
    early = replace(attempt(1, "a", SUCCESS), started=5, ended=6)
    found = shown(Status(), log(ONE, early))
    assert found.queued_at <= found.started_at <= found.completed_at


def test_next_retry() -> None:
    """A channel to be retried shows when; one that is finished does not."""
    view = log(PLAN, attempt(1, "a", FAILED), attempt(2, "b", SUCCESS))
    found = shown(Status(), view)
    assert found.channels == (
        ChannelStatus("a", "Retrying", 1, BEGUN + 32_000),
        ChannelStatus("b", "Delivered", 1, 0),
    )


def test_a_terminal_object_shows_no_next_retry() -> None:
    """Once the phase is final nothing is announced any more."""
    found = shown(Status(phase="Failed", reason="r"), log(ONE, attempt(1, "a", FAILED)))
    assert [c.next_retry for c in found.channels] == [0]


def test_generation_never_falls() -> None:
    """The observed generation is the highest one seen."""
    assert shown(Status(observed_generation=4), log(ONE)).observed_generation == 4


def test_mark() -> None:
    """The status names the log it shows; without one the old name stays."""
    mark = LogMark(4, "0.7", "ff")
    assert merge(Status(), LogView(), FACTS, now=NOW, mark=mark).status.log == mark
    assert shown(Status(log=mark), LogView()).log == mark


def test_no_member_is_lost() -> None:
    """If every member of a status says something, all do after a merge; every entry has an id then."""
    entry = Attempt(AttemptId("0-0"), "a", FAILED, ended=BEGUN, failure=PERMANENT, number=5)
    status = Status(
        phase="Failed",
        reason="AllDeliveriesFailed",
        message=ALL_FAILED,
        conditions=(Condition("Ready", "False", "NotReady", "no", BEGUN, 1),),
        attempts=(entry,),
        nameless=frozenset({entry.id}),
        total_attempts=5,
        successful=1,
        failed=1,
        uncertain=1,
        queued_at=BEGUN,
        started_at=BEGUN,
        completed_at=BEGUN,
        observed_generation=1,
        channels=(ChannelStatus("a", "Failed", 5),),
        rollup=Rollup(4, (ChannelRollup("a", 4, AttemptId("0-9"), 4),)),
        log=LogMark(3, "0.7", "ff"),
        journal="0.7-1",
    )
    unknown = attempt(1, "b", UNKNOWN)
    found = shown(status, log(PLAN, unknown))
    assert [f.name for f in fields(Status) if not getattr(status, f.name)] == []
    assert [f.name for f in fields(Status) if not getattr(found, f.name)] == ["nameless"]


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
    healed = shown(found, log(ONE, attempt(1, "a", FAILED)))
    assert [c.type for c in healed.conditions] == ["RoutingResolved", "Reconciling"]


def test_held_deliveries() -> None:
    """A delivery that has been held for long is told by a condition, and only while it is."""
    view = log(ONE)
    held = shown(Status(), view, replace(FACTS, held=True))
    assert [(c.type, c.status, c.reason) for c in held.conditions][-1] == (
        "LogUnavailable", "True", "DeliveryHeld",
    )  # fmt: skip
    assert held.phase == "Sending"
    assert not [c for c in shown(held, view).conditions if c.type == "LogUnavailable"]
    sent = shown(held, log(ONE, attempt(1, "a", SUCCESS)), replace(FACTS, held=True))
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


def upstream() -> Status:
    """An unfinished object as the replaced controller leaves it: no ids, a lost attempt."""
    return parse_status(
        {
            "phase": "Retrying",
            "reason": "PartialFailureRetrying",
            "message": "Delivered to 0/2 channel(s), retrying failed channels with backoff 30s",
            "totalAttempts": 4,
            "successfulDeliveries": 1,
            "failedDeliveries": 1,
            "queuedAt": "2026-01-01T00:00:00Z",
            "processingStartedAt": "2026-01-01T00:00:00Z",
            "deliveryAttempts": [
                {"channel": "a", "attempt": 1, "timestamp": "2026-01-01T00:00:01Z",
                 "status": "success", "durationSeconds": 0.25},
                {"channel": "b", "attempt": 1, "timestamp": "2026-01-01T00:00:02Z",
                 "status": "failed", "error": "slack webhook returned 503 (retryable): busy"},
                {"channel": "b", "attempt": 1, "timestamp": "2026-01-01T00:00:32Z",
                 "status": "timeout", "error": "x"},
            ],
        }
    )  # fmt: skip


def test_adoption() -> None:
    """Attempts of the replaced controller keep numbers and duplicates; the next one follows."""
    before = upstream()
    assert [a.id for a in before.attempts] == ["0-0", "0-1", "0-2"]
    view = log(PLAN, attempt(1, "b", FAILED))
    found = shown(before, view, replace(FACTS, policy=RetryPolicy()))
    assert [(a.id, a.channel, a.number) for a in found.attempts] == [
        ("0-0", "a", 1), ("0-1", "b", 1), ("0-2", "b", 1), ("0.7-1", "b", 2),
    ]  # fmt: skip
    assert (found.total_attempts, found.successful, found.failed) == (4, 1, 1)
    assert (found.phase, found.reason, found.message) == (
        before.phase, before.reason, before.message,
    )  # fmt: skip
    assert (found.queued_at, found.started_at) == (before.queued_at, before.started_at)


def test_adoption_reads_the_class_from_the_text() -> None:
    """Only here is a text read: upstream's prefix says that a failure was permanent."""
    status = parse_status(
        {
            "deliveryAttempts": [
                {"channel": "a", "attempt": 1, "timestamp": "2026-01-01T00:00:01Z",
                 "status": "failed", "error": "permanent failure: no such channel"},
            ]
        }
    )  # fmt: skip
    (channel_state,) = channel_states_of(LogView(), status, FACTS)
    assert (channel_state.state, channel_state.reason) == ("Failed", "permanent failure recorded")


def test_adopted_attempts_survive_a_round() -> None:
    """Once published with their ids, adopted attempts are found again by them."""
    view = log(PLAN, attempt(1, "b", FAILED))
    found = shown(upstream(), view, replace(FACTS, policy=RetryPolicy()))
    again = parse_status(render_status(found))
    assert [a.id for a in again.attempts] == [a.id for a in found.attempts]


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


def test_nothing_is_final_without_a_plan() -> None:
    """What was tried may not be all that was meant: without a plan on record no phase is final."""
    one = attempt(1, "a", SUCCESS)
    for view, status in ((log(None, one), Status()), (LogView(), Status(attempts=(one,)))):
        merged = merge(status, view, FACTS, now=NOW)
        assert (merged.status.phase, merged.reason) == ("Pending", "not planned yet")
        assert merged.status.channels == ()
        assert merged.status.successful == 1
    assert shown(Status(attempts=(one,)), log(PLAN, one)).phase == "Sending"


def test_plan_wins_over_the_routing_of_today() -> None:
    """An attempt on a channel outside the plan is listed and counted, but decides nothing."""
    view = log(ONE, attempt(1, "a", SUCCESS), attempt(2, "z", FAILED))
    found = shown(Status(), view)
    assert (found.phase, found.message) == ("Sent", "Successfully delivered to 1 channel(s)")
    assert (found.total_attempts, found.failed) == (2, 1)


def test_root_of_the_view() -> None:
    """The helper of this file builds logs as the scripts do."""
    records = [plan_record(ONE)]
    view = log(ONE)
    assert view == fold([stored(records[0], ROOT_CHAIN, 1)])
