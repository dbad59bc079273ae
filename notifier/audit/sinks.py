"""
Where audit events go: the audit store and a webhook over HTTP, and a file of JSON lines.

A sink takes lines that are complete events and returns a result; it raises nothing. `RETRY` is about the
sink (down, busy, credentials refused): it may take the same lines later. `REFUSED` is about the lines: the
sink works but does not accept them as they are. A sink may get lines twice, and a batch that was stored in
part is sent again as a whole: the id in each event identifies a repeat.
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
#: HTTP codes that are about the events sent, not about the store or the sender's credentials.
_REFUSALS: Final = frozenset({400, 409, 413, 422})


class Result(Enum):
    """What a sink did with some lines."""

    STORED = "stored"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Written:
    """A result and, unless stored, the reason as text that may be logged."""

    result: Result
    reason: str = ""


class Sink(Protocol):
    """Stores audit events."""

    @property
    def name(self) -> str:
        """Name for logs."""

    async def write(self, lines: Sequence[bytes]) -> Written:
        """Store complete events in order, within a bounded time."""

    def close(self) -> None:
        """Release the sink's resources."""


@dataclass(frozen=True, slots=True)
class HttpSink:
    """
    Sends events to another program: a JSON list by POST, and any 2xx is a receipt.

    Attributes:
        name: Name for logs.
        http_client: Sends the requests, with its TLS context and egress guard; its owner closes it.
        url: Target of the requests.
        timeout_s: Seconds for one request.
        token_file: File with a token, which is sent as bearer if the file can be read; None for no token.
            It is read for each request, because the kubelet rotates it.
        content_type: Content type of the list.
        event: Converts a line to an item of the list.
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
        """Do nothing; the sink holds no resources."""

    def _token(self) -> str:
        if self.token_file is None:
            return ""
        try:
            token = secret_of(str(self.token_file), "")
        except ConfigError:
            return ""
        # A header cannot contain anything else.
        return token if token.isascii() and token.isprintable() and " " not in token else ""


def store_sink(
    http_client: HttpClient, url: str, *, timeout_s: float, token_file: Path | None
) -> HttpSink:
    """Return the sink of the audit store with the base URL `url`."""
    return HttpSink("datastorage", http_client, url.rstrip("/") + BATCH_PATH, timeout_s, token_file)


def webhook_sink(
    http_client: HttpClient, url: str, *, timeout_s: float, token_file: Path | None
) -> HttpSink:
    """Return the sink of a program that takes batches of CloudEvents in JSON."""
    kind = "application/cloudevents-batch+json; charset=utf-8"
    return HttpSink("audit.webhook", http_client, url, timeout_s, token_file, kind, cloud_event)


def _private(path: str, flags: int) -> int:
    """Open a file; a new one is for this user only, an existing one keeps its mode."""
    return os.open(path, flags, 0o600)


class FileSink:
    """
    A file that grows by one line per event, each batch synced to the disk before it counts.

    It is opened for each batch, so log rotation may rename or remove it. If a crash cut the last line
    short, the next batch begins with a line break; readers skip the incomplete line.

    Args:
        path: The file; its directory must exist.
        timeout_s: Seconds for one batch. A disk that hangs blocks one thread and nothing else.
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
