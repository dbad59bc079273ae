"""
Circuit breakers: whether a receiver is worth another call now, one per channel name.

Upstream's numbers, another subject. A breaker counts *notifications*, not calls: it opens when the
three that failed last did so within 10 s and nothing succeeded in those 10 s. So one notification
that fails again and again keeps its own back-off, and a receiver that still answers some messages
is not called dead because a burst of others failed. It stays open for 30 s; then two calls may go
(probes). Two successes close it, one failure opens it again. Why so: docs/adr/0005.

A refusal only postpones: it consumes no attempt and changes nothing here. Answers that are final
for a message, and attempts that never left, say nothing about the receiver: in a probe they free
its place. What began before the last change of state is not evidence about the time after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from notifier.delivery.outcome import Outcome
from syncer.api.attempt import AttemptState, FailureClass

FAILURES: Final = 3
WINDOW: Final = 10.0
OPEN_FOR: Final = 30.0
PROBES: Final = 2

#: Kinds that call nobody: their failures are this process's own.
LOCAL: Final = frozenset({"console", "file", "log"})


class State(IntEnum):
    """The values of upstream's gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Evidence(Enum):
    """What an attempt says about its receiver."""

    UP = "the receiver took a message"
    DOWN = "the receiver failed or did not answer"
    NONE = "nothing about the receiver"


def evidence_of(outcome: Outcome | None) -> Evidence:
    """What an outcome says; None is an attempt that was not made."""
    if outcome is None:
        return Evidence.NONE
    if outcome.state is AttemptState.SUCCESS:
        return Evidence.UP
    if outcome.state is AttemptState.UNKNOWN or outcome.failure is FailureClass.TRANSIENT:
        return Evidence.DOWN
    return Evidence.NONE


@dataclass(frozen=True, slots=True)
class Permit:
    """A call may go; to be given back to `settle` when it has ended, whatever it came to."""

    era: int
    probe: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """No call now: again at boot-clock second `until`, or when a probe ends if that is None."""

    until: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state, with its reason."""

    state: State
    reason: str


@dataclass(slots=True)
class Breaker:
    """
    The state of one receiver; all times in boot-clock seconds.

    Attributes:
        era: Raised whenever it opens or closes.
        until: When it may let probes through, None while it is closed.
        suspects: Notifications that probed in vain the last time. Others are to probe next, so that
            a message that always fails cannot keep the breaker open.
    """

    era: int = 0
    until: float | None = None
    suspects: frozenset[str] = frozenset()
    _failed: dict[str, float] = field(default_factory=dict)
    _success: float = float("-inf")
    _probes: set[str] = field(default_factory=set)
    _probing: int = 0
    _succeeded: int = 0

    def state(self, now: float) -> State:
        """Where it stands; an open one becomes half-open by the clock alone."""
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def look(self, now: float) -> Postpone | None:
        """Why a call could not go now, None if one could."""
        state = self.state(now)
        if state is State.OPEN:
            return Postpone(self.until, "open")
        if state is State.HALF_OPEN and self._probing + self._succeeded >= PROBES:
            return Postpone(None, "half-open, and its probes are under way")
        return None

    def ask(self, now: float, uid: str) -> Permit | Postpone:
        """Ask for one call on behalf of a notification."""
        held = self.look(now)
        if held is not None:
            return held
        if self.until is None:
            return Permit(self.era, probe=False, reason="closed")
        self._probing += 1
        self._probes.add(uid)
        return Permit(self.era, probe=True, reason="half-open: a probe")

    def settle(self, permit: Permit, uid: str, evidence: Evidence, now: float) -> Change | None:
        """Learn what a permitted call came to."""
        if permit.era != self.era:
            return None
        return self._probed(evidence, now) if permit.probe else self._called(uid, evidence, now)

    def _called(self, uid: str, evidence: Evidence, now: float) -> Change | None:
        if evidence is Evidence.UP:
            self._success = now
            self._failed.clear()
        if evidence is not Evidence.DOWN:
            return None
        # The last to fail stands last; three are remembered.
        self._failed.pop(uid, None)
        self._failed[uid] = now
        if len(self._failed) > FAILURES:
            del self._failed[next(iter(self._failed))]
        first = next(iter(self._failed.values()))
        if len(self._failed) < FAILURES or now - first > WINDOW or now - self._success <= WINDOW:
            return None
        return self._open(now, f"{FAILURES} notifications failed and none succeeded")

    def _probed(self, evidence: Evidence, now: float) -> Change | None:
        self._probing -= 1
        if evidence is Evidence.DOWN:
            self.suspects = frozenset(self._probes)
            return self._open(now, "a probe failed")
        if evidence is Evidence.UP:
            self._succeeded += 1
            if self._succeeded == PROBES:
                self._begin_era(None)
                self.suspects = frozenset()
                self._success = now
                return Change(State.CLOSED, f"{PROBES} probes succeeded")
        return None

    def _open(self, now: float, reason: str) -> Change:
        self._begin_era(now + OPEN_FOR)
        return Change(State.OPEN, reason)

    def _begin_era(self, until: float | None) -> None:
        self.era += 1
        self.until = until
        self._failed.clear()
        self._probes = set()
        self._probing = self._succeeded = 0


class Breakers:
    """Every receiver's breaker; bounded by the names that the routing file has ever held."""

    def __init__(self) -> None:
        """Start with all closed: what an earlier process saw is not known any more."""
        self._breakers: dict[str, Breaker] = {}

    def of(self, channel: str) -> Breaker | None:
        """The breaker of a channel, None for one that calls nobody."""
        if kind_of(channel) in LOCAL:
            return None
        return self._breakers.setdefault(channel, Breaker())

    def states(self, now: float) -> dict[str, State]:
        """Channel to state, of every receiver called so far."""
        return {channel: breaker.state(now) for channel, breaker in self._breakers.items()}


def kind_of(channel: str) -> str:
    """`slack` of `slack:ops`."""
    return channel.partition(":")[0]


def refusal(channel: str) -> str:
    """Upstream's text for an attempt that an open breaker does not let through."""
    return (
        f"{kind_of(channel)} circuit breaker is open"
        " (too many failures, preventing cascading failures)"
    )
