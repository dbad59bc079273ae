"""
The fold: from the records of a log to what is known about a notification.

`LogView` is an accumulator. Folding a log record by record gives the same view as folding it at once;
its position and chain identify the history that it stands for. It is the in-memory status
cache of the product: disposable, rebuilt from the log at will, and never ahead of it.

A record that contradicts an earlier one never lowers anything: attempts are joined, and the first plan
stays. The rules exclude two different definite results for one attempt; the join still picks one, and
`conflicts` counts them. A manual resolution is not a result: it may be wrong, and the result that the
sender learns replaces it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from syncer.model.attempt import (
    NO_IDS,
    Attempt,
    AttemptId,
    AttemptState,
    drop,
    join,
    newest,
    wait_of,
)
from syncer.model.record import Header, Kind, Plan, Record, read_attempt, read_plan
from syncer.rules.channel_state import counts

ROOT_CHAIN = "00000000"
#: The usual value of `LogView.ordered`, which is read often.
_NONE: Final[frozenset[str]] = frozenset()


class History(NamedTuple):
    """The beginning of a log up to a position; the chain is that of the element there."""

    position: int
    chain: str


@dataclass(slots=True)
class LogView:
    """
    The content of a log, up to `position`.

    Attributes:
        plan: The frozen plan, None until it was recorded.
        attempts: Every attempt in the order of its first record.
        orders: Per channel, ids of attempts that existed when an operator requested a resend.
        order_ids: Per channel, id of that request.
        skips: How many skips were recorded.
        last_skip: Per channel, the reason of a skip that is the channel's last record.
        opened: Per open attempt, the history before its intent.
        conflicts: Attempts for which two definite results were recorded.
        doubted: Attempts that are or were on record as unknown.
        resolved: Attempts with a manual resolution.
        accepted: Final phase that a person has accepted although no attempt on record leads to it.
        whole: Whether the log holds its beginning: the first record of an attempt is an intent that follows
            a plan. None while there is no attempt. A log that was created again lacks the earlier records.
        position: Index of the last folded element.
    """

    plan: Plan | None = None
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)
    orders: dict[str, frozenset[AttemptId]] = field(default_factory=dict)
    order_ids: dict[str, str] = field(default_factory=dict)
    skips: int = 0
    last_skip: dict[str, str] = field(default_factory=dict)
    opened: dict[AttemptId, History] = field(default_factory=dict)
    conflicts: int = 0
    doubted: frozenset[AttemptId] = NO_IDS
    resolved: frozenset[AttemptId] = NO_IDS
    accepted: str = ""
    whole: bool | None = None
    position: int = 0
    chain: str = ROOT_CHAIN

    def apply(self, record: Record) -> None:
        """Fold one more record; ValueError if it is not the next one, or its attempt is malformed."""
        if record.position != self.position + 1:
            raise ValueError(f"record {record.position} does not follow {self.position}")
        if record.kind.state is not None:
            self._attempt(record)
        elif record.kind is Kind.PLAN:
            self.plan = self.plan or read_plan(record)
        elif record.kind is Kind.SKIP:
            self.skips += 1
            self.last_skip[record.channel] = str(record.body.get("why", ""))
        elif record.kind is Kind.ORDER:
            self.orders[record.channel] = frozenset(
                a.id for a in self.attempts.values() if a.channel == record.channel
            )
            self.order_ids[record.channel] = record.id
        elif record.kind is Kind.REPAIR:
            self.accepted = str(record.body.get("phase", "")) or self.accepted
        self.position, self.chain = record.position, record.chain

    def _attempt(self, record: Record) -> None:
        if self.whole is None:
            self.whole = record.kind is Kind.INTENT and self.plan is not None
        new = read_attempt(record)
        old = self.attempts.get(new.id)
        if new.state is AttemptState.UNKNOWN:
            self.doubted |= {new.id}
        if record.kind.resolution:
            self.resolved |= {new.id}
        elif (
            old
            and old.state >= AttemptState.FAILED
            and new.state >= AttemptState.FAILED
            and new.id not in self.resolved
        ):
            self.conflicts += old.state is not new.state
        self.learn(new)
        self.last_skip.pop(record.channel, None)

    def learn(self, attempt: Attempt) -> None:
        """
        Add facts about an attempt, from a record or from another source; the position stays.

        The next claim adds to the log whatever no record holds yet, such as a journaled attempt.
        """
        known = self.attempts.get(attempt.id)
        merged = join(known, attempt) if known else attempt
        self.attempts[attempt.id] = merged
        if merged.open:
            self.opened.setdefault(attempt.id, History(self.position, self.chain))
        else:
            drop(self.opened, attempt.id)

    def forget(self, attempt_id: AttemptId) -> None:
        """Remove an attempt that was learned but never recorded."""
        self.attempts.pop(attempt_id, None)
        drop(self.opened, attempt_id)

    @property
    def publishable(self) -> History:
        """
        The history in which everything is settled.

        Open attempts are not in the status, so nothing from the first of them on may be acked.
        """
        return min(self.opened.values(), default=History(self.position, self.chain))

    @property
    def pending(self) -> frozenset[str]:
        """
        Channels with a resend request that no attempt has followed yet.

        An attempt that counts against no limit does not fulfil a request, which still waits. A success ends
        a request unfulfilled, because nothing is sent after one. So does an attempt that the request did
        not know because the log had lost it: it cannot be distinguished from a new one.
        """
        return frozenset(
            channel
            for channel, before in self.orders.items()
            if all(
                (a.id in before or not counts(a)) and a.state is not AttemptState.SUCCESS
                for a in self.of_channel(channel)
            )
        )

    @property
    def ordered(self) -> frozenset[str]:
        """
        Pending channels (`pending`) that are in the plan.

        Without a plan, all of them: if another controller finished the notification, its status may no
        longer name its channels.
        """
        if not self.orders:
            return _NONE
        return self.pending if self.plan is None else self.pending.intersection(self.plan.channels)

    def waits(self, now: int, ordered: Collection[str]) -> dict[str, int]:
        """
        Return, per channel, the milliseconds left to wait after its newest attempt with a due time.

        Args:
            now: Redis time in Unix milliseconds.
            ordered: Channels with a resend request that no attempt has followed yet. Attempts before the
                request no longer make them wait.
        """
        last: dict[str, Attempt] = {}
        for attempt in self.attempts.values():
            before = self.orders[attempt.channel] if attempt.channel in ordered else ()
            if attempt.due and attempt.id not in before:
                known = last.setdefault(attempt.channel, attempt)
                if known is not attempt:
                    last[attempt.channel] = newest((known, attempt)) or attempt
        return {channel: wait_of(attempt, now) for channel, attempt in last.items()}

    def begins(self, records: Sequence[Record]) -> bool:
        """Whether a log still begins with the history that this view stands for."""
        return chain_at(records, self.position) == self.chain

    def of_channel(self, channel: str) -> list[Attempt]:
        """Attempts of one channel, in the order of their first records."""
        return [a for a in self.attempts.values() if a.channel == channel]


def chain_at(records: Sequence[Record], position: int) -> str:
    """Return the chain that stands for a log up to a position; empty beyond the log's end."""
    if position > len(records):
        return ""
    return records[position - 1].chain if position else ROOT_CHAIN


def fold(records: Iterable[Record]) -> LogView:
    """Fold a log, oldest record first."""
    view = LogView()
    for record in records:
        view.apply(record)
    return view


@dataclass(frozen=True, slots=True)
class ReadLog:
    """
    A log, read as far as it is legible.

    Attributes:
        header: None if there is no log, or its header cannot be read.
        records: The legible beginning.
        problem: Where and why reading ended early, empty if it did not.
    """

    header: Header | None
    records: tuple[Record, ...]
    view: LogView
    problem: str = ""
