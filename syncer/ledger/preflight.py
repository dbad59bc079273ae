"""
Whether a server is fit to hold the record, by its reply to INFO.

Pure: the reply of INFO in, findings out, each with its fix. An eviction policy that may drop a log is
refused; persistence that cannot hold what the settings promise is reported, and refused where
`redis.durability` is strict.

`Clocks` knows whether Redis and the API server agree on the time. Records carry Redis time, objects the
API server's. A process knows the offset of each to its own monotonic clock: of Redis from every probe, of
the API server from its answers. The machine's own wall clock does not matter. Where the two differ one of
them is wrong, and it is not known which: from a difference on that is defined here attempts wait until a
clock is corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.ledger.connection import CLOCK
from syncer.ledger.replies import parse_version
from syncer.runtime.clock import ServerTime

MIN_VERSION: Final = (7, 0)
#: Seconds by which Redis's clock and the API server's may differ; beyond the second, attempts are held.
CLOCK_ODD: Final = 60.0
CLOCK_LIMIT: Final = 900.0


class Severity(StrEnum):
    """What a finding means for the start."""

    REFUSE = "refuse"
    #: Attempts wait until it is mended, which may happen while the controller runs.
    HOLD = "hold"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; `name` is stable, for tests and documentation."""

    name: str
    severity: Severity
    text: str
    fix: str


def preflight(
    info: Mapping[str, str], *, durability: str, ahead: float | None = None
) -> tuple[Finding, ...]:
    """
    Check a server.

    Args:
        info: Members of INFO.
        durability: `relaxed` or `strict`.
        ahead: Seconds by which its clock is ahead of the API server's, None if that is not known.
    """
    strict = durability == "strict"
    found: list[Finding] = []

    def add(name: str, text: str, fix: str, *, refuse: bool) -> None:
        found.append(Finding(name, Severity.REFUSE if refuse else Severity.WARN, text, fix))

    if parse_version(info) < MIN_VERSION:
        add("version", f"version {info.get('redis_version', '?')} does not support script flags",
            "use Redis 7.0, Valkey 7.2, or later", refuse=True)  # fmt: skip
    if not info.get("master_replid"):
        add("replid", "INFO shows no master_replid, so that a loss of records could pass unnoticed",
            "use a server, or a proxy, that shows its master_replid", refuse=True)  # fmt: skip
    fsync = info.get("appendfsync")
    if strict and fsync != "always":
        add("appendfsync", f"appendfsync is {fsync}, so the newest records can be lost with the"
            " machine's power" if fsync else "appendfsync is not visible (CONFIG GET is refused)",
            "set appendfsync always, or redis.durability relaxed" if fsync else "set appendfsync"
            " always on the server and say so in redis.appendfsync, or set redis.durability relaxed",
            refuse=True)  # fmt: skip
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        add("eviction", f"the eviction policy {policy} may drop a record",
            "set maxmemory-policy noeviction", refuse=True)  # fmt: skip
    if info.get("aof_enabled", "1") != "1":
        add("persistence", "records do not survive a restart of the server (no append-only file)",
            "set appendonly yes", refuse=strict)  # fmt: skip
    elif info.get("aof_last_write_status", "ok") != "ok":
        add("disk", "the last write of the append-only file failed",
            "check the server's disk", refuse=strict)  # fmt: skip
    if ahead is not None and abs(ahead) > CLOCK_ODD:
        severity = Severity.HOLD if abs(ahead) > CLOCK_LIMIT else Severity.WARN
        found.append(Finding("clock", severity, apart(ahead), CLOCK_FIX))
    return tuple(found)


#: What to do about clocks that disagree.
CLOCK_FIX: Final = "correct the clocks of both machines (NTP), then wait for the next check"


def apart(ahead: float) -> str:
    """Describe by how much Redis's clock and the API server's disagree."""
    return (
        f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API server's"
    )


def unfit(info: Mapping[str, str], *, durability: str, ahead: float | None = None) -> str | None:
    """Why a server must not be given attempts, with the fix; None if it may."""
    refused = [
        f"{f.text}; {f.fix}"
        for f in preflight(info, durability=durability, ahead=ahead)
        if f.severity is not Severity.WARN
    ]
    return "; ".join(refused) or None


#: Seconds after which a server that was not probed again is forgotten; probes are 10 s apart.
_FORGET: Final = 60.0


class Clocks:
    """The differences between the clocks, as of the last probe of each Redis server."""

    def __init__(self, api: ServerTime) -> None:
        """`api` is the API server's time."""
        self._api = api
        #: By run id, a second of the monotonic clock, and by how many seconds the server was ahead then.
        self._seen: dict[str, tuple[float, float]] = {}

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
        self._seen = {r: s for r, s in self._seen.items() if now - s[0] <= _FORGET}
        self._seen[info.get("run_id", "")] = now, ahead
        return ahead

    @property
    def worst(self) -> float | None:
        """How far ahead the server is that is furthest off, None if none was probed lately."""
        now = self._api.monotonic()
        lately = [ahead for at, ahead in self._seen.values() if now - at <= _FORGET]
        return max(lately, key=abs, default=None)
