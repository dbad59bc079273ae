"""When the process has to end, and why."""

from __future__ import annotations

import asyncio
import logging

from syncer.model.errors import ConfigError

logger = logging.getLogger("ledger")


class Stop:
    """When the process has to end, and why if nobody has asked it to."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.requested = asyncio.Event()
        #: Why it ends without having been asked to.
        self.refusal: ConfigError | None = None

    def request(self) -> None:
        """Have it end; a signal does this."""
        self.requested.set()

    def refuse(self, error: ConfigError) -> None:
        """Have it end because it must not go on."""
        logger.error("this replica must leave: %s", error)
        self.refusal = error
        self.requested.set()
