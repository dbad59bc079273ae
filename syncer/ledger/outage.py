"""
When an outage of Redis is logged: once when it begins, once when it ends.

A connection that is lost and made again within a second is not an outage: it happens at every failover and
restart of a proxy, and requires no action. Pure: the caller passes what it observes and when.
"""

from __future__ import annotations

from typing import Final

#: Seconds that an outage must last before it is logged.
NOTICE: Final = 1.0


class Outage:
    """What has been logged of an outage."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._logged = False

    @property
    def lasts(self) -> bool:
        """Whether the last observation was of an outage, however short it may become."""
        return self._since is not None

    def observe(self, unavailable_reason: str | None, now: float) -> float | None:
        """
        Note why no attempt can be opened, None if one can.

        `now` is in seconds of a clock that does not go back. Returns the seconds that the outage has
        lasted, or had, if that is to be logged now; else None.
        """
        if unavailable_reason is None:
            since, logged = self._since, self._logged
            self._since, self._logged = None, False
            return now - since if logged and since is not None else None
        if self._since is None:
            self._since = now
        if self._logged or now - self._since < NOTICE:
            return None
        self._logged = True
        return now - self._since
