"""
A real Kubernetes control plane for tests: etcd and kube-apiserver, and nothing else.

Without a kube-controller-manager a namespace is never fully deleted, so tests take a fresh one each
and leave it behind.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import aiohttp

from .process import ServerError, ServerProcess, Started
from .recipe import Api, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

Program: TypeAlias = Literal["etcd", "kube-apiserver"]

#: Of an API server that collects less often: without one it took 13 GB in a long run.
MEMORY_LIMIT = "3GiB"
_ROOT = Path(__file__).resolve().parents[2]
_BUILD_TIMEOUT = 3600.0
_START_TIMEOUT = 90.0  # about 3 s on an idle machine
_CONTENT_TYPES = {"PATCH": "application/merge-patch+json"}


def built_programs() -> Path:
    """
    Return the folder with etcd and kube-apiserver, which the first use builds in minutes. Blocks.

    Raises:
        ServerError: they could not be had; standard error says why.
    """
    answer = subprocess.run(
        [sys.executable, _ROOT / "scripts" / "controlplane", "assets"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_BUILD_TIMEOUT,
    )
    if answer.returncode != 0:
        raise ServerError("scripts/controlplane could not bring etcd and kube-apiserver, see above")
    return Path(answer.stdout.strip())


class ControlPlane(Started):
    """
    One etcd and one kube-apiserver on loopback ports, with their data in a temporary directory.

    ``launch`` and ``close`` block and need no event loop; fixtures use them. Coroutines have the
    rest, and ``async with``. Data stays over ``stop`` and ``start``; ``close`` deletes it. Tests
    share the one of the fixture ``control_plane``.

    Attributes:
        server: URL of the API server.
        ca_file: certificate to verify it with.
        kubeconfig: for a user who may do everything; his token is ``admin_token``.
        controller_kubeconfig: for a user with exactly the rights that upstream's chart gives its
            controller; his token is ``controller_token``.
        api: blocking client for what fixtures prepare; coroutines use ``request``.
    """

    def __init__(self, assets: Path, *, gogc: int | None = None, bare: bool = False) -> None:
        """
        Choose ports and tokens; nothing runs yet.

        Args:
            assets: directory that holds both programs (``scripts/controlplane assets``).
            gogc: Go's garbage collector setting for the API server. 400 makes status patches about
                60 % faster and doubles its memory: for load tests. Near ``MEMORY_LIMIT`` it
                collects more often all the same.
            bare: without what only clusters with nodes and users need, where that decides nothing: rights,
                admission policies, most groups of the API. It takes half the CPU to start.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="controlplane-"))
        self._recipe = recipe = Recipe.create(self._directory, bare=bare)
        _make_certificate(recipe)
        self.api = Api(recipe)
        env = {"GOGC": str(gogc), "GOMEMLIMIT": MEMORY_LIMIT} if gogc is not None else {}
        self._processes = {
            program: ServerProcess(program, argv, log=recipe.log(program), env=env)
            for program, argv in recipe.commands(assets).items()
        }
        self.server = recipe.server
        self.ca_file = recipe.ca_file
        self.kubeconfig = recipe.kubeconfig
        self.controller_kubeconfig = recipe.controller_kubeconfig
        self.admin_token = recipe.admin_token
        self.controller_token = recipe.controller_token

    def launch(self) -> None:
        """Start both programs, wait until they are ready, grant the controller's rights."""
        for program in self._processes:
            self._launch(program)
        self.api.grant()
        self.api.wait_served()

    def close(self) -> None:
        """End both programs at once and delete their data."""
        self.api.close()
        for process in reversed(self._processes.values()):
            process.kill()  # not the polite way: nothing of this is kept, and it saves 2 s
        shutil.rmtree(self._directory, ignore_errors=True)

    def heal(self) -> None:
        """Undo what a test did: wake what is frozen, start what is dead, wait for it."""
        for program, process in self._processes.items():
            if process.running:
                process.resume()
            else:
                self._launch(program)
        if self.api.serves_notifications():
            return  # one question in the place of a dozen: this is asked before each test
        self._processes["kube-apiserver"].wait_until(
            self.api.ready,
            what="be ready again",
            timeout=_START_TIMEOUT,
        )
        self.api.wait_served()

    def rest(self) -> None:
        """Freeze both programs until `wake` or `heal`; at rest they would take CPU all the same."""
        for process in reversed(self._processes.values()):
            if process.running:
                process.freeze()

    def wake(self) -> None:
        """Wake both programs, if they rest."""
        for process in self._processes.values():
            if process.running:
                process.resume()

    async def stop(self) -> None:
        """Stop both programs politely, the API server first; it takes 2 s."""
        for process in reversed(self._processes.values()):
            await asyncio.to_thread(process.terminate)

    async def kill_apiserver(self) -> None:
        """End the API server with SIGKILL; open watches break in the middle of a line."""
        await asyncio.to_thread(self._processes["kube-apiserver"].kill)

    async def restart_apiserver(self) -> None:
        """
        Stop the API server politely if it runs, start it again, wait until it serves all again.

        Address, certificate and tokens stay. Watches at an older resourceVersion have expired.
        """
        await asyncio.to_thread(self._processes["kube-apiserver"].terminate)
        await asyncio.to_thread(self.heal)

    async def pause(self, program: Program) -> None:
        """Freeze one program; it keeps its connections and says nothing."""
        await asyncio.to_thread(self._processes[program].pause)

    async def resume(self, program: Program) -> None:
        """Wake a frozen program."""
        await asyncio.to_thread(self._processes[program].resume)

    async def full(self, full: bool) -> None:
        """Have etcd refuse all writes as one whose space is used up, or accept them again."""
        member = (await self.etcd("maintenance/status", {}))["header"]["member_id"]
        action = "ACTIVATE" if full else "DEACTIVATE"
        alarm = {"action": action, "memberID": member, "alarm": "NOSPACE"}
        await self.etcd("maintenance/alarm", alarm)

    async def etcd(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Ask etcd's gateway, behind the API server's back; bytes are in base64 there."""
        url = f"http://127.0.0.1:{self._recipe.etcd_port}/v3/{path}"
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.request("POST", url, json=question, timeout=timeout) as answer:
            assert answer.status == 200, f"etcd answers {await answer.text()}"
            found: dict[str, Any] = await answer.json(content_type=None)
            return found

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | list[Any] | str | None = None,
        *,
        content_type: str | None = None,
        token: str | None = None,
        within: float = 30,
    ) -> tuple[int, Any]:
        """
        Send one request and return the status and the answer, parsed if it is JSON.

        Args:
            method: HTTP method.
            path: path and query.
            body: what to send as JSON; a string is sent as it is.
            content_type: JSON by default, JSON merge patch for PATCH.
            token: the administrator's by default.
            within: seconds for all of it.
        """
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=within)) as session,
            session.request(
                method,
                self.server + path,
                data=body if body is None or isinstance(body, str) else json.dumps(body),
                headers={
                    "Authorization": f"Bearer {token or self.admin_token}",
                    "Content-Type": content_type or _CONTENT_TYPES.get(method, "application/json"),
                },
                ssl=ssl.create_default_context(cafile=str(self.ca_file)),
            ) as response,
        ):
            text = await response.text()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(text) if is_json else text

    def _launch(self, program: str) -> None:
        ready = self.api.ready if program == "kube-apiserver" else self._etcd_listens
        self._processes[program].start(ready, timeout=_START_TIMEOUT)

    def _etcd_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._recipe.etcd_port), timeout=1).close()
        except OSError:
            return False
        return True


def _make_certificate(recipe: Recipe) -> None:
    """Give the API server an elliptic key: to make an RSA one, and to sign with it, takes it longer."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", recipe.key_file, "-out", recipe.ca_file, "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
