"""The checker finds each thing that it was made to find, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.record import Header, Record, attempt_record, intent_record
from tests.e2e.checker import MEANING, Call, Kind, Log, Sample, Version, check, unlogged

UID = "u-1"
CHANNEL = "slack:ops"


@dataclass
class Story:
    """
    One notification as seen from outside, all well: failed, unknown (processed), success.

    Cases change one thing; `build` derives logs and versions from the lists.
    """

    calls: list[Call] = field(default_factory=lambda: [_call(1, 503), _call(2, 0), _call(3, 200)])
    states: list[tuple[int, AttemptState]] = field(
        default_factory=lambda: [
            (1, AttemptState.INTENT), (1, AttemptState.FAILED), (2, AttemptState.INTENT),
            (2, AttemptState.UNKNOWN), (3, AttemptState.INTENT), (3, AttemptState.SUCCESS),
        ]
    )  # fmt: skip
    acked: int = 6
    versions: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {},
            _status("Sending", "failed"),
            _status("Sent", "failed", "unknown", "success"),
        ]
    )
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


def _id(n: int) -> str:
    return f"0.7-{n}" if n > 0 else f"0.6-{-n}"  # below 0: of the epoch before


def _call(n: int, code: int) -> Call:
    return Call(float(n), "n", "key", _id(n), "hash", code, processed=code in (0, 200))


def _status(phase: str, *words: str) -> dict[str, Any]:
    attempts = [
        {"channel": CHANNEL, "attempt": n, "id": _id(n), "status": word}
        for n, word in enumerate(words, 1)
    ]
    return {
        "phase": phase, "deliveryAttempts": attempts, "totalAttempts": len(words),
        "successfulDeliveries": words.count("success"),
    }  # fmt: skip


def _chain(states: list[tuple[int, AttemptState]]) -> list[Record]:
    out: list[Record] = []
    chain = "00000000"
    for position, (n, state) in enumerate(states, 1):
        identity = AttemptId(_id(n))
        if state is AttemptState.INTENT:
            record = intent_record(identity, CHANNEL, at=1, by="test")
        else:
            failed = FailureClass.TRANSIENT if state is AttemptState.FAILED else None
            code = {AttemptState.FAILED: 503, AttemptState.SUCCESS: 200}.get(state, 0)
            record = attempt_record(
                Attempt(identity, CHANNEL, state, ended=2, failure=failed, code=code)
            )
        out.append(stored(record, chain, position))
        chain = out[-1].chain
    return out


def _lost(story: Story) -> None:
    story.calls.insert(1, replace(_call(9, 503), attempt="0.7-9"))


def _nameless(story: Story) -> None:
    story.calls[0].attempt = ""


def _invented(story: Story) -> None:
    del story.calls[0]


def _wrong_success(story: Story) -> None:
    story.calls[2] = _call(3, 503)


def _wrong_failure(story: Story) -> None:
    story.calls[0] = _call(1, 200)


def _unpublished(story: Story) -> None:
    story.versions[-1] = _status("Sending", "failed", "unknown")
    story.sampled = (4, 2)


def _open(story: Story) -> None:
    story.states.append((4, AttemptState.INTENT))


def _doubled(story: Story) -> None:
    story.calls.insert(1, _call(1, 503))


def _unexplained(story: Story) -> None:
    story.states[3] = (2, AttemptState.FAILED)
    story.calls[1] = replace(_call(2, 503), processed=True)
    story.versions[-1] = _status("Sent", "failed", "failed", "success")


def _gap(story: Story) -> None:
    story.versions[-1]["deliveryAttempts"][2]["attempt"] = 4


def _exchanged(story: Story) -> None:
    story.calls[0], story.calls[1] = story.calls[1], story.calls[0]


def _vanished(story: Story) -> None:
    story.versions.insert(2, _status("Sending", "failed", "unknown"))
    story.versions[3] = {**_status("Sent", "failed", "unknown", "success")}
    story.versions.insert(3, {**_status("Sending", "failed"), "totalAttempts": 2})
    story.sampled = (6, 4)


def _reopened(story: Story) -> None:
    last = story.versions[-1]
    story.versions += [{**last, "phase": "Sending"}, last]


def _unacked(story: Story) -> None:
    story.acked = 4


def _overacked(story: Story) -> None:
    story.sampled = (6, 1)


def _changed(story: Story) -> None:
    story.calls[2].body = "other"


def _former_owner(story: Story) -> None:
    """A former owner tells the log of a success that was unknown in the status when the next was made."""
    story.calls = [_call(1, 200), _call(2, 200)]
    story.states = [
        (1, AttemptState.INTENT), (1, AttemptState.SUCCESS),
        (2, AttemptState.INTENT), (2, AttemptState.SUCCESS),
    ]  # fmt: skip
    story.versions = [
        _status("Sending", "unknown"), _status("Sending", "unknown", "unknown"),
        _status("Sent", "success", "success"),
    ]  # fmt: skip
    story.acked, story.sampled = 4, (4, 2)


def _made_anew(story: Story) -> None:
    """The first log has expired; a late outcome makes another one, with the intent that belongs to it."""
    story.calls, story.states = (
        [_call(1, 200)],
        [(1, AttemptState.SUCCESS), (1, AttemptState.INTENT)],
    )
    story.versions = [{}, _status("Sent", "success")]
    story.acked, story.sampled = 2, (2, 1)


def _success_was_known(story: Story) -> None:
    _former_owner(story)
    story.versions[1] = _status("Sending", "success", "unknown")


def _sent_after_its_lease(story: Story) -> None:
    """A frozen owner wakes up and sends what was written ahead, after another one has delivered."""
    _former_owner(story)
    story.calls.reverse()
    story.versions.insert(2, _status("Sent", "unknown", "success"))
    story.sampled = (4, 3)


def _numbered_late(story: Story) -> None:
    """The next owner's attempt had its number before a former owner's result arrived."""
    first, second = story.versions[-1]["deliveryAttempts"][:2]
    for entry, n in ((first, 2), (second, 1)):
        entry.update(id=_id(n), status="failed")
    story.calls = [_call(2, 503), _call(1, 503), _call(3, 200)]
    story.states[3] = (2, AttemptState.FAILED)
    del story.versions[1]
    story.sampled = (6, 1)


def _out_of_place(story: Story) -> None:
    """The log tells of an attempt before one with a lower number and a lower id."""
    story.states[:4] = [*story.states[2:4], *story.states[:2]]


def _handed_in_late(story: Story) -> None:
    """The first attempt is journaled, and its owner reaches Redis behind the owner of a later epoch."""
    _out_of_place(story)
    story.states[2:4] = [(-n, state) for n, state in story.states[2:4]]
    story.calls[0].attempt = _id(-1)
    for version in story.versions[1:]:
        version["deliveryAttempts"][0]["id"] = _id(-1)


def _recorded_behind_an_open_one(story: Story) -> None:
    """While an attempt is open, a former owner records one that it did not send: its intent was refused."""
    story.states[:4] = [story.states[2], *story.states[:2], story.states[3]]


#: Sentence: what is broken, and what must be found besides the explained repeat.
CASES: dict[str, tuple[Callable[[Story], None], set[Kind]]] = {
    "nothing is wrong": (lambda _s: None, set()),
    "a call has no record": (_lost, {Kind.LOST}),
    "a call has no attempt id": (_nameless, {Kind.LOST, Kind.INVENTED}),
    "an answer on record was never given": (_invented, {Kind.INVENTED}),
    "a refused call is recorded as success": (_wrong_success, {Kind.MISRECORDED}),
    "a processed call is recorded as failed": (_wrong_failure, {Kind.MISRECORDED, Kind.REPEATED}),
    "the status ends without the success": (_unpublished, {Kind.UNRECORDED}),
    "an attempt stays open": (
        _open, {Kind.UNSETTLED, Kind.AFTER_SUCCESS, Kind.UNACKED},
    ),
    "one id comes twice": (_doubled, {Kind.DOUBLED}),
    "a repeat has no unknown": (_unexplained, {Kind.REPEATED, Kind.MISRECORDED}),
    "a number is left out": (_gap, {Kind.REORDERED}),
    "the receiver saw another order": (_exchanged, {Kind.REORDERED}),
    "a version has lost an attempt": (_vanished, {Kind.REGRESSED}),
    "a finished phase is left": (_reopened, {Kind.REGRESSED}),
    "the log is not acknowledged": (_unacked, {Kind.UNACKED}),
    "more is acknowledged than shown": (_overacked, {Kind.OVERACKED}),
    "a body has changed": (_changed, {Kind.CHANGED_BODY}),
    "a status showed the first as unknown beside the second": (_former_owner, set()),
    "the intent of a delivered attempt comes again": (_made_anew, set()),
    "it showed that the first was delivered": (
        _success_was_known, {Kind.REPEATED, Kind.AFTER_SUCCESS},
    ),
    "the first is sent after the second, which was journaled": (
        _sent_after_its_lease, {Kind.REPEATED, Kind.REORDERED},
    ),
    "the log has a former owner's attempt before one that was numbered first": (
        _numbered_late, set(),
    ),
    "the log has an attempt before another one that was settled first": (
        _recorded_behind_an_open_one, set(),
    ),
    "the log contradicts both numbers and ids": (_out_of_place, {Kind.REORDERED}),
    "an owner hands in behind the next one": (_handed_in_late, set()),
}  # fmt: skip


@pytest.mark.parametrize("sentence", CASES)
def test_each_fault_is_found_under_its_name(sentence: str) -> None:
    """A story with one fault gives the findings of that fault and no others."""
    breaks, wanted = CASES[sentence]
    story = Story()
    breaks(story)
    assert set(story.found()) - {Kind.EXPLAINED} == wanted


def test_an_explained_repeat_is_told_and_allowed() -> None:
    """A repeat after a recorded unknown is reported and is no violation."""
    assert Story().found() == [Kind.EXPLAINED]


def test_an_attempt_that_the_status_alone_shows_is_found() -> None:
    """Once all is at rest a log holds what its status shows; one that is not there is not asked."""
    last = Version(UID, "n", "2", _status("Sent", "failed", "success"))
    states = [(1, AttemptState.INTENT), (1, AttemptState.FAILED), (2, AttemptState.SUCCESS)]
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
