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
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
import redis.exceptions

from tests.servers.ports import free_port
from tests.servers.process import ServerError, ServerProcess
from tests.servers.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.controlplane import ControlPlane
    from tests.servers.redis import Fsync

COMMAND = Path(__file__).parents[2] / "scripts" / "controlplane"

WIDGET_CRD = """
# A comment and a document marker, since a person writes these files.
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {size: {type: integer, maximum: 10}}}
"""


def config_map(name: str) -> dict[str, Any]:
    """Return the simplest object that there is."""
    return {"metadata": {"name": name}, "data": {"kept": "yes"}}


class TestControlPlane:
    """etcd and kube-apiserver."""

    async def test_says_why_a_crd_is_refused(
        self, control_plane: ControlPlane, tmp_path: Path
    ) -> None:
        """The API server's own words reach the person who wrote the file."""
        file = tmp_path / "crd.yaml"
        file.write_text(WIDGET_CRD.replace("widgets.example.com", "gadgets.example.com"))
        with pytest.raises(Exception, match=r"crd\.yaml is refused with 422.*metadata\.name"):
            await control_plane.apply_crd(file)

    async def test_a_killed_apiserver_refuses_connections_until_its_restart(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """SIGKILL leaves nothing listening, and the data in etcd; a kept connection is replaced."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await control_plane.request("POST", path, config_map("a"))
        api = control_plane.api
        kept = api._idle[-1]
        assert (api.request("GET", path).status, api._idle[-1]) == (200, kept)
        await control_plane.kill_apiserver()
        with pytest.raises(OSError, match="Cannot connect"):
            await control_plane.request("GET", f"{path}/a")
        with pytest.raises(OSError, match="refused"):
            api.request("GET", path)
        await control_plane.restart_apiserver()
        assert kept not in api._idle
        assert (await control_plane.request("GET", f"{path}/a"))[0] == 200


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


async def ask(url: str, *command: str) -> Any:
    """Send one command on a connection of its own and return the answer as text."""
    async with redis.asyncio.from_url(url, decode_responses=True, socket_timeout=0.5) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # vendor


class TestRedis:
    """The distribution's Redis, and Valkey."""

    @pytest.mark.parametrize("unix", [False, True], ids=["port", "socket"])
    @pytest.mark.parametrize("appendfsync", ["always", "everysec"])
    async def test_a_killed_server_keeps_its_data(
        self, redis_binary: Path, appendfsync: Fsync, *, unix: bool
    ) -> None:
        """A killed process loses nothing that it acknowledged, at the same address."""
        async with RedisServer(redis_binary, appendfsync=appendfsync, unix=unix) as server:
            assert await ask(server.url, "CONFIG", "GET", "appendfsync") == {
                "appendfsync": appendfsync
            }
            await ask(server.url, "SET", "key", "value")
            before = await ask(server.url, "INFO", "server")
            await server.kill()
            with pytest.raises(redis.exceptions.ConnectionError):
                await ask(server.url, "PING")
            await server.start()
            assert await ask(server.url, "GET", "key") == "value"
            after = await ask(server.url, "INFO", "server")
            assert after["run_id"] != before["run_id"]


class TestServerProcess:
    """What both are made of, shown on the smallest servers."""

    @staticmethod
    def of(tmp_path: Path, script: str) -> ServerProcess:
        """Return a server that is a line of shell."""
        return ServerProcess("tiny", ["/bin/sh", "-c", script], log=tmp_path / "log")

    def test_kills_a_server_that_is_never_ready(self, tmp_path: Path) -> None:
        """The deadline ends the wait and the process."""
        server = self.of(tmp_path, "sleep 1000")
        with pytest.raises(ServerError, match=r"did not be ready within 0\.2 s"):
            server.start(lambda: False, timeout=0.2)
        assert not server.running

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
