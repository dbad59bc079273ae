"""
Whether the primaries of Redis execute writes: one answer, and from writes alone.

A server may answer PING, INFO and reads, and execute nothing: at maxmemory, without the replicas that it
requires, with a full disk, by its ACL, while it is paused, behind a path that loses large packets. So what
counts is an executed CLAIM or INTENT, or a PROBE, which runs the same commands on a key beside the logs and
sends and receives 4 KiB. It is made of a primary that was lost or is another one now, of one that did not
execute a write, each second, and of one that has had no CLAIM or INTENT for ten seconds; that last one
changes nothing.

A primary that did not answer a write is *silent*, one that answered with a refusal *refuses*; only a probe
that is executed ends either, since a small intent passes where a long log does not. For callers the two
differ: what nobody answers is an outage, what is refused is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from syncer.ledger.lua import CLAIM, INTENT, PROBE, Script
from syncer.ledger.replies import Refused, WrongType
from syncer.model.errors import Ambiguous, Rejected, Unauthorised
from syncer.runtime.supervise import elapse

#: Scripts without which nothing is opened, and the one that stands for them.
DECIDING: Final = (CLAIM, INTENT, PROBE)
#: Seconds without a CLAIM or INTENT after which a primary is probed.
_IDLE: Final = 10.0
#: Seconds between probes of one that executes nothing.
_AGAIN: Final = 1.0
#: What a probe carries, there and back: more than a packet holds.
PADDING: Final = b"." * 4096
_SILENT: Final = "Redis does not answer what is written"


class Writes:
    """What each primary did with the last writes, by its name."""

    def __init__(self) -> None:
        """Know of none."""
        #: Second of the loop's clock at which a write was executed last; absent: none since it was lost.
        self._executed: dict[str, float] = {}
        #: Why the last write of a primary was not executed: `_SILENT`, or its refusal.
        self._failed: dict[str, str] = {}
        #: Probe at once.
        self._wanted = asyncio.Event()

    @property
    def silence(self) -> str | None:
        """Why no write is answered, None if the last ones were."""
        return _SILENT if _SILENT in self._failed.values() else None

    @property
    def refusal(self) -> str | None:
        """Why writes are refused, None if the last ones were not."""
        return next((why for why in self._failed.values() if why != _SILENT), None)

    def executed_by(self, primaries: Iterable[str]) -> bool:
        """Whether each of these has executed a write since it was lost last."""
        return all(p in self._executed for p in primaries)

    def on_executed(self, primary: str, script: Script) -> None:
        """Note that a script was executed."""
        if script in DECIDING:
            self._executed[primary] = asyncio.get_running_loop().time()
        if script is PROBE:
            self._failed.pop(primary, None)

    def on_error(self, primary: str, script: Script, error: Exception) -> None:
        """Note how a script has failed, if that says something about the primary."""
        decides, unanswered = script in DECIDING, isinstance(error, Ambiguous | TimeoutError)
        if script is PROBE and isinstance(error, WrongType):
            # It was run, on a key of another program.
            self.on_executed(primary, script)
        elif decides and unanswered:
            self._failed[primary] = _SILENT
        elif decides and (
            isinstance(error, Refused | Unauthorised)
            or (script is PROBE and isinstance(error, Rejected))
        ):
            self._failed[primary] = str(error)
        elif not (unanswered or isinstance(error, Refused)) and (
            not decides or isinstance(error, WrongType) or not isinstance(error, Rejected)
        ):
            return
        # An error of a script may be about its one log: a probe shows whether it is.
        if script is not PROBE:
            self.on_lost(primary)

    def on_lost(self, primary: str | None = None) -> None:
        """Note that a primary, or all of them, must execute a write anew before that is believed."""
        if primary is None:
            self._executed.clear()
        else:
            self._executed.pop(primary, None)
        self._wanted.set()

    def keep(self, primaries: Collection[str]) -> None:
        """Forget all but these."""
        self._executed = {p: at for p, at in self._executed.items() if p in primaries}
        self._failed = {p: why for p, why in self._failed.items() if p in primaries}

    async def watch(
        self,
        primaries: Callable[[], Iterable[str]],
        probe: Callable[[str, bool], Awaitable[object]],
        ready: Callable[[], bool],
    ) -> None:
        """
        Probe until cancelled.

        Args:
            primaries: Names of those that hold keys now.
            probe: Makes a probe of one, and passes its result to this object; with True it really writes.
            ready: Whether there are connections; without, no probe is made.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            wait = _AGAIN
            if ready():
                known = tuple(primaries())
                self.keep(known)
                idle_since = loop.time() - _IDLE
                due = [p for p in known if self._doubted(p) or self._executed[p] <= idle_since]
                await asyncio.gather(*(probe(p, self._doubted(p)) for p in due))
                if known and not any(map(self._doubted, known)):
                    wait = min(self._executed[p] for p in known) + _IDLE - loop.time()
            await elapse(max(wait, 0.05), self._wanted)

    def _doubted(self, primary: str) -> bool:
        return primary not in self._executed or primary in self._failed
