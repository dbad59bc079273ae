"""
The progress of this process from startup to shutdown.

Startup and shutdown (`notifier.process`) share this state with the parts of the product (`notifier.app`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """
    Startup steps that are not done yet, and whether the process is ending.

    Attributes:
        redis: Why Redis cannot be used yet, None once it has been reached and may be used.
        cluster: Why the cluster cannot be used yet, None once the installation was found and its objects
            are followed.
        listed: Whether all objects of owned shards were listed once; objects of later shards are listed
            while this process works on the others.
        draining: Whether the process is ending.
    """

    redis: str | None = "not connected yet"
    cluster: str | None = "not connected yet"
    listed: bool = False
    draining: bool = False


class Takeover:
    """
    The sweeps that start early when a shard is acquired: they find work that its last owner left undone.

    Attributes:
        owning: Set once this process has owned a shard.
        finished: Set to start the sweep of finished notifications.
        orphans: Set to start the sweep of logs without an object.
        live: Set to start the sweep of live logs, once wake-ups are received again.
    """

    def __init__(self) -> None:
        self.owning = asyncio.Event()
        self.finished = asyncio.Event()
        self.orphans = asyncio.Event()
        self.live = asyncio.Event()

    def start_sweeps(self) -> None:
        """Start the sweep of finished notifications and that of logs without an object."""
        self.finished.set()
        self.orphans.set()

    @property
    def waiting(self) -> bool:
        """Whether one of these two sweeps is still to start."""
        return self.finished.is_set() or self.orphans.is_set()
