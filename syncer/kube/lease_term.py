"""
A session and the lease terms in it: how long this process may act for a shard, by its own clock alone.

A *session* is the life of this process's own Lease. It begins with the write that creates the Lease. It
ends at the first of these: no renewal was confirmed for RenewDeadline, the Lease is gone or somebody
else's, or the process ends the session. A *lease term* is the ownership of one shard within a session. It
begins with the write of the shard's Lease that names this process, and ends with the session at the latest.
The resourceVersion of that write, with the configured incarnation before it, is the epoch of the term;
epochs grow from term to term, and Redis and the API server refuse those of the past.

Two terms of one shard never both allow a send. A term allows a send only while

    now + send timeout <= start of the session's last confirmed renewal + LeaseDuration - margin

A replica that takes over ends the session first. It waits a whole LeaseDuration from the moment it last
*saw* the session's Lease change, which is after that start, and then ends the session by a compare-and-swap
that fails if there was a renewal in between. Both replicas measure on their own monotonic clocks, which go
on during a suspend and ignore changes of the wall clock; the times inside a Lease are for people. Nothing
can stop a request that is already on its way: margin and send timeout allow for it.

LeaseDuration is derived, never set.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from syncer.model.attempt import Epoch


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """
    Periods of leader election, in seconds.

    Attributes:
        renew_deadline: Time without a confirmed renewal after which the term ends.
        retry_period: Time between renewals, and between tries to acquire.
        margin: Allows for requests that the receiver handles late, and for clocks of unequal rate.
        send_timeout: Longest that one send may take.
    """

    renew_deadline: float = 5.0
    retry_period: float = 2.0
    margin: float = 3.0
    send_timeout: float = 10.0

    @property
    def duration(self) -> float:
        """How long others wait after the last renewal they saw."""
        return self.renew_deadline + self.send_timeout + self.margin

    @property
    def duration_seconds(self) -> int:
        """The duration as the Lease states it: in seconds, rounded up to be safe."""
        return math.ceil(self.duration)

    @property
    def call_timeout(self) -> float:
        """Longest that one call of the election may take: two of them fit into the deadline."""
        return self.renew_deadline / 2


@dataclass(eq=False, slots=True)
class Session:
    """
    The life of this process's own Lease, by the clock.

    Attributes:
        uid: Uid of the Lease; no other session has it.
        renewed: Start of the last confirmed renewal, in seconds of the monotonic clock.
        ended: Why the session is over; empty while it is not.
        is_over: Set with `ended`. By the clock the session may be over earlier: see `valid`.
    """

    uid: str
    renewed: float
    timings: LeaseTimings
    ended: str = field(default="", init=False)
    is_over: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def valid(self, now: float) -> bool:
        """Whether work may go on: the session is not over, and was renewed within the deadline."""
        return not self.ended and now <= self.renewed + self.timings.renew_deadline

    def end(self, reason: str) -> None:
        """Allow nothing from now on, in any term; the first reason is kept."""
        if not self.ended:
            self.ended = reason
            self.is_over.set()


@dataclass(eq=False, slots=True)
class LeaseTerm:
    """
    One uninterrupted right to act for a shard.

    Attributes:
        epoch: Identity of the term; greater than that of every earlier one.
        session: The session that it is part of.
        since: The API server's time when the term had begun, in Unix milliseconds; 0 if that is not known.
    """

    epoch: Epoch
    session: Session
    since: int = 0
    _ended: str = field(default="", init=False)

    @property
    def ended(self) -> str:
        """Why the term is over; empty while it is not."""
        return self._ended or self.session.ended

    def valid(self, now: float) -> bool:
        """Whether work may go on: the term is not over, and its session was renewed within the deadline."""
        return not self._ended and self.session.valid(now)

    def may_send(self, now: float, send_timeout: float) -> bool:
        """
        Whether a send that begins now is over before anyone else may begin one.

        `now` is the time of the monotonic clock right before the send; both arguments are in seconds.
        """
        timings = self.session.timings
        limit = self.session.renewed + timings.duration - timings.margin
        return not self.ended and now + send_timeout <= limit

    def left(self, now: float) -> float:
        """Seconds for which the term is valid without another renewal, 0 once it is over."""
        limit = self.session.renewed + self.session.timings.renew_deadline
        return 0.0 if self.ended else max(0.0, limit - now)

    def end(self, reason: str) -> None:
        """Allow nothing from now on; the first reason is kept."""
        self._ended = self._ended or reason
