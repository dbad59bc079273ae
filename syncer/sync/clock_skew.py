"""
Whether Redis and the API server agree on the time.

Records carry Redis time, objects the API server's. A process knows the offset of each to its own boot
clock: of Redis from every look at it, of the API server from its answers. What the machine's own wall
clock shows does not matter. Where the two disagree one of them is wrong, and it cannot be told which:
`preflight` says from which difference on attempts wait until somebody has set it right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.ledger.connection import CLOCK
from syncer.runtime.clock import ServerTime

#: Seconds after which a server that was not looked at again counts no more; looks are 10 s apart.
_FORGET: Final = 60.0


class Clocks:
    """The differences between the clocks, as of the last look at each Redis server."""

    def __init__(self, api: ServerTime) -> None:
        """`api` is the API server's time."""
        self._api = api
        #: By run id: when it was looked at (boot clock), and how far it was ahead, in seconds.
        self._seen: dict[str, tuple[float, float]] = {}

    def ahead(self, info: Mapping[str, str]) -> float | None:
        """
        Note how far ahead of the API server's clock that of a Redis server is, in seconds.

        Args:
            info: What the server said of itself.

        Returns:
            None if one of the two is not known.
        """
        offset = info.get(CLOCK)
        if offset is None or self._api.offset is None:
            return None
        ahead = (int(offset) - self._api.offset) / 1000
        now = self._api.monotonic()
        self._seen = {r: s for r, s in self._seen.items() if now - s[0] <= _FORGET}
        self._seen[info.get("run_id", "")] = (now, ahead)
        return ahead

    @property
    def worst(self) -> float | None:
        """How far ahead the server is that is furthest off, None if none was looked at lately."""
        now = self._api.monotonic()
        lately = [ahead for at, ahead in self._seen.values() if now - at <= _FORGET]
        return max(lately, key=abs, default=None)
