"""
docs/quickstart.md as a newcomer follows it: every block in order, in one shell's directory.

Only the servers are others: those of the tests instead of the page's first block. Where there is no
`kubectl`, a stand-in understands the few things that the page asks of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import OK, ROOT, Receiver
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port

PAGE: Final = ROOT / "docs" / "quickstart.md"
_STEP: Final = re.compile(r"^<!-- step: (\w+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]


async def test_quick_start(
    control_plane: ControlPlane, namespace: str, redis_url: str, tmp_path: Path
) -> None:
    """Each step does what the page says that it does."""
    receiver = Receiver((OK,))
    await receiver.start()
    steps = dict(_STEP.findall(PAGE.read_text()))
    assert list(steps) == ["files", "start", "hello", "fire", "mend", "around"]
    # One shell for all, as at a terminal; what a step prints is told apart by its mark.
    waits = {"mend": 'kubectl wait -n "$NAMESPACE" --for=jsonpath="{.status.phase}"=Sent'
                     " --timeout=90s notificationrequest/fire >&2\n"}  # fmt: skip
    script = "set -euo pipefail\n" + "".join(
        f"echo '== {name}'\n{text}\n{waits.get(name, '')}" for name, text in steps.items()
    )
    out = tmp_path / "out.txt"
    with out.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL,
            env=_environment(control_plane, namespace, redis_url)
            | {"WEBHOOK": receiver.url, "PATH": _path(tmp_path)},
            stdout=file, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        await asyncio.wait_for(process.wait(), 180)
    except TimeoutError:
        pytest.fail(f"the page does not come to its end:\n{out.read_text()[-3000:]}")
    finally:
        # The controller goes on behind the shell; it is in the shell's group.
        os.killpg(process.pid, signal.SIGKILL)
        await receiver.close()
    text = out.read_text()
    assert process.returncode == 0, text + (tmp_path / "notifier.log").read_text()[-3000:]
    said = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", text, re.MULTILINE | re.DOTALL))
    assert "log and status agree" in said["hello"]
    assert "success" in said["hello"]
    assert "pager" in said["fire"]
    assert "failed" in said["fire"]
    for name in ("hello", "fire"):
        assert re.search(rf"^{namespace} +{name} +Sent\b", said["around"], re.MULTILINE)
    assert 'notification_ledger_outcomes_total{state="success"} 2.0' in said["around"]
    assert len(re.findall(r"^nl:\{[-0-9a-f]+\}$", said["around"], re.MULTILINE)) == 2
    assert len(receiver.calls("Fire")) == 1


def _environment(plane: ControlPlane, namespace: str, redis_url: str) -> dict[str, str]:
    return {
        "HOME": os.environ.get("HOME", "/"),
        "KUBECONFIG": str(plane.kubeconfig),
        "NAMESPACE": namespace,
        "REDIS_URL": redis_url,
        "HEALTH_PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
    }


def _path(folder: Path) -> str:
    """The commands of the page, with a stand-in for `kubectl` where there is none."""
    found = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if shutil.which("kubectl") is None:
        own = folder / "bin"
        own.mkdir()
        stand_in = own / "kubectl"
        stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.docs.kubectl "$@"\n')
        stand_in.chmod(0o755)
        found.insert(0, str(own))
    return ":".join(found)
