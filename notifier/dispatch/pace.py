"""
When a receiver may be called next: the operators' rate, and what its answers 429 ask for.

A receiver that limits its rate takes some calls and refuses the rest, so its circuit breaker stays closed.
Without a limit on this side a burst would use up the attempts of everything that waits there, and an author
who sends the most would have the others' messages fail. So an answer 429 concerns the whole queue:

- No call begins before the time that Retry-After names; at least a second, at most `QUIET_MOST`.
- From then on calls keep an interval, which doubles with each further 429 and shrinks by a twentieth with
  each message that is accepted, until it no longer matters. It settles a little above what the receiver
  takes.

An answer to a call that began before the interval was last lengthened says nothing about the new one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from notifier.contract import Outcome
from syncer.model.attempt import AttemptState

#: Status code by which a receiver says that it is called too often.
TOO_MANY: Final = 429
#: Seconds without calls after that answer, at least and at most.
QUIET_LEAST: Final = 1.0
QUIET_MOST: Final = 30.0
#: Seconds between two calls: after the first such answer, at most, and when they no longer matter.
INTERVAL_FIRST: Final = 0.1
INTERVAL_MOST: Final = 4.0
INTERVAL_LEAST: Final = 0.002
_FASTER: Final = 0.95


@dataclass(slots=True)
class Pace:
    """
    The pace of one receiver; all times in boot-clock seconds.

    Attributes:
        least: Seconds between two calls by the operators' rate; 0 without one.
        interval: Seconds between two calls that the receiver's answers ask for; 0 if they ask for none.
    """

    least: float = 0.0
    interval: float = 0.0
    _called: float = -math.inf
    _quiet: float = -math.inf
    _lengthened: float = -math.inf

    @property
    def at(self) -> float:
        """When the next call may begin."""
        return max(self._quiet, self._called + max(self.least, self.interval))

    def on_call(self, now: float) -> None:
        """Note that a call begins."""
        self._called = now

    def on_unsent(self) -> None:
        """Note that nothing was sent: a call that was denied must not delay those that are allowed."""
        self._called = -math.inf

    def on_outcome(self, outcome: Outcome, began: float, now: float) -> None:
        """Process the result of a call that began at `began`."""
        if outcome.code == TOO_MANY:
            asked = max(QUIET_LEAST, outcome.retry_after or 0.0)
            self._quiet = max(self._quiet, now + min(asked, QUIET_MOST))
            if began >= self._lengthened:
                self.interval = min(max(INTERVAL_FIRST, 2 * self.interval), INTERVAL_MOST)
                self._lengthened = now
        elif outcome.state is AttemptState.SUCCESS and began >= self._lengthened:
            shorter = self.interval * _FASTER
            self.interval = shorter if shorter >= INTERVAL_LEAST else 0.0
