"""
The commands of docs/migration.md for Kubernaut's chart, typed to Helm as they are printed.

The chart is a stand-in with as much of Kubernaut's as they name: one registry for all images, a number of
replicas, a list of credentials.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Final

import pytest
import yaml

from notifier.settings import load
from syncer.settings import REDIS_CREDENTIAL
from syncer.settings import load as load_syncer
from tests.chart.helm import MAJORS, helm
from tests.docs.blocks import ROOT, blocks
from tests.servers.controlplane import ControlPlane

NAMESPACE: Final = "kubernaut-system"
DEPLOYMENT: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/notification-controller"
PAGE: Final = ROOT / "docs/migration.md"
CHART: Final = {
    "Chart.yaml": "{apiVersion: v2, name: kubernaut, version: 1.5.7, appVersion: 1.5.7}",
    "values.yaml": (
        "global: {image: {registry: quay.io}}\n"
        "notification: {replicas: 1, credentials: []}\n"
    ),
    "templates/notification.yaml": textwrap.dedent("""\
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: notification-controller}
        spec:
          replicas: {{ .Values.notification.replicas }}
          selector: {matchLabels: {app: notification-controller}}
          template:
            metadata:
              labels: {app: notification-controller}
              annotations: {credentials: {{ toJson .Values.notification.credentials | quote }}}
            spec:
              containers:
                - name: manager
                  image: "{{ .Values.global.image.registry }}/kubernaut-ai/notification:1.5.7"
        """),
}  # fmt: skip


def values() -> str:
    """What the page adds to the values of Kubernaut's chart."""
    (file,) = re.findall(
        r"(?s)`notification-ledger\.yaml`:\n\n +```yaml\n(.*?) +```", PAGE.read_text()
    )
    return textwrap.dedent(file)


@pytest.mark.parametrize("major", MAJORS)
def test_kubernauts_chart_as_printed(
    major: str, control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replaced one is stopped, the image is another, Redis is a credential, and all goes back."""
    for name, text in CHART.items():
        (tmp_path / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chart" / name).write_text(text)
    (tmp_path / "values.yaml").write_text("notification: {slack: {secretName: slack-webhook}}\n")
    (tmp_path / "notification-ledger.yaml").write_text(values())
    monkeypatch.chdir(tmp_path)
    typed = [shlex.split(b.text) for b in blocks(PAGE)]
    (secret,) = [
        w for w in typed if " ".join(w).startswith(f"kubectl -n {NAMESPACE} create secret")
    ]
    key, _, url = secret[7].removeprefix("--from-literal=").partition("=")
    assert url.startswith("redis://")
    entry = {"name": REDIS_CREDENTIAL, "secretName": secret[6], "secretKey": key}

    install = [
        "install",
        "kubernaut",
        "CHART",
        "-n",
        NAMESPACE,
        "--create-namespace",
        "-f",
        "values.yaml",
    ]
    upgrades = [words for program, *words in typed if program == "helm" and words[1] == "kubernaut"]
    seen = []
    for words in (install, *upgrades, upgrades[0], ["uninstall", "kubernaut", "-n", NAMESPACE]):
        given = ["./chart" if word == "CHART" else word for word in words]
        run = helm(major, *given, kubeconfig=control_plane.kubeconfig)
        assert run.code == 0, run.err
        if words[0] != "uninstall":
            deployment = control_plane.api.request("GET", DEPLOYMENT).json
            pod = deployment["spec"]["template"]
            there = entry in json.loads(pod["metadata"]["annotations"]["credentials"])
            image = pod["spec"]["containers"][0]["image"].removesuffix("/notification:1.5.7")
            seen.append((deployment["spec"]["replicas"], image, there))
    theirs = "quay.io/kubernaut-ai"
    assert seen == [
        (1, theirs, False), (0, theirs, False), (1, "registry.example/kubernaut-ai", True),
        (1, theirs, False), (0, theirs, False),
    ]  # fmt: skip


def test_the_moment_of_the_stop_is_a_credential(tmp_path: Path) -> None:
    """What is added to the Secret arrives, under the name in the values, as `adoption.before`."""
    (typed,) = [b.text for b in blocks(PAGE) if " patch secret " in b.text]
    program = f'kubectl() {{ printf "%s\\n" "$5" "$7"; }}\n{typed}'
    run = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True)
    secret, body = run.stdout.splitlines()
    added = json.loads(body)["stringData"]
    entries = yaml.safe_load(values())["notification"]["credentials"]
    for entry in entries:
        if entry["secretName"] == secret and entry["secretKey"] in added:
            (tmp_path / entry["name"]).write_text(added[entry["secretKey"]])
    settings = tmp_path / "config.yaml"
    settings.write_text(
        f"{{redis: {{url: redis://h}}, delivery: {{credentials: {{dir: {tmp_path}}}}}}}\n"
    )
    ours = load(settings, {"KUBERNAUT_CONTROLLER_NAMESPACE": NAMESPACE}).settings.adoption
    assert ours.moment == pytest.approx(time.time() * 1000, abs=60_000)
    assert load_syncer(settings)[0].adoption == ours


@pytest.mark.parametrize("major", MAJORS)
def test_the_values_of_a_release_as_printed(major: str, tmp_path: Path) -> None:
    """What the page puts into `ledger.yaml` is what this chart takes, beside its values for Kubernaut."""
    printed = re.findall(r"(?ms)^ *```yaml\n(.*?)^ *```$", PAGE.read_text())
    (first,) = (text for text in printed if "repository:" in text)
    (again,) = (text for text in printed if "adoption:" in text)
    (tmp_path / "ledger.yaml").write_text(textwrap.dedent(first) + again)
    chart = ROOT / "charts" / "notification-ledger"
    files = ["-f", str(chart / "ci" / "kubernaut-values.yaml"), "-f", str(tmp_path / "ledger.yaml")]
    run = helm(major, "template", "notification-ledger", str(chart), *files)
    assert run.code == 0, run.err
    assert "2026-01-31T12:00:00Z" in run.out
