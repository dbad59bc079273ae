"""A rate with a burst: how much may be done now."""

from __future__ import annotations

from typing import Final

#: Share of a token that may be missing: a clock that has run for days is no finer, and a wait for less is
#: too short to matter.
_ROUNDING: Final = 1e-6


class TokenBucket:
    """Tokens that are refilled at a rate, up to a burst; a clock that goes back is ignored."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Begin full; `rate` is per second, `now` in seconds of the caller's clock."""
        self._rate = rate
        self._burst = float(burst)
        self._tokens = self._burst
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token, 0 if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        lacks = 1 - self._tokens
        return lacks / self._rate if lacks > _ROUNDING else 0.0

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        if self.wait(now):
            return False
        self._tokens -= 1
        return True

    def reserve(self, now: float) -> float:
        """Take a token, in advance if there is none; returns the seconds to wait for it."""
        wait = self.wait(now)
        self._tokens -= 1
        return wait

    def give_back(self) -> None:
        """Return a token that was not needed."""
        self._tokens = min(self._burst, self._tokens + 1)
