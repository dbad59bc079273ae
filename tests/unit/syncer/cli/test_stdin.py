"""A command that ends when its standard input does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
main.COMMANDS["list"].run = run
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
