"""
A reflector's state for one namespace, or for all as one: its watch's position, the followed shards.

Two loops share it. One lists and watches; the other checks which shards are owned, releases the objects of
lost shards and lists acquired ones. Only one of them lists at a time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from syncer.kube.following import Following
from syncer.kube.mirror import Mirror
from syncer.model.errors import PortError, Unauthorised


@dataclass(slots=True, eq=False)
class Scope:
    """A namespace (None: all of them), with a list and a watch of its own."""

    namespace: str | None
    mirror: Mirror
    following: Following
    #: The newest resourceVersion that was ever shown.
    newest: str = ""
    #: Where the next watch begins; empty if nothing is followed, or everything must be listed again.
    resume: str = ""
    #: Whether a list was answered since the start.
    answered: bool = False
    #: Whether the server has refused access since the last list or watch that it answered.
    refused: bool = False
    listed_at: float = 0.0
    #: Allows one list at a time: of all owned shards, or of acquired ones.
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set when the owned shards may have changed.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when the followed shards change or must be listed again.
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    #: Ends the open watch.
    watching: asyncio.Timeout | None = None
    #: Whether the open watch must be replaced by a new one.
    switching: bool = False
    #: Why acquired shards could not be listed; None if they could.
    behind: str | None = None
    #: Failures, and watches that brought nothing, since the last good one.
    streak: int = 0
    opened_at: float | None = None
    problem: str | None = None
    #: The last failure of a list or watch, which was logged; empty after a good one.
    interrupted: str = ""

    @property
    def is_behind(self) -> bool:
        """Whether the second loop has something to do."""
        # Without a version to resume from, the first loop lists all owned shards.
        return bool(self.following.left() or (self.resume and self.following.coming()))

    def has_settled(self, now: float, seconds: float) -> bool:
        """Whether the open watch has lasted long enough to outlive the problem noted before it."""
        return self.opened_at is not None and now - self.opened_at >= seconds

    def note(self, error: PortError) -> None:
        """Note a failed list or watch; only an answered one resets `refused`."""
        if isinstance(error, Unauthorised) and error.reason == "Forbidden":
            self.refused = True

    def recover(self) -> None:
        """Note a good list or watch."""
        self.streak, self.problem, self.interrupted = 0, None, ""

    def switch(self) -> None:
        """
        End the open watch, so that one for the current shards is opened.

        No further event of the old watch is taken: it would move the version at which the new one begins.
        """
        self.switching = True
        self.wake.set()
        watching, self.watching = self.watching, None
        if watching is not None:
            watching.reschedule(asyncio.get_running_loop().time())
