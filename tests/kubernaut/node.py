"""
What plays controller manager and node: pods of Deployments as processes, Jobs run or waved through.

The API server is real and no container is: so a pod is a process with the files, environment, token and
paths that its specification says, in mount and host-name namespaces of its own. A Deployment is rolled as
its strategy says (a new pod is ready before an old one ends), ends its pods by SIGTERM and, after the grace
period, by SIGKILL, and restarts what ended by itself. Whoever watches or waits, such as Helm and `kubectl
rollout status`, reads the statuses written here.

Pods share one network. The first has the ports of its files; one that begins beside it gets others, in its
files and arguments alone. Only pods whose image is known run; a Job of another is complete at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.servers.controlplane import ControlPlane

ROOT: Final = Path(__file__).resolve().parents[2]
TOKENS: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
#: What a pod of our image runs; each is a command of the image.
OURS: Final = {name: [sys.executable, "-m", name] for name in ("notifier", "syncer")}
Json = dict[str, Any]


@dataclass
class Pod:
    """
    One process.

    Attributes:
        slot: which ports it has: those of its files, plus this.
        took: seconds until it was ready first.
    """

    name: str
    owner: str
    spec: Json
    template: str
    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)
    took: float | None = None
    ready: bool = False
    ending: asyncio.Task[None] | None = None


class Node:
    """
    Runs what a namespace says.

    Attributes:
        images: what an image runs, by a part of its name: the command, and the arguments without any.
        restarts: names of pods that ended by themselves.
        history: every pod that ever ran.
    """

    def __init__(
        self, plane: ControlPlane, namespace: str, folder: Path,
        images: Mapping[str, tuple[Sequence[str], Sequence[str]]], tools: Path,
    ) -> None:  # fmt: skip
        self.images = dict(images)
        self.restarts: list[str] = []
        self.history: list[Pod] = []
        self._plane = plane
        self._namespace = namespace
        self._folder = folder
        self._tools = tools
        self._pods: list[Pod] = []
        self._shown: dict[str, Json] = {}
        self._numbers = itertools.count(1)
        self._jobs: set[str] = set()

    def pods(self, owner: str = "") -> list[Pod]:
        """Those that run, of a Deployment or of all."""
        return [p for p in self._pods if owner in ("", p.owner)]

    async def run(self) -> None:
        """Keep the namespace as it is wanted, until cancelled; then every pod is killed."""
        try:
            while True:
                for kind in ("deployments", "jobs"):
                    group = "apps" if kind == "deployments" else "batch"
                    found = await self.get(f"/apis/{group}/v1/namespaces/{self._namespace}/{kind}")
                    items = found.get("items", [])
                    if kind == "jobs":
                        for job in items:
                            await self._job(job)
                    else:
                        await self._gone({d["metadata"]["name"] for d in items})
                        for deployment in items:
                            await self._deployment(deployment)
                await asyncio.sleep(0.1)
        except Exception:
            traceback.print_exc()  # whoever waits for this waits in vain
            raise
        finally:
            for pod in self._pods:
                pod.process.kill()

    # -- Deployments ------------------------------------------------------------------------------

    async def _gone(self, names: set[str]) -> None:
        for pod in self._pods:
            if pod.owner not in names:
                self._end(pod)

    async def _deployment(self, deployment: Json) -> None:
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        container = spec["template"]["spec"]["containers"][0]
        if self._program(container) is None:
            return
        template, wanted = json.dumps(spec["template"], sort_keys=True), spec.get("replicas", 1)
        for pod in self.pods(name):
            if pod.process.poll() is not None and pod.ending is None:
                self.restarts.append(pod.name)
                await self._forget(pod)
                await asyncio.sleep(0.5)
            elif pod.ending is None:
                await self._probe(pod, container)
        mine = [p for p in self.pods(name) if p.ending is None]
        current = [p for p in mine if p.template == template]
        for _ in range(wanted - len(current)):
            with contextlib.suppress(LookupError):  # the next round looks for it again
                await self._start(name, spec["template"], template)
        for pod in current[wanted:]:
            self._end(pod)
        ready = [p for p in current[:wanted] if p.ready]
        if len(ready) == wanted:
            for pod in mine:
                if pod.template != template:
                    self._end(pod)
        running = self.pods(name)
        all_ready = len([p for p in running if p.ready])
        status: Json = {
            "observedGeneration": deployment["metadata"]["generation"], "replicas": len(running),
            "updatedReplicas": len([p for p in running if p.template == template]),
            "readyReplicas": all_ready, "availableReplicas": all_ready,
            "unavailableReplicas": max(0, wanted - all_ready),
            "conditions": [
                {"type": "Available", "status": str(all_ready >= wanted)},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            ],
        }  # fmt: skip
        if self._shown.get(name) != status:
            self._shown[name] = status
            path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{name}/status"
            await self.patch(path, {"status": status})

    def _program(self, container: Json) -> tuple[Sequence[str], Sequence[str]] | None:
        return next((p for part, p in self.images.items() if part in container["image"]), None)

    async def _start(self, owner: str, template: Json, hashed: str) -> None:
        name = f"{owner}-{next(self._numbers)}"
        taken = {p.slot for p in self._pods}
        slot = next(n for n in itertools.count() if n not in taken)
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        spec, log = template["spec"], self._folder / f"{name}.log"
        process = await self._launch(name, spec, slot, log)
        labels = template["metadata"].get("labels", {})
        await self._send("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        pod = Pod(name, owner, spec, hashed, slot, process, log)
        self._pods.append(pod)
        self.history.append(pod)
        (self._folder / f"{name}.pid").write_text(str(pod.process.pid))
        await self.patch(f"{path}/{name}/status", {"status": {"phase": "Running"}})

    async def _probe(self, pod: Pod, container: Json) -> None:
        asked = container.get("readinessProbe", {}).get("httpGet")
        ready = True
        if asked:
            port = next(
                p["containerPort"] for p in container["ports"]
                if asked["port"] in (p.get("name"), p["containerPort"])
            )  # fmt: skip
            ready = await answers(f"http://127.0.0.1:{port + pod.slot}{asked['path']}")
        if ready and pod.took is None:
            pod.took = time.monotonic() - pod.began
        if ready != pod.ready:
            pod.ready = ready
            conditions = [{"type": "Ready", "status": str(ready)}]
            path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}/status"
            await self.patch(path, {"status": {"phase": "Running", "conditions": conditions}})

    def _end(self, pod: Pod) -> None:
        if pod.ending is None:
            pod.ending = asyncio.create_task(self._ended(pod))

    async def _ended(self, pod: Pod) -> None:
        pod.ready = False
        with contextlib.suppress(ProcessLookupError):
            pod.process.send_signal(signal.SIGTERM)
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        try:
            await asyncio.to_thread(pod.process.wait, grace)
        except subprocess.TimeoutExpired:
            pod.process.kill()
            await asyncio.to_thread(pod.process.wait, 10)
        await self._forget(pod)

    async def _forget(self, pod: Pod) -> None:
        self._pods.remove(pod)
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}?gracePeriodSeconds=0"
        await self._send("DELETE", path)

    # -- Jobs -------------------------------------------------------------------------------------

    async def _job(self, job: Json) -> None:
        name, uid, spec = (
            job["metadata"]["name"],
            job["metadata"]["uid"],
            job["spec"]["template"]["spec"],
        )
        if uid in self._jobs:
            return
        self._jobs.add(uid)
        if "crd" in name:
            name_ = f"job-{name}-{uid[:8]}"
            log = self._folder / f"{name_}.log"
            process = await self._launch(name_, spec, 0, log)
            if await asyncio.to_thread(process.wait, 120) != 0:
                raise AssertionError(f"the job {name} failed: {log.read_text()[-2000:]}")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        done = [
            {"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
            for kind in ("SuccessCriteriaMet", "Complete")
        ]  # fmt: skip
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{name}/status"
        times = {"startTime": job["metadata"]["creationTimestamp"], "completionTime": now}
        await self.patch(path, {"status": {**times, "succeeded": 1, "conditions": done}})

    # -- one process ------------------------------------------------------------------------------

    async def _launch(self, name: str, spec: Json, slot: int, log: Path) -> subprocess.Popen[bytes]:
        container = spec["containers"][0]
        ports = [p["containerPort"] for p in container.get("ports", [])]

        def moved(text: str) -> str:
            for port in ports if slot else ():
                text = re.sub(rf"(?<![\w.]):{port}\b", f":{port + slot}", text)
            return text

        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        script = [f"hostname {shlex.quote(name)}"]
        account = spec.get("serviceAccountName", "default")
        mounts = [*container.get("volumeMounts", [])]
        if spec.get("automountServiceAccountToken", True):
            volumes[TOKENS] = {"projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"ca": "ca.crt"},
                {"downwardAPI": {"items": [{"path": "namespace"}]}},
            ]}}  # fmt: skip
            mounts.append({"name": TOKENS, "mountPath": TOKENS})
        for mount in sorted(mounts, key=lambda m: str(m["mountPath"])):
            source = self._folder / name / mount["name"].strip("/").replace("/", "-")
            if not source.exists():
                source.mkdir(parents=True)
                for path, data in (await self._files(volumes[mount["name"]], account)).items():
                    (source / path).parent.mkdir(parents=True, exist_ok=True)
                    (source / path).write_bytes(moved(data.decode()).encode() if slot else data)
            target = shlex.quote(mount["mountPath"])
            script.append(f"mkdir -p {target}; mount --bind {shlex.quote(str(source))} {target}")
        program, default = self._program(container) or ([], [])
        environment = {
            "PATH": f"{self._tools}:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8", "HOME": "/", "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": self._plane.server.rpartition(":")[2],
        }  # fmt: skip
        for entry in container.get("env", []):
            environment[entry["name"]] = await self._value(entry, name)
        words = [*(container.get("command") or program), *(container.get("args") or default)]
        words = [
            re.sub(r"\$\((\w+)\)", lambda m: environment.get(m[1], m[0]), moved(w)) for w in words
        ]
        words = [*OURS.get(words[0], words[:1]), *words[1:]]
        return spawn([*script, 'exec "$@"'], words, environment, log)

    async def _value(self, entry: Json, pod: str) -> str:
        if "valueFrom" not in entry:
            return str(entry.get("value", ""))
        ((kind, source),) = entry["valueFrom"].items()
        if kind == "fieldRef":
            known = {
                "metadata.namespace": self._namespace,
                "metadata.name": pod,
                "status.podIP": "127.0.0.1",
            }
            return known[source["fieldPath"]]
        found = await self._keys(
            "secret" if kind == "secretKeyRef" else "configMap", source["name"]
        )
        return (found or {}).get(source["key"], b"").decode()

    async def _files(self, volume: Json, account: str) -> dict[str, bytes]:
        """The files of a volume or of a source of one; none of an empty folder."""
        out: dict[str, bytes] = {}
        for kind, source in volume.items():
            match kind:
                case "projected":
                    for part in source["sources"]:
                        out |= await self._files(part, account)
                case "secret" | "configMap":
                    name = source.get("name") or source.get("secretName")
                    found = await self._keys(kind, name)
                    if found is None and not source.get("optional"):
                        raise LookupError(f"{kind} {name} is not there yet")
                    items = source.get("items") or [{"key": k, "path": k} for k in found or {}]
                    out |= {
                        i["path"]: (found or {})[i["key"]]
                        for i in items
                        if i["key"] in (found or {})
                    }
                case "serviceAccountToken":
                    out[source["path"]] = (
                        await self.token(account, source.get("audience"))
                    ).encode()
                case "ca":
                    out[source] = self._plane.ca_file.read_bytes()
                case "downwardAPI":
                    out |= {i["path"]: self._namespace.encode() for i in source["items"]}
        return out

    async def token(self, account: str, audience: str | None = None) -> str:
        """A token of a ServiceAccount."""
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        spec: Json = {"audiences": [audience]} if audience else {}
        answer = await self._send("POST", path, {"spec": {**spec, "expirationSeconds": 7200}})
        return str(answer["status"]["token"])

    async def _keys(self, kind: str, name: str) -> dict[str, bytes] | None:
        path = f"/api/v1/namespaces/{self._namespace}/{kind.lower()}s/{name}"
        code, found = await self._plane.request("GET", path)
        if code != 200:
            return None
        if kind == "secret":
            return {k: base64.b64decode(v) for k, v in found.get("data", {}).items()}
        return {k: v.encode() for k, v in found.get("data", {}).items()}

    # -- the API server ---------------------------------------------------------------------------

    async def get(self, path: str) -> Json:
        """An object."""
        return await self._send("GET", path)

    async def patch(self, path: str, body: Json) -> None:
        """A merge patch; of something that is gone it is none."""
        await self._send("PATCH", path, body)

    async def _send(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = await asyncio.to_thread(
            self._plane.api.request, method, path, json.dumps(body) if body else None,
            content_type="application/merge-patch+json" if method == "PATCH" else "application/json",
        )  # fmt: skip
        if answer.status >= 400 and answer.status not in (404, 409):
            raise AssertionError(f"{method} {path}: {answer.status} {answer.text[:500]}")
        found: Json = answer.json
        return found


def spawn(
    script: list[str], words: list[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Run a script of the shell with these arguments in namespaces of its own."""
    inside = ["unshare", "--mount", "--uts", "--propagation", "private"]
    with log.open("ab") as out:
        return subprocess.Popen(
            [*inside, "sh", "-ec", "; ".join(script), "sh", *words],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, cwd="/",
        )  # fmt: skip


async def answers(url: str) -> bool:
    """Whether somebody answers 200."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
            session.get(url) as answer,
        ):
            return answer.status == 200
    except (OSError, aiohttp.ClientError, TimeoutError):
        return False
