"""
Where audit events go: the audit store and a webhook over HTTP, and a file of JSON lines.

A sink takes lines that are complete events and returns a result; it raises nothing. `RETRY` is about the
sink (down, busy, credentials refused): it may take the same lines later. `REFUSED` is about the lines: the
sink works and does not accept them as they are. A sink may get lines twice, and a batch that was stored in
part is stored again: the id in each event identifies a repeat.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from notifier.audit.events import cloud_event
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from syncer.configfile import secret_of
from syncer.model.attempt import AttemptState
from syncer.model.errors import ConfigError, reason_of

BATCH_PATH: Final = "/api/v1/audit/events/batch"
#: Codes by which a store speaks of the events sent, not of itself or of our rights.
_REFUSALS: Final = frozenset({400, 409, 413, 422})


class Result(Enum):
    """What a sink did with some lines."""

    STORED = "stored"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Written:
    """A result and, unless stored, its reason in words that may be logged."""

    result: Result
    reason: str = ""


class Sink(Protocol):
    """Stores audit events."""

    @property
    def name(self) -> str:
        """For logs."""

    async def write(self, lines: Sequence[bytes]) -> Written:
        """Store complete events, in order; in bounded time."""

    def close(self) -> None:
        """Release what is held."""


@dataclass(frozen=True, slots=True)
class HttpSink:
    """
    Another program: a JSON list by POST, any 2xx is a receipt.

    Attributes:
        name: For logs.
        http_client: Whose TLS and guard apply; its owner closes it.
        url: Where to.
        timeout_s: Of one request.
        token_file: With a token, sent as bearer where the file exists; None for none. It is read for
            each request, since the kubelet rotates it.
        content_type: Of the list.
        event: Makes an event of a line.
    """

    name: str
    http_client: HttpClient
    url: str
    timeout_s: float
    token_file: Path | None
    content_type: str = "application/json"
    event: Callable[[bytes], bytes] = bytes

    async def write(self, lines: Sequence[bytes]) -> Written:
        """Send one batch."""
        headers = {"Content-Type": self.content_type}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        outcome = await self.http_client.post(
            Target(self.url, secrets=(token,) if token else ()),
            b"[" + b",".join(map(self.event, lines)) + b"]",
            headers,
            timeout_s=self.timeout_s,
            kind="audit",
        )
        if outcome.state is AttemptState.SUCCESS:
            return Written(Result.STORED)
        refused = outcome.code in _REFUSALS
        return Written(Result.REFUSED if refused else Result.RETRY, outcome.error)

    def close(self) -> None:
        """Nothing is held."""

    def _token(self) -> str:
        if self.token_file is None:
            return ""
        try:
            token = secret_of(str(self.token_file), "")
        except ConfigError:
            return ""
        # Anything else could not stand in a header.
        return token if token.isascii() and token.isprintable() and " " not in token else ""


def store_sink(
    http_client: HttpClient, url: str, *, timeout_s: float, token_file: Path | None
) -> HttpSink:
    """Return the sink of the audit store, of which `url` is the base."""
    return HttpSink("datastorage", http_client, url.rstrip("/") + BATCH_PATH, timeout_s, token_file)


def webhook_sink(
    http_client: HttpClient, url: str, *, timeout_s: float, token_file: Path | None
) -> HttpSink:
    """Return the sink of any program that takes batches of CloudEvents in JSON."""
    kind = "application/cloudevents-batch+json; charset=utf-8"
    return HttpSink("audit.webhook", http_client, url, timeout_s, token_file, kind, cloud_event)


def _private(path: str, flags: int) -> int:
    """Open a file; one that is made is for this user alone, one that is there keeps its mode."""
    return os.open(path, flags, 0o600)


class FileSink:
    """
    A file that grows by one line per event, each batch synced to the disk before it counts.

    It is opened anew for each batch, so it may be renamed or removed by log rotation. A line
    that a crash cut short is closed by a line break before the next batch; readers skip it.

    Args:
        path: The file; its directory must exist.
        timeout_s: Of one batch. A disk that hangs holds one thread and nothing else.
    """

    name = "audit.file"

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-file")
        self._busy = threading.Lock()

    async def write(self, lines: Sequence[bytes]) -> Written:
        """Append one batch."""
        if self._busy.locked():
            return Written(Result.RETRY, "an earlier write has not ended")
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._append, lines)
        except TimeoutError:
            return Written(Result.RETRY, f"not written within {self._timeout_s:g} s")
        except OSError as error:
            return Written(Result.RETRY, reason_of(error).lower())
        return Written(Result.STORED)

    def _append(self, lines: Sequence[bytes]) -> None:
        with self._busy, open(self._path, "a+b", opener=_private) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fdatasync(file.fileno())

    def close(self) -> None:
        """Let the thread end, without waiting for a write that hangs."""
        self._thread.shutdown(wait=False)
