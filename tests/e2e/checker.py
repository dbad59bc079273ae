"""
The checker: what receivers saw, what the logs say and what the statuses showed, held together.

It is an oracle, so it shares as little as possible with the product. Only the codec is the
product's, because somebody has to read the bytes. The fold is done here once more, in its simplest
form: the highest state that any record gives an attempt. Statuses are read as raw JSON.

The receiver's book is the one thing that no part of the controller can influence. Everything else
is judged by it: each call must be on record (`lost`, `misrecorded`), each recorded answer must have
been a call (`invented`), and a call after one that the receiver acted upon must have a recorded
`unknown` to show for it (`repeated`; with one it is only reported, as `explained`).

`check` is a pure function of its arguments. It never stops at the first finding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise, zip_longest
from typing import Any, Final

from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import AttemptState, FailureClass
from syncer.model.record import Header, Record, read_attempt

Json = dict[str, Any]

TERMINAL: Final = frozenset({"Sent", "PartiallySent", "Failed"})
_PHASES: Final = {"": 0, "Pending": 1, "Sending": 2, "Retrying": 3}
_RANKS: Final = {"unknown": 1, "failed": 2, "timeout": 2, "invalid": 2, "success": 3}
_INTENT, _UNKNOWN, _FAILED, _SUCCESS = range(4)


class Kind(StrEnum):
    """What can be wrong; every kind but EXPLAINED is a violation."""

    LOST = "lost"
    INVENTED = "invented"
    MISRECORDED = "misrecorded"
    UNRECORDED = "unrecorded"
    UNLOGGED = "unlogged"
    UNSETTLED = "unsettled"
    DOUBLED = "doubled"
    REPEATED = "repeated"
    EXPLAINED = "explained"
    AFTER_SUCCESS = "after-success"
    REORDERED = "reordered"
    REGRESSED = "regressed"
    UNACKED = "unacked"
    OVERACKED = "overacked"
    CHANGED_BODY = "changed-body"


MEANING: Final[Mapping[Kind, str]] = {
    Kind.LOST: "a call that neither log nor status knows",
    Kind.INVENTED: "an answer on record that no receiver gave",
    Kind.MISRECORDED: "a call whose record contradicts the answer that it was given",
    Kind.UNRECORDED: "a settled attempt of the log that the last status does not show as high",
    Kind.UNLOGGED: "an attempt of the last status that its log was not given",
    Kind.UNSETTLED: "an attempt that is still open at the end",
    Kind.DOUBLED: "one attempt id in two calls",
    Kind.REPEATED: "a call after a processed one whose attempt is not on record as unknown",
    Kind.EXPLAINED: "the same, with an unknown on record: allowed",
    Kind.AFTER_SUCCESS: "an intent in the log after a success of its channel",
    Kind.REORDERED: "numbers that are not 1, 2, 3 in the order of log and receiver",
    Kind.REGRESSED: "a status version that says less than the one before",
    Kind.UNACKED: "a finished notification whose log is not marked as published",
    Kind.OVERACKED: "a log marked as published beyond what the status showed afterwards",
    Kind.CHANGED_BODY: "one idempotency key with two bodies",
}


@dataclass(slots=True)
class Call:
    """
    One request that a receiver read whole.

    Attributes:
        at: Monotonic second at which its last byte was read.
        subject: What it is about; tests give an object its name as the subject.
        key: Idempotency key, without quotes.
        attempt: Attempt id of the header.
        body: Hash of the body.
        code: Answer that the script has for it, 0 for a reset.
        processed: The receiver acted upon it (2xx, or processed and then dropped).
        answered: Monotonic second at which the answer was begun, 0 if it never was.
    """

    at: float
    subject: str
    key: str
    attempt: str
    body: str
    code: int
    processed: bool
    answered: float = 0.0


@dataclass(frozen=True, slots=True)
class Log:
    """One log as it stood in Redis: header and records, decoded and verified."""

    header: Header
    records: tuple[Record, ...]

    @classmethod
    def read(cls, elements: Sequence[bytes]) -> Log:
        """
        Decode the elements of the list.

        Raises:
            ContractError: something in it cannot be read.
        """
        log = snapshot_of(elements)
        return cls(log.header, tuple(log.records))

    def states(self, through: int | None = None) -> dict[str, Seen]:
        """Highest state of each attempt up to a position, in order of first record."""
        out: dict[str, Seen] = {}
        for record in self.records[:through]:
            state = record.kind.state
            if state is None:
                continue
            seen = out.setdefault(record.attempt_id, Seen(record.channel, _INTENT))
            seen.state = max(seen.state, int(state))
            seen.uncertain = seen.uncertain or state is AttemptState.UNKNOWN
            seen.code = int(record.body.get("code", 0)) or seen.code
        return out


@dataclass(slots=True)
class Seen:
    """
    What is known of one attempt: rank 0 intent, 1 unknown, 2 failed, 3 success.

    `uncertain` stays once an unknown was recorded, also where the result became known later.
    """

    channel: str
    state: int
    uncertain: bool = False
    code: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version of an object, as an independent watch saw it."""

    uid: str
    name: str
    resource_version: str
    status: Json

    @property
    def phase(self) -> str:
        """Phase, empty before the first write."""
        return str(self.status.get("phase", ""))

    @property
    def attempts(self) -> list[Json]:
        """Entries of deliveryAttempts."""
        return list(self.status.get("deliveryAttempts", ()))

    def condition(self, kind: str) -> Json:
        """A condition, empty if there is none."""
        found: Sequence[Json] = self.status.get("conditions", ())
        return next((c for c in found if c["type"] == kind), {})

    def states(self) -> dict[str, Seen]:
        """What the status says of each attempt."""
        return {
            str(a.get("id", f"0-{n}")): Seen(
                a["channel"],
                _RANKS[a["status"]],
                a["status"] == "unknown",
                int(a.get("code", 0)),
                int(a["attempt"]),
            )
            for n, a in enumerate(self.attempts)
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """A log, and the status of its object read *after* it."""

    uid: str
    log: Log
    status: Json


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was noticed, about one notification."""

    kind: Kind
    name: str
    detail: str

    def __str__(self) -> str:
        """Return a sentence for a person."""
        return f"{self.name}: {self.kind} ({MEANING[self.kind]}): {self.detail}"


@dataclass(frozen=True, slots=True)
class Findings:
    """
    Everything that was noticed.

    Attributes:
        found: All findings, those that are allowed included.
        calls: How many calls were judged; 0 means that nothing was proven.
        attempts: How many attempts.
        versions: How many versions.
    """

    found: tuple[Finding, ...] = ()
    calls: int = 0
    attempts: int = 0
    versions: int = 0

    @property
    def violations(self) -> tuple[Finding, ...]:
        """Findings that must not be."""
        return tuple(f for f in self.found if f.kind is not Kind.EXPLAINED)

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        """Findings of one kind."""
        return tuple(f for f in self.found if f.kind is kind)

    def __str__(self) -> str:
        """Return counts and one line per finding."""
        head = f"{self.calls} calls, {self.attempts} attempts, {self.versions} status versions"
        return "\n".join([head, *map(str, self.found)])


@dataclass(slots=True)
class _Case:
    """All that is known of one notification."""

    uid: str
    name: str
    calls: list[Call] = field(default_factory=list)
    log: Log | None = None
    versions: list[Version] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def last(self) -> Version | None:
        return self.versions[-1] if self.versions else None

    @property
    def logged(self) -> dict[str, Seen]:
        return self.log.states() if self.log else {}

    @property
    def shown(self) -> dict[str, Seen]:
        return self.last.states() if self.last else {}

    def joined(self) -> dict[str, Seen]:
        """Log joined with status: the higher state, `uncertain` from either."""
        out = dict(self.logged)
        for identity, shown in self.shown.items():
            seen = out.setdefault(identity, shown)
            seen.uncertain = seen.uncertain or shown.uncertain
            seen.state = max(seen.state, shown.state)
            seen.number = shown.number
            seen.code = seen.code or shown.code
        return out


def unlogged(logs: Mapping[str, Log], last: Mapping[str, Version]) -> Iterator[Finding]:
    """
    Attempts that a status shows and its log does not hold, once all has come to rest.

    Args:
        logs: By uid, as they stand in Redis now; of one that has expired nothing is asked.
        last: The last version of each object that is there.
    """
    for uid in sorted(logs.keys() & last.keys()):
        for identity in sorted(last[uid].states().keys() - logs[uid].states().keys()):
            yield Finding(Kind.UNLOGGED, last[uid].name, f"attempt {identity}")


_Rule = Callable[[_Case], Iterator[tuple[Kind, str]]]


def check(
    books: Sequence[Call],
    logs: Mapping[str, Log],
    versions: Mapping[str, Sequence[Version]],
    samples: Sequence[Sample] = (),
    *,
    finished: bool = True,
) -> Findings:
    """
    Hold the three sources together.

    Args:
        books: Calls of every receiver, in order of arrival.
        logs: Logs by uid, read at the end.
        versions: Versions by uid, in the order in which the watch saw them.
        samples: Logs with the status read after each, taken while it ran.
        finished: Whether everything has ended: then open attempts, unpublished records and
            unacknowledged logs are violations too.
    """
    cases = {uid: _Case(uid, list(seen)[-1].name) for uid, seen in versions.items() if seen}
    for uid, seen in versions.items():
        if uid in cases:
            cases[uid].versions = list(seen)
    for uid, log in logs.items():
        case = cases.setdefault(uid, _Case(uid, log.header.object.rpartition("/")[2]))
        case.log = log
    for sample in samples:
        if sample.uid in cases:
            cases[sample.uid].samples.append(sample)
    found = list(_assign(books, cases))
    rules: list[_Rule] = [
        _on_record, _recorded_truly, _not_doubled, _not_repeated, _none_after_success,
        _in_order, _same_body, _monotone, _not_overacked,
    ]  # fmt: skip
    if finished:
        rules += [_published, _settled, _acked]
    for case in cases.values():
        for rule in rules:
            found += [Finding(kind, case.name, detail) for kind, detail in rule(case)]
    return Findings(
        tuple(found),
        len(books),
        sum(len(c.joined()) for c in cases.values()),
        sum(len(c.versions) for c in cases.values()),
    )


def _assign(books: Sequence[Call], cases: Mapping[str, _Case]) -> Iterator[Finding]:
    """Give each call to its notification: by attempt id, else by subject."""
    by_attempt = {identity: c for c in cases.values() for identity in c.joined()}
    by_name = {c.name: c for c in cases.values()}
    for call in books:
        case = by_name.get(call.subject) or by_attempt.get(call.attempt)
        if case is None:
            yield Finding(Kind.LOST, call.subject, f"attempt {call.attempt} of nothing known")
        else:
            case.calls.append(call)


# -- rules: what the receiver saw -----------------------------------------------------------------


def _on_record(case: _Case) -> Iterator[tuple[Kind, str]]:
    known = case.joined()
    for call in case.calls:
        if call.attempt not in known:
            yield Kind.LOST, f"attempt {call.attempt or '(none)'}, answered {call.code}"


def _recorded_truly(case: _Case) -> Iterator[tuple[Kind, str]]:
    calls = {c.attempt: c for c in case.calls}
    for identity, seen in case.joined().items():
        call = calls.get(identity)
        http = not seen.channel.startswith(("file", "console", "log"))
        if call is None:
            if http and (seen.state == _SUCCESS or seen.code):
                yield Kind.INVENTED, f"attempt {identity}, code {seen.code}"
        elif seen.state == _SUCCESS and not 200 <= call.code <= 299:
            yield Kind.MISRECORDED, f"attempt {identity} is a success, answered {call.code}"
        elif seen.state == _FAILED and call.processed:
            yield Kind.MISRECORDED, f"attempt {identity} failed, and the receiver processed it"


def _doubted(case: _Case, earlier: str, later: str) -> bool:
    """
    Whether a status showed an attempt as unknown beside a later one: that is on record, too.

    So it is where attempts are journaled: a former owner may tell the log of a success that the present one
    cannot read, and then no log ever holds the unknown that he went by. A higher number explains nothing:
    each attempt is written ahead as unknown, and one that was opened before it was not sent because of it.
    """
    for version in case.versions:
        shown = version.states()
        if later in shown and earlier in shown:
            before, after = shown[earlier], shown[later]
            if before.uncertain and before.number < after.number:
                return True
    return False


def _not_doubled(case: _Case) -> Iterator[tuple[Kind, str]]:
    seen: set[str] = set()
    for call in case.calls:
        if call.attempt in seen:
            yield Kind.DOUBLED, f"attempt {call.attempt}"
        seen.add(call.attempt)


def _not_repeated(case: _Case) -> Iterator[tuple[Kind, str]]:
    known = case.joined()
    processed: dict[str, list[str]] = {}
    for call in case.calls:
        before = processed.setdefault(call.key, [])
        bare = [
            a for a in before
            if not (a in known and known[a].uncertain) and not _doubted(case, a, call.attempt)
        ]  # fmt: skip
        if bare:
            yield Kind.REPEATED, f"attempt {call.attempt} after {', '.join(bare)}"
        elif before:
            yield Kind.EXPLAINED, f"attempt {call.attempt} after {', '.join(before)}"
        if call.processed:
            before.append(call.attempt)


def _same_body(case: _Case) -> Iterator[tuple[Kind, str]]:
    bodies: dict[str, str] = {}
    for call in case.calls:
        if bodies.setdefault(call.key, call.body) != call.body:
            yield Kind.CHANGED_BODY, f"attempt {call.attempt}"


# -- rules: what the log says ---------------------------------------------------------------------


def _none_after_success(case: _Case) -> Iterator[tuple[Kind, str]]:
    delivered: dict[str, list[str]] = {}
    records = case.log.records if case.log else ()
    for record, following in zip_longest(records, records[1:]):
        known = delivered.setdefault(record.channel, [])
        opened = record.kind.state is AttemptState.INTENT
        # A log that was made anew gets the intent of a delivered attempt again: no other one was opened.
        # Nor was an attempt that a status had shown before the delivered one: owners hand in what they have
        # journaled when they reach Redis, perhaps the later owner first.
        others = [a for a in known if a != record.id and not _shown_before(case, record.id, a)]
        bare = opened and not all(_doubted(case, a, record.id) for a in others)
        if bare and not _not_sent(record, following):
            yield Kind.AFTER_SUCCESS, f"attempt {record.id} at position {record.position}"
        if record.kind.state is AttemptState.SUCCESS:
            known.append(record.id)


def _shown_before(case: _Case, first: str, then: str) -> bool:
    """Whether a version showed the first attempt and not the other one, and none before it the other."""
    shown = (v.states().keys() & {first, then} for v in case.versions)
    return next(filter(None, shown), set()) == {first}


def _not_sent(intent: Record, following: Record | None) -> bool:
    """
    Whether an intent came with the record that nothing was sent for it, in one step.

    A former owner whose INTENT never arrived settles it like that, whatever the log holds by then.
    """
    return (
        following is not None
        and following.id == intent.id
        and following.kind.state is AttemptState.FAILED
        and read_attempt(following).failure is FailureClass.NOT_SENT
    )


def _settled(case: _Case) -> Iterator[tuple[Kind, str]]:
    for identity, seen in case.joined().items():
        if seen.state == _INTENT:
            yield Kind.UNSETTLED, f"attempt {identity}"


def _acked(case: _Case) -> Iterator[tuple[Kind, str]]:
    last, log = case.last, case.log
    if last and log and last.phase in TERMINAL and log.header.acked < len(log.records):
        yield Kind.UNACKED, f"acked={log.header.acked} of {len(log.records)}"


# -- rules: what the status showed ----------------------------------------------------------------


def _published(case: _Case) -> Iterator[tuple[Kind, str]]:
    if case.last is None:
        return
    shown, rolled = case.shown, "rollup" in case.last.status
    for identity, seen in case.logged.items():
        at_least = shown[identity].state if identity in shown else _INTENT
        folded = rolled and seen.state == _FAILED and identity not in shown
        if at_least < seen.state and not folded:
            yield Kind.UNRECORDED, f"attempt {identity} of the log"


def _in_order(case: _Case) -> Iterator[tuple[Kind, str]]:
    last = case.last
    if last is None:
        return
    numbers = {
        c["name"]: int(c.get("number", 0))
        for c in last.status.get("rollup", {}).get("channels", ())
    }
    for entry in last.attempts:
        wanted = numbers.get(entry["channel"], 0) + 1
        if entry["attempt"] != wanted:
            yield Kind.REORDERED, f"{entry['channel']}: number {entry['attempt']}, not {wanted}"
        numbers[entry["channel"]] = wanted
    for identity, seen in _behind(case, [c.attempt for c in case.calls]):
        yield Kind.REORDERED, f"attempt {identity} is number {seen.number}, later in the receiver"
    # A number is given with the first write of the status that shows an attempt. So a result that a former
    # owner kept gets a later one than what the next owner has journaled since, and its log may be given it
    # before that. Then its order is that of the ids, by epoch and count: it never contradicts both. Nor
    # does an attempt that was open when another one was recorded whole behind it (by a former owner, whose
    # intent was refused or is restored): no write shows it before that one. And a former owner hands in
    # what it has journaled when it reaches Redis: intent and result in one breath, before what one of an
    # earlier epoch has journaled, which comes with its own owner, and before what the next claim restores.
    # The API server may store late what a former owner has written ahead: the next claim restores that.
    for identity, seen in _behind(
        case,
        list(case.logged),
        settled=_settled_at(case.log),
        handed_in=_handed_in(case.log),
        restored=_restored(case.log),
    ):
        yield Kind.REORDERED, f"attempt {identity} is number {seen.number}, later in the log"


def _behind(
    case: _Case,
    order: Sequence[str],
    *,
    settled: Mapping[str, int] | None = None,
    handed_in: Collection[str] = (),
    restored: Collection[str] = (),
) -> Iterator[tuple[str, Seen]]:
    """
    Attempts behind one with a higher number; with `settled`, also a higher id, and settled by then.

    One may stand before another if two hold of these: it is in `handed_in`, the other one is in `restored`,
    or is of an earlier epoch.
    """
    before: dict[str, list[str]] = {}
    shown = case.shown

    def contradicts(earlier: str, identity: str) -> bool:
        if shown[earlier].number <= shown[identity].number:
            return False
        if settled is None:
            return True
        former = _by_id(identity)[:2] < _by_id(earlier)[:2]
        if (former, earlier in handed_in, identity in restored).count(True) > 1:
            return False
        apart = len(settled)  # open to the end: behind all that are not
        return _by_id(earlier) >= _by_id(identity) and (
            settled.get(earlier, apart) <= settled.get(identity, apart)
        )

    for identity in dict.fromkeys(order):
        if (seen := shown.get(identity)) is not None:
            known = before.setdefault(seen.channel, [])
            if any(contradicts(k, identity) for k in known):
                yield identity, seen
            known.append(identity)


def _handed_in(log: Log | None) -> set[str]:
    """Attempts of which the log was told intent and result in one breath, after the send."""
    return {
        result.id
        for intent, result in pairwise(log.records if log else ())
        if str(intent.kind) == "intent" and result.id == intent.id
    }


def _restored(log: Log | None) -> set[str]:
    """Attempts that a claim has restored from the status."""
    return {r.attempt_id for r in (log.records if log else ()) if r.kind.startswith("seed.")}


def _settled_at(log: Log | None) -> dict[str, int]:
    """How many attempts were settled before each."""
    out: dict[str, int] = {}
    for record in log.records if log else ():
        if record.kind.state not in (None, AttemptState.INTENT):
            out.setdefault(record.attempt_id, len(out))
    return out


def _by_id(identity: str) -> list[int]:
    """The parts of an attempt's id as numbers: incarnation and version of its epoch, then its count."""
    return [int(part) for part in identity.replace(".", "-").split("-")]


def _monotone(case: _Case) -> Iterator[tuple[Kind, str]]:
    for old, new in pairwise(case.versions):
        where = f"{old.resource_version} to {new.resource_version}"
        for what in _fallen(old, new):
            yield Kind.REGRESSED, f"{what} ({where})"


def _fallen(old: Version, new: Version) -> Iterator[str]:
    yield from _fallen_attempts(old, new)
    for member in ("totalAttempts", "successfulDeliveries"):
        if new.status.get(member, 0) < old.status.get(member, 0):
            yield f"{member} fell"
    back = _PHASES.get(old.phase, 0) > _PHASES.get(new.phase, len(_PHASES))
    left = old.phase in TERMINAL and new.phase != old.phase
    if back or left:
        yield f"phase went from {old.phase} to {new.phase}"


def _fallen_attempts(old: Version, new: Version) -> Iterator[str]:
    before, after = old.states(), new.states()
    through = [int(v.status.get("rollup", {}).get("through", 0)) for v in (old, new)]
    gone = before.keys() - after.keys()
    for identity, seen in before.items():
        if identity in gone:
            if seen.state != _FAILED:
                yield f"attempt {identity} is gone"
        elif after[identity].state < seen.state:
            yield f"attempt {identity} fell from {seen.state} to {after[identity].state}"
        elif after[identity].number != seen.number:
            yield f"attempt {identity} was {seen.number}, is {after[identity].number}"
    if len(gone) > through[1] - through[0]:
        yield f"{len(gone)} attempts are gone, the rollup has {through[1] - through[0]} more"


def _not_overacked(case: _Case) -> Iterator[tuple[Kind, str]]:
    for sample in case.samples:
        acked = sample.log.header.acked
        shown = Version(case.uid, case.name, "", sample.status).states()
        rolled = "rollup" in sample.status
        for identity, seen in sample.log.states(acked).items():
            at_least = shown[identity].state if identity in shown else _INTENT
            folded = rolled and seen.state == _FAILED and identity not in shown
            # An open attempt within the acked part would be hidden by it: never acked either.
            if (at_least < max(seen.state, _UNKNOWN)) and not folded:
                yield Kind.OVERACKED, f"attempt {identity}, acked={acked}"
