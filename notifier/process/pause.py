"""
The switch that holds all deliveries back: `delivery.paused`, read from the settings file again and again.

Every other setting is read once, at the start. This one is for the moment in which somebody has to stop
a flood, and a restart is what they least want to wait for. The file is polled, as the routing file is: a
poll sees every layout of a mounted volume. What cannot be read, or does not say a plain true or false,
changes nothing and is said once: a half-written file must neither start nor stop anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from syncer.configfile import load_file
from syncer.model.errors import ConfigError

logger = logging.getLogger("ledger.delivery")

#: Seconds between looks at the file.
_LOOK: Final = 1.0

FileVersion = tuple[int, int, int]


class PauseSwitch:
    """Reads the switch from a file and tells of changes."""

    def __init__(
        self,
        path: Path,
        apply: Callable[[bool], None],
        *,
        paused: bool = False,
        every: float = _LOOK,
    ) -> None:
        """
        Prepare; nothing is read yet.

        Args:
            path: The settings file.
            apply: Told the position of the switch when it has changed.
            paused: Its position at the start.
            every: Seconds between looks.
        """
        self._path = path
        self._apply = apply
        self._paused = paused
        self._every = every
        self._seen: FileVersion | None = None
        self._problem = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            # A disk that hangs costs this loop its turn and nobody else's.
            self.take(await asyncio.to_thread(self.look))
            await asyncio.sleep(self._every)

    def look(self) -> bool | None:
        """What the file says now; None if it is unchanged, or cannot be understood."""
        try:
            stat = self._path.stat()
        except OSError as error:
            self._say(f"the settings file cannot be looked at ({type(error).__name__})")
            return None
        version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if version == self._seen:
            return None
        try:
            document = load_file(self._path)
        except ConfigError as error:
            self._say(str(error))
            return None
        self._seen = version
        group = document.get("delivery")
        value = group.get("paused") if isinstance(group, dict) else None
        if value is None:
            value = False
        if not isinstance(value, bool):
            self._say("delivery.paused is neither true nor false")
            return None
        self._problem = ""
        return value

    def take(self, paused: bool | None) -> None:
        """Tell of a change."""
        if paused is not None and paused != self._paused:
            self._paused = paused
            self._apply(paused)

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            logger.warning("the switch delivery.paused stays as it is: %s", problem)
