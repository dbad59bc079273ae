"""
Shares of the status writers: how many of them one namespace may occupy.

Namespaces take turns, which is fair as long as each write is short. If the writes of one namespace take
ten seconds each, because of a slow webhook, it would soon occupy all writers, and every other namespace
would get one write in ten seconds. So a namespace whose recent writes were slow may have only as many
under way as there are free writers: four of eight, and the next slow one two. Others are not limited,
because they release their writers soon.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Final

#: Seconds from which a write is slow, and for which its namespace then counts as slow.
_SLOW: Final = 1.0
_LATELY: Final = 60.0


class Shares:
    """The writes under way, by namespace."""

    def __init__(self, writers: int, clock: Callable[[], float]) -> None:
        """Nothing is under way; `clock` gives monotonic seconds."""
        self._writers = writers
        self._clock = clock
        self._under_way: Counter[str] = Counter()
        #: Second of the last slow write, by namespace, the latest last.
        self._slow: dict[str, float] = {}

    def may(self, namespace: str) -> bool:
        """Whether a namespace may have a write more."""
        if self._clock() - self._slow.get(namespace, -math.inf) > _LATELY:
            return True
        return self._under_way[namespace] < self._writers - self._under_way.total()

    def begin(self, namespace: str) -> None:
        """Count a write from now on."""
        self._under_way[namespace] += 1

    def end(self, namespace: str, seconds: float) -> None:
        """Note the end of a write, and how long it took."""
        self._under_way -= Counter((namespace,))
        if seconds >= _SLOW:
            now = self._clock()
            self._slow.pop(namespace, None)
            self._slow[namespace] = now
            first, since = next(iter(self._slow.items()))
            if now - since > _LATELY:
                del self._slow[first]
