"""An installation by the chart, with the rights that it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from syncer.model.resource import Json
from tests.chart.helm import CHART, RELEASE, Run, helm
from tests.e2e.harness import NotifierProcess, Stage

ACCOUNT = "r-notification-ledger"


PASSWORD = "p@ss/w:rd"  # with all that a URL would trip over


RBAC = "/apis/rbac.authorization.k8s.io/v1"


def values(stage: Stage, more: Json | None = None) -> Json:
    """Return values for a release beside a control plane that has the definition already."""
    host = urlsplit(stage.redis_url).netloc
    return (
        {
            "redis": {
                "mode": "external",
                "external": {
                    "hosts": [host],
                    "username": "ledger",
                    "existingSecret": {"name": "redis", "passwordKey": "password"},
                },
            },
            "helmTest": {"timeoutSeconds": 20, "notification": {"enabled": True}},
        }
        if more is None
        else more
    )


def install(stage: Stage, instead: Json | None = None, *arguments: str, major: str = "4") -> Run:
    """Install the release into the stage's namespace, or upgrade it."""
    return helm(
        major, "upgrade", "--install", RELEASE, str(CHART), "-n", stage.namespace, *arguments,
        values=values(stage, instead), kubeconfig=stage.plane.kubeconfig,
    )  # fmt: skip


def uninstall(stage: Stage, *, major: str = "4") -> None:
    """Remove it, and with it what is not in the namespace."""
    run = helm(
        major, "uninstall", RELEASE, "-n", stage.namespace, kubeconfig=stage.plane.kubeconfig
    )
    assert run.code == 0, run.err


def token(stage: Stage, account: str) -> str:
    """Return a token of a service account, as a kubelet would ask for it."""
    answer = stage.plane.api.request(
        "POST",
        f"/api/v1/namespaces/{stage.namespace}/serviceaccounts/{account}/token",
        json.dumps({"spec": {"expirationSeconds": 3600}}),
    )
    assert answer.status == 201, answer.text
    return str(answer.json["status"]["token"])


def kubeconfig(stage: Stage, account: str) -> Path:
    """Write a kubeconfig of a service account."""
    path = stage.folder / f"{account}.kubeconfig"
    document: Json = json.loads(stage.plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token(stage, account)}
    path.write_text(json.dumps(document))
    return path


def get(stage: Stage, path: str) -> Any:
    """Read from the API server as administrator."""
    answer = stage.plane.api.request("GET", path)
    assert answer.status == 200, answer.text
    return answer.json


def may(stage: Stage, role: str, resource: str, verb: str, *, granted: bool) -> None:
    """Take one right out of a role of the release, or put it back."""
    path = f"{RBAC}/namespaces/{stage.namespace}/roles/{ACCOUNT}-{role}"
    rules = get(stage, path)["rules"]
    for rule in rules:
        if resource in rule["resources"]:
            kept = [v for v in rule["verbs"] if v not in {verb, "-"}]
            rule["verbs"] = [*kept, verb] if granted else kept or ["-"]
    answer = stage.plane.api.request(
        "PATCH", path, json.dumps({"rules": rules}), content_type="application/merge-patch+json"
    )
    assert answer.status == 200, answer.text


def as_the_release_says(stage: Stage) -> NotifierProcess:
    """Prepare a controller with the release's account and the names out of its settings file."""
    (stage.folder / "password").write_text(f"{PASSWORD}\n")
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps/{ACCOUNT}-config"
    settings = yaml.safe_load(get(stage, path)["data"]["config.yaml"])
    assert settings["redis"]["passwordFile"] == "/etc/notification/redis/password"
    notifier = stage.notifier(
        sharding={"leaseName": settings["sharding"]["leaseName"]},
        events=settings.get("events", {"enabled": True}),
        sync={"statusPolicy": settings["sync"]["statusPolicy"]},
        redis={
            "url": settings["redis"]["url"],
            "passwordFile": str(stage.folder / "password"),
        },
    )
    notifier._env["KUBECONFIG"] = str(kubeconfig(stage, ACCOUNT))
    return notifier
