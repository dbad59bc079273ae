"""Following: `tail -f` as a process of its own, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.harness import BUSY, OK, Stage, until
from tests.integration.operating import NO_SWEEPS, Operator, owner
from tests.unit.syncer.kubectl.stand_in import PLUGIN, StandIn, on_path

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

ROOT: Final = Path(__file__).resolve().parents[2]
#: Seconds for a line to come; the command's own imports are among them.
_PATIENCE: Final = 30.0
RETRY: Final = {"maxAttempts": 3, "initialBackoffSeconds": 1, "maxBackoffSeconds": 60}


@asynccontextmanager
async def running(here: Stage, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of this installation, by a shell's way: variables say where to look."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "syncer", *words, "-o", "json", "--until-stdin-closes",
        "--key-prefix", here.prefix, cwd=ROOT,
        env={**os.environ, "REDIS_URL": here.redis_url, "KUBECONFIG": str(here.plane.kubeconfig)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next line of its answer."""
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE):
        return dict(json.loads(await process.stdout.readline()))


async def test_attempts_are_followed_and_gone_on_with(
    here: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The past, then each result soon after it is recorded; a time is where to go on from."""
    here.script("b", BUSY, OK)
    operator = Operator(here, capsys)
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await here.wait_phase(await here.create("a"))
        async with running(here, "tail", "-f", "-n", here.namespace) as tail:
            first = await line(tail)
            assert (first["object"], first["state"]) == (f"{here.namespace}/a", "success")
            await here.create("b", retryPolicy=RETRY)
            failed, sent = await line(tail), await line(tail)
            assert [(e["object"], e["state"], e["code"]) for e in (failed, sent)] == [
                (f"{here.namespace}/b", "failed", 503), (f"{here.namespace}/b", "success", 200),
            ]  # fmt: skip
            assert failed["due"]
            assert tail.stdin is not None
            tail.stdin.close()
            async with asyncio.timeout(_PATIENCE):
                assert await tail.communicate() == (b"", b"")
            assert tail.returncode == 130
        await here.wait_phase(await here.create("c"))
        after = await operator.run(
            "tail", "-o", "json", "-n", here.namespace, "--since", sent["at"]
        )
        assert [line["object"].partition("/")[2] for line in after.lines] == ["b", "c"]
        text = await operator.run("tail", "-n", here.namespace)
    head, row, *_ = text.out.splitlines()
    assert head.split() == [
        "UTC",
        "NOTIFICATION",
        "SEVERITY",
        "CHANNEL",
        "RESULT",
        "SUBJECT",
        "DETAIL",
    ]
    assert " success " in row


@pytest.fixture
def laptop(here: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A machine with a kubectl, whose command in the pod is the real one, here."""
    kubectl = on_path(monkeypatch, tmp_path / "bin")
    kubectl.does("exec", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    program = kubectl.folder / "syncer"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m syncer "$@" --key-prefix {here.prefix}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("REDIS_URL", here.redis_url)
    monkeypatch.setenv("KUBECONFIG", str(here.plane.kubeconfig))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return kubectl


async def plugin(
    *words: str, stdin: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start `kubectl ledger`."""
    return await asyncio.create_subprocess_exec(
        PLUGIN, *words, cwd=ROOT, stdin=stdin, start_new_session=True,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def following(here: Stage) -> list[bytes]:
    """Command lines of processes that follow this installation."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if here.prefix.encode() in line and b"--until-stdin-closes" in line:
                    found.append(line)
    return found


async def test_the_plugin_and_the_command_understand_each_other(
    here: Stage, laptop: StandIn
) -> None:
    """What the plugin adds is what the command takes; its answer and its code come back."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await here.wait_phase(await here.create("a"))
        for words, code, part in (
            (["list", "-n", here.namespace, "-o", "json"], 0, '"name": "a"'),
            (["explain", f"{here.namespace}/none"], 3, "there is no object"),
        ):
            process = await plugin(*words)
            async with asyncio.timeout(_PATIENCE):
                out, err = await process.communicate()
            said = (out + err).decode()
            assert (process.returncode, part in said) == (code, True), said
        assert "--until-stdin-closes" not in laptop.asked[-1]
        terminal, theirs = pty.openpty()
        tail = await plugin("tail", "-f", "-n", here.namespace, stdin=theirs)
        os.close(theirs)
        try:
            assert tail.stdout is not None
            async with asyncio.timeout(_PATIENCE):
                assert (await tail.stdout.readline()).split()[:2] == [b"UTC", b"NOTIFICATION"]
            assert following(here)
        finally:
            # As kubectl's end closes the input in the pod; the plugin itself cannot end that command.
            tail.kill()
            os.close(terminal)
            await tail.wait()
        await until(lambda: not following(here), "nothing is left of it", within=_PATIENCE)
