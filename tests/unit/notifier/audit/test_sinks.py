"""The file of audit events: what counts as stored, and what its end waits for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from notifier.audit.sinks import FileSink, Result, Written


async def test_a_batch_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is written by the time that the disk is asked."""
    path, synced = tmp_path / "audit.jsonl", list[bytes]()
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(path.read_bytes()))
    sink = FileSink(path)
    assert await sink.write([b"{}", b"[]"]) == Written(Result.STORED)
    sink.close()
    assert synced == [b"{}\n[]\n"]


async def test_the_end_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """Its thread is left to itself."""
    answers = threading.Event()

    class Hanging(FileSink):
        def _append(self, lines: Sequence[bytes]) -> None:
            answers.wait(30)

    sink = Hanging(tmp_path / "audit.jsonl", timeout_s=0.01)
    assert (await sink.write([b"{}"])).result is Result.RETRY
    began = time.monotonic()
    timer = threading.Timer(10, answers.set)
    timer.start()
    sink.close()
    waited = time.monotonic() - began
    answers.set()
    timer.cancel()
    assert waited < 5


async def test_a_write_has_ten_seconds(tmp_path: Path) -> None:
    """Unless it is told otherwise."""
    limits: list[float] = []

    class Limited(FileSink):
        def _append(self, lines: Sequence[bytes]) -> None:
            limits.append(self._timeout_s)

    sink = Limited(tmp_path / "audit.jsonl")
    await sink.write([b"{}"])
    sink.close()
    assert limits == [10.0]
