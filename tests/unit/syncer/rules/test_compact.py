"""Cutting a status to size: what goes first, and what never goes."""

from __future__ import annotations

import bisect
from dataclasses import replace

import orjson
import pytest

from syncer.ledger.codec import encode_log
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.carried import MESSAGE_CHARS
from syncer.model.conditions import Condition
from syncer.model.record import Header, Plan, attempt_record, intent_record, plan_record
from syncer.model.rendering import difference, render_status
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
)
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, merge

_, UNKNOWN, FAILED, SUCCESS = AttemptState
FACTS = Facts(1, RetryPolicy(max_attempts=1_000))


def size_of(status: Status) -> int:
    """Bytes of a status as JSON."""
    return len(orjson.dumps(render_status(status)))


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
    records = [plan_record(Plan(channels, at=1))] + [
        r
        for a in attempts
        for r in (intent_record(a.id, a.channel, at=a.started, by="p"), attempt_record(a))
    ]
    return read_log(encode_log(Header("ns/n", Epoch("0.7")), records)).view


def merged(*attempts: Attempt, status: Status | None = None) -> Status:
    """The whole status of a log, before it is cut."""
    return merge(status or Status(), view_of(*attempts), FACTS, now=1).status


def errors(status: Status) -> set[int]:
    """Sizes of the error texts."""
    return {len(a.error.encode()) for a in status.attempts}


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


def test_the_list_is_bounded_by_the_schema() -> None:
    """More entries than the schema takes are folded whatever their size."""
    status = merged(*(attempt(n, error=1) for n in range(1, MAX_ENTRIES + 60)))
    found = compact(status, limit=10**9)
    assert len(found.attempts) <= MAX_ENTRIES
    assert found.rollup is not None
    assert len(found.attempts) + found.rollup.through == MAX_ENTRIES + 59


def test_five_hundred_attempts_fit_the_condition() -> None:
    """As many as the schema takes, of five channels, codes and owners, keep their ids and what they say."""
    at = 1_700_000_000_000
    status = merged(
        *(
            replace(
                attempt(n, channel=f"slack:team-{n % 5}", error=1), code=503,
                id=AttemptId(f"17.{18_234_567 + n // 100}-{n}"),
                started=at + n * 301_234, ended=at + n * 301_234 + n * 7,
            )
            for n in range(1, MAX_ENTRIES + 1)
        )
    )  # fmt: skip
    found = compact(status, limit=10**9)
    assert len(found.attempts) == MAX_ENTRIES
    written = render_status(found)
    assert len(written["conditions"][-1]["message"]) < MESSAGE_CHARS / 2
    names = [(a.id, a.failure, a.started, a.code) for a in found.attempts]
    assert [(a.id, a.failure, a.started, a.code) for a in parse_status(written).attempts] == names


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


def least_limit(status: Status) -> int:
    """The smallest limit within which a status is for certain, found by halving."""
    return bisect.bisect_left(range(10**7), True, key=lambda limit: fits(status, limit))


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


def test_no_more_is_folded_than_has_to_be() -> None:
    """Where one entry less is enough, one goes, although more of them might."""
    status = merged(*(attempt(n, error=100) for n in range(1, KEEP_PER_CHANNEL + 4)))
    found = compact(status, limit=size_of(status) - 1)
    assert found.rollup is not None
    assert found.rollup.through == 1


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
