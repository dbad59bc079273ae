"""A command that ends when its standard input does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from unittest.mock import AsyncMock

import pytest

from syncer.cli.stdin import until_stdin_closes

ROOT = Path(__file__).resolve().parents[4]

#: A command that works until it is told to stop, or a moment; it says when it is let go of.
PROGRAM = """
import asyncio, sys
from syncer.cli import main
async def run(options):
    print("began", flush=True)
    try:
        await asyncio.sleep(float(sys.argv[1]))
    finally:
        print("ended", flush=True)
    return 7
from syncer.cli import rows
rows.run = run
sys.exit(main.main(["list", "--redis-url", "redis://h", *sys.argv[2:]]))
"""


def begun(*words: str) -> subprocess.Popen[bytes]:
    """A command with standard input open, that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    return process


@pytest.mark.parametrize(
    ("words", "typed", "code"),
    [
        pytest.param(["60", "--until-stdin-closes"], b"", 130, id="closed"),
        pytest.param(["60", "--until-stdin-closes"], b"words\n", 130, id="closed after some words"),
        pytest.param(["0.1", "--until-stdin-closes"], None, 7, id="done before"),
        pytest.param(["0.3"], b"", 7, id="not asked for"),
    ],
)
def test_the_end_of_input_is_the_end(words: list[str], typed: bytes | None, code: int) -> None:
    """What is under way is let go of in an orderly way; work that is done first ends as always."""
    with begun(*words) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if typed is not None:
            process.stdin.write(typed)
            process.stdin.close()
        assert process.wait(30) == code
        assert process.stdout.read() == b"ended\n"
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_input_that_was_never_open_has_ended() -> None:
    """As where a shell has closed it."""
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", PROGRAM, "60"]
    ended = subprocess.run(
        [*closed, "--until-stdin-closes"], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (130, b"began\nended\n")


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The end of a pipe whose other end is standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as ours, os.fdopen(write, "wb", buffering=0) as theirs:
        monkeypatch.setattr("sys.stdin", ours)
        yield theirs


async def test_work_that_is_let_go_of_has_ended(pipe: BinaryIO) -> None:
    """The code says so only when it has, also where it does not end as it was told."""
    steps: list[str] = []

    async def work() -> int:
        steps.append("began")
        pipe.write(b"words")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("ended")
            raise ValueError("while it ended")

    task = asyncio.create_task(until_stdin_closes(work()))
    while not steps:
        await asyncio.sleep(0)
    pipe.close()
    assert await asyncio.wait_for(task, 30) == 130
    assert steps == ["began", "ended"]


async def test_work_that_fails_first_has_its_own_error(pipe: BinaryIO) -> None:
    """Standard input may stay open."""
    fails = AsyncMock(side_effect=ValueError(-1))
    with pytest.raises(ValueError, match="-1"):
        await until_stdin_closes(fails())
    assert not pipe.closed
