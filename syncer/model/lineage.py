"""
What a shard's Lease notes of the store: its id, its history, and since when both are known to be the same.

Objects created since then have lost nothing with it (`syncer.rules.evidence`). Whoever owns the shard next
compares the note with the store that he meets, so a loss that nobody has noticed yet is noticed then.
A Lease without a note says nothing: neither that nothing was lost, nor that something was.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

#: Annotation of a shard's Lease.
STORE: Final = "notification-ledger/store"

_NOTED: Final = re.compile(r"([!-~]{1,64} [!-~]{1,64}) since=([0-9]{1,15}) lost=([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Lineage:
    """
    A store and its history; the times are the API server's, in Unix milliseconds.

    Attributes:
        since: Since when it is known to be the same.
        lost: When it was found to be another one than was noted, 0 if it never was.
    """

    name: str
    since: float
    lost: int = 0

    def text(self) -> str:
        """The value of the annotation."""
        return f"{self.name} since={self.since} lost={self.lost}"


def parse_lineage(text: str) -> Lineage | None:
    """Read the annotation; None if it cannot be relied on."""
    found = _NOTED.fullmatch(text)
    return Lineage(found[1], int(found[2]), int(found[3])) if found else None


#: While nothing is known.
UNKNOWN: Final = Lineage("", math.inf)
