"""
The routing in force, and how it changes while the process runs.

`Routing.current` is one immutable snapshot: configuration, credentials, generation. A delivery
reads it once and sees a consistent whole; a change replaces it in one assignment. There is never a moment
without routing, or with half of it.

The files are polled, not watched: a poll handles every layout (a file replaced by rename, a swapped
symlink, a directory that appears later) and cannot miss an event. A change is taken only if two looks,
200 ms apart, have read the same, so that a volume in the middle of a swap is not trusted.

Routing and credentials are checked together, and again whenever either changes, so they may arrive in any
order. A new routing file is taken only if it is valid and every credential it names exists; otherwise the
last good one stays in force, and `problem` says why. Credentials do not wait for the routing: a rotated
value is used by the next delivery even while a new routing file is refused. A credential that vanishes
while the routing in force needs it keeps its last value.

Reading and parsing block, so both run in one thread of their own. The thread also waits between looks, and
wakes the event loop only for a change. If a disk hangs, `problem` says so, and no further threads are
started. Only `load_initial` blocks, before anything else runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from notifier.routing.config import RoutingConfig, console_fallback, quoted
from notifier.routing.credentials import Credentials, Look, look, merge
from notifier.routing.document import MAX_TEXT
from notifier.routing.parse import usable
from syncer.model.errors import ConfigError, reason_of
from syncer.runtime.polling import PollingThread

logger = logging.getLogger("ledger.routing")

T = TypeVar("T")

#: After this many looks without two equal ones in a row, the newest is taken as it is.
_UNSETTLED: Final = 20
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The routing in force at one moment; `generation` grows with every change."""

    config: RoutingConfig
    credentials: Credentials
    generation: int

    def missing(self, channel: str) -> list[str]:
        """Return the credentials that a channel lacks; its sends wait until they exist."""
        target = self.config.targets.get(channel)
        refs = target.credential_refs if target else ()
        return [ref for ref in refs if ref not in self.credentials]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One look at the routing file and the credentials; `text` is None if the file was unreadable."""

    text: str | None = field(repr=False)
    fault: str
    credentials: Look


def read_text(path: Path) -> tuple[str | None, str]:
    """Read a routing file; returns its text and an empty reason, or None and why it is unreadable."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TEXT + 1)
    except OSError as error:
        return None, f"cannot read {path}: {reason_of(error)}"
    if len(raw) > MAX_TEXT:
        return None, f"{path} is larger than {MAX_TEXT} bytes"
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return None, "failed to parse YAML: not UTF-8"


class Routing:
    """
    Owner of the routing.

    Call `load_initial()` first, then `run()` as a task for as long as the process lives. `problem` is
    None while the routing in force is that of the files.
    """

    def __init__(
        self,
        path: Path,
        credentials_dir: Path,
        *,
        native: frozenset[str] = frozenset(),
        poll: float = 1.0,
        quiet: float = 0.2,
        look_timeout: float = 10.0,
    ) -> None:
        """
        Prepare; nothing is read yet.

        Args:
            path: The routing file.
            credentials_dir: The directory of credentials; may appear later.
            native: Kinds among `email` and `webhook` that are delivered here.
            poll: Seconds between looks.
            quiet: Seconds for which a change must stay the same before it is taken.
            look_timeout: Seconds after which a look that has not ended is reported.
        """
        self.path = path
        self.credentials_dir = credentials_dir
        self.problem: str | None = "routing is not loaded yet"
        #: A description of the routing in force, equal for equal files.
        self.in_force = ""
        self._native = native
        self._poll = poll
        self._quiet = quiet
        self._look_timeout = look_timeout
        #: The snapshot in force. Read it once per decision.
        self.current = Snapshot(console_fallback(native), Credentials(), 0)
        self._thread = PollingThread("routing")
        #: When the thread began its current work (None if idle), and whether that was reported as slow.
        self._began: float | None = None
        self._reported = False
        self._taken: _Reading | None = None
        self._seen: _Reading | None = None
        self._looks = 0
        self._warned: tuple[str, ...] = ()

    def load_initial(self) -> None:
        """
        Read everything for the first time; blocks.

        An empty file means the built-in console routing. If the directory of credentials cannot be listed,
        for example because it does not exist yet, routing that needs it is taken all the same, and its
        sends wait.

        Raises:
            ConfigError: the file is missing or invalid, an entry names no credential, or one that
                is not in the directory.
        """
        reading = self._read()
        try:
            config = self._candidate(reading)
            waiting = reading.credentials.fault and config.credential_refs()
            if not waiting:
                self._check_refs(config, reading.credentials)
        except ConfigError as error:
            # At startup the settings file might be at fault instead, so the error names the file, once.
            named = str(self.path) in str(error)
            raise ConfigError(str(error) if named else f"{self.path}: {error}") from None
        self._taken = reading
        self._warn(config, reading.credentials)
        self.problem = (
            f"credentials directory {self.credentials_dir} cannot be read "
            f"({reading.credentials.fault}): sends that need a credential wait"
            if waiting
            else None
        )
        if self.problem:
            logger.warning("%s", self.problem)
        self._tell(config, reading.text or "")
        self._swap(config, reading.credentials.values)

    async def run(self) -> None:
        """
        Follow the files until cancelled; to be called once.

        It ends only when cancelled, or with an error that is a defect.
        """
        try:
            while True:
                if self._seen is None:
                    # Until the files differ from the last ones taken, or a look was reported as slow.
                    changed = partial(self._timed, self._changed)
                    await self._answer(self._thread.poll(changed, self._poll))
                else:
                    await asyncio.sleep(self._quiet)
                await self.look()
        finally:
            self.close()

    def close(self) -> None:
        """Abandon the thread without waiting for it; `run` does so when it ends."""
        self._thread.close()

    async def look(self) -> bool:
        """
        Look once at the files; return whether a change was taken or refused.

        A change needs two looks that read the same, see the module's docstring.
        """
        reading = await self._in_thread(self._read)
        if reading == self._taken:
            self._seen, self._looks = None, 0
            return False
        settled = reading == self._seen
        self._seen, self._looks = reading, self._looks + 1
        if not settled and self._looks < _UNSETTLED:
            return False
        self._seen, self._looks = None, 0
        self._taken = reading
        candidate = await self._in_thread(lambda: self._check(reading))
        self._take(candidate, reading.credentials)
        return True

    def _take(self, candidate: RoutingConfig | ConfigError, seen: Look) -> None:
        config = self.current.config if isinstance(candidate, ConfigError) else candidate
        values = merge(self.current.credentials, seen, needed=config.credential_refs())
        self._warn(config, seen)
        if isinstance(candidate, ConfigError):
            problem = f"routing not reloaded; the last valid routing stays in force: {candidate}"
            if problem != self.problem:
                logger.error("%s", problem)
            self.problem = problem
        else:
            if self.problem is not None:
                logger.info("the routing files are valid again")
            self.problem = None
            if self._taken is not None and (self._taken.text or "").strip():
                self._tell(config, self._taken.text or "")
        if (config, values) != (self.current.config, self.current.credentials):
            self._swap(config, values)

    def _tell(self, config: RoutingConfig, text: str) -> None:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        self.in_force = (
            f"{len(config.receivers)} receiver(s) in force, from a file of sha256 {digest}"
        )

    def _swap(self, config: RoutingConfig, values: Credentials) -> None:
        self.current = Snapshot(config, values, self.current.generation + 1)
        logger.info(
            "routing in force: generation=%d receivers=%d credentials=%d",
            self.current.generation,
            len(config.receivers),
            len(values),
        )

    def _warn(self, config: RoutingConfig, seen: Look) -> None:
        warnings = (
            *config.warnings, *seen.warnings, *config.refused_in_clear(seen.values),
        )  # fmt: skip
        for warning in warnings:
            if warning not in self._warned:
                logger.warning("%s", warning)
        self._warned = warnings

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._answer(self._thread.run(partial(self._timed, work)))

    async def _answer(self, future: asyncio.Future[T]) -> T:
        """Wait for the thread; while its work takes too long, report that and keep waiting."""
        before = self.problem
        while not (await asyncio.wait({future}, timeout=self._look_timeout))[0]:
            began = self._began
            if began is not None and time.monotonic() - began >= self._look_timeout:
                self._reported = True
                self.problem = f"reading the routing takes longer than {self._look_timeout:g} s"
                logger.warning("%s", self.problem)
        self._reported, self.problem = False, before
        return future.result()

    # -- in the thread ----------------------------------------------------------------------------

    def _timed(self, work: Callable[[], T]) -> T:
        self._began = time.monotonic()
        try:
            return work()
        finally:
            self._began = None

    def _changed(self) -> bool | None:
        """True if the event loop has to look at the files, None if there is no reason to."""
        return self._read() != self._taken or self._reported or None

    def _read(self) -> _Reading:
        credentials = look(self.credentials_dir)
        return _Reading(*read_text(self.path), credentials)

    def _check(self, reading: _Reading) -> RoutingConfig | ConfigError:
        """Return the routing that should be in force, or what is wrong with the files."""
        try:
            emptied = reading.text is not None and not reading.text.strip()
            config = self.current.config if emptied else self._candidate(reading)
            self._check_refs(config, reading.credentials)
        except ConfigError as error:
            return error
        return config

    def _candidate(self, reading: _Reading) -> RoutingConfig:
        if reading.text is None:
            raise ConfigError(reading.fault)
        if not reading.text.strip():
            return console_fallback(self._native)
        return usable(reading.text, native=self._native)

    def _check_refs(self, config: RoutingConfig, seen: Look) -> None:
        absent = [ref for ref in config.credential_refs() if ref not in seen.values]
        if not absent:
            return
        line = next(place.line for place in config.references() if place.ref == absent[0])
        # The file may exist but hold nothing that can be used; "not found" alone would then mislead.
        unusable = [f"{name}: {why}" for name, why in seen.refused if name in absent]
        raise ConfigError(
            f"{len(absent)} unresolvable credential ref(s): {', '.join(absent[:_NAMED])}"
            f": credential {quoted(absent[0])} not found in {self.credentials_dir}"
            + (f" (not usable: {', '.join(unusable[:_NAMED])})" if unusable else "")
            + (f" (line {line})" if line else "")
        )
