"""
How far this process has come.

Startup and shutdown (`notifier.process`) and the parts that they surround (`notifier.app`) tell each other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """
    What is missing before this process can work, None for what is there.

    Attributes:
        redis: Whether Redis was reached and may be used.
        cluster: Whether the installation was found, and is followed.
        listed: Whether all objects of ours were listed once; shards that come later are listed while the
            others are worked on.
        draining: The process is about to end.
    """

    redis: str | None = "not connected yet"
    cluster: str | None = "not connected yet"
    listed: bool = False
    draining: bool = False


class Takeover:
    """
    The sweeps that start early when a shard is acquired: they find what its last owner has left.

    Attributes:
        owning: Set once this process has owned a shard.
        finished: Set to start the sweep of finished notifications.
        orphans: Set to start the sweep of logs without an object.
        live: Set to start the sweep of live logs, once wake-ups are heard again.
    """

    def __init__(self) -> None:
        self.owning = asyncio.Event()
        self.finished = asyncio.Event()
        self.orphans = asyncio.Event()
        self.live = asyncio.Event()

    def start_sweeps(self) -> None:
        """Start both sweeps."""
        self.finished.set()
        self.orphans.set()

    @property
    def waiting(self) -> bool:
        """Whether one of them has not started yet."""
        return self.finished.is_set() or self.orphans.is_set()
