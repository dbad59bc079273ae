"""
The laws that let every loop repeat, reorder and give up without bookkeeping.

Each holds for any data, not only for what the product would write: joins and merges meet statuses
that others have edited, logs that lost their end, and clocks that jumped.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import fakeredis
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncer.ledger.codec import (
    decode_record,
    encode_record,
    next_chain,
    stored,
)
from syncer.ledger.lua import CLAIM
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptId,
    AttemptState,
    Epoch,
    FailureClass,
    attempt_epoch,
    attempt_key,
    epoch_key,
    join,
    make_attempt_id,
    parse_attempt_id,
    parse_epoch,
)
from syncer.model.carried import TYPE
from syncer.model.errors import ContractError
from syncer.model.record import (
    MAX_SKIPS,
    Fallback,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    read_attempt,
    skip_record,
)
from syncer.model.rendering import difference, render_status
from syncer.model.resource import (
    ChannelRollup,
    LogMark,
    RetryPolicy,
    Rollup,
    Status,
    parse_status,
)
from syncer.rules.backoff import (
    NEAR,
    equal_jitter,
    exponential,
    late_jitter,
    near_jitter,
)
from syncer.rules.compact import KEEP_PER_CHANNEL, compact, fits
from syncer.rules.fold import ROOT_CHAIN, LogView, fold
from syncer.rules.merge import Facts, channel_states_of, exceeds, lacking, merge
from tests.examples import examples
from tests.servers.definition import put_back
from tests.unit.notifier.audit.told import log_of

INTENT, UNKNOWN, FAILED, SUCCESS = AttemptState
NOW = 1_700_000_000_000
CHANNELS = ("a", "b", "slack:on call")

# -- data ------------------------------------------------------------------------------------------

epochs = st.builds(lambda i, v: Epoch(f"{i}.{v}"), st.integers(0, 12), st.integers(0, 10**12))
moments = st.integers(NOW - 10**6, NOW + 10**6)
texts = st.text(st.characters(codec="utf-8"), max_size=40)


@st.composite
def attempts(draw: st.DrawFn, identity: str | None = None, channel: str | None = None) -> Attempt:
    """Any view of an attempt; of the one with `identity` if it is given."""
    state = draw(st.sampled_from(AttemptState))
    name = AttemptId(identity or f"0.{draw(st.integers(1, 3))}-{draw(st.integers(1, 3))}")
    where = channel or draw(st.sampled_from(CHANNELS))
    started = draw(st.one_of(st.just(0), moments))
    if state is INTENT:
        return Attempt(name, where, state, started)
    return Attempt(
        name, where, state, started, draw(moments), draw(st.one_of(st.just(0), moments)),
        draw(st.integers(0, 9_999)),
        None if state is SUCCESS else draw(st.sampled_from(FailureClass)),
        "" if state is SUCCESS else draw(texts), draw(st.sampled_from([0, 200, 503])),
        draw(st.integers(0, 3)),
    )  # fmt: skip


#: Views of one attempt have this id and channel.
ONE = "0.7-1", "a"


@st.composite
def histories(draw: st.DrawFn, *, most: int = 9) -> list[Record]:  # noqa: C901 (one branch for each kind of record)
    """What a log of one notification may hold, in any order that the scripts let through."""
    channels = draw(st.lists(st.sampled_from(CHANNELS), unique=True, max_size=3))
    records: list[Record] = []
    if draw(st.booleans()):
        plan = Plan(tuple(channels), "RoutingRuleMatched", "m", NOW)
        fallbacks = draw(
            st.sampled_from(
                [(), tuple(Fallback(c, plan.channels[:-1], 5) for c in channels[1:][-1:])]
            )
        )
        records.append(plan_record(replace(plan, fallbacks=fallbacks)))
    state: dict[str, tuple[str, AttemptState]] = {}
    for n in range(1, draw(st.integers(0, most)) + 1):
        kind = draw(st.sampled_from(["open", "settle", "settle", "skip", "order", "seed"]))
        if kind == "open":
            name, where = f"0.{draw(st.integers(1, 2))}-{n}", draw(st.sampled_from(CHANNELS))
            records.append(intent_record(AttemptId(name), where, at=NOW + n, by="p"))
            state[name] = where, INTENT
        elif kind == "settle" and state:
            name = draw(st.sampled_from(sorted(state)))
            where, known = state[name]
            if known is not SUCCESS:
                risen = draw(st.sampled_from([s for s in AttemptState if s > known]))
                view = replace(draw(attempts(name, where)), state=risen)
                if risen is SUCCESS:
                    view = replace(view, failure=None, error="")
                elif view.failure is None:
                    view = replace(view, failure=FailureClass.UNCERTAIN)
                records.append(attempt_record(replace(view, ended=view.ended or NOW)))
                state[name] = where, risen
        elif kind == "seed":
            view = draw(attempts())
            if view.id in state:
                view = replace(view, channel=state[view.id][0])
            if view.id not in state or view.state > state[view.id][1]:
                records.append(attempt_record(view, seed=True))
                state[view.id] = view.channel, view.state
        elif kind == "skip" and n < MAX_SKIPS:
            where = draw(st.sampled_from(CHANNELS))
            records.append(skip_record(f"skip:{n}:1", where, at=NOW, why="w"))
        elif kind == "order":
            where = draw(st.sampled_from(CHANNELS))
            records.append(Record(Kind.ORDER, f"order:{n}", where, {"at": NOW}))
    return records


views = histories().map(lambda records: fold(log_of(*records)))
facts = st.builds(
    lambda n, once: Facts(1, RetryPolicy(max_attempts=n), once), st.integers(1, 4), st.booleans()
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Status, LogView, Facts]:
    """An object that shows one history and a log that holds another, of the same attempts."""
    records = draw(histories())
    rules = draw(facts)
    seen = fold(log_of(*records[: draw(st.integers(0, len(records)))]))
    status = merge(Status(), seen, rules, now=NOW).status
    if draw(st.booleans()):
        other = draw(views)
        # An attempt has one channel for ever; a foreign history may not say otherwise.
        assume(_one_channel_each(status, other))
        return status, other, rules
    return status, fold(log_of(*records)), rules


def _one_channel_each(status: Status, view: LogView) -> bool:
    return all(
        view.attempts[a.id].channel == a.channel for a in status.attempts if a.id in view.attempts
    )


def facts_of(status: Status) -> dict[AttemptId, Attempt]:
    """What a status says of attempts, numbers aside."""
    return {a.id: replace(a, number=0) for a in status.attempts}


# -- join ------------------------------------------------------------------------------------------


@given(attempts(*ONE), attempts(*ONE), attempts(*ONE))
def test_join_is_that_of_a_lattice(one: Attempt, two: Attempt, three: Attempt) -> None:
    """Views are joined in any order, grouping and number; the result is as high as the highest."""
    both = join(one, two)
    assert both == join(two, one)
    assert join(both, three) == join(one, join(two, three))
    assert join(one, one) == one
    assert join(both, one) == join(both, two) == both
    assert both.state is max(one.state, two.state)


# -- ids -------------------------------------------------------------------------------------------


@given(epochs, epochs, epochs)
def test_order_of_epochs_is_total(one: Epoch, two: Epoch, three: Epoch) -> None:
    """Epochs are ordered as their numbers are, whatever their length."""

    def numbers(epoch: Epoch) -> tuple[int, ...]:
        return tuple(int(p) for p in epoch.split("."))

    for left, right in ((one, two), (two, three), (one, three)):
        assert (epoch_key(left) < epoch_key(right)) == (numbers(left) < numbers(right))
        assert (epoch_key(left) == epoch_key(right)) == (left == right)
    assert parse_epoch(one) == one


@given(epochs, st.integers(1, 10**14), epochs, st.integers(1, 10**14))
def test_attempt_ids_tell_epoch_and_number(one: Epoch, n: int, two: Epoch, m: int) -> None:
    """Ids of different epochs or numbers differ, and sort by epoch, then by number."""
    left, right = make_attempt_id(one, n), make_attempt_id(two, m)
    assert attempt_epoch(parse_attempt_id(left)) == one
    assert (left == right) == ((one, n) == (two, m))
    assert (attempt_key(left) < attempt_key(right)) == ((epoch_key(one), n) < (epoch_key(two), m))


# -- fold ------------------------------------------------------------------------------------------


@given(histories(), st.data())
def test_fold_does_not_depend_on_cuts(records: list[Record], data: st.DataObject) -> None:
    """A log folded piece by piece gives the view of the whole."""
    log = log_of(*records)
    view, left = LogView(), log
    while left:
        size = data.draw(st.integers(1, len(left)))
        for record in left[:size]:
            view.apply(record)
        left = left[size:]
        assert view == fold(log[: len(log) - len(left)])
    assert view == fold(log)


@given(histories())
def test_fold_never_lowers(records: list[Record]) -> None:
    """Every record leaves each attempt at least where it was, and the set only grows."""
    view, before = LogView(), dict[AttemptId, Attempt]()
    for record in log_of(*records):
        view.apply(record)
        assert list(before) == list(view.attempts)[: len(before)]
        assert all(view.attempts[i].state >= a.state for i, a in before.items())
        before = dict(view.attempts)


@given(histories(), st.randoms(use_true_random=False))
def test_attempts_do_not_depend_on_the_order_of_records(
    records: list[Record], rng: random.Random
) -> None:
    """What is known of the attempts is the same in whatever order it was recorded."""
    shuffled = records[:]
    rng.shuffle(shuffled)
    assert fold(log_of(*shuffled)).attempts == fold(log_of(*records)).attempts


@given(histories())
def test_publishable_part_holds_no_open_attempt(records: list[Record]) -> None:
    """Up to the publishable position no attempt is open, and its chain is that of its record."""
    log = log_of(*records)
    view = fold(log)
    position, chain = view.publishable
    assert chain == (log[position - 1].chain if position else ROOT_CHAIN)
    opened = {r.attempt_id for r in log[:position] if r.kind.state is not None}
    assert not [i for i in opened if view.attempts[i].open]
    if not any(a.open for a in view.attempts.values()):
        assert position == len(log)


# -- merge -----------------------------------------------------------------------------------------


@given(situations())
def test_merge_is_idempotent(situation: tuple[Status, LogView, Facts]) -> None:
    """Merging the result again, later and after a round over the wire, writes nothing."""
    status, view, rules = situation
    once = merge(status, view, rules, now=NOW).status
    read_back = parse_status(render_status(once))
    again = merge(read_back, view, rules, now=NOW + 99_000).status
    assert difference(read_back, again) == {}


@given(views, facts, st.data())
def test_what_is_said_of_a_known_attempt_decides_nothing(
    view: LogView, rules: Facts, data: st.DataObject
) -> None:
    """Whoever may write a status may retell what its log has, or fold it away, without a consequence."""
    true = merge(Status(), view, rules, now=NOW).status
    retold = []
    for shown in true.attempts:
        lowest = data.draw(attempts(shown.id))
        assume(UNKNOWN <= lowest.state <= shown.state)
        retold.append(lowest)
    folded = data.draw(st.lists(st.sampled_from(CHANNELS), unique=True, max_size=2))
    of = data.draw(st.sampled_from(["0.0", "0.1-2", "0.2-9", "9.9-9"]))
    counted = [
        ChannelRollup(c, 0, AttemptId(of if "-" in of else "0-0"), 0, data.draw(st.integers(0, 9)))
        for c in folded
    ]
    said = replace(true, attempts=tuple(retold), rollup=Rollup(0, tuple(counted)))
    assert channel_states_of(view, said, rules) == channel_states_of(view, true, rules)
    assert merge(said, view, rules, now=NOW).status.phase == true.phase


@given(situations())
def test_status_never_lowers(situation: tuple[Status, LogView, Facts]) -> None:
    """S4: entries stay in place and only rise, totals never fall, final phases absorb."""
    status, view, rules = situation
    after = merge(status, view, rules, now=NOW + 1).status
    assert [a.id for a in after.attempts][: len(status.attempts)] == [
        a.id for a in status.attempts
    ]  # fmt: skip
    found = {a.id: a for a in after.attempts}
    for shown in status.attempts:
        assert found[shown.id].state >= shown.state
        assert found[shown.id].number == shown.number
        # Of what both know the log's word counts. When an attempt began it says, or not, as where
        # that was restored.
        told = view.attempts.get(shown.id)
        risen = told if told and told.state >= shown.state else join(found[shown.id], shown)
        assert (
            replace(risen, started=found[shown.id].started, number=shown.number) == found[shown.id]
        )
    assert after.total_attempts >= status.total_attempts
    assert after.successful >= status.successful
    if status.terminal:
        assert (after.phase, after.reason, after.message, after.completed_at) == (
            status.phase, status.reason, status.message, status.completed_at,
        )  # fmt: skip
    order = ["", "Pending", "Sending", "Retrying", "PartiallySent", "Sent", "Failed"]
    assert order.index(after.phase) >= order.index(status.phase)


@given(situations())
def test_counters_are_the_fold(situation: tuple[Status, LogView, Facts]) -> None:
    """Every counter is computed from the entries; nothing is ever incremented."""
    status, view, rules = situation
    after = merge(status, view, rules, now=NOW).status
    successes = {a.channel for a in after.attempts if a.state is SUCCESS}
    assert after.total_attempts == len(after.attempts)
    assert after.successful == len(successes)
    undelivered = {a.channel for a in after.attempts} - successes
    neither = {a.channel for a in after.attempts if a.failure is FailureClass.SUPERSEDED}
    # What a newer notification supersedes has not failed, unless it was ordered again; nor has a fallback.
    neither |= {f.channel for f in view.plan.fallbacks} if view.plan else set()
    assert len(undelivered - neither) <= after.failed <= len(undelivered)
    assert after.uncertain == sum(a.state is UNKNOWN for a in after.attempts)
    assert not [a for a in after.attempts if a.open]


@given(situations())
def test_numbers_of_a_channel_differ(situation: tuple[Status, LogView, Facts]) -> None:
    """Per channel the numbers are 1, 2, 3 in the order of publication, each given once."""
    status, view, rules = situation
    after = merge(status, view, rules, now=NOW).status
    for channel in {a.channel for a in after.attempts}:
        numbers = [a.number for a in after.attempts if a.channel == channel]
        assert numbers == list(range(1, len(numbers) + 1))


@given(situations())
def test_merge_leaves_nothing_out(situation: tuple[Status, LogView, Facts]) -> None:
    """After a merge the object shows all that the log may publish, and what it showed before."""
    status, view, rules = situation
    after = merge(status, view, rules, now=NOW).status
    assert not exceeds(view, after)
    settled = {i for i, a in view.attempts.items() if not a.open}
    assert {a.id for a in after.attempts} == settled | {a.id for a in status.attempts}
    assert {a.id for a in lacking(view, after)} == {a.id for a in lacking(view, status)}


@given(situations(), st.data())
def test_merge_of_parts(situation: tuple[Status, LogView, Facts], data: st.DataObject) -> None:
    """Publishing a log bit by bit, or in another order, shows the same attempts in the end."""
    status, view, rules = situation
    known = list(view.attempts.values())
    cut = data.draw(st.integers(0, len(known)))

    def part(some: list[Attempt]) -> LogView:
        return LogView(plan=view.plan, attempts={a.id: a for a in some}, orders=view.orders)

    def publish(*parts: LogView) -> Status:
        out = status
        for p in parts:
            out = merge(out, p, rules, now=NOW).status
        return out

    whole = publish(part(known))
    for parts in (
        (part(known[:cut]), part(known)),
        (part(known[:cut]), part(known[cut:])),
        (part(known[cut:]), part(known[:cut])),
        (part(known), part(known[:cut])),
    ):
        found = publish(*parts)
        assert facts_of(found) == facts_of(whole)
        assert (found.total_attempts, found.successful, found.failed, found.uncertain) == (
            whole.total_attempts, whole.successful, whole.failed, whole.uncertain,
        )  # fmt: skip


@given(histories(), st.data())
def test_a_status_that_lost_its_ids_shows_nothing_twice(
    records: list[Record], data: st.DataObject
) -> None:
    """
    Without the condition, entries are recognised by the log: the merge is as before.

    Attempts of one channel do not overlap, as those of an owner do not; and one that was shown keeps its
    result.
    """
    rules = data.draw(facts)
    records = _in_a_row(records)
    seen = fold(log_of(*records[: data.draw(st.integers(0, len(records)))]))
    status = merge(Status(), seen, rules, now=NOW).status
    view = fold(log_of(*records))
    assume(all(view.attempts[a.id].state is a.state for a in status.attempts))
    document = put_back(render_status(status))
    document.pop("conditions", None)
    stripped = parse_status(document)
    expected = merge(status, view, rules, now=NOW).status
    found = merge(stripped, view, rules, now=NOW).status
    assert [(a.id, a.number) for a in found.attempts] == [
        (a.id, a.number) for a in expected.attempts
    ]
    assert found.total_attempts == expected.total_attempts
    assert {a.id for a in lacking(view, stripped)} == {a.id for a in lacking(view, status)}


def carried_of(status: Status) -> tuple[object, ...]:
    """What the condition carries of a status."""
    attempts = [
        (a.id, a.channel, a.number, a.state, a.failure, a.started, a.code) for a in status.attempts
    ]
    return attempts, status.channels, status.rollup, status.log, status.journal, status.uncertain


@st.composite
def published(draw: st.DrawFn) -> Status:
    """A status as the product writes it, cut to a size that may be small, with both marks."""
    status, view, rules = draw(situations())
    merged = merge(
        status, view, rules, now=NOW, mark=LogMark(draw(st.integers(1, 9)), "0.7", "store"),
        journal=draw(st.sampled_from([None, "0.7-1"])),
    ).status  # fmt: skip
    return compact(merged, limit=draw(st.sampled_from([1, 10**6])))


@given(published(), st.data())
def test_other_writers_leave_what_is_ours(status: Status, data: st.DataObject) -> None:
    """
    It comes back whole from any server, and from a program that keeps conditions.

    Entries that another writer adds, changes or removes are its own: none takes an id of ours, and
    none of ours is moved to another entry.
    """
    written = render_status(status)
    read_back = parse_status(json.loads(json.dumps(written)))
    assert read_back == replace(status, attempts=read_back.attempts)
    assert carried_of(read_back) == carried_of(status)
    assert render_status(read_back) == written
    document = put_back(written)
    assert carried_of(parse_status(document)) == carried_of(status)
    ours = document.get("deliveryAttempts", [])
    kept = [e for n, e in enumerate(ours) if data.draw(st.booleans(), label=f"keep {n}")]
    others = data.draw(st.lists(st.sampled_from(["failed", "success"]), max_size=3))
    entries = [*kept]
    for n, word in enumerate(others):
        where = data.draw(st.sampled_from(CHANNELS))
        entry = {
            "channel": where,
            "attempt": 50 + n,
            "status": word,
            "timestamp": "2026-01-01T00:00:00Z",
        }
        entries.insert(data.draw(st.integers(0, len(entries))), entry)
    found = parse_status({**document, "deliveryAttempts": entries})
    named = {a.id: a.number for a in found.attempts if a.id not in found.nameless}
    assert named.items() <= {a.id: a.number for a in status.attempts}.items()
    assert (len(named), len(found.nameless)) == (len(kept), len(others))


@given(published(), st.data())
def test_a_damaged_condition_says_nothing(status: Status, data: st.DataObject) -> None:
    """Cut, overwritten in a place, or any JSON: no reader fails, and no attempt comes or goes."""
    document = put_back(render_status(status))
    (condition,) = (c for c in document["conditions"] if c["type"] == TYPE)
    message, place = condition["message"], data.draw(st.integers(0, len(condition["message"])))
    condition["message"] = data.draw(
        st.one_of(
            st.just(message[:place]),
            st.characters(codec="utf-8").map(lambda c: message[:place] + c + message[place + 1 :]),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(
                        st.sampled_from(["v", "names", "attempts", "log", "x"]), inner
                    )
                ),
                max_leaves=9,
            ).map(json.dumps),
            st.just("[" * 32_000),
        )
    )
    found = parse_status(document)
    assert len({a.id for a in found.attempts}) == len(status.attempts)
    if condition["message"] != message and message.startswith(condition["message"]):
        assert len(found.nameless) == len(status.attempts), "cut short, it says nothing"
        assert (found.channels, found.rollup, found.log, found.journal) == ((), None, None, None)


def _in_a_row(records: list[Record]) -> list[Record]:
    """The same history, each attempt ten seconds long and results final but for `unknown`."""
    order: dict[str, int] = {}
    final: set[str] = set()
    out = []
    for record in records:
        if record.kind.state is None:
            out.append(record)
            continue
        begun = NOW + 20_000 * order.setdefault(record.id, len(order))
        attempt = read_attempt(record)
        if record.id in final or attempt_epoch(attempt.id) == NO_EPOCH:
            continue
        if attempt.state is INTENT:
            if record.kind is Kind.INTENT:
                out.append(intent_record(attempt.id, attempt.channel, at=begun, by="p"))
            continue
        if attempt.state is not UNKNOWN:
            final.add(record.id)
        ended = begun + (5_000 if attempt.state is UNKNOWN else 10_000)
        out.append(attempt_record(replace(attempt, started=begun, ended=ended, number=0)))
    return out


@given(situations())
def test_times_are_in_order(situation: tuple[Status, LogView, Facts]) -> None:
    """Queued, begun, completed: never the other way round, whatever the clocks said."""
    status, view, rules = situation
    after = merge(status, view, rules, now=NOW).status
    assert after.queued_at
    if after.started_at:
        assert after.queued_at <= after.started_at
    assert bool(after.completed_at) is after.terminal
    if after.terminal:
        assert after.started_at <= after.completed_at


# -- compaction ------------------------------------------------------------------------------------


@st.composite
def long_logs(draw: st.DrawFn) -> LogView:
    """A log of many settled attempts, with errors of many lengths."""
    size = draw(st.integers(20, 90))
    rng = random.Random(draw(st.integers(0, 10**9)))  # noqa: S311 - one draw instead of thousands
    records = [plan_record(Plan(CHANNELS, "RoutingRuleMatched", "m", NOW))]
    for n in range(1, size + 1):
        channel = rng.choice(CHANNELS)
        state = rng.choices([FAILED, UNKNOWN, SUCCESS], [20, 2, 1])[0]
        failure = {FAILED: FailureClass.TRANSIENT, UNKNOWN: FailureClass.UNCERTAIN}.get(state)
        error = "" if state is SUCCESS else rng.choice("xü") * rng.randint(0, 700)
        seen = Attempt(
            AttemptId(f"0.7-{n}"), channel, state, NOW + n, NOW + n, 0, 1, failure, error
        )
        records += [
            intent_record(seen.id, channel, at=NOW + n, by="p"), attempt_record(seen),
        ]  # fmt: skip
    return fold(log_of(*records))


LONG = Facts(1, RetryPolicy(max_attempts=200))


@examples(40)
@given(long_logs(), st.integers(2_000, 40_000))
def test_compaction_preserves_the_fold(view: LogView, limit: int) -> None:
    """Whatever is cut: counters, successes, unknowns and numbers are those of the whole."""
    whole = merge(Status(), view, LONG, now=NOW).status
    cut = compact(whole, limit=limit)
    kept = {a.id for a in cut.attempts}
    gone = [a for a in whole.attempts if a.id not in kept]
    assert all(a.state is FAILED for a in gone)
    assert [(a.id, a.number, a.state) for a in cut.attempts] == [
        (a.id, a.number, a.state) for a in whole.attempts if a.id in kept
    ]
    assert (cut.rollup.through if cut.rollup else 0) == len(gone)
    folded = {c.name: c.failed for c in cut.rollup.channels} if cut.rollup else {}
    assert folded == Counter(a.channel for a in gone)
    before, after = (Counter(a.channel for a in s.attempts) for s in (whole, cut))
    assert all(after[c] >= min(before[c], KEEP_PER_CHANNEL) for c in before)
    foldable = any(a.state is FAILED and after[a.channel] > KEEP_PER_CHANNEL for a in cut.attempts)
    assert len(orjson.dumps(render_status(cut))) <= limit or not foldable
    counters = (whole.total_attempts, whole.successful, whole.failed, whole.uncertain)
    again = merge(parse_status(render_status(cut)), view, LONG, now=NOW + 1).status
    assert (again.total_attempts, again.successful, again.failed, again.uncertain) == counters
    assert again.phase == whole.phase


@examples(40)
@given(long_logs(), st.integers(2_000, 40_000))
def test_publishing_a_cut_status_again_writes_nothing(view: LogView, limit: int) -> None:
    """The status of a log, cut to size, is the same when it is made again from itself."""
    once = compact(merge(Status(), view, LONG, now=NOW).status, limit=limit)
    read_back = parse_status(render_status(once))
    again = compact(merge(read_back, view, LONG, now=NOW + 1).status, limit=limit)
    assert difference(read_back, again) == {}


@given(
    situations(),
    st.lists(st.tuples(texts, st.integers(0, 3_000)), max_size=12),
    st.sampled_from("\x00\x1füx"),
)
def test_what_fits_without_measuring_fits(
    situation: tuple[Status, LogView, Facts], more: list[tuple[str, int]], character: str
) -> None:
    """The bound that saves writing a status down is never below its size."""
    status = merge(*situation, now=NOW).status
    largest = Attempt(
        AttemptId(f"{10**13}.{10**13}-{10**13}"), "a", UNKNOWN, NOW, NOW, NOW, 10**13 + 1,
        FailureClass.UNCERTAIN, "", 10**13, 10**13,
    )  # fmt: skip
    entries = tuple(replace(largest, channel=c, error=character * n) for c, n in more)
    status = replace(status, attempts=status.attempts + entries)
    assert not fits(status, len(orjson.dumps(render_status(status))) - 1)
    assert fits(Status(), 2_048)


# -- codec -----------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
bodies = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=5).filter(lambda k: k != "v"),
    st.one_of(texts, st.integers(1 - 10**14, 10**14 - 1)),
    max_size=5,
)
notes = st.builds(
    Record, st.sampled_from([Kind.SKIP, Kind.ORDER]), st.just("note:1"), names, bodies
)
records_of_attempts = st.one_of(
    attempts().map(attempt_record), attempts().map(lambda a: attempt_record(a, seed=True))
)
chains = st.integers(0, 4294967290).map(lambda n: f"{n:08x}")


def element_of(record: Record, before: str) -> bytes:
    """A record as a script stores it."""
    kind, identity, channel, crc, body = encode_record(record).split(b" ", 4)
    text = b" ".join((kind, identity, channel, crc)) + b" "
    return text + next_chain(before, text).encode() + b" " + body


@given(st.one_of(notes, records_of_attempts), chains)
def test_codec_round_trip(record: Record, before: str) -> None:
    """What is written is read back equal."""
    found = decode_record(element_of(record, before), before, 3)
    assert found == stored(record, before, 3)
    assert replace(found, position=0, chain="") == record


@given(attempts())
def test_attempts_survive_the_log(attempt: Attempt) -> None:
    """A seed restores an attempt as it was; an outcome says all but start and number."""
    assert read_attempt(attempt_record(attempt, seed=True)) == attempt
    if attempt.state is not INTENT:
        assert read_attempt(attempt_record(attempt)) == replace(attempt, started=0, number=0)


@examples(25)
@given(st.one_of(notes, records_of_attempts), chains, st.integers(1, 255))
def test_every_flipped_byte_is_noticed(record: Record, before: str, change: int) -> None:
    """A stored element that differs in one byte, any byte, or has lost or grown an end, is not read."""
    element = element_of(record, before)
    broken = [element[:end] for end in range(len(element))] + [element + b"\x00"]
    for index, byte in enumerate(element):
        broken.append(element[:index] + bytes([byte ^ change]) + element[index + 1 :])
    for each in broken:
        with pytest.raises(ContractError, match=r"^record 3: "):
            decode_record(each, before, 3)


_PRELUDE = CLAIM.plain.split("-- Appends a record", 1)[0]


@given(st.lists(st.tuples(chains, st.binary(max_size=80)), min_size=1, max_size=20))
def test_chain_is_that_of_the_scripts(cases: list[tuple[str, bytes]]) -> None:
    """The chain that this side expects is the one that the server's Lua computes."""
    text = (
        _PRELUDE
        + """
        local out = {}
        for i = 1, #ARGV, 2 do
          out[#out + 1] = next_chain(ARGV[i], ARGV[i + 1])
        end
        return out
    """
    )
    with fakeredis.FakeRedis() as server:
        found = server.eval(text, 0, *(part for case in cases for part in case))
    assert found == [next_chain(before, part).encode() for before, part in cases]


# -- back-off --------------------------------------------------------------------------------------

waits = st.floats(0.001, 3_600)


@given(
    st.floats(0.001, 1), waits, st.integers(-5, 9) | st.integers(10**8, 10**9), st.integers(1, 10)
)
def test_a_back_off_grows_by_its_factor_up_to_its_longest_wait(
    first: float, most: float, n: int, factor: int
) -> None:
    """A wait is `factor` times as long as the one before until `most` is reached; none overflows."""
    earlier, later = (exponential(first, most, k, factor=factor) for k in (n, n + 1))
    assert min(first, most) <= earlier <= later <= most
    if n >= 1 and later < most:
        assert later == pytest.approx(earlier * factor)
    if n < 1:
        assert earlier == later == min(first, most)


@given(st.integers(1, 10**6), st.integers(1, 10**9), st.integers(1, 64), st.integers(1, 10))
def test_a_back_off_in_whole_units_is_exact(first: int, most: int, n: int, factor: int) -> None:
    """Integers give an integer: milliseconds are kept in records and compared there."""
    wait = exponential(first, most, n, factor=factor)
    assert isinstance(wait, int)
    assert wait == min(first * factor ** (n - 1), most)


@given(waits, st.floats(0, 1, exclude_max=True))
def test_jitter_keeps_to_its_side_of_the_wait(wait: float, draw: float) -> None:
    """Equal jitter shortens a wait by half at most; late jitter lengthens it by a quarter at most."""
    assert wait / 2 <= equal_jitter(wait, draw) <= wait <= late_jitter(wait, draw) <= wait * 1.25


@given(waits, st.floats(-1, 1), waits, st.floats(1, 1_000))
def test_near_jitter_stays_near_and_within_the_bounds(
    wait: float, draw: float, first: float, ratio: float
) -> None:
    """It changes a wait by a tenth at most, and never passes the bounds that a person has set."""
    most = first * ratio
    found = near_jitter(wait, draw, first=first, most=most)
    assert first <= found <= most
    if first <= wait <= most:
        assert abs(found - wait) <= NEAR * wait * 1.000_001
