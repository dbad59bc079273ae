"""
In the place of Kubernaut's controller, as a pod of Kubernaut's own Deployment.

The process gets what that pod has, and nothing else: its arguments and variables, its account and rights, a
settings file that names no Redis, credentials, ten seconds to end, and one folder that can be written. The
data store is a stand-in that lets in as it does: by a TokenReview that names no audience, then by a
SubjectAccessReview for its Service.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from syncer.settings import REDIS_CREDENTIAL
from tests.channels.receiver import Certificates
from tests.docs.blocks import blocks
from tests.e2e.harness import ROOT, Stage, Step, page, until
from tests.integration.accounts import make, token_of
from tests.kubernaut.store import SERVICE, Store
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.recipe import CONTROLLER_RULES
from tests.servers.recipe import CONTROLLER_USER as ACCOUNT

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

PAGE: Final = ROOT / "docs/migration.md"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
SECRETS: Final = "/run/secrets/kubernetes.io/serviceaccount"
#: Seconds that their pod has to end.
GRACE = 10.0
#: In a table of mounts of its own, all files where a pod has them, and one folder to write into.
POD: Final = f"""set -e
mount -t tmpfs tmpfs /run
mkdir -p {SECRETS} /run/etc/upper /run/etc/work /run/notifications
cp "$0"/account/* {SECRETS}
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
cp -r "$0"/etc/* /etc
mount -t tmpfs tmpfs /run/notifications
for place in /run /etc /; do mount -o remount,bind,ro $place; done
exec "$@"
"""


def lay_out(here: Stage, folder: Path, store: str, ca: str, redis_url: str) -> int:
    """Give the account Kubernaut's rights, and write the pod's files; returns the health port."""
    plane, home = here.plane, f"/api/v1/namespaces/{here.namespace}/serviceaccounts"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": here.namespace}
    client = f"{RBAC}/namespaces/{here.namespace}"
    named: dict[str, Any] = {"metadata": {"name": "data-storage-client"}}
    group = "rbac.authorization.k8s.io"
    for path, body in (
        (home, {"metadata": {"name": ACCOUNT}}),
        (f"{RBAC}/clusterrolebindings", {
            "metadata": {"name": f"{ACCOUNT}-{here.namespace}"}, "subjects": [subject],
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ACCOUNT},
        }),
        (f"{client}/roles", named | {"rules": [{
            "apiGroups": [""], "resources": ["services"], "resourceNames": [SERVICE],
            "verbs": ["create", "get"],
        }]}),
        (f"{client}/rolebindings", named | {
            "subjects": [subject],
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "data-storage-client"},
        }),
    ):  # fmt: skip
        make(plane, path, body)
    health = free_port()
    for name, text in {
        "account/token": token_of(plane, here.namespace, ACCOUNT),
        "account/namespace": here.namespace,
        "account/ca.crt": plane.ca_file.read_text(),
        "etc/notification/credentials/slack-webhook": here.receiver.url,
        f"etc/notification/credentials/{REDIS_CREDENTIAL}": f"{redis_url}\n",
        "etc/tls-ca/ca.crt": ca,
        "etc/notification-routing/routing.yaml": yaml.safe_dump({
            "route": {"receiver": "ops"},
            "receivers": [{"name": "ops", "slackConfigs": [{"credentialRef": "slack-webhook"}]}],
        }),
        # As the chart of 1.5.7 writes it.
        "etc/notification/config.yaml": yaml.safe_dump({
            "logging": {"level": "INFO"},
            "controller": {
                "metricsAddr": f"127.0.0.1:{free_port()}", "healthProbeAddr": f"127.0.0.1:{health}",
                "leaderElection": False, "leaderElectionId": "notification.kubernaut.ai",
            },
            "delivery": {
                "console": {"enabled": True},
                "file": {"outputDir": "/run/notifications", "format": "json", "timeout": "5s"},
                "log": {"enabled": True, "format": "json"},
                "slack": {"timeout": "10s"},
                "credentials": {"dir": "/etc/notification/credentials"},
            },
            "datastorage": {
                "url": store, "timeout": "10s",
                "buffer": {
                    "bufferSize": 10000, "batchSize": 100, "flushInterval": "1s", "maxRetries": 3,
                },
            },
        }),
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return health


async def give_as_operator(here: Stage) -> None:
    """Give the account what Kubernaut's operator gives it, and what the page adds."""
    (added,) = re.findall(r"(?s)```yaml\n([^`]*kind: RoleBinding.*?)```", PAGE.read_text())
    role, binding = yaml.safe_load_all(added.replace("kubernaut-system", here.namespace))
    home, name = f"{RBAC}/namespaces/{here.namespace}", {"name": "operator"}
    rules = [rule for rule in CONTROLLER_RULES if "leases" not in rule["resources"]]
    assert len(rules) == len(CONTROLLER_RULES) - 1
    for path, body in (
        (f"{home}/roles", {"metadata": name, "rules": rules}),
        (f"{home}/rolebindings", {**binding, "metadata": name, "roleRef": {
            **binding["roleRef"], **name}}),
        (f"{home}/roles", role),
        (f"{home}/rolebindings", binding),
    ):  # fmt: skip
        make(here.plane, path, body)
    given = f"{RBAC}/clusterrolebindings/{ACCOUNT}-{here.namespace}"
    assert (await here.plane.request("DELETE", given))[0] == 200


@asynccontextmanager
async def started(
    here: Stage, folder: Path, *words: str, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program as in their pod, ours by default as their Deployment does; its log is `log`."""
    variables = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CONFIG_PATH": "/etc/notification/config.yaml",
        "ROUTING_CONFIG_PATH": "/etc/notification-routing/routing.yaml",
        "POD_NAMESPACE": here.namespace, "TLS_CA_FILE": "/etc/tls-ca/ca.crt",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": here.plane.server.rpartition(":")[2],
    }  # fmt: skip
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    arguments = words or ("notifier", "-config", variables["CONFIG_PATH"])
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "unshare", "--mount", *mapped, "sh", "-c", POD, str(folder),
            sys.executable, "-m", *arguments,
            env=variables | env, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def said(log: Path) -> list[dict[str, Any]]:
    """Return what the process logged; messages of its channels among it."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


async def ends_in_time(here: Stage, process: asyncio.subprocess.Process, log: Path) -> None:
    """Ask it to end while a receiver hangs: all is on record within the grace, and the Leases are free."""
    here.script("hangs", Step(delay=60))
    await here.create("hangs")
    await until(lambda: bool(here.receiver.calls("hangs")), log.read_text)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert time.monotonic() - asked < GRACE, said(log)
    left = said(log)[-1]
    assert (left["unrecorded"], left["unsynced"], left["released"]) == (0, 0, 16)
    shown = await here.api.ask("GET", f"{here.api.requests}/hangs")
    (attempt,) = shown.body["status"]["deliveryAttempts"]
    # What Kubernaut's definition has for a result that is not known.
    assert attempt["status"] == "failed"
    assert "the process ended while waiting for an answer" in attempt["error"]


async def test_it_runs_as_a_pod_of_the_controller_that_it_replaces(
    here: Stage, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Ready in time, audited under their rights; ten seconds end it, and what hangs is on record."""
    (tmp_path / "ca").mkdir()
    certificates = Certificates(tmp_path / "ca")
    pod = tmp_path / "pod"
    log = pod / "log"
    texts = [block.text for block in blocks(PAGE)]
    (checked,) = [text for text in texts if "/notification-controller -- syncer verify" in text]
    (image,) = [text for text in texts if text.startswith("FROM ")]
    store, port = Store(control_plane, here.namespace, None, readyz=False), free_port()
    async with store.listening(certificates.context("store"), ("127.0.0.1", port)):
        # Its keys have the usual prefix, so it has a database of its own.
        database = f"{redis_url.rstrip('/')}/9"
        health = lay_out(
            here, pod, f"https://localhost:{port}", certificates.ca.read_text(), database
        )

        async def ready(process: asyncio.subprocess.Process) -> None:
            async def answers() -> bool:
                assert process.returncode is None, log.read_text()
                return (await page(health, "/readyz"))[0] == 200

            await until(answers, log.read_text, within=60)

        async with started(here, pod) as process:
            await ready(process)
            remark = "[!] datastorage: its health is not asked for"
            assert remark in (await page(health, "/readyz"))[1]
            sent = await here.create("sent")
            await here.wait_phase(sent)
            await until(
                lambda: "notification.message.sent" in [e["event_type"] for e in store.events],
                lambda: f"{store.answers} {log.read_text()}",
            )  # fmt: skip
            assert {answer[2] for answer in store.answers} == {201}

            await ends_in_time(here, process, log)
    # The store of audit events is away by now, which neither start nor check minds.
    async with started(here, pod, *checked.partition(" -- ")[2].split()) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 0, log.read_text()

    (pod / "etc/notification/credentials" / REDIS_CREDENTIAL).unlink()
    async with started(here, pod) as process:
        assert await asyncio.wait_for(process.wait(), 60) == 1
    (refused,) = said(log)
    file = f"/etc/notification/credentials/{REDIS_CREDENTIAL}"
    for way in ("redis.url", "the variable REDIS_URL", file):
        assert way in refused["error"]
    # As Kubernaut's operator does: an image with one variable more, and an account without Leases.
    await give_as_operator(here)
    name, _, _ = image.partition("ENV ")[2].partition("=")
    async with started(here, pod, **{name: database}) as process:
        await ready(process)
