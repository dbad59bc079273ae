"""The checker finds each thing that it was made to find, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.record import Header, Record, attempt_record, intent_record
from tests.e2e.checker import MEANING, Call, Kind, Log, Sample, Version, check, unlogged

UID = "u-1"
CHANNEL = "slack:ops"


def _id(n: int) -> str:
    return f"0.7-{n}" if n > 0 else f"0.6-{-n}"  # below 0: of the epoch before


def _call(n: int, code: int) -> Call:
    return Call(float(n), "n", "key", _id(n), "hash", code, processed=code in (0, 200))


def _status(phase: str, *words: str, ids: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    attempts = [
        {"channel": CHANNEL, "attempt": n, "id": _id(ids[n - 1]), "status": word}
        for n, word in enumerate(words, 1)
    ]
    return {
        "phase": phase, "deliveryAttempts": attempts, "totalAttempts": len(words),
        "successfulDeliveries": words.count("success"),
    }  # fmt: skip


OPEN, FAILED, UNKNOWN, SUCCESS = (
    AttemptState.INTENT, AttemptState.FAILED, AttemptState.UNKNOWN, AttemptState.SUCCESS
)  # fmt: skip
#: All is well: an attempt that failed, one whose result is unknown and which was processed, a success.
ONE, TWO, THREE = _call(1, 503), _call(2, 0), _call(3, 200)
STATES = ((1, OPEN), (1, FAILED), (2, OPEN), (2, UNKNOWN), (3, OPEN), (3, SUCCESS))
SENDING, SENT = _status("Sending", "failed"), _status("Sent", "failed", "unknown", "success")


@dataclass(frozen=True)
class Story:
    """One notification as seen from outside, all well by default: `found` derives logs and versions."""

    calls: Sequence[Call] = (ONE, TWO, THREE)
    states: Sequence[tuple[int, AttemptState]] = STATES
    versions: Sequence[dict[str, Any]] = ({}, SENDING, SENT)
    acked: int = 6
    sampled: tuple[int, int] = (6, 2)

    def found(self) -> list[Kind]:
        """Kinds that the checker finds."""
        log = Log(Header("ns/n", Epoch("0.7"), self.acked), tuple(_chain(self.states)))
        versions = [Version(UID, "n", str(k), s) for k, s in enumerate(self.versions)]
        acked, shown = self.sampled
        sampled = Log(replace(log.header, acked=acked), log.records)
        samples = [Sample(UID, sampled, self.versions[min(shown, len(self.versions) - 1)])]
        findings = check(self.calls, {UID: log}, {UID: versions}, samples)
        assert all(f.name == "n" for f in findings.found)
        assert (findings.calls, findings.versions) == (len(self.calls), len(self.versions))
        return [f.kind for f in findings.found]


def _chain(states: Sequence[tuple[int, AttemptState]]) -> list[Record]:
    out: list[Record] = []
    chain = "00000000"
    for position, (n, state) in enumerate(states, 1):
        identity = AttemptId(_id(n))
        if state is OPEN:
            record = intent_record(identity, CHANNEL, at=1, by="test")
        else:
            failed = FailureClass.TRANSIENT if state is FAILED else None
            code = {FAILED: 503, SUCCESS: 200}.get(state, 0)
            record = attempt_record(
                Attempt(identity, CHANNEL, state, ended=2, failure=failed, code=code),
                seed=n < 0 and (n, OPEN) not in states,
            )
        out.append(stored(record, chain, position))
        chain = out[-1].chain
    return out


#: A success that was unknown in the status when the next attempt was made; its owner tells the log later.
FORMER_OWNER = Story(
    calls=(_call(1, 200), _call(2, 200)),
    states=((1, OPEN), (1, SUCCESS), (2, OPEN), (2, SUCCESS)),
    versions=(
        _status("Sending", "unknown"), _status("Sending", "unknown", "unknown"),
        _status("Sent", "success", "success"),
    ),
    acked=4,
    sampled=(4, 2),
)  # fmt: skip

#: Two owners journal an attempt each, and hand them in when they reach Redis, the later owner first.
JOURNALED = Story(
    calls=(replace(_call(1, 200), attempt=_id(-1)), _call(2, 200)),
    states=((2, OPEN), (2, SUCCESS), (-1, OPEN), (-1, UNKNOWN)),
    versions=(
        {}, _status("Sending", "unknown", ids=(-1,)),
        _status("Sent", "unknown", "success", ids=(-1, 2)),
    ),
    acked=4,
    sampled=(4, 2),
)  # fmt: skip

#: Sentence: what is broken, and what must be found besides the explained repeat.
CASES: dict[str, tuple[Story, set[Kind]]] = {
    "nothing is wrong": (Story(), set()),
    "a call has no record": (Story(calls=(ONE, _call(9, 503), TWO, THREE)), {Kind.LOST}),
    "a call has no attempt id": (
        Story(calls=(replace(ONE, attempt=""), TWO, THREE)), {Kind.LOST, Kind.INVENTED},
    ),
    "an answer on record was never given": (Story(calls=(TWO, THREE)), {Kind.INVENTED}),
    "a refused call is recorded as success": (
        Story(calls=(ONE, TWO, _call(3, 503))), {Kind.MISRECORDED},
    ),
    "a processed call is recorded as failed": (
        Story(calls=(_call(1, 200), TWO, THREE)), {Kind.MISRECORDED, Kind.REPEATED},
    ),
    "the status ends without the success": (
        Story(versions=({}, SENDING, _status("Sending", "failed", "unknown")), sampled=(4, 2)),
        {Kind.UNRECORDED},
    ),
    "an attempt stays open": (
        Story(states=(*STATES, (4, OPEN))), {Kind.UNSETTLED, Kind.AFTER_SUCCESS, Kind.UNACKED},
    ),
    "one id comes twice": (Story(calls=(ONE, ONE, TWO, THREE)), {Kind.DOUBLED}),
    "a repeat has no unknown": (
        Story(
            calls=(ONE, replace(_call(2, 503), processed=True), THREE),
            states=(*STATES[:3], (2, FAILED), *STATES[4:]),
            versions=({}, SENDING, _status("Sent", "failed", "failed", "success")),
        ),
        {Kind.REPEATED, Kind.MISRECORDED},
    ),
    "a number is left out": (
        Story(versions=({}, SENDING, {
            **SENT, "deliveryAttempts": [
                {**entry, "attempt": n}
                for n, entry in zip((1, 2, 4), SENT["deliveryAttempts"], strict=True)
            ],
        })),
        {Kind.REORDERED},
    ),
    "the receiver saw another order": (Story(calls=(TWO, ONE, THREE)), {Kind.REORDERED}),
    "a version has lost an attempt": (
        Story(
            versions=(
                {}, SENDING, _status("Sending", "failed", "unknown"),
                {**SENDING, "totalAttempts": 2}, SENT,
            ),
            sampled=(6, 4),
        ),
        {Kind.REGRESSED},
    ),
    "a finished phase is left": (
        Story(versions=({}, SENDING, SENT, {**SENT, "phase": "Sending"}, SENT)), {Kind.REGRESSED},
    ),
    "the log is not acknowledged": (Story(acked=4), {Kind.UNACKED}),
    "more is acknowledged than shown": (Story(sampled=(6, 1)), {Kind.OVERACKED}),
    "a body has changed": (
        Story(calls=(ONE, TWO, replace(THREE, body="other"))), {Kind.CHANGED_BODY},
    ),
    "a status showed the first as unknown beside the second": (FORMER_OWNER, set()),
    "it showed that the first was delivered": (
        replace(FORMER_OWNER, versions=(
            _status("Sending", "unknown"), _status("Sending", "success", "unknown"),
            _status("Sent", "success", "success"),
        )),
        {Kind.REPEATED, Kind.AFTER_SUCCESS},
    ),
    # A frozen owner wakes up and sends what was written ahead, after another one has delivered.
    "the first is sent after the second, which was journaled": (
        replace(
            FORMER_OWNER,
            calls=FORMER_OWNER.calls[::-1],
            versions=(
                *FORMER_OWNER.versions[:2], _status("Sent", "unknown", "success"),
                FORMER_OWNER.versions[2],
            ),
            sampled=(4, 3),
        ),
        {Kind.REPEATED, Kind.REORDERED},
    ),
    # The first log has expired; a late outcome makes another one.
    "the intent of a delivered attempt comes again": (
        Story(
            calls=(_call(1, 200),), states=((1, SUCCESS), (1, OPEN)),
            versions=({}, _status("Sent", "success")), acked=2, sampled=(2, 1),
        ),
        set(),
    ),
    # The next owner's attempt had its number before a former owner's result arrived.
    "the log has a former owner's attempt before one that was numbered first": (
        Story(
            calls=(_call(2, 503), _call(1, 503), THREE),
            states=(*STATES[:3], (2, FAILED), *STATES[4:]),
            versions=({}, _status("Sent", "failed", "failed", "success", ids=(2, 1, 3))),
            sampled=(6, 1),
        ),
        set(),
    ),
    # While one is open, a former owner records one that it did not send: its intent was refused.
    "the log has an attempt before another one that was settled first": (
        Story(states=(STATES[2], *STATES[:2], *STATES[3:])), set(),
    ),
    "the log contradicts both numbers and ids": (
        Story(states=(*STATES[2:4], *STATES[:2], *STATES[4:])), {Kind.REORDERED},
    ),
    # The first attempt is journaled, and its owner reaches Redis behind the owner of a later epoch.
    "an owner hands in behind the next one": (
        Story(
            calls=(replace(ONE, attempt=_id(-1)), TWO, THREE),
            states=(*STATES[2:4], (-1, OPEN), (-1, FAILED), *STATES[4:]),
            versions=(
                {}, _status("Sending", "failed", ids=(-1,)),
                _status("Sent", "failed", "unknown", "success", ids=(-1, 2, 3)),
            ),
        ),
        set(),
    ),
    "and that one has delivered": (JOURNALED, set()),
    "nothing shows that it was opened before that": (
        replace(JOURNALED, versions=({}, JOURNALED.versions[2]), sampled=(4, 1)), {Kind.AFTER_SUCCESS},
    ),
    # The API server stores a write ahead only after the next owner has sent.
    "a claim gives back what a former owner had written ahead": (
        Story(
            calls=(TWO, THREE),
            states=((2, OPEN), (3, OPEN), (2, UNKNOWN), (-1, UNKNOWN), (3, SUCCESS)),
            versions=(
                {}, _status("Sending", "unknown", ids=(-1,)),
                _status("Sent", "unknown", "unknown", "success", ids=(-1, 2, 3)),
            ),
            acked=5,
            sampled=(5, 2),
        ),
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", CASES)
def test_each_fault_is_found_under_its_name(sentence: str) -> None:
    """A story with one fault gives the findings of that fault and no others."""
    story, wanted = CASES[sentence]
    assert set(story.found()) - {Kind.EXPLAINED} == wanted


def test_an_explained_repeat_is_told_and_allowed() -> None:
    """A repeat after a recorded unknown is reported and is no violation."""
    assert Story().found() == [Kind.EXPLAINED]


def test_an_attempt_that_the_status_alone_shows_is_found() -> None:
    """Once all is at rest a log holds what its status shows; one that is not there is not asked."""
    last = Version(UID, "n", "2", _status("Sent", "failed", "success"))
    states = [(1, OPEN), (1, FAILED), (2, SUCCESS)]
    for missing, wanted in ((0, []), (1, ["attempt 0.7-2"])):
        log = Log(Header("ns/n", Epoch("0.7"), 3), tuple(_chain(states[: 3 - missing])))
        found = list(unlogged({UID: log, "u-2": log}, {UID: last}))
        assert [(f.kind, f.detail) for f in found] == [(Kind.UNLOGGED, d) for d in wanted]
    assert list(unlogged({}, {UID: last})) == []


def test_every_kind_has_a_case_and_a_meaning() -> None:
    """No kind of finding is without a fault that shows it."""
    shown = {kind for _, wanted in CASES.values() for kind in wanted}
    shown |= {Kind.EXPLAINED, Kind.UNLOGGED}
    assert shown == set(Kind) == set(MEANING)
