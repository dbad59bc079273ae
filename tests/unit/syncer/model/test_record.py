"""Records: what each kind states, and that it is read back as it was meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.model.attempt import (
    Attempt,
    AttemptId,
    AttemptState,
    FailureClass,
    failure_of,
    join,
    wait_of,
)
from syncer.model.record import (
    NO_CHANNEL,
    PLAN_ID,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    read_attempt,
    read_plan,
    resolution_record,
    skip_record,
)

FAILED = Attempt(
    AttemptId("0.7-2"), "slack:ops", AttemptState.FAILED, started=1_000, ended=2_000, due=32_000,
    duration=250, failure=FailureClass.TRANSIENT, error="slack webhook returned 503", code=503,
    number=2,
)  # fmt: skip


def test_intent() -> None:
    """An intent says when and by whom the attempt was opened."""
    record = intent_record(FAILED.id, "slack:ops", at=1_000, by="pod-a")
    assert record == Record(Kind.INTENT, "0.7-2", "slack:ops", {"at": 1_000, "by": "pod-a"})
    assert read_attempt(record) == Attempt(
        FAILED.id, "slack:ops", AttemptState.INTENT, started=1_000
    )


def test_outcome() -> None:
    """An outcome carries its facts, but neither start nor number: those are not its to give."""
    record = attempt_record(FAILED)
    assert record.kind is Kind.FAILED
    assert set(record.body) == {"at", "due", "ms", "class", "code", "error"}
    assert read_attempt(record) == replace(FAILED, started=0, number=0)


@pytest.mark.parametrize(
    ("kind", "word", "read"),
    [
        (Kind.SUCCESS, "permanent", None),
        (Kind.INTENT, "transient", None),
        (Kind.UNKNOWN, "", FailureClass.UNCERTAIN),
        (Kind.FAILED, "", FailureClass.TRANSIENT),
        (Kind.UNKNOWN, "transient", FailureClass.TRANSIENT),
    ],
)
def test_a_class_is_read_as_a_status_shows_it(
    kind: Kind, word: str, read: FailureClass | None
) -> None:
    """Otherwise log and status would never agree, and the one be written into the other for ever."""
    body: dict[str, int | str] = {"at": 1_000, "ms": 10**13}
    if word:
        body["class"] = word
    attempt = read_attempt(Record(kind, FAILED.id, "slack:ops", body))
    assert (attempt.failure, attempt.duration) == (read, 10**12)


@pytest.mark.parametrize("state", AttemptState)
def test_seed(state: AttemptState) -> None:
    """A seed restores an attempt whole, its start and number included."""
    attempt = replace(FAILED, state=state, failure=failure_of(state, ""))
    if state is AttemptState.INTENT:
        attempt = Attempt(FAILED.id, "slack:ops", state, started=1_000)
    record = attempt_record(attempt, seed=True)
    assert record.kind == f"seed.{state.word}"
    assert read_attempt(record) == attempt


def test_zero_members_are_left_out() -> None:
    """What is not known is absent, not zero."""
    bare = Attempt(AttemptId("0.7-1"), "console", AttemptState.SUCCESS)
    assert attempt_record(bare, seed=True).body == {}


PLANS = {
    "a plan with everything": Plan(
        ("slack:ops", "console"), "RoutingRuleMatched", "Matched rules [r1]", 5, "00ff"
    ),
    "a plan without channels": Plan((), "RoutingFallback", "none", 5),
    "a plan restored from a status": Plan(("console",), at=5),
    "names with blanks": Plan(("slack:on call", "file:a b"), at=5),
}


@pytest.mark.parametrize("case", PLANS)
def test_plan(case: str) -> None:
    """A plan is read back as it was frozen, its channels in order."""
    record = plan_record(PLANS[case])
    assert (record.kind, record.id, record.channel) == (Kind.PLAN, PLAN_ID, NO_CHANNEL)
    assert read_plan(record) == PLANS[case]


def test_skip() -> None:
    """A skip says why nothing was sent, and speaks of no attempt."""
    record = skip_record("skip:3:17", "slack:ops", at=17, why="circuit open")
    assert record.body == {"at": 17, "why": "circuit open"}
    with pytest.raises(ValueError, match="a skip record speaks of no attempt"):
        read_attempt(record)


def test_verdict_names_its_attempt() -> None:
    """An operator's verdict speaks of the attempt that its id names."""
    record = Record(Kind.RESOLVE_SUCCESS, "resolve:0.7-2:1", "slack:ops", {"at": 9})
    assert record.attempt_id == "0.7-2"
    assert read_attempt(record).state is AttemptState.SUCCESS


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(Kind.INTENT, "resolve:0.7-2", "c"), "not an attempt id"),
        (Record(Kind.FAILED, "7", "c"), "not an attempt id"),
        (Record(Kind.FAILED, "0.7-1", "c", {"class": "sometimes"}), "sometimes"),
    ],
)
def test_malformed(record: Record, message: str) -> None:
    """A record that speaks of an attempt in a malformed way is refused."""
    with pytest.raises(ValueError, match=message):
        read_attempt(record)


def test_every_state_has_three_voices() -> None:
    """Each kind that states something of an attempt is an attempt's own, a seed, or a verdict."""
    stating = {k for k in Kind if k.state is not None}
    assert {k.rpartition(".")[2] for k in stating} == {s.word for s in AttemptState}
    assert {k for k in Kind if k not in stating} == {
        Kind.PLAN, Kind.SKIP, Kind.ORDER, Kind.REPAIR,
    }  # fmt: skip


VERDICTS = {
    "at once": (2_000, 30_000),
    "in the midst of the wait": (12_000, 20_000),
    "after the wait": (32_000, 0),
    "by a clock that has fallen back": (2_000 - 3_600_000, 30_000),
    "by a clock that has leapt ahead": (2_000 + 3_600_000, 0),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict_keeps_the_rest_of_the_wait(case: str) -> None:
    """What did not arrive is due when it was, but no later than the wait that was meant."""
    at, wait = VERDICTS[case]
    unknown = replace(FAILED, state=AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
    record = resolution_record(unknown, delivered=False, at=at, by="me", why="looked")
    assert wait_of(join(unknown, read_attempt(record)), at) == wait


def test_verdict_is_read_back_as_the_attempt() -> None:
    """What was not delivered keeps its wait and is transient; what was has no error."""
    open_ = Attempt(AttemptId("0.7-1"), "c", AttemptState.UNKNOWN, started=1, ended=2, due=9)
    failed = resolution_record(open_, delivered=False, at=5, by="me", why="looked")
    assert failed.id == "resolve:0.7-1:failed"
    assert read_attempt(failed) == Attempt(
        AttemptId("0.7-1"), "c", AttemptState.FAILED, ended=5, due=9,
        failure=FailureClass.TRANSIENT, error="not delivered, according to an operator: looked",
    )  # fmt: skip
    sent = resolution_record(open_, delivered=True, at=5, by="me", why="looked")
    assert sent.id == "resolve:0.7-1:success"
    assert read_attempt(sent) == Attempt(
        AttemptId("0.7-1"), "c", AttemptState.SUCCESS, ended=5
    )  # fmt: skip
    assert (sent.body["by"], sent.body["why"]) == ("me", "looked")


def test_intent_names_the_order_it_follows() -> None:
    """An ordered attempt has its provenance in the log, any other has none."""
    ordered = intent_record(AttemptId("0.7-1"), "c", at=1, by="p", order="order:c:1")
    assert ordered.body == {"at": 1, "by": "p", "order": "order:c:1"}
    assert "order" not in intent_record(AttemptId("0.7-1"), "c", at=1, by="p").body
