"""
The file channel: the whole sanitised object, one file per attempt.

`notification-<name>-<YYYYMMDD-HHMMSS.ffffff>.<json|yaml>` in local time. A file is complete or absent: it
is written as `<file>.tmp`, synced and renamed, and then the directory is synced. The temporary file is
created exclusively, which reserves the final name: two writers never share a name, not even two replicas on
one volume. On a clash the next microsecond is used.

The channel has a few threads of its own. A write to a disk that hangs cannot be interrupted, so a send that
times out revokes the right to rename: the thread removes the temporary file when it resumes, and the send
has failed. If the rename had already begun, the outcome is unknown. A send that got no thread in time was
not begun, so it is *not sent*: the disk did not fail.

One namespace uses at most half of the threads: a large object takes a tenth of a second, so the objects of
one author would otherwise keep all others waiting for longer than a write may take.
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
#: Age in seconds from which a temporary file belongs to no running writer.
_STALE_S: Final = 600


class FileChannel(Channel):
    """
    Writes into one directory.

    Args:
        directory: Created if it is absent.
        form: `json` or `yaml`.
        timeout_s: Longest time of a write in seconds.
        clock: Unix milliseconds, for the name.
        threads: Concurrent writes; further ones wait within their timeouts.
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
        #: Semaphores by namespace, each kept while one of the namespace's writes waits or runs.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.timeout_s = timeout_s

    def prepare(self) -> None:
        """
        Create the directory, test a write, and remove temporary files of killed writers. Blocks.

        Raises:
            ConfigError: files cannot be written there.
        """
        probe = self._directory / f".write-test-{os.getpid()}-{threading.get_ident()}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            # Another replica on the volume may have the same process id, and remove the file first.
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
        """Write the file; the outcome says whether it exists."""
        # The thread takes the lock before it renames, this send when it gives up; the first one wins.
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
        """Create the temporary file for the first free name; return its descriptor and the final path."""
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
    """Return the file name for a notification; a long name is cut to the limits of file systems."""
    safe = name.replace("/", "_").replace("\0", "_")[:_NAME_CHARS]
    return f"notification-{safe}-{moment:%Y%m%d-%H%M%S.%f}.{form}"


def file_content(document: dict[str, Any], form: str) -> bytes:
    """The object as JSON, indented by 2, or as YAML, without terminal control characters."""
    written = json.dumps(document, indent=2, ensure_ascii=False)
    shown = escaped_json(written)
    if form == "yaml":
        # PyYAML treats bidirectional controls as printable: if there are any, all non-ASCII is escaped.
        harmless = shown == written
        text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=harmless)
        return text.encode()
    return f"{shown}\n".encode()
