"""
Whether Redis and the API server agree on the time.

Records carry Redis time, objects the API server's. A process knows the offset of each to its own monotonic
clock: of Redis from every probe, of the API server from its answers. The machine's own wall clock does not
matter. Where the two differ one of them is wrong, and it is not known which: `preflight` defines the
difference from which on attempts wait until a clock is corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from syncer.ledger.connection import CLOCK
from syncer.runtime.clock import ServerTime

#: Seconds after which a server that was not probed again is forgotten; probes are 10 s apart.
_FORGET: Final = 60.0


class _Probe(NamedTuple):
    """A second of the monotonic clock, and by how many seconds a server was ahead then."""

    at: float
    ahead: float


class Clocks:
    """The differences between the clocks, as of the last probe of each Redis server."""

    def __init__(self, api: ServerTime) -> None:
        """`api` is the API server's time."""
        self._api = api
        #: By run id.
        self._seen: dict[str, _Probe] = {}

    def ahead(self, info: Mapping[str, str]) -> float | None:
        """
        Return the seconds that a Redis server's clock (in its INFO) is ahead of the API server's.

        None if one of the two is not known.
        """
        offset = info.get(CLOCK)
        if offset is None or self._api.offset is None:
            return None
        ahead = (int(offset) - self._api.offset) / 1000
        now = self._api.monotonic()
        self._seen = {r: s for r, s in self._seen.items() if now - s.at <= _FORGET}
        self._seen[info.get("run_id", "")] = _Probe(now, ahead)
        return ahead

    @property
    def worst(self) -> float | None:
        """How far ahead the server is that is furthest off, None if none was probed lately."""
        now = self._api.monotonic()
        lately = [s.ahead for s in self._seen.values() if now - s.at <= _FORGET]
        return max(lately, key=abs, default=None)
