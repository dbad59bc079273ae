"""Console, log and file: what is written, how, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from notifier.channels.console import ConsoleChannel
from notifier.channels.file import FileChannel
from notifier.channels.log import LogChannel
from notifier.contract import Message, Outcome
from syncer.model.attempt import AttemptState, FailureClass
from syncer.model.errors import ConfigError
from tests.channels.messages import UID, message

NOW = 1_700_000_000_123


async def test_console(caplog: pytest.LogCaptureFixture) -> None:
    """The console channel writes one info line with priority, type, subject and body."""
    caplog.set_level(logging.INFO)
    outcome = await ConsoleChannel().send(message(body="100 %s of it"))
    assert outcome == Outcome.success()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "[Critical] [Escalation] Disk full\n100 %s of it\n"


async def _line(form: str, made: Message) -> str:
    stream = io.StringIO()
    outcome = await LogChannel(form, clock=lambda: NOW, stream=stream).send(made)
    assert outcome == Outcome.success()
    text = stream.getvalue()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    return text.rstrip("\n")


async def test_log_json() -> None:
    """A line holds exactly upstream's members."""
    made = message(
        body="two\nlines\u2028three",
        context={"lineage": {"remediationRequest": "rr-1"}, "workflow": {"workflowId": "w"}},
        extensions={"environment": "production"},
        actionLinks=[{"service": "grafana", "url": "https://g.example", "label": "Board"}],
        metadata={"labels": {"team": "a"}, "annotations": {"n": "1"}},
        status={"phase": "Retrying", "successfulDeliveries": 1, "failedDeliveries": 2},
    )
    stream = io.StringIO()
    await LogChannel(clock=lambda: NOW, stream=stream).send(made)
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue()) == {
        "timestamp": "2023-11-14T22:13:20.123Z",
        "notification_name": "disk-full",
        "notification_namespace": "ops",
        "notification_uid": UID,
        "type": "Escalation",
        "priority": "Critical",
        "subject": "Disk full",
        "body": "two\nlines\nthree",
        "metadata": {"remediationRequest": "rr-1", "workflowId": "w", "environment": "production"},
        "labels": {"team": "a"},
        "annotations": {"n": "1"},
        "phase": "Retrying",
        "successful_deliveries": 1,
        "failed_deliveries": 2,
        "action_links": [{"service": "grafana", "url": "https://g.example", "label": "Board"}],
    }


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_log_json_leaves_out_what_is_absent(form: str) -> None:
    """Members without a value are absent; an unknown form falls back to JSON."""
    assert set(json.loads(await _line(form, message()))) == {
        "timestamp", "notification_name", "notification_namespace", "notification_uid", "type",
        "priority", "subject", "body",
    }  # fmt: skip


async def test_log_text() -> None:
    """The text form is one line, whatever breaks the body has."""
    line = await _line("text", message(body="two\nlines\r\u2028x"))
    assert line == ("[2023-11-14T22:13:20.123Z] ops/disk-full Disk full: two\\nlines\\nx")


async def test_log_uses_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream the line goes to standard output as it is at that time."""
    await LogChannel().send(message())
    assert json.loads(capsys.readouterr().out)["notification_name"] == "disk-full"


async def test_log_lines_do_not_interleave(tmp_path: Path) -> None:
    """Concurrent lines longer than a pipe's atomic write stay whole."""
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8") as stream:
        channel = LogChannel(stream=stream)
        await asyncio.gather(*(channel.send(message(body=str(n) * 9000)) for n in range(8)))
    bodies = {json.loads(line)["body"] for line in path.read_text().splitlines()}
    assert bodies == {str(n) * 9000 for n in range(8)}


async def test_log_that_cannot_be_written() -> None:
    """A closed stream is a failure that may be tried again, not a lie."""
    stream = io.StringIO()
    stream.close()
    outcome = await LogChannel(stream=stream).send(message())
    assert outcome == Outcome.transient("failed to write log line: ValueError")


class FullDisk(io.RawIOBase):
    """A disk that is full until it is not."""

    def __init__(self) -> None:
        self.full = True
        self.lines = 0

    def writable(self) -> bool:  # noqa: V105 (of files)
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Count the lines, or refuse."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += bytes(data).count(b"\n")
        return len(data)


async def test_log_on_a_full_disk_may_come_out_later() -> None:
    """What a stream could not write it keeps, so nobody can say that a line did not come out."""
    disk = FullDisk()
    channel = LogChannel(stream=io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8"))
    outcome = await channel.send(message())
    assert outcome == Outcome.unknown("failed to write log line: OSError")
    disk.full = False
    assert await channel.send(message()) == Outcome.success()
    assert disk.lines == 2


def _files(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


async def test_file_json(tmp_path: Path) -> None:
    """The whole sanitised object is in a file of the local time's name, and of the expected mode."""
    made = message(name="fname", body="password=oak31", status={"phase": "Sending"})
    old_mask = os.umask(0o022)
    try:
        channel = FileChannel(str(tmp_path / "out"), timeout_s=5, clock=lambda: NOW)
        assert await channel.send(made) == Outcome.success()
    finally:
        os.umask(old_mask)
    (name,) = _files(tmp_path / "out")
    stamp = datetime.fromtimestamp(NOW / 1000).astimezone().strftime("%Y%m%d-%H%M%S")
    assert name == f"notification-fname-{stamp}.123000.json"
    path = tmp_path / "out" / name
    assert path.stat().st_mode & 0o777 == 0o644
    shown = json.loads(path.read_text())
    assert shown["metadata"]["name"] == "fname"
    assert shown["spec"]["body"] == "password: [REDACTED]"
    assert shown["status"] == {"phase": "Sending"}
    assert path.read_text().startswith('{\n  "apiVersion"')


async def test_file_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file is synced, then renamed, then the directory is synced."""
    synced: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        kinds = sorted(p.suffix for p in tmp_path.iterdir())
        synced.append((path.suffix or path.name, kinds))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    assert await FileChannel(str(tmp_path), timeout_s=5).send(message()) == Outcome.success()
    assert synced == [(".tmp", [".tmp"]), (tmp_path.name, [".json"])]


async def test_file_yaml(tmp_path: Path) -> None:
    """The other form is YAML."""
    outcome = await FileChannel(str(tmp_path), "yaml", timeout_s=5).send(message(body="a: b\n- 🚨"))
    assert outcome == Outcome.success()
    (name,) = _files(tmp_path)
    assert name.endswith(".yaml")
    assert yaml.safe_load((tmp_path / name).read_text())["spec"]["body"] == "a: b\n- 🚨"


async def test_files_and_lines_show_the_time_of_now(tmp_path: Path) -> None:
    """Without a clock of the test both are stamped when they are written."""
    await FileChannel(str(tmp_path), timeout_s=5).send(message())
    stamp = _files(tmp_path)[0].removeprefix("notification-disk-full-").removesuffix(".json")
    named = datetime.strptime(stamp, "%Y%m%d-%H%M%S.%f").astimezone()
    stream = io.StringIO()
    await LogChannel(stream=stream).send(message())
    logged = datetime.fromisoformat(json.loads(stream.getvalue())["timestamp"])
    for found in (named, logged):
        assert abs(datetime.now(UTC) - found) < timedelta(minutes=1)


async def test_a_write_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither the file nor its directory stays open."""
    channel = FileChannel(str(tmp_path), timeout_s=5)

    def opened() -> list[str]:
        links = list(Path("/proc/self/fd").iterdir())
        return [str(link.readlink()) for link in links if link.is_symlink()]

    assert await channel.send(message()) == Outcome.success()
    assert not [place for place in opened() if place.startswith(str(tmp_path))]


async def test_files_of_one_instant_do_not_collide(tmp_path: Path) -> None:
    """Twenty writes at the same instant make twenty whole files, by two channels, too."""
    channels = [FileChannel(str(tmp_path), timeout_s=5, clock=lambda: NOW) for _ in range(2)]
    outcomes = await asyncio.gather(
        *(channels[n % 2].send(message(subject=f"s{n}")) for n in range(20))
    )
    assert {o.state for o in outcomes} == {AttemptState.SUCCESS}
    names = _files(tmp_path)
    assert len(names) == 20
    subjects = {json.loads((tmp_path / n).read_text())["spec"]["subject"] for n in names}
    assert subjects == {f"s{n}" for n in range(20)}


async def test_long_name_is_cut(tmp_path: Path) -> None:
    """The longest name that an object may have still makes a file."""
    assert (
        await FileChannel(str(tmp_path), timeout_s=5).send(message(name="n" * 253))
        == Outcome.success()
    )


async def test_full_disk() -> None:
    """A write that fails half-way has upstream's text; a full device stands for the disk."""

    class Full(FileChannel):
        def _reserve(self, name: str) -> tuple[int, Path]:
            return os.open("/dev/full", os.O_WRONLY), Path("/nonexistent") / name

    outcome = await Full("/dev", timeout_s=5).send(message())
    assert outcome == Outcome.transient("failed to write temporary file: no space left on device")


async def test_rename_that_fails(tmp_path: Path) -> None:
    """A failed rename has upstream's text and removes the temporary file."""

    class Blocked(FileChannel):
        def _reserve(self, name: str) -> tuple[int, Path]:
            descriptor, final = super()._reserve(name)
            final.mkdir()
            return descriptor, final

    outcome = await Blocked(str(tmp_path), timeout_s=5).send(message())
    assert outcome == Outcome.transient("failed to rename temporary file: is a directory")
    assert [p for p in _files(tmp_path) if p.endswith(".tmp")] == []


class Hanging(FileChannel):
    """A disk that hangs behind the making of a file, until it is released."""

    release = threading.Event()

    def _reserve(self, name: str) -> tuple[int, Path]:
        reserved = super()._reserve(name)
        self.release.wait(10)
        return reserved

    def end(self) -> None:
        """Have it write, and wait until it has."""
        self.release.set()
        self._threads.shutdown(wait=True)
        self.release.clear()


async def test_hanging_disk_is_given_up(tmp_path: Path) -> None:
    """A write that hangs fails at its deadline, and never shows up; what got no thread was not sent."""
    channel = Hanging(str(tmp_path), timeout_s=0.2, threads=1)
    start = time.monotonic()
    given = (message(), message(), message(namespace="other"))
    first, *others = await asyncio.gather(*map(channel.send, given))
    assert time.monotonic() - start < 5
    assert first == Outcome.transient("failed to write temporary file: timeout after 0.2 s")
    assert others == [Outcome.not_sent("earlier writes held every thread for files")] * 2
    channel.end()
    assert _files(tmp_path) == []


async def test_hanging_rename_is_unknown(tmp_path: Path) -> None:
    """Once the rename has begun, a deadline leaves the result open."""
    release = threading.Event()

    class Hanging(FileChannel):
        def _sync_directory(self) -> None:
            release.wait(10)

    channel = Hanging(str(tmp_path), timeout_s=2)
    outcome = await channel.send(message())
    assert outcome == Outcome.unknown("failed to rename temporary file: timeout after 2 s")
    release.set()
    channel._threads.shutdown(wait=True)
    assert len(_files(tmp_path)) == 1


async def test_writes_of_one_namespace_leave_threads_to_others(tmp_path: Path) -> None:
    """However many of its writes take their time, a file of another namespace is there before them."""
    release = threading.Event()

    class Slow(FileChannel):
        def _reserve(self, name: str) -> tuple[int, Path]:
            if name == "slow":
                release.wait(20)
            return super()._reserve(name)

    channel = Slow(str(tmp_path), timeout_s=20)
    crowd = replace(message(), namespace="crowd", name="slow")
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(channel.send(crowd)) for _ in range(8)]
        await asyncio.sleep(0.05)
        assert await channel.send(message()) == Outcome.success()
        assert len(_files(tmp_path)) == 1
        release.set()
    assert [task.result() for task in waiting] == [Outcome.success()] * 8
    assert len(_files(tmp_path)) == 9


async def test_cancelled_write_leaves_nothing(tmp_path: Path) -> None:
    """A cancelled send ends with CancelledError and takes its file with it."""
    channel = Hanging(str(tmp_path), timeout_s=5)
    task = asyncio.create_task(channel.send(message()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    channel.end()
    assert _files(tmp_path) == []


#: What is in the place of a directory, which one is asked for, and what a write says.
UNUSABLE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "below a file": (
        lambda path: path.write_text(""), "out/below",
        "failed to create output directory: not a directory",
    ),
    "one that takes no file": (
        lambda path: path.symlink_to("/proc/self/fdinfo"), "out", "failed to write temporary file: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
async def test_directory_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    """It stops the start and names the key; later a write fails with upstream's text, for now."""
    make, name, error = UNUSABLE[case]
    make(tmp_path / "out")
    channel = FileChannel(str(tmp_path / name), timeout_s=5)
    with pytest.raises(ConfigError, match="output directory is not writable") as caught:
        channel.prepare()
    assert caught.value.path == "delivery.file.outputDir"
    outcome = await channel.send(message())
    assert outcome.failure is FailureClass.TRANSIENT
    assert outcome.error.startswith(error)


def test_start_makes_the_directory_and_sweeps_it(tmp_path: Path) -> None:
    """The start creates the directory and removes only what a killed writer left long ago."""
    out = tmp_path / "a" / "b"
    FileChannel(str(out), timeout_s=5).prepare()
    assert _files(out) == []
    for name, age in [("notification-x.json.tmp", 3600), ("notification-y.json.tmp", 0),
                      ("notification-z.json", 3600)]:  # fmt: skip
        (out / name).write_text("")
        os.utime(out / name, (time.time() - age,) * 2)
    FileChannel(str(out), timeout_s=5).prepare()
    assert _files(out) == ["notification-y.json.tmp", "notification-z.json"]


async def test_closed_file_channel_sends_nothing(tmp_path: Path) -> None:
    """After the end of the process has begun, a write is not sent instead of an exception."""
    channel = FileChannel(str(tmp_path), timeout_s=5)
    channel.close()
    assert (await channel.send(message())).failure is FailureClass.NOT_SENT
    assert _files(tmp_path) == []
