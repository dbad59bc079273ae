"""The real servers do what other tests rely on: answer, keep data, freeze, die, come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable


COMMAND = Path(__file__).parents[2] / "scripts" / "controlplane"


class TestCommand:
    """scripts/controlplane, as a person calls it."""

    @staticmethod
    def call(*arguments: str, assets: Path) -> subprocess.CompletedProcess[str]:
        """Run it, away from any virtual environment."""
        return subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBEBUILDER_ASSETS": str(assets)},
        )

    def test_up_status_down(self, control_plane_assets: Path, tmp_path: Path) -> None:
        """Both `up` and `down` may be repeated, and `up` brings back what has died."""
        folder = tmp_path / "plane"
        call = partial(self.call, "--dir", str(folder), assets=control_plane_assets)
        assert call("status").returncode == 3
        try:
            first = call("up")
            assert first.returncode == 0, first.stderr
            assert first.stdout == f"export KUBECONFIG={folder}/admin.kubeconfig\n"
            assert call("status").returncode == 0
            before = json.loads((folder / "processes.json").read_text())

            os.kill(before["kube-apiserver"]["pid"], signal.SIGKILL)
            assert eventually(lambda: call("status").returncode == 3)
            assert call("up").stdout == first.stdout
            assert call("up").stdout == first.stdout
            after = json.loads((folder / "processes.json").read_text())
            assert after["etcd"] == before["etcd"]
            assert after["kube-apiserver"] != before["kube-apiserver"]
        finally:
            down = call("down")
        assert down.returncode == 0, down.stderr
        assert not folder.exists()
        assert not command_lines_with(str(folder))
        assert call("down").returncode == 0


class TestServerProcess:
    """What both are made of, shown on the smallest servers."""

    @staticmethod
    def of(tmp_path: Path, script: str) -> ServerProcess:
        """Return a server that is a line of shell."""
        return ServerProcess("tiny", ["/bin/sh", "-c", script], log=tmp_path / "log")

    def test_no_server_outlives_the_tests(self, tmp_path: Path) -> None:
        """Even when the process that runs the tests is killed; nor do their children."""
        script = textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from tests.servers.process import ServerProcess
            mark, log = sys.argv[1], Path(sys.argv[2])
            server = ServerProcess("tiny", ["/bin/sh", "-c", f"sleep {mark}; :"], log=log)
            server.start(lambda: True, timeout=5)
            print("up", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        mark = f"1000.{free_port()}"
        run = subprocess.run(
            [sys.executable, "-c", script, mark, str(tmp_path / "log")],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
            timeout=30,
        )
        assert (run.returncode, run.stdout) == (-9, "up\n"), run.stderr
        assert eventually(lambda: not command_lines_with(mark))


def command_lines_with(text: str) -> list[str]:
    """Return the command lines of all processes that hold a text."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
