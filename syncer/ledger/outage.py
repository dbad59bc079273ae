"""
When an outage of Redis is worth a line in the log: once when it begins, once when it ends.

A connection that is lost and made again within a second is none: it happens at every failover and
restart of a proxy, and nobody has to do anything about it. Pure: the caller says what it sees and when.
"""

from __future__ import annotations

from typing import Final

#: Seconds that trouble must last.
NOTICE: Final = 1.0


class Outage:
    """What has been said of an outage."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said = False

    def look(self, unavailable_reason: str | None, now: float) -> float | None:
        """
        Take notice of what is seen.

        Args:
            unavailable_reason: Why no attempt can be opened, None if one can.
            now: Seconds of a clock that does not go back.

        Returns:
            For how many seconds it has lasted, or had, if that is to be said now; else None.
        """
        if unavailable_reason is None:
            since, said = self._since, self._said
            self._since, self._said = None, False
            return now - since if said and since is not None else None
        if self._since is None:
            self._since = now
        if self._said or now - self._since < NOTICE:
            return None
        self._said = True
        return now - self._since
