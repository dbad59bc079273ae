"""The real servers do what other tests rely on: answer, keep data, freeze, die, come back."""

from __future__ import annotations

import asyncio
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
import yaml

from tests.servers.ports import free_port
from tests.servers.process import ServerError, ServerProcess, _thread_states
from tests.servers.recipe import Recipe
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


def is_frozen(pid: int) -> bool:
    """Whether every thread of a process stands still."""
    return _thread_states(pid) == {"T"}


def config_map(name: str) -> dict[str, Any]:
    """Return the simplest object that there is."""
    return {"metadata": {"name": name}, "data": {"kept": "yes"}}


class TestControlPlane:
    """etcd and kube-apiserver."""

    async def test_serves_the_pinned_version(self, control_plane: ControlPlane) -> None:
        """The program is the one that go.mod names, and says so."""
        go_mod = Path(__file__).parents[2] / "scripts" / "go" / "go.mod"
        status, version = await control_plane.request("GET", "/version")
        assert status == 200
        assert f"\tk8s.io/kubernetes {version['gitVersion']}\n" in go_mod.read_text()

    async def test_a_namespace_is_fresh(self, control_plane: ControlPlane, namespace: str) -> None:
        """Nothing is in it, and objects can be made in it at once."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        _, listed = await control_plane.request("GET", path)
        assert listed["items"] == []
        status, _ = await control_plane.request("POST", path, config_map("a"))
        assert status == 201

    async def test_applies_a_crd_twice(
        self, control_plane: ControlPlane, namespace: str, tmp_path: Path
    ) -> None:
        """A CRD is served when apply_crd returns, and a second file changes it."""
        file = tmp_path / "crd.yaml"
        file.write_text(WIDGET_CRD)
        await control_plane.apply_crd(file)
        path = f"/apis/example.com/v1/namespaces/{namespace}/widgets"
        status, listed = await control_plane.request("GET", path)
        assert (status, listed["items"]) == (200, [])

        file.write_text(WIDGET_CRD.replace("maximum: 10", "maximum: 20"))
        await control_plane.apply_crd(file)
        _, crd = await control_plane.request(
            "GET",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
        )
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert schema["properties"]["spec"]["properties"]["size"]["maximum"] == 20

    async def test_says_why_a_crd_is_refused(
        self, control_plane: ControlPlane, tmp_path: Path
    ) -> None:
        """The API server's own words reach the person who wrote the file."""
        file = tmp_path / "crd.yaml"
        file.write_text(WIDGET_CRD.replace("widgets.example.com", "gadgets.example.com"))
        with pytest.raises(Exception, match=r"crd\.yaml is refused with 422.*metadata\.name"):
            await control_plane.apply_crd(file)

    async def test_the_controller_has_upstreams_rights_and_two_verbs_more(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """The rules as the API server sees them for the controller's token."""
        status, review = await control_plane.request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            {"spec": {"namespace": namespace}},
            token=control_plane.controller_token,
        )
        assert status == 201
        granted = {
            resource: set(rule["verbs"])
            for rule in review["status"]["resourceRules"]
            for resource in rule["resources"]
            if rule["apiGroups"][0] not in {"authorization.k8s.io", "authentication.k8s.io"}
        }
        every_verb = {"get", "list", "watch", "create", "update", "patch", "delete"}
        assert granted == {
            "notificationrequests": every_verb,
            "notificationrequests/status": {"get", "update", "patch", "record", "correct"},
            "notificationrequests/finalizers": {"update"},
            "events": {"create", "patch"},
            "leases": every_verb,
            "validatingadmissionpolicies": {"get"},
            "validatingadmissionpolicybindings": {"get"},
        }

    async def test_the_controller_is_refused_elsewhere(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """A right that it lacks is a 403, a wrong token a 401."""
        path = f"/api/v1/namespaces/{namespace}/secrets"
        token = control_plane.controller_token
        assert (await control_plane.request("GET", path, token=token))[0] == 403
        stranger = "x" * len(token)
        assert (await control_plane.request("GET", path, token=stranger))[0] == 401

    @pytest.mark.parametrize("user", ["admin", "controller"])
    async def test_kubeconfigs_lead_to_the_server(
        self, control_plane: ControlPlane, user: str
    ) -> None:
        """Address, certificate and token in the file are the right ones."""
        file = {
            "admin": control_plane.kubeconfig,
            "controller": control_plane.controller_kubeconfig,
        }[user]
        config = yaml.safe_load(file.read_text())
        cluster, login = config["clusters"][0]["cluster"], config["users"][0]["user"]
        assert cluster == {
            "server": control_plane.server,
            "certificate-authority": str(control_plane.ca_file),
        }
        status, _ = await control_plane.request("GET", "/readyz", token=login["token"])
        assert status == 200
        assert file.stat().st_mode & 0o077 == 0

    async def test_a_restart_keeps_data_and_address(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """Only the process is a new one."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await control_plane.request("POST", path, config_map("a"))
        await control_plane.restart_apiserver()
        status, found = await control_plane.request("GET", f"{path}/a")
        assert (status, found["data"]) == (200, {"kept": "yes"})

    async def test_stop_and_start_keep_data_too(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """Both programs may go; only ``close`` deletes what they wrote."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await control_plane.request("POST", path, config_map("a"))
        await control_plane.stop()
        await control_plane.start()
        assert (await control_plane.request("GET", f"{path}/a"))[0] == 200

    async def test_a_killed_apiserver_refuses_connections_until_its_restart(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """SIGKILL leaves nothing listening, and the data in etcd; a kept connection is replaced."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await control_plane.request("POST", path, config_map("a"))
        api = control_plane.api
        (kept,) = api._idle
        assert (api.request("GET", path).status, api._idle) == (200, [kept])
        await control_plane.kill_apiserver()
        with pytest.raises(OSError, match="Cannot connect"):
            await control_plane.request("GET", f"{path}/a")
        with pytest.raises(OSError, match="refused"):
            api.request("GET", path)
        await control_plane.restart_apiserver()
        assert kept not in api._idle
        assert (await control_plane.request("GET", f"{path}/a"))[0] == 200

    async def test_a_paused_apiserver_is_silent(self, control_plane: ControlPlane) -> None:
        """It takes the connection, says nothing, and goes on after it is woken."""
        await control_plane.pause("kube-apiserver")
        try:
            with pytest.raises(TimeoutError):
                await control_plane.request("GET", "/readyz", within=1)
        finally:
            await control_plane.resume("kube-apiserver")
        assert (await control_plane.request("GET", "/readyz"))[0] == 200

    async def test_a_paused_etcd_stops_writes(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """The API server is alive and cannot write; a moment later it can."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await control_plane.pause("etcd")
        try:
            late = await control_plane.request("POST", f"{path}?timeout=1s", config_map("a"))
            assert late[0] == 504
        finally:
            await control_plane.resume("etcd")
        status, _ = await control_plane.request("POST", path, config_map("b"))
        assert status == 201

    async def test_rests_until_it_is_woken(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        """Both programs stand still, and serve again after `wake` and after `heal`."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        for waking in (control_plane.wake, control_plane.heal):
            control_plane.rest()
            for process in control_plane._processes.values():
                assert await asyncio.to_thread(eventually, partial(is_frozen, process.pid))
            await asyncio.to_thread(waking)
            assert (await control_plane.request("POST", path, config_map("a")))[0] in {201, 409}

    async def test_heals(self, control_plane: ControlPlane) -> None:
        """What one test broke does not meet the next one."""
        await control_plane.pause("etcd")
        await control_plane.kill_apiserver()
        await asyncio.to_thread(control_plane.heal)
        assert (await control_plane.request("GET", "/readyz"))[0] == 200


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

    def test_assets_prints_the_folder_alone(self, tmp_path: Path) -> None:
        """Callers take standard output as it is; given programs are not looked into."""
        for program in ("etcd", "kube-apiserver"):
            (tmp_path / program).touch(mode=0o755)
        answer = self.call("assets", assets=tmp_path)
        assert (answer.returncode, answer.stdout) == (0, f"{tmp_path}\n")

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

    def test_down_spares_a_stranger_with_a_stored_pid(
        self, control_plane_assets: Path, tmp_path: Path
    ) -> None:
        """Pids are used again: only the stored command line proves who a process is."""
        folder = tmp_path / "plane"
        Recipe.create(folder)
        stranger = subprocess.Popen(["sleep", "60"])
        stored = {"etcd": {"pid": stranger.pid, "argv": ["etcd", "--name=main"]}}
        (folder / "processes.json").write_text(json.dumps(stored))
        try:
            assert (
                self.call("down", "--dir", str(folder), assets=control_plane_assets).returncode == 0
            )
            assert not folder.exists()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_leaves_a_folder_alone_that_is_not_its_own(
        self, control_plane_assets: Path, tmp_path: Path
    ) -> None:
        """Neither `up` nor `down` touches it."""
        (tmp_path / "thesis").write_text("years of work")
        up = self.call("up", "--dir", str(tmp_path), assets=control_plane_assets)
        assert up.returncode == 1
        assert "choose another --dir" in up.stderr
        self.call("down", "--dir", str(tmp_path), assets=control_plane_assets)
        assert [file.name for file in tmp_path.iterdir()] == ["thesis"]


async def ask(url: str, *command: str) -> Any:
    """Send one command on a connection of its own and return the answer as text."""
    async with redis.asyncio.from_url(url, decode_responses=True, socket_timeout=0.5) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # vendor


class TestRedis:
    """The distribution's Redis, and Valkey."""

    async def test_answers(self, redis_url: str) -> None:
        """The address works, and the server is empty."""
        assert await ask(redis_url, "DBSIZE") == 0
        assert await ask(redis_url, "SET", "key", "value")

    async def test_is_emptied_for_each_test(self, redis_url: str) -> None:
        """The key of the test before is gone."""
        await self.test_answers(redis_url)

    async def test_is_what_its_name_says(self, redis_url: str, redis_binary: Path) -> None:
        """The two programs are really two."""
        info = await ask(redis_url, "INFO", "server")
        assert (info.get("server_name") == "valkey") == (redis_binary.name == "valkey-server")

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

    async def test_a_restarted_server_keeps_its_data(self, redis_binary: Path) -> None:
        """The polite way does, too."""
        async with RedisServer(redis_binary) as server:
            await ask(server.url, "SET", "key", "value")
            await server.restart()
            assert await ask(server.url, "GET", "key") == "value"

    async def test_without_a_file_a_restart_loses_the_data(self, redis_binary: Path) -> None:
        """The option for tests of a Redis that cannot hold what it promises."""
        async with RedisServer(redis_binary, appendonly=False) as server:
            await ask(server.url, "SET", "key", "value")
            await server.restart()
            assert await ask(server.url, "GET", "key") is None

    async def test_takes_settings(self, redis_binary: Path) -> None:
        """Any line of redis.conf can be given."""
        async with RedisServer(redis_binary, settings={"maxmemory": "2mb"}) as server:
            answer = await ask(server.url, "CONFIG", "GET", "maxmemory")
            assert answer == {"maxmemory": str(2 << 20)}

    async def test_a_paused_server_is_silent(
        self, redis_server: RedisServer, redis_url: str
    ) -> None:
        """It takes the connection, says nothing, and goes on after it is woken."""
        await redis_server.pause()
        try:
            with pytest.raises(redis.exceptions.TimeoutError):
                await ask(redis_url, "PING")
        finally:
            await redis_server.resume()
        assert await ask(redis_url, "PING")

    async def test_heals(self, redis_server: RedisServer, redis_url: str) -> None:
        """What one test broke does not meet the next one."""
        for harm in (redis_server.pause, redis_server.kill):
            await harm()
            await asyncio.to_thread(redis_server.heal)
            assert await ask(redis_url, "PING")


class TestServerProcess:
    """What both are made of, shown on the smallest servers."""

    @staticmethod
    def of(tmp_path: Path, script: str) -> ServerProcess:
        """Return a server that is a line of shell."""
        return ServerProcess("tiny", ["/bin/sh", "-c", script], log=tmp_path / "log")

    def test_says_what_a_server_logged_that_ended_too_soon(self, tmp_path: Path) -> None:
        """Nobody has to look for a log file, and nobody waits for the deadline."""
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"(?s)ended \(exit code 3\).*no such port"):
            self.of(tmp_path, "echo no such port; exit 3").start(lambda: False, timeout=60)
        assert time.monotonic() - began < 10

    def test_ends_a_server_that_is_quick(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may have ended before it would be woken, in case it was frozen."""
        server = self.of(tmp_path, "exec sleep 1000")
        server.start(lambda: True, timeout=10)
        pid, send = server.pid, os.killpg

        def send_and_wait(group: int, number: int) -> None:
            send(group, number)
            if number == signal.SIGTERM:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays to be waited for

        monkeypatch.setattr(os, "killpg", send_and_wait)
        server.terminate()
        assert not server.running

    def test_kills_a_server_that_is_never_ready(self, tmp_path: Path) -> None:
        """The deadline ends the wait and the process."""
        server = self.of(tmp_path, "sleep 1000")
        with pytest.raises(ServerError, match=r"did not be ready within 0\.2 s"):
            server.start(lambda: False, timeout=0.2)
        assert not server.running

    def test_ends_a_frozen_server_politely(self, tmp_path: Path) -> None:
        """SIGTERM reaches a frozen process only when it is woken."""
        server = self.of(tmp_path, "trap 'echo bye; exit' TERM; echo up; while :; do :; done")
        server.start(lambda: "up" in server.log.read_text(), timeout=10)
        server.pause()
        server.terminate(timeout=10)
        assert server.log.read_text().split() == ["up", "bye"]

    def test_reports_a_server_that_ignores_sigterm(self, tmp_path: Path) -> None:
        """It is killed all the same."""
        server = self.of(tmp_path, "trap '' TERM; echo up; while :; do :; done")
        server.start(lambda: "up" in server.log.read_text(), timeout=10)
        with pytest.raises(ServerError, match="ignored SIGTERM"):
            server.terminate(timeout=0.2)
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


class TestPorts:
    """Addresses for servers that will be stopped and started again."""

    def test_never_the_same_twice_and_never_an_ephemeral_one(self) -> None:
        """An outgoing connection cannot take the port of a stopped server."""
        ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        ports = [free_port() for _ in range(200)]
        assert len(set(ports)) == 200
        assert max(ports) < ephemeral

    def test_another_process_is_not_given_the_same(self) -> None:
        """A port is kept for the process that was given it, although nothing listens there yet."""
        port = free_port()
        script = f"from tests.servers import ports; print(ports._can_bind({port}), ports._reserve({port}))"
        answer = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert answer.stdout == "True False\n"


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
