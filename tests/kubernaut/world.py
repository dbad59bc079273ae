"""
The machine as a test of Kubernaut sees it: addresses, paths and servers, all gone with the process.

`scripts/kubernaut` starts the process in a network, a mount table and a process table of its own. Here
names and folders are laid out in it as in a pod, and API server, Redis, data store and node are started.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.channels.receiver import Certificates
from tests.kubernaut.node import Node
from tests.kubernaut.store import SERVICE, Store
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = Path("/run/kubernaut")
STORE: Final = "127.0.0.3"
WEBHOOK: Final = "127.0.0.2"
OURS: Final = "notification-ledger"
_KUBECTL: Final = """#!/bin/sh
# kubectl; what it executes in a pod is executed where the process that plays it is, in its environment
case " $* " in *" exec "*) ;; *) exec {kubectl} "$@" ;; esac
while [ "$1" != -- ]; do [ "$before" = exec ] && pod="${{1#*/}}"; before="$1"; shift; done
shift
pid="$(cat "$(ls -v {folder}/"$pod".pid {folder}/"$pod"-[0-9]*.pid 2>/dev/null | tail -n 1)")"
set -- nsenter --target "$pid" --mount --uts -- "$@"
{{ cat "/proc/$pid/environ"; printf '%s\\0' "$@"; }} | xargs -0 env -i || exit 1
"""


@dataclass
class World:
    """What runs, and how commands reach it."""

    given: Mapping[str, Any]
    namespace: str
    plane: ControlPlane
    redis: RedisServer
    store: Store
    node: Node
    began: float = field(default_factory=time.monotonic)

    @property
    def environment(self) -> dict[str, str]:
        """Of a command that a person types."""
        return {
            **os.environ, "PATH": f"{FOLDER}/tools:{os.environ['PATH']}",
            "KUBECONFIG": str(self.plane.kubeconfig), "HELM_CACHE_HOME": f"{FOLDER}/helm",
        }  # fmt: skip

    def say(self, text: str) -> None:
        """Tell what comes next, and when."""
        print(f"{time.monotonic() - self.began:5.1f} s  {text}", flush=True)

    async def type(self, command: str, *, given: str = "", within: float = 600) -> str:
        """Run a command of the shell; returns what it prints, and fails where it does."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", command, env=self.environment, cwd=FOLDER,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            out, _ = await asyncio.wait_for(process.communicate(given.encode()), within)
        except TimeoutError:
            process.kill()
            raise AssertionError(f"not within {within:g} s: {command}") from None
        text = out.decode()
        if process.returncode != 0:
            raise AssertionError(f"{process.returncode} of:\n{command}\n{text[-3000:]}")
        return text


def lay_out(namespace: str, given: Mapping[str, Any]) -> None:
    """Have names, folders and tools as in a pod, on nobody's disk."""
    # Without a default route the API server finds no address of its own.
    for command in (
        "link set lo up", "link add eth0 type veth peer name eth1", "addr add 10.99.0.2/24 dev eth0",
        "link set eth1 up", "link set eth0 up", "route add default via 10.99.0.1",
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for place in ("etc", "tmp"):
        upper, work = FOLDER / place / "upper", FOLDER / place / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir=/{place},upperdir={upper},workdir={work}"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, f"/{place}"], check=True
        )
    names = f"{SERVICE} {SERVICE}.{namespace}.svc.cluster.local"
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{STORE} {names}\n{WEBHOOK} mock-webhook\n")
    Path("/etc/resolv.conf").write_text("")
    tools = FOLDER / "tools"
    tools.mkdir()
    (tools / "helm").symlink_to(given["helm"])
    (tools / "kubectl").write_text(
        _KUBECTL.format(kubectl=shlex.quote(given["kubectl"]), folder=FOLDER)
    )
    for name in ("notifier", "syncer"):
        (tools / name).write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {name} "$@"\n'
        )
    for file in tools.iterdir():
        if not file.is_symlink():
            file.chmod(0o755)


def keep(target: Path) -> None:
    """Copy the logs of all pods; not to `/tmp`, where nothing stays."""
    target.mkdir(parents=True, exist_ok=True)
    for log in FOLDER.glob("*.log"):
        shutil.copy(log, target)


@asynccontextmanager
async def world(
    given: Mapping[str, Any],
    namespace: str,
    images: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> AsyncIterator[World]:
    """Start what stands around the controllers, in a namespace without anything in it."""
    lay_out(namespace, given)
    plane = ControlPlane(Path(given["assets"]), gogc=400)
    redis = RedisServer(find_binary("redis-server"))
    node: asyncio.Task[None] | None = None
    try:
        await plane.start()
        await redis.start()
        await asyncio.to_thread(plane.api.create_namespace, namespace)
        api = f"/api/v1/namespaces/{namespace}"
        images = {**images, OURS: (["notifier"], ["run"])}
        nodes = Node(plane, namespace, FOLDER, images, FOLDER / "tools")
        await plane.request("POST", f"{api}/serviceaccounts", {"metadata": {"name": "default"}})
        store = Store(plane, namespace, nodes.token, readyz=given["version"] != "v1.5.7")
        (FOLDER / "ca").mkdir()
        certificates = Certificates(FOLDER / "ca")
        names = (f"{SERVICE}.{namespace}.svc.cluster.local", SERVICE, "localhost")
        tls = certificates.context("store", san=",".join(f"DNS:{name}" for name in names))
        map_ = {
            "metadata": {"name": "inter-service-ca"},
            "data": {"ca.crt": certificates.ca.read_text()},
        }
        await plane.request("POST", f"{api}/configmaps", map_)
        node = asyncio.create_task(nodes.run())
        async with store.listening(tls, (STORE, 8080), ("127.0.0.1", 30090)):
            yield World(given, namespace, plane, redis, store, nodes)
    finally:
        if node is not None:
            node.cancel()
            await asyncio.gather(node, return_exceptions=True)
        if kept := os.environ.get("KUBERNAUT_LOGS"):
            await asyncio.to_thread(keep, Path(kept))
        await asyncio.to_thread(redis.close)
        await asyncio.to_thread(plane.close)
