"""Cutting a status to size: what goes first, and what never goes."""

from __future__ import annotations

import bisect
from dataclasses import replace
from typing import Any

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.carried import MESSAGE_CHARS
from syncer.model.conditions import Condition
from syncer.model.record import Plan, attempt_record, intent_record, plan_record
from syncer.model.rendering import difference, render_attempt, render_status
from syncer.model.resource import (
    ChannelRollup,
    ChannelStatus,
    LogMark,
    RetryPolicy,
    Rollup,
    Status,
    parse_status,
)
from syncer.rules.compact import (
    KEEP_PER_CHANNEL,
    MAX_ENTRIES,
    SOFT_LIMIT,
    compact,
    fits,
    least,
    size_of,
)
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, channel_states_of, merge

_, UNKNOWN, FAILED, SUCCESS = AttemptState
FACTS = Facts(1, RetryPolicy(max_attempts=1_000))


def attempt(
    n: int, state: AttemptState = FAILED, *, channel: str = "a", error: int = 500
) -> Attempt:
    """The n-th attempt; its error text has so many bytes."""
    failure = None if state is SUCCESS else FailureClass.TRANSIENT
    text = "" if state is SUCCESS else "x" * error
    return Attempt(
        AttemptId(f"0.7-{n}"), channel, state, n * 1_000, n * 1_000 + 1, 0, 1, failure, text
    )


def view_of(*attempts: Attempt) -> LogView:
    """A log of settled attempts."""
    channels = tuple(dict.fromkeys(a.channel for a in attempts))
    view = LogView()
    for record in [plan_record(Plan(channels, at=1))] + [
        r
        for a in attempts
        for r in (intent_record(a.id, a.channel, at=a.started, by="p"), attempt_record(a))
    ]:
        view.apply(stored(record, view.chain, view.position + 1))
    return view


def merged(*attempts: Attempt, status: Status | None = None) -> Status:
    """The whole status of a log, before it is cut."""
    return merge(status or Status(), view_of(*attempts), FACTS, now=1).status


def errors(status: Status) -> set[int]:
    """Sizes of the error texts."""
    return {len(a.error.encode()) for a in status.attempts}


def test_a_small_status_keeps_its_texts() -> None:
    """A status within its budget only has its errors held to the first step."""
    status = merged(*(attempt(n, error=600) for n in range(1, 4)))
    found = compact(status)
    assert errors(found) == {512}
    assert found.rollup is None
    assert replace(found, attempts=()) == replace(status, attempts=())


def test_errors_shrink_before_entries_go() -> None:
    """Texts are shortened step by step before any entry is folded."""
    status = merged(*(attempt(n) for n in range(1, 61)))
    for limit, text in ((SOFT_LIMIT, {500}), (30_000, {256}), (22_000, {128})):
        found = compact(status, limit=limit)
        assert errors(found) == text
        assert len(found.attempts) == 60
        assert size_of(found) <= limit


def test_oldest_failures_are_folded() -> None:
    """When short texts are not enough, the oldest failures become numbers."""
    status = merged(*(attempt(n) for n in range(1, 61)))
    found = compact(status, limit=12_000)
    assert size_of(found) <= 12_000
    assert found.rollup is not None
    (channel,) = found.rollup.channels
    kept = [a.number for a in found.attempts]
    assert kept == list(range(61 - len(kept), 61))
    assert len(kept) >= KEEP_PER_CHANNEL
    assert (found.rollup.through, channel.failed, channel.number) == (
        60 - len(kept), 60 - len(kept), kept[0] - 1,
    )  # fmt: skip
    assert channel.last_id == f"0.7-{kept[0] - 1}"
    assert found.total_attempts == 60


def test_successes_and_unknowns_stay() -> None:
    """Only failures are folded, however old a success or an unknown attempt is."""
    special = [attempt(1, UNKNOWN), attempt(2, SUCCESS), attempt(30, UNKNOWN, channel="b")]
    plain = [attempt(n) for n in range(3, 30)] + [attempt(n, channel="b") for n in range(31, 61)]
    found = compact(merged(*special, *plain), limit=1)
    assert {a.id for a in special} <= {a.id for a in found.attempts}


def test_ten_of_a_channel_stay() -> None:
    """Below ten entries a channel is left alone, even if the budget is not met."""
    attempts = [attempt(n) for n in range(1, 40)]
    attempts += [attempt(n, channel="b") for n in range(40, 46)]
    found = compact(merged(*attempts), limit=1)
    shown = [a.channel for a in found.attempts]
    assert (shown.count("a"), shown.count("b")) == (KEEP_PER_CHANNEL, 6)
    assert [a.number for a in found.attempts if a.channel == "a"] == list(range(30, 40))
    assert errors(found) == {128}


def test_the_list_is_bounded_by_the_schema() -> None:
    """More entries than the schema takes are folded whatever their size."""
    status = merged(*(attempt(n, error=1) for n in range(1, MAX_ENTRIES + 60)))
    found = compact(status, limit=10**9)
    assert len(found.attempts) <= MAX_ENTRIES
    assert found.rollup is not None
    assert len(found.attempts) + found.rollup.through == MAX_ENTRIES + 59


def test_folded_attempts_that_did_not_leave_are_told_apart() -> None:
    """They count in no limit, in the log's words or, where that has lost them, in the status's."""
    facts = Facts(1, RetryPolicy(max_attempts=70))
    attempts = [attempt(n) for n in range(1, 61)]
    for n in range(0, 40, 2):
        attempts[n] = replace(attempts[n], failure=FailureClass.NOT_SENT)
    status = compact(merged(*attempts), limit=1)
    assert status.rollup is not None
    (channel,) = status.rollup.channels
    assert (channel.failed, channel.not_sent) == (50, 20)
    plan = plan_record(Plan(("a",), at=1))
    planned = LogView()
    planned.apply(stored(plan, planned.chain, 1))
    pruned = replace(status, rollup=Rollup(50, (replace(channel, not_sent=0),)))
    for shown, view in (
        (status, view_of(*attempts)),
        (status, planned),
        (pruned, view_of(*attempts)),
    ):
        (channel_state,) = channel_states_of(view, shown, facts)
        assert (channel_state.attempts, channel_state.left) == (60, 30)


def test_folding_goes_on_where_it_stopped() -> None:
    """A second folding adds to the first; the number of folded entries never falls."""
    first = compact(merged(*(attempt(n) for n in range(1, 61))), limit=15_000)
    more = merged(*(attempt(n) for n in range(1, 81)), status=first)
    second = compact(more, limit=12_000)
    assert first.rollup is not None
    assert second.rollup is not None
    assert second.rollup.through > first.rollup.through
    assert second.total_attempts == 80
    assert second.rollup.channels[0].failed == second.rollup.through


@pytest.mark.parametrize("edited", [10**14 - 1, 10**14, 2**63 - 1])
def test_no_edited_number_keeps_a_status_from_being_folded(edited: int) -> None:
    """Whatever an edited status has folded, what is folded next is counted, and fits an int64."""
    edit = Rollup(edited, (ChannelRollup("a", edited, AttemptId("0.7-1"), 1, edited),))
    shown = Status(rollup=edit)
    for count in (60, 80):
        read_back = parse_status(render_status(shown))
        shown = compact(merged(*(attempt(n) for n in range(2, count)), status=read_back), limit=1)
        assert shown.rollup is not None
        assert read_back.rollup is not None
        assert shown.rollup.through > read_back.rollup.through
        assert max(shown.rollup.channels[0].failed, shown.rollup.channels[0].not_sent) < 2**53


def test_publishing_a_cut_status_again_changes_nothing() -> None:
    """A cut status, merged with its log and cut again, is the same: nothing is written twice."""
    attempts = [attempt(n, error=900) for n in range(1, 121)]
    for limit in (60_000, 40_000, 25_000, 18_000, 12_000, 9_000, 1):
        once = compact(merged(*attempts), limit=limit)
        read_back = parse_status(render_status(once))
        again = compact(merged(*attempts, status=read_back), limit=limit)
        assert render_status(again) == render_status(once), limit


def test_five_hundred_attempts_are_carried() -> None:
    """At about thirty characters for each, with ids, classes, starts and codes; nothing is left out."""
    attempts = [
        replace(
            attempt(n, (FAILED, UNKNOWN, SUCCESS)[n % 3], error=0),
            ended=n * 1_000,
            started=n * 1_000 - 137,
        )
        for n in range(1, MAX_ENTRIES + 1)
    ]
    status = merged(*attempts)
    message = render_status(status)["conditions"][-1]["message"]
    assert len(message) < 32 * MAX_ENTRIES
    found = compact(status, limit=10**9)
    assert found == status
    assert parse_status(render_status(found)) == found


def test_what_the_condition_cannot_carry_is_folded() -> None:
    """Its bound is one of its own: entries go although the status as a whole would fit."""
    channels = 40
    attempts = [
        attempt(n, channel=f"c{n % channels}-{'x' * 560}", error=0)
        for n in range(1, 12 * channels + 1)
    ]
    found = compact(merged(*attempts), limit=10**9)
    assert found.rollup is not None
    assert 10 * channels <= len(found.attempts) < 12 * channels
    assert 30_000 < len(render_status(found)["conditions"][-1]["message"]) <= MESSAGE_CHARS
    assert parse_status(render_status(found)) == found


def test_hundreds_of_channels_leave_the_mark_alone() -> None:
    """Where nothing may be folded and the condition has no space, phase and list are written alone."""
    status = merged(*(attempt(n, channel=f"c{n}-{'x' * 60}") for n in range(1, 480)))
    marked = replace(compact(status, limit=10**9), log=LogMark(9, "0.7", "s"))
    written = render_status(marked)
    assert written["conditions"][-1]["message"] == '{"v":1,"log":[9,"0.7","s"]}'
    assert not {"channels", "id"} & {*written, *written["deliveryAttempts"][0]}
    read_back = parse_status(written)
    assert (read_back.log, len(read_back.nameless)) == (marked.log, 479)
    assert difference(read_back, marked) == {}, "and not again"
    again = merged(
        *(attempt(n, channel=f"c{n}-{'x' * 60}") for n in range(1, 480)), status=read_back
    )
    assert difference(read_back, compact(replace(again, log=marked.log), limit=10**9)) == {}


def test_size_is_that_of_the_wire() -> None:
    """The size is measured in bytes of the JSON that is sent, in UTF-8."""
    status = Status(phase="Sending", reason="ü")
    assert size_of(status) == len('{"phase":"Sending","reason":"ü"}'.encode())


def least_limit(status: Status) -> int:
    """The smallest limit within which a status is for certain, found by halving."""
    return bisect.bisect_left(range(10**7), True, key=lambda limit: fits(status, limit))


def test_folding_keeps_ten_of_each_channel() -> None:
    """However small the limit is, the newest ten attempts of a channel stay, and not one more."""
    status = merged(*(attempt(n, channel="ab"[n % 2]) for n in range(1, 41)))
    found = compact(status, limit=1)
    kept = [a.channel for a in found.attempts]
    assert (kept.count("a"), kept.count("b")) == (10, 10)


def test_what_a_status_holds_besides_lists_and_texts_counts() -> None:
    """No status is told to fit that does not: the members that each may have are allowed for."""
    rich = Status(
        phase="PartiallySent", total_attempts=10**9, successful=10**9, failed=10**9,
        uncertain=10**9, queued_at=1, started_at=2, completed_at=3, observed_generation=10**9,
    )  # fmt: skip
    assert size_of(rich) > 200
    assert size_of(rich) <= least_limit(rich)


TEXT = "\0" * 100  # the JSON of each takes six bytes, and seven more in the condition
ENTRY = Status(
    attempts=(attempt(1, error=0),),
    conditions=(Condition("Ready", "True", "", "", 1),),
    channels=(ChannelStatus("a", "Sending"),),
    rollup=Rollup(1, (ChannelRollup("a", 1, AttemptId("0.7-1"), 1),)),
    log=LogMark(9, "0.7", "s"),
)
(SHOWN,), (CHANNEL,), (CONDITION,) = ENTRY.attempts, ENTRY.channels, ENTRY.conditions
assert ENTRY.rollup is not None
assert ENTRY.log is not None
(FOLDED,) = ENTRY.rollup.channels

LONGER = {
    "reason": replace(ENTRY, reason=TEXT),
    "message": replace(ENTRY, message=TEXT),
    "error of an attempt": replace(ENTRY, attempts=(replace(SHOWN, error=TEXT),)),
    "channel of an attempt": replace(ENTRY, attempts=(replace(SHOWN, channel="a" + TEXT),)),
    "id of an attempt": replace(
        ENTRY, attempts=(replace(SHOWN, id=AttemptId("0.7-1" + "1" * 100)),)
    ),
    "type of a condition": replace(ENTRY, conditions=(replace(CONDITION, type="Ready" + TEXT),)),
    "reason of a condition": replace(ENTRY, conditions=(replace(CONDITION, reason=TEXT),)),
    "message of a condition": replace(ENTRY, conditions=(replace(CONDITION, message=TEXT),)),
    "name of a channel": replace(ENTRY, channels=(replace(CHANNEL, name="a" + TEXT),)),
    "state of a channel": replace(ENTRY, channels=(replace(CHANNEL, state="Sending" + TEXT),)),
    "name of a folded channel": replace(
        ENTRY, rollup=Rollup(1, (replace(FOLDED, name="a" + TEXT),))
    ),
    "newest id of a folded channel": replace(
        ENTRY, rollup=Rollup(1, (replace(FOLDED, last_id=AttemptId("0.7-1" + "1" * 100)),))
    ),
    "epoch of the log": replace(ENTRY, log=replace(ENTRY.log, epoch="0.7" + TEXT)),
    "store of the log": replace(ENTRY, log=replace(ENTRY.log, store="s" + TEXT)),
}


@pytest.mark.parametrize("case", LONGER)
def test_a_longer_text_counts_wherever_it_stands(case: str) -> None:
    """What is told to fit unmeasured allows each character its bytes, here and in the condition."""
    longer = LONGER[case]
    assert least_limit(longer) - least_limit(ENTRY) == 1300
    assert size_of(longer) <= least_limit(longer)


MORE = {
    "an attempt": replace(ENTRY, attempts=(replace(SHOWN, id=AttemptId(""), channel=""), SHOWN)),
    "a condition": replace(ENTRY, conditions=(replace(CONDITION, type=""), CONDITION)),
    "a channel": replace(ENTRY, channels=(ChannelStatus("", ""), CHANNEL)),
    "a folded channel": replace(
        ENTRY, rollup=Rollup(1, (replace(FOLDED, name="", last_id=AttemptId("0-0")), FOLDED))
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_one_entry_more_counts_in_each_list(case: str) -> None:
    """An entry counts besides its texts, with more than its keys and numbers can take."""
    assert least_limit(MORE[case]) - least_limit(ENTRY) in {384, 384 + 3 * 13}, (
        "and the text of an id"
    )
    assert size_of(MORE[case]) - size_of(ENTRY) < 384


def test_what_fits_exactly_stays() -> None:
    """A status of just the size that is allowed is written as it is."""
    status = merged(*(attempt(n, error=100) for n in range(1, KEEP_PER_CHANNEL + 4)))
    assert compact(status, limit=size_of(status)) == status


def test_no_more_is_folded_than_has_to_be() -> None:
    """Where one entry less is enough, one goes, although more of them might."""
    status = merged(*(attempt(n, error=100) for n in range(1, KEEP_PER_CHANNEL + 4)))
    found = compact(status, limit=size_of(status) - 1)
    assert found.rollup is not None
    assert found.rollup.through == 1


def test_an_entry_is_measured_once_for_each_length_of_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many cuts it takes: whoever makes receivers fail with long texts would hold the loop."""
    measured: list[Attempt] = []

    def counted(entry: Attempt) -> dict[str, Any]:
        measured.append(entry)
        return render_attempt(entry)

    channels = 40
    attempts = [
        attempt(n, channel=f"c{n % channels}", error=900)
        for n in range(1, channels * (KEEP_PER_CHANNEL + 3) + 1)
    ]
    status = merged(*attempts)
    monkeypatch.setattr("syncer.rules.compact.render_attempt", counted)
    found = compact(status)
    assert found.rollup is not None
    assert len(found.attempts) == channels * KEEP_PER_CHANNEL
    assert len(measured) == len({(m.id, len(m.error)) for m in measured}) > len(attempts)


def test_the_least_is_small_and_takes_nothing_back() -> None:
    """Phase and counters are new, the list stays as it is shown, and more can be shown later."""
    shown = merged(attempt(1))
    whole = merged(attempt(1), attempt(2), attempt(3, SUCCESS), status=shown)
    told = least(whole, shown)
    assert (told.phase, told.reason) == ("Sent", "AllDeliveriesSucceeded")
    assert (told.total_attempts, told.successful, told.failed) == (3, 1, 0)
    assert told.completed_at == whole.completed_at
    assert told.attempts == shown.attempts
    assert size_of(told) - size_of(shown) < 150
    later = merged(attempt(1), attempt(2), attempt(3, SUCCESS), status=told)
    assert later.attempts == whole.attempts
    assert (later.phase, later.total_attempts) == ("Sent", 3)
