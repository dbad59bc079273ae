"""
docs/quickstart.md as a newcomer follows it: every block in order, in one shell, in a checkout of its own.

The shell begins with a PATH that has neither `notifier` nor `syncer`. What a first `scripts/demo` brings
is there: `.venv`. Ports and the cache folder are of the test's choosing. Where there is no `kubectl`, a
stand-in understands the few things that the page asks of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import OK, ROOT, Receiver
from tests.servers.ports import free_port

PAGE: Final = ROOT / "docs" / "quickstart.md"
_STEP: Final = re.compile(r"^<!-- step: (\w+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT: Final = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis", "dist", "node_modules"
)

pytestmark = pytest.mark.timeout(300)


async def test_quick_start(control_plane_assets: Path, tmp_path: Path) -> None:
    """Each step does what the page says that it does, and the last one leaves nothing behind."""
    checkout = tmp_path / "checkout"
    await asyncio.to_thread(shutil.copytree, ROOT, checkout, ignore=_LEFT)
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    steps = dict(_STEP.findall(PAGE.read_text()))
    assert list(steps) == ["servers", "files", "start", "hello", "fire", "mend", "around", "away"]
    # One shell for all, as at a terminal; what a step prints is told apart by its mark.
    waits = {"mend": "kubectl wait -n default --for=jsonpath='{.status.phase}'=Sent"
                     " --timeout=90s notificationrequest/fire >&2\n",
             "away": "wait\n"}  # fmt: skip
    script = "set -euo pipefail\n" + "".join(
        f"echo '== {name}'\n{text}\n{waits.get(name, '')}" for name, text in steps.items()
    )
    out = tmp_path / "out.txt"
    async with Receiver((OK,)) as receiver:
        env = _environment(tmp_path, control_plane_assets) | {"WEBHOOK": receiver.url}
        with out.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", script, cwd=checkout, stdin=asyncio.subprocess.DEVNULL, env=env,
                stdout=file, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            await asyncio.wait_for(process.wait(), 240)
        except TimeoutError:
            pytest.fail(f"the page does not come to its end:\n{out.read_text()[-3000:]}")
        finally:
            # Where the page was not followed to its end, its programs go on behind the shell.
            if process.returncode != 0:
                os.killpg(process.pid, signal.SIGKILL)
                down = await asyncio.create_subprocess_exec(
                    "scripts/controlplane", "down", cwd=checkout, env=env
                )
                await asyncio.wait_for(down.wait(), 60)
    text = out.read_text()
    log = checkout / "notifier.log"
    assert process.returncode == 0, text + (log.read_text()[-3000:] if log.exists() else "")
    said = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", text, re.MULTILINE | re.DOTALL))
    assert "log and status agree" in said["hello"]
    assert "success" in said["hello"]
    assert "pager" in said["fire"]
    assert "failed" in said["fire"]
    for name in ("hello", "fire"):
        assert re.search(rf"^default/{name} +Sent\b", said["around"], re.MULTILINE)
    assert 'notification_ledger_outcomes_total{state="success"} 2.0' in said["around"]
    assert len(re.findall(r"^nl:\{[-0-9a-f]+\}$", said["around"], re.MULTILINE)) == 2
    assert len(receiver.calls("Fire")) == 1
    for port in (env["REDIS_PORT"], env["HEALTH_PORT"]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), timeout=5)
    assert not (tmp_path / "cache" / "up").exists()


def _environment(folder: Path, assets: Path) -> dict[str, str]:
    """A shell as a newcomer has it, with ports and folders that nobody else uses."""
    own = str(Path(sys.executable).parent)
    found = [p for p in os.environ["PATH"].split(":") if p != own]
    if shutil.which("kubectl") is None:
        (folder / "bin").mkdir()
        stand_in = folder / "bin" / "kubectl"
        stand_in.write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.docs.kubectl "$@"\n'
        )
        stand_in.chmod(0o755)
        found.insert(0, str(folder / "bin"))
    return {
        "HOME": str(folder),
        "PATH": ":".join(found),
        "KUBEBUILDER_ASSETS": str(assets),
        "NOTIFICATION_LEDGER_CACHE": str(folder / "cache"),
        "HEALTH_PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
        "REDIS_PORT": str(free_port()),
        "LC_ALL": "C.UTF-8",
    }
