"""
Whether a store's replicas can confirm what is written, as `redis.durability: strict` demands.

Replicas are expected of every primary of a store from the moment that one of them has been seen, or that
a server demands some (`min-replicas-to-write`); then one that is gone makes the store unfit rather than
passing for one that never had any. So does one that is there and does not keep up: after a write that no
replica confirmed in time, nothing more is opened until a replica has acknowledged what the primary had
written by then. INFO shows both, so a store becomes fit again without a write. A user that may not ask for
confirmations gets none, however well the replicas keep up (`NO_WAIT`).

Pure: the members of INFO in, a text out. A server is named by its run id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from syncer.ledger.replies import number_of

#: Member added to INFO where the server refuses WAIT to the user.
NO_WAIT: Final = "wait_refused"
_MEMBER = re.compile(r"slave\d+")


@dataclass(slots=True)
class _Primary:
    """
    One primary.

    Attributes:
        online: How many replicas are connected and in step with its stream.
        behind: A write was not confirmed in time, and no replica has been seen to have it since.
        target: Offset that a replica must reach; None until the primary's own is known.
        refused: It refuses WAIT to the user.
    """

    online: int = 0
    behind: bool = False
    target: int | None = None
    refused: bool = False


class Replicas:
    """What is known of the replicas of one store."""

    def __init__(self) -> None:
        #: Whether intents must be confirmed; never taken back while the process runs.
        self.expected = False
        self._primaries: dict[str, _Primary] = {}

    def observe(self, info: Mapping[str, str]) -> None:
        """Note the newest INFO of a primary."""
        replicas = [_fields(v) for k, v in info.items() if _MEMBER.fullmatch(k)]
        if replicas or "min_slaves_good_slaves" in info:
            self.expected = True
        primary = self._primaries.setdefault(info.get("run_id", ""), _Primary())
        online = [r for r in replicas if r.get("state") == "online"]
        primary.online = len(online)
        primary.refused = NO_WAIT in info
        if not primary.behind:
            return
        if primary.target is None:
            primary.target = number_of(info.get("master_repl_offset"))
        reached = [number_of(r.get("offset")) for r in online]
        if reached and max(reached) >= primary.target:
            primary.behind, primary.target = False, None

    def unconfirmed(self, run_id: str) -> None:
        """Note that no replica confirmed a write of a primary in time."""
        primary = self._primaries.setdefault(run_id, _Primary())
        primary.behind, primary.target = True, None

    def problem(self, run_ids: Iterable[str]) -> str | None:
        """Why intents cannot be confirmed by the replicas of these primaries, None if they can."""
        wanted = set(run_ids)
        self._primaries = {r: p for r, p in self._primaries.items() if r in wanted}
        if not self.expected:
            return None
        known = self._primaries.values()
        lonely = sum(not p.online for p in known)
        if lonely:
            of = f"{lonely} of {len(known)} primaries have" if len(known) > 1 else "the primary has"
            return f"{of} no replica to confirm an attempt; bring one back"
        if any(p.refused for p in known):
            return "Redis refuses WAIT to the user; give it the rights of docs/install.md"
        if any(p.behind for p in known):
            return "no replica has confirmed the newest attempts in time; look at its lag"
        return None


def _fields(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)
