"""
The switch that pauses all deliveries: `delivery.paused`, re-read from the settings file.

Every other setting is read once, at startup. This one is for an operator who has to stop a flood at
once, without a restart. The file is polled, like the routing file: a poll handles every layout of a mounted
volume. A file that cannot be read, or a value that is neither true nor false, changes nothing and is
logged once: a half-written file must neither pause nor resume deliveries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from syncer.model.errors import ConfigError, reason_of
from syncer.runtime.polling import PollingThread
from syncer.yamlfile import read_file

logger = logging.getLogger("ledger.delivery")

#: Seconds between reads of the file, and before the first.
_LOOK: Final = 1.0


@dataclass(eq=False)
class PauseSwitch:
    """Reads the switch from a file and applies changes."""

    #: The settings file.
    path: Path
    #: Called with the position whenever the file has changed; true pauses.
    apply: Callable[[bool], None]
    #: Modification time, inode and size of the file that was read last.
    _seen: tuple[int, int, int] | None = field(default=None, init=False)
    _problem: str = field(default="", init=False)

    async def run(self) -> None:
        """Read the file until cancelled."""
        thread = PollingThread("pause-switch")
        try:
            while True:
                paused = await thread.poll(self.look, _LOOK)
                if paused is not None:
                    self.apply(paused)
        finally:
            thread.close()

    def look(self) -> bool | None:
        """Return the position in the file, None if the file is unchanged or cannot be used."""
        try:
            stat = self.path.stat()
            version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if version == self._seen:
                return None
            group = read_file(self.path).values.get("delivery")
        except OSError as error:
            problem = f"the settings file cannot be read ({reason_of(error)})"
        except ConfigError as error:
            problem = str(error)
        else:
            self._seen = version
            value = group.get("paused") if isinstance(group, dict) else None
            if value is None or isinstance(value, bool):
                self._problem = ""
                return value or False
            problem = "delivery.paused is neither true nor false"
        if problem != self._problem:
            self._problem = problem
            logger.warning("the switch delivery.paused stays as it is: %s", problem)
        return None
