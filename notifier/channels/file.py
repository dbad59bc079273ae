"""
The file channel: the whole sanitised object, one file per attempt.

`notification-<name>-<YYYYMMDD-HHMMSS.ffffff>.<json|yaml>` in local time. A file is complete or not
there: it is written as `<file>.tmp`, made durable, renamed, and the directory made durable.
The temporary name is created exclusively and thereby reserves the final one, so two writers never
share a name, not even two replicas on one volume; on a clash the next microsecond is taken.

The work is done in a few threads of our own. A disk that hangs cannot be interrupted, so a send
that runs out of time takes back the right to rename: the thread then removes the temporary
file whenever it wakes up, and the send has failed. Only if the rename had begun is it unknown. A send that
got no thread in its time was not begun, and is no failure of the disk.

One namespace has half of the threads at most: large objects take a tenth of a second each, and those of one
author would keep everybody else's waiting for longer than a write may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import yaml

from notifier.channels.base import WITHHELD, broken_off, rendered
from notifier.contract import Channel, Message, Outcome
from syncer.model.errors import ConfigError, reason_of
from syncer.rules.text import escaped_json
from syncer.runtime.offload import Breath

_NAME_CHARS: Final = 180
_CLASHES: Final = 1000
#: Temporary files this old (seconds) belong to no living writer.
_STALE_S: Final = 600


class FileChannel(Channel):
    """
    Writes into one directory.

    Args:
        directory: Created if it is absent.
        form: `json` or `yaml`.
        timeout_s: Longest time of a write in seconds.
        clock: Unix milliseconds, for the name.
        threads: Writes at a time; more wait within their timeouts.
    """

    shows_status = True

    def __init__(
        self,
        directory: str,
        form: str = "json",
        *,
        timeout_s: float,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        threads: int = 4,
    ) -> None:
        self._directory = Path(directory)
        self._form = form
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="file")
        self._share = max(1, threads // 2)
        #: By namespace, for as long as one of its writes waits or runs.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.timeout_s = timeout_s

    def prepare(self) -> None:
        """
        Make the directory, try a write, and remove what a killed writer left behind. Blocks.

        Raises:
            ConfigError: files cannot be written there.
        """
        probe = self._directory / f".write-test-{os.getpid()}-{threading.get_ident()}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            # Replicas on one volume may have the same process id.
            probe.unlink(missing_ok=True)
            for left in self._directory.glob("notification-*.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - _STALE_S:
                        left.unlink()
        except OSError as exc:
            raise ConfigError(
                f"output directory is not writable: {reason_of(exc).lower()}",
                path="delivery.file.outputDir",
            ) from exc

    def close(self) -> None:
        """Accept no more work, without waiting for a write that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, message: Message) -> Outcome:
        """Write the file; the outcome says whether it is there."""
        # Of the thread, which renames, and of this send, which gives up, whoever is first takes it.
        right = threading.Lock()
        turn = self._turns.setdefault(message.namespace, asyncio.Semaphore(self._share))
        work: Future[Outcome] | None = None
        try:
            async with asyncio.timeout(self.timeout_s), turn:
                try:
                    work = self._threads.submit(self._write, message, right)
                except RuntimeError:
                    return Outcome.not_sent("the file channel is closed")
                return await asyncio.wrap_future(work)
        except TimeoutError:
            if work is None or work.cancel():
                return Outcome.not_sent("earlier writes held every thread for files")
            if right.acquire(blocking=False):
                return Outcome.transient(
                    f"failed to write temporary file: timeout after {self.timeout_s:g} s"
                )
            return Outcome.unknown(
                f"failed to rename temporary file: timeout after {self.timeout_s:g} s"
            )
        except asyncio.CancelledError:
            right.acquire(blocking=False)
            raise

    def _write(self, message: Message, right: threading.Lock) -> Outcome:
        content = rendered(
            "file", lambda m: file_content(m.document(Breath()), self._form), message
        )
        if isinstance(content, Outcome):
            return content
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            return _failed("failed to create output directory", exc)
        try:
            descriptor, final = self._reserve(message.name)
        except OSError as exc:
            return _failed("failed to write temporary file", exc)
        temporary = final.with_name(f"{final.name}.tmp")
        renamed = False
        try:
            try:
                with os.fdopen(descriptor, "wb") as out:
                    out.write(content)
                    out.flush()
                    os.fsync(out.fileno())
            except OSError as exc:
                return _failed("failed to write temporary file", exc)
            if not message.may_leave():
                return WITHHELD
            if not right.acquire(blocking=False):
                return Outcome.transient("failed to write temporary file: given up")
            try:
                temporary.rename(final)
                renamed = True
                self._sync_directory()
            except OSError as exc:
                return _failed("failed to rename temporary file", exc, written=renamed)
        finally:
            if not renamed:
                with contextlib.suppress(OSError):
                    temporary.unlink()
        return Outcome.success()

    def _reserve(self, name: str) -> tuple[int, Path]:
        """Create the temporary file of the first free name; gives its descriptor and the name."""
        moment = datetime.fromtimestamp(self._clock() / 1000).astimezone()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        for _ in range(_CLASHES):
            final = self._directory / file_name(name, moment, self._form)
            temporary = final.with_name(f"{final.name}.tmp")
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(temporary, flags, 0o644)
                if not os.path.lexists(final):
                    return descriptor, final
                os.close(descriptor)
                temporary.unlink()
            moment += timedelta(microseconds=1)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _failed(what: str, exc: OSError, *, written: bool = False) -> Outcome:
    return broken_off(f"{what}: {reason_of(exc).lower()}", [exc], written=written)


def file_name(name: str, moment: datetime, form: str) -> str:
    """File name of a notification; a long name is cut to what file systems take."""
    safe = name.replace("/", "_").replace("\0", "_")[:_NAME_CHARS]
    return f"notification-{safe}-{moment:%Y%m%d-%H%M%S.%f}.{form}"


def file_content(document: dict[str, Any], form: str) -> bytes:
    """The object as JSON, indented by 2, or as YAML, without terminal control characters."""
    written = json.dumps(document, indent=2, ensure_ascii=False)
    shown = escaped_json(written)
    if form == "yaml":
        # YAML takes what turns the direction of writing for printable: then all but ASCII is escaped.
        harmless = shown == written
        text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=harmless)
        return text.encode()
    return f"{shown}\n".encode()
