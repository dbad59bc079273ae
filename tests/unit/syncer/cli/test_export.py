"""`syncer export` where its file cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from syncer.cli import main as cli
from syncer.cli import transfer
from syncer.cli.export_format import Counts
from syncer.model.errors import Unavailable


@pytest.mark.parametrize(
    ("where", "why"),
    [("nowhere/x", "No such file or directory"), ("full", "No space left on device")],
)
async def test_export_that_cannot_be_written(
    where: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A directory that is not there, or a full disk, is said in a sentence, with code 2."""

    async def export(*_: Any) -> Counts:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer, "export", export)
    path = tmp_path / where
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", str(path)]
    assert await cli.execute(words) == 2
    assert capsys.readouterr().err == f"syncer: cannot write {path}: {why}\n"


async def test_an_export_into_a_pipe_goes_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is no file is written to, and not replaced by one."""

    async def export(*given: Any) -> Counts:
        given[3].write("text")
        return Counts()

    monkeypatch.setattr(transfer, "export", export)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", str(pipe)]
        assert await cli.execute(words) == 0
        assert os.read(reading, 100) == b"text"
    finally:
        os.close(reading)
    assert pipe.is_fifo()


@pytest.mark.parametrize("where", [None, "-", "file"])
async def test_an_export_is_written_and_counted(
    where: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """To standard output or to a file that is this user's alone; what it holds is a remark."""
    given: list[Any] = []

    async def export(*arguments: Any) -> Counts:
        given.extend(arguments[1:3])
        arguments[3].write("text")
        return Counts(logs=2, records=7)

    monkeypatch.setattr(transfer, "export", export)
    file = tmp_path / "out"
    output = [] if where is None else ["--output", str(file) if where == "file" else where]
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", *output]
    assert await cli.execute([*words, "--uid", "u", "--uid", "v", "-n", "ns"]) == 0
    said = capsys.readouterr()
    assert said.err == "syncer: 2 logs with 7 records\n"
    assert given == [["ns"], ["u", "v"]]
    assert said.out == ("" if where == "file" else "text")
    if where == "file":
        assert file.read_text() == "text"
        assert file.stat().st_mode & 0o777 == 0o600
    given.clear()
    assert await cli.execute(words) == 0
    assert given == [(), ()]


async def test_standard_output_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still in a buffer counts: an export that was not written was none."""

    async def export(*given: Any) -> Counts:
        given[3].write("x")
        return Counts()

    monkeypatch.setattr(transfer, "export", export)
    full = Path("/dev/full").open("w")  # noqa: SIM115, ASYNC230 - it cannot be closed without an error
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", full)
        assert await cli.execute(["export", "--redis-url", "redis://127.0.0.1:1/0"]) == 2
    with pytest.raises(OSError, match="No space left"):
        full.close()
    assert capsys.readouterr().err == "syncer: cannot write the export: No space left on device\n"


async def test_an_export_that_fails_leaves_the_file_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where Redis goes away the export of yesterday is still there, and nothing else."""

    async def export(*given: Any) -> Counts:
        given[3].write("half")
        raise Unavailable("away")

    monkeypatch.setattr(transfer, "export", export)
    file = tmp_path / "logs.jsonl"
    file.write_text("yesterday")
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", str(file)]
    assert await cli.execute(words) == 4
    assert file.read_text() == "yesterday"
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208 - blocks no longer


async def test_no_link_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder that others may write to, an export overwrites no file that one of them chose."""
    mine, link = tmp_path / "profile", tmp_path / "logs.jsonl"
    mine.write_text("mine")
    link.symlink_to(mine)
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", str(link)]
    assert await cli.execute(words) == 2
    assert "it is a symbolic link; name the file itself" in capsys.readouterr().err
    assert (mine.read_text(), link.is_symlink()) == ("mine", True)
