"""
Circuit breakers, one per channel name: whether a receiver should be called now.

The thresholds are upstream's, but a breaker counts *notifications*, not calls: it opens when the last
three to fail did so within 10 s and nothing succeeded in those 10 s. So one notification that fails again
and again keeps its own back-off, and a receiver that still answers some messages is not treated as down
because a burst of others failed.

A breaker stays open for 1 s, then lets one call through (a probe). A failed probe opens it again, for twice
as long each time, 30 s at most. After a successful probe it lets a second one through, whose success closes
it. So a receiver that only refused a burst is served again after about a second, and one that is down gets
one call per probe. A failed probe after a successful one opens it for 1 s again: such a receiver is not
down. No probe is sent before the time that the receiver's Retry-After names, within those 30 s. The reasons
are in docs/adr/0005.

Where the controller waits for an operator to correct a mistake, the first call that fails because of one
opens the breaker, for 5 s at first and 5 min at most: the receiver refuses every message alike, and one
call at a time is enough to learn whether the mistake is corrected.

A rejected attempt only waits: it uses up no attempt and does not affect the breaker. Answers that are final
for a message, and attempts that were never sent, are no evidence about the receiver: after such a probe
another one may follow. A call that began before the last change of state is no evidence about the time
after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from notifier.contract import Outcome
from syncer.model.attempt import AttemptState, FailureClass
from syncer.rules.backoff import exponential

FAILURES: Final = 3
WINDOW: Final = 10.0
#: Seconds for which a breaker is open, at first and at most. Each failed probe doubles the time.
OPEN_FIRST: Final = 1.0
OPEN_MOST: Final = 30.0
#: The same while the receiver refuses an operator's configuration.
REFUSED_FIRST: Final = 5.0
REFUSED_MOST: Final = 300.0
PROBES: Final = 2
#: Seconds for which a first attempt leaves the probe to a retry that is about to be due.
PATIENCE: Final = 0.5

#: Kinds of channels that call no receiver; their failures are this process's own.
LOCAL: Final = frozenset({"console", "file", "log"})


class State(IntEnum):
    """The values of upstream's gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Evidence(Enum):
    """What an attempt shows about its receiver."""

    UP = "the receiver accepted a message"
    DOWN = "the receiver failed or did not answer"
    REFUSED = "it refuses what an operator has configured, whatever the message"
    NONE = "nothing about the receiver"


def evidence_of(channel: str, outcome: Outcome | None) -> Evidence:
    """Return what an outcome shows about a channel's receiver; None is for an attempt that was not made."""
    if outcome is None or kind_of(channel) in LOCAL:
        return Evidence.NONE
    if outcome.state is AttemptState.SUCCESS:
        return Evidence.UP
    if outcome.failure is FailureClass.OPERATOR and outcome.unworded and not outcome.code:
        # The configured request did not fit this message, but may fit the next one. The author of one
        # message must not block the messages of others.
        return Evidence.NONE
    if outcome.mistake and outcome.failure in {FailureClass.OPERATOR, FailureClass.NOT_SENT}:
        return Evidence.REFUSED
    if outcome.state is AttemptState.UNKNOWN or outcome.failure is FailureClass.TRANSIENT:
        return Evidence.DOWN
    return Evidence.NONE


@dataclass(frozen=True, slots=True)
class Reject:
    """No call now: try again at monotonic second `until`, or, if that is None, when the probe ends."""

    until: float | None
    #: The receiver refuses an operator's configuration.
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state, with its reason."""

    state: State
    reason: str


@dataclass(slots=True)
class Breaker:
    """
    The state of one receiver; all times in seconds of the monotonic clock.

    Attributes:
        generation: Raised whenever it opens or closes.
        until: When it may let a probe through, None while it is closed.
        suspect: Uid of the last probe that failed, empty if there was none since a success. The next probe
            should be of another notification.
        wants_retry: Whether the next probe should be a retry, of the notification that has failed most
            often. Otherwise it should be of the one that has failed least, preferably a first attempt.
            After a failed probe the next should be of the other kind, after a success of the same. So
            neither a receiver that refuses the first calls of each message nor many messages that always
            fail look like a dead receiver for long.
    """

    generation: int = 0
    until: float | None = None
    suspect: str = ""
    wants_retry: bool = True
    #: The notifications that failed last: when, and before which second the receiver wants no call.
    _failed: dict[str, tuple[float, float]] = field(default_factory=dict)
    _success: float = float("-inf")
    _openings: int = 0
    #: Whether it was opened because of an operator's mistake.
    refused: bool = False
    _probing: bool = False
    _succeeded: int = 0

    def state(self, now: float) -> State:
        """The state at `now`; an open breaker becomes half-open by the clock alone."""
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def check(self, now: float, *, first: bool = False) -> Reject | None:
        """Return the rejection of a call, None if it may go now; `first` is true for a first attempt."""
        if self.until is None:
            return None
        if now < self.until:
            return Reject(self.until, self.refused)
        if self._probing:
            return Reject(None, self.refused)
        if first and self.wants_retry and now < self.until + PATIENCE:
            # The probe is left to a retry.
            return Reject(self.until + PATIENCE)
        return None

    def begin(self) -> int:
        """
        Begin a call that `check` allows; unless the breaker is closed, it is a probe.

        Returns:
            The generation, to be passed to `release` when the call has ended, whatever its result.
        """
        self._probing = self.until is not None
        return self.generation

    def release(
        self,
        generation: int,
        uid: str,
        evidence: Evidence,
        now: float,
        *,
        first: bool = False,
        retry_after: float | None = None,
    ) -> Change | None:
        """
        Process the result of a call.

        Args:
            generation: The generation that `begin` returned.
            uid: The notification.
            evidence: What the call shows about the receiver.
            now: Second of the monotonic clock.
            first: The call was the notification's first attempt on the channel.
            retry_after: Wait in seconds that the receiver asked for, or None.

        Returns:
            The resulting change of state, None if there is none.
        """
        if generation != self.generation:
            return None
        self._probing = False
        if evidence is Evidence.REFUSED:
            return self._open(now, now, evidence.value, refused=True)
        quiet = now if retry_after is None else now + retry_after
        if self.until is not None:
            return self._probed(uid, evidence, now, quiet, first=first)
        return self._called(uid, evidence, now, quiet)

    def _called(self, uid: str, evidence: Evidence, now: float, quiet: float) -> Change | None:
        if evidence is Evidence.UP:
            self._success = now
        if evidence is not Evidence.DOWN:
            return None
        # The latest failure is last; three are kept.
        self._failed.pop(uid, None)
        self._failed[uid] = now, quiet
        if len(self._failed) > FAILURES:
            del self._failed[next(iter(self._failed))]
        first, _ = next(iter(self._failed.values()))
        if len(self._failed) < FAILURES or now - first > WINDOW or now - self._success <= WINDOW:
            return None
        asked = max(quiet for _, quiet in self._failed.values())
        return self._open(now, asked, f"{FAILURES} notifications failed and none succeeded")

    def _probed(
        self, uid: str, evidence: Evidence, now: float, quiet: float, *, first: bool
    ) -> Change | None:
        if evidence is Evidence.DOWN:
            self.suspect = uid
            self.wants_retry = first or not self.wants_retry
            if self._succeeded:
                # The receiver is not down: something was delivered a moment ago.
                self._openings = 0
            return self._open(now, quiet, "a probe failed")
        if evidence is Evidence.UP:
            self._succeeded += 1
            self.suspect = ""
            # A corrected configuration works for every message, so one success is enough.
            if self.refused or self._succeeded == PROBES:
                reason = (
                    "what was configured is accepted"
                    if self.refused
                    else f"{PROBES} probes succeeded"
                )
                self._begin_generation(None)
                self._openings = 0
                self.refused = False
                self.wants_retry = True
                self._success = now
                return Change(State.CLOSED, reason)
        return None

    def _open(self, now: float, quiet: float, reason: str, *, refused: bool = False) -> Change:
        if self.refused != refused:
            self.refused, self._openings = refused, 0
        self._openings += 1
        first, most = (REFUSED_FIRST, REFUSED_MOST) if refused else (OPEN_FIRST, OPEN_MOST)
        wait = exponential(first, most, self._openings)
        self._begin_generation(now + max(wait, min(quiet - now, most)))
        return Change(State.OPEN, reason)

    def _begin_generation(self, until: float | None) -> None:
        self.generation += 1
        self.until = until
        self._succeeded = 0


@dataclass(eq=False)
class Breakers:
    """The breakers of all channels that a routing file has ever named. Those of local ones never open."""

    #: All are closed at first: the results that an earlier process saw are not known.
    _breakers: dict[str, Breaker] = field(default_factory=dict, init=False)

    def of(self, channel: str) -> Breaker:
        """The breaker of a channel."""
        return self._breakers.setdefault(channel, Breaker())

    def states(self, now: float) -> dict[str, State]:
        """Return the state of every receiver called so far, by channel."""
        return {
            channel: breaker.state(now)
            for channel, breaker in self._breakers.items()
            if kind_of(channel) not in LOCAL
        }

    def refused(self) -> list[str]:
        """Return the receivers that refuse an operator's configuration, sorted."""
        return sorted(name for name, breaker in self._breakers.items() if breaker.refused)


def kind_of(channel: str) -> str:
    """`slack` of `slack:ops`."""
    return channel.partition(":")[0]


def refusal(channel: str, rejection: Reject) -> str:
    """Return the text for an attempt that a breaker rejects; upstream's, except for a mistake."""
    if rejection.refused:
        return (
            f"{channel} refuses what an operator has configured;"
            " one call at a time asks whether it is mended"
        )
    return (
        f"{kind_of(channel)} circuit breaker is open"
        " (too many failures, preventing cascading failures)"
    )
