"""
The chart on a real API server that authorises: what it grants is enough, and none of it is too much.

There is no kubelet, so the controller runs beside the API server, as the service account of the
release, with its token and with no other right than the release's roles give; its user of Redis has
those that docs/install.md names. One notification is delivered from end to end. Then one right is taken
away, and the controller says which.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from syncer.model.resource import Json
from tests.chart.helm import CHART, MAJORS, Run, objects, of_kind, template
from tests.chart.rights import (
    ACCOUNT,
    PASSWORD,
    RBAC,
    as_the_release_says,
    get,
    install,
    kubeconfig,
    may,
    token,
    uninstall,
    values,
)
from tests.e2e.harness import Stage, stage, until
from tests.integration.api import CRDS
from tests.integration.exploring import explorer
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import CRD_NAME, load_crd, serve, upstream_form
from tests.servers.users import acl_rule, url_of

TEST = "r-notification-ledger-test"
PASSWORD_JOB = "r-notification-ledger-redis-password"

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


def grant_the_test(stage: Stage) -> None:
    """Make what Helm makes for its test: an account of its own, with its role."""
    made = objects(template("4", values(stage), namespace=stage.namespace))
    paths = {
        "ServiceAccount": f"/api/v1/namespaces/{stage.namespace}/serviceaccounts",
        "Role": f"{RBAC}/namespaces/{stage.namespace}/roles",
        "RoleBinding": f"{RBAC}/namespaces/{stage.namespace}/rolebindings",
    }
    for kind, path in paths.items():
        (one,) = [o for o in of_kind(made, kind) if o["metadata"]["name"] == TEST]
        answer = stage.plane.api.request("POST", path, json.dumps(one))
        assert answer.status == 201, answer.text


def helm_test(stage: Stage, port: int, *, seconds: float = 20) -> Run:
    """Run the program of `helm test` as its pod would, with the token of its account."""
    (pod,) = of_kind(objects(template("4", values(stage), namespace=stage.namespace)), "Pod")
    (container,) = pod["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    assert env["SERVICE"] == f"{ACCOUNT}-metrics"
    env |= {
        "SERVICE": "127.0.0.1", "REPLICAS": "1", "SECONDS": str(seconds), "PORT": str(port),
    }  # fmt: skip
    return run_program(stage, "helm-test.py", TEST, env)


def run_program(stage: Stage, program: str, name: str, env: Json) -> Run:
    """Run a program of the chart as its pod would, with the token of a service account."""
    account = stage.folder / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text(token(stage, name))
    (account / "namespace").write_text(stage.namespace)
    (account / "ca.crt").write_bytes(stage.plane.ca_file.read_bytes())
    server = urlsplit(stage.plane.server)
    env |= {
        "ACCOUNT": str(account),
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }
    done = subprocess.run(
        [sys.executable, CHART / "files" / program],
        env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, done.stderr)


async def explored(stage: Stage) -> None:
    """Look at every page with the explorer's own account and user: each finds all that it asks for."""
    rule = acl_rule("explorer", PASSWORD, prefix=stage.prefix)
    await stage.redis.execute_command(*rule)  # type: ignore[no-untyped-call]  # vendor
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps/{ACCOUNT}-explorer"
    settings = yaml.safe_load(get(stage, path)["data"]["config.yaml"])
    config = stage.folder / "explorer.yaml"
    sharding = {"leaseName": settings["sharding"]["leaseName"], "shards": 1}
    config.write_text(json.dumps({"sharding": sharding}))
    async with explorer(
        stage, "--config", str(config),
        redis_url=url_of(stage.redis_url, "explorer", PASSWORD),
        kubeconfig=kubeconfig(stage, f"{ACCOUNT}-explorer"),
    ) as site:  # fmt: skip
        for page in ("/", f"/n/{stage.namespace}/first", "/receivers", "/shards", "/health"):
            text = (await site.get(page)).text
            for missing in ("Not all of this", "could not be", "orbidden", "NOPERM", "badge bad"):
                assert missing not in text, f"{page}: {text}"
        assert "ended: Sent" in (await site.get(f"/n/{stage.namespace}/first")).text


async def test_the_rights_suffice_and_a_missing_one_is_named(here: Stage) -> None:
    """With the documented rights a notification arrives; without one of them, the log names it."""
    await here.redis.execute_command(*acl_rule("ledger", PASSWORD, prefix=here.prefix))  # type: ignore[no-untyped-call]  # vendor
    run = await asyncio.to_thread(install, here)
    assert run.code == 0, run.err
    notifier = as_the_release_says(here)
    await notifier.start().wait_ready(60)
    first = await here.create("first")
    await here.wait_phase(first)
    events = f"/api/v1/namespaces/{here.namespace}/events"
    await until(lambda: len(get(here, events)["items"]) >= 2, "events are written")
    # Everything it asked for was granted; the definition could be read as well.
    text = notifier.log.read_text()
    assert "Forbidden" not in text
    assert "NOPERM" not in text
    assert PASSWORD not in text
    assert "may not be read" not in text

    await asyncio.to_thread(grant_the_test, here)
    tested = await asyncio.to_thread(helm_test, here, notifier.health_port)
    assert tested.code == 0, tested.out + tested.err
    assert "every replica is ready" in tested.out
    assert "delivered, and on record" in tested.out
    assert get(here, here.api.requests)["items"][0]["metadata"]["name"] == "first"

    await explored(here)

    may(here, "notifications", "notificationrequests/status", "patch", granted=False)
    second = await here.create("second")
    refused = "a permission is missing in a namespace; calls that need it are tried again"
    await until(
        lambda: any(
            'cannot patch resource "notificationrequests/status"' in line["error"]
            for line in notifier.lines(refused)
        ),
        lambda: f"the missing right is named; {notifier.tail()}",
        within=30,
    )
    code, text = await notifier.ask("/readyz")
    assert (code, "status writes are refused" in text) == (503, True), text
    assert here.watcher.phase(second) == ""
    assert [r.kind for r in (await here.logs([second]))[second].records][-1] == "success"
    may(here, "notifications", "notificationrequests/status", "patch", granted=True)
    await here.wait_phase(second)
    await notifier.wait_ready()

    may(here, "leases", "leases", "patch", granted=False)
    await notifier.wait_says(503, 'cannot patch resource "leases"')
    tested = await asyncio.to_thread(helm_test, here, notifier.health_port, seconds=1)
    assert tested.code == 1
    assert 'cannot patch resource "leases"' in tested.out
    notifier.kill()
    await asyncio.to_thread(uninstall, here)


@pytest.fixture
def replaced(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """An API server whose definition a test replaces: other tests stand on that which was there."""
    yield control_plane
    serve(control_plane, upstream_form())


@pytest.mark.parametrize("major", MAJORS)
async def test_helm_installs_upgrades_and_leaves_the_definition(
    major: str, replaced: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """A real API server takes every object; what is uninstalled leaves notifications alone."""
    async with stage(replaced, redis_url, tmp_path / "s", sampled=False) as here:
        kept = await here.create("kept")
        # No kubelet is here to run the Job that would make a password.
        redis = {"mode": "embedded", "embedded": {"existingSecret": {"name": "redis"}}}
        more = {"crds": {"enabled": True}, "redis": redis, "replicas": 1}
        # The definition is there without Helm, as it is for those who come from elsewhere.
        refused = await asyncio.to_thread(install, here, more, major=major)
        assert refused.code != 0
        assert "invalid ownership metadata" in refused.err
        # An older one, applied by hand: for Helm 4 the fields that differ belong to kubectl.
        await asyncio.to_thread(apply_older_definition, here)
        flags = ["--take-ownership"]
        if major == "4":
            refused = await asyncio.to_thread(install, here, more, *flags, major=major)
            assert "conflict occurred while applying object" in refused.err
            flags.append("--force-conflicts")
        run = await asyncio.to_thread(install, here, more, *flags, major=major)
        assert run.code == 0, run.err
        for said in (
            f"helm test r -n {here.namespace}",
            f"kubectl -n {here.namespace} get notificationrequest first",
            "replicas is 1",
        ):  # fmt: skip
            assert said in run.out
        assert await asyncio.to_thread(create_from_notes, here, run.out) == "first"
        again = await asyncio.to_thread(install, here, {**more, "replicas": 3}, major=major)
        assert again.code == 0, again.err
        path = f"/apis/apps/v1/namespaces/{here.namespace}/deployments/{ACCOUNT}"
        assert get(here, path)["spec"]["replicas"] == 3
        definition = get(here, f"{CRDS}/notificationrequests.kubernaut.ai")
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert "channels" in json.dumps(definition["spec"]), "it shows more"
        await asyncio.to_thread(uninstall, here, major=major)
        assert here.plane.api.request("GET", path).status == 404
        # The definition has changed, and its storage is made anew.
        await asyncio.to_thread(here.plane.api.wait_served)
        found = get(here, here.api.requests)["items"]
        assert kept in [item["metadata"]["uid"] for item in found]


def apply_older_definition(stage: Stage) -> None:
    """Do what `kubectl apply --server-side` does with another version's definition: a text differs."""
    definition = load_crd()
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "An older one."
    answer = stage.plane.api.request(
        "PATCH", f"{CRDS}/{CRD_NAME}?fieldManager=kubectl&force=true", json.dumps(definition),
        content_type="application/apply-patch+yaml",
    )  # fmt: skip
    assert answer.status == 200, answer.text


def create_from_notes(stage: Stage, notes: str) -> str:
    """Do what the notes say; returns the name of what was created."""
    text = notes.partition("<<'EOF'\n")[2].partition("    EOF")[0]
    answer = stage.plane.api.request(
        "POST", stage.api.requests, textwrap.dedent(text), content_type="application/yaml"
    )
    assert answer.status == 201, answer.text
    return str(answer.json["metadata"]["name"])


async def test_helm_has_the_password_made_first(here: Stage) -> None:
    """
    Helm waits for the Job before it makes what needs the password, and takes its rights away.

    The Job's program makes the Secret once, and leaves one that is there, for it may do nothing else.
    """
    more: Json = {"replicas": 1}
    installing = asyncio.create_task(asyncio.to_thread(install, here, more, major="4"))
    job = f"/apis/batch/v1/namespaces/{here.namespace}/jobs/{PASSWORD_JOB}"
    api = here.plane.api
    await until(
        lambda: installing.done() or api.request("GET", job).status == 200,
        "the Job is there", within=60,
    )  # fmt: skip
    deployments = f"/apis/apps/v1/namespaces/{here.namespace}/deployments"
    assert get(here, deployments)["items"] == []
    first, second = await asyncio.to_thread(run_password_job, here, get(here, job))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "made the Secret" in first.out
    assert "is there already" in second.out
    assert (await installing).code == 0
    made = {o["metadata"]["name"] for o in get(here, deployments)["items"]}
    assert made == {"r-notification-ledger", "r-notification-ledger-explorer"}
    path = f"/api/v1/namespaces/{here.namespace}/secrets/{ACCOUNT}-redis-auth"
    secret = get(here, path)
    assert secret["metadata"]["labels"]["app.kubernetes.io/component"] == "redis"
    assert secret["data"].keys() == {"password", "explorer-password"}
    assert len(set(secret["data"].values())) == 2, "who has one has not the other"
    for password in secret["data"].values():
        assert len(base64.b64decode(password)) == 64
        assert password not in first.out + second.out
    role = f"{RBAC}/namespaces/{here.namespace}/roles/{PASSWORD_JOB}"

    def taken_away() -> bool:
        return {api.request("GET", each).status for each in (job, role)} == {404}

    await until(taken_away, "the Job and its right are gone")
    await asyncio.to_thread(uninstall, here, major="4")
    assert get(here, path) == secret, "as Redis's disk, it stays"


def run_password_job(stage: Stage, job: Json) -> tuple[Run, Run]:
    """Do what kubelet and controllers would: run the Job's program, twice, and say that it is complete."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    first, second = (run_program(stage, "redis-password.py", PASSWORD_JOB, env) for _ in range(2))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = [
        {"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}
    meta = job["metadata"]
    answer = stage.plane.api.request(
        "PATCH", f"/apis/batch/v1/namespaces/{meta['namespace']}/jobs/{meta['name']}/status",
        json.dumps({"status": status}), content_type="application/merge-patch+json",
    )  # fmt: skip
    assert answer.status == 200, answer.text
    return first, second
