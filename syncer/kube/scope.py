"""
What a reflector knows of one namespace, or of all as one: the position of its watch, and what it follows.

Two loops share it. One lists and watches; the other checks which shards are owned, forgets the objects of
those that left and lists those that came. Only one of them lists at a time.
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
    #: Where the next watch begins; empty if nothing is followed, or all of it must be listed anew.
    resume: str = ""
    #: Whether a list was answered since the start.
    answered: bool = False
    #: Whether it may not be read, as the server has said since the last list or watch that it answered.
    refused: bool = False
    listed_at: float = 0.0
    #: One list at a time: of all that is owned, or of what came.
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set when the shards that are owned may be others.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when there is something to follow, or something else.
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    #: Ends the open watch.
    watching: asyncio.Timeout | None = None
    #: Whether the open watch has to be opened anew.
    switching: bool = False
    #: Why shards that came are not listed.
    behind: str | None = None
    #: Failures, and watches that brought nothing, since the last good one.
    streak: int = 0
    opened_at: float | None = None
    problem: str | None = None
    #: Why the last list or watch failed, as was logged; empty after a good one.
    interrupted: str = ""

    @property
    def is_behind(self) -> bool:
        """Whether the second loop has something to do."""
        # Without a version to go on from, the first one lists all that is owned.
        return bool(self.following.left() or (self.resume and self.following.coming()))

    def has_settled(self, now: float, seconds: float) -> bool:
        """Whether the open watch has lasted long enough to outlive the problem noted before it."""
        return self.opened_at is not None and now - self.opened_at >= seconds

    def note(self, error: PortError) -> None:
        """Note a failed list or watch; only an answered one ends the state of not being readable."""
        if isinstance(error, Unauthorised) and error.reason == "Forbidden":
            self.refused = True

    def recover(self) -> None:
        """Note a good list or watch."""
        self.streak, self.problem, self.interrupted = 0, None, ""

    def switch(self) -> None:
        """
        End the open watch, so that one of the current shards is opened.

        No event of the old one is taken any more: it would move the version at which the new one begins.
        """
        self.switching = True
        self.wake.set()
        watching, self.watching = self.watching, None
        if watching is not None:
            watching.reschedule(asyncio.get_running_loop().time())
