"""What the pages of the gateway and of paging show works as printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from notifier.channels.pagerduty import pagerduty_payload
from notifier.content.message import compose
from notifier.gateway.draft import Incoming, Options
from notifier.gateway.kinds import KINDS
from notifier.gateway.settings import of_document
from notifier.gateway.translation import Source, translate
from notifier.routing.parse import parse
from syncer.model.resource import Json
from tests.chart.helm import objects, of_kind, one, template
from tests.docs.pages import DOCS
from tests.unit.notifier.gateway.payloads import alert, alertmanager

PAGING: Final = (DOCS / "paging.md").read_text()
PAGE: Final = (DOCS / "gateway.md").read_text() + PAGING


def examples(kind: str) -> list[str]:
    """Return the blocks of a kind."""
    return re.findall(rf"^```yaml\n# example: {kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_kind_has_a_block() -> None:
    """Whoever looks for a sender finds how it is set up."""
    shown = {
        source["kind"]
        for example in examples("gateway")
        for source in yaml.safe_load(example)["sources"]
    }
    assert shown == set(KINDS)


def test_the_values_make_the_service_that_senders_are_told() -> None:
    """The chart with the shown values has a gateway with that file, behind that address and port."""
    (example,) = examples("values")
    found = objects(
        template("4", yaml.safe_load(example), release="ledger", namespace="notifications")
    )
    loaded = of_document(
        yaml.safe_load(one(found, "ConfigMap", "-gateway")["data"]["gateway.yaml"])
    )
    assert loaded.warnings == ()
    names = {s["metadata"]["name"]: s for s in of_kind(found, "Service")}
    for host, source in re.findall(r"http://([a-z-]+)\.notifications\.svc/v1/([a-z]+)", PAGE):
        assert names[host]["spec"]["ports"][0]["port"] == 80
        assert source in {*KINDS, "watchdog", "pulse"}


@pytest.mark.parametrize("example", examples("alertmanager"))
def test_alertmanager_takes_its_block(example: str, tmp_path: Path) -> None:
    """Alertmanager's own check accepts the receivers."""
    (tmp_path / "alertmanager.yml").write_text(example)
    amtool = shutil.which("amtool")
    assert amtool, "amtool is missing; `. scripts/lib.sh; ensure_alertmanager` installs it"
    run = subprocess.run(
        [amtool, "check-config", tmp_path / "alertmanager.yml"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_argo_cd_s_template_is_what_its_source_reads() -> None:
    """With values in its holes the template is a CloudEvent, and becomes a notification."""
    manifests = [yaml.safe_load(example) for example in examples("manifest")]
    (data,) = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    webhook = yaml.safe_load(data["template.ledger-sync-failed"])["webhook"]["ledger"]
    assert webhook["method"] == "POST"
    service = yaml.safe_load(data["service.webhook.ledger"])
    assert service["retryMax"] == 8
    body = re.sub(r"\{\{[^}]*\| toJson\}\}", json.dumps('Failed "x"'), webhook["body"])
    body = re.sub(r"\{\{[^}]*\}\}", "guestbook", body)
    (draft,) = KINDS["argocd"].read(Incoming({}, body.encode()), Options())
    assert draft.type == "Escalation"
    assert 'message: Failed "x"' in draft.body


def test_a_payload_is_tried_as_printed(tmp_path: Path) -> None:
    """The command of the page, with files of these names, shows the object and who gets it."""
    (line,) = re.findall(r"^    (notifier gateway test .+)$", PAGE, re.MULTILINE)
    (example,) = [e for e in examples("gateway") if "some cluster" in e]
    (tmp_path / "gateway.yaml").write_text(example)
    routing = "route: {receiver: a}\nreceivers: [{name: a, consoleConfigs: [{enabled: true}]}]\n"
    parse(routing)
    (tmp_path / "routing.yaml").write_text(routing)
    (tmp_path / "payload.json").write_text(json.dumps(alertmanager()))
    words = shlex.split(line)
    assert (words[0], words[-2:]) == ("notifier", ["<", "payload.json"])
    run = subprocess.run(
        [sys.executable, "-m", *words[:-2]],
        input=(tmp_path / "payload.json").read_text(), cwd=tmp_path,
        env={"PYTHONPATH": str(DOCS.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "subject: Disk in some cluster" in run.stdout
    assert run.stdout.endswith("# receivers: a\n# channels: console\n")


def test_pagerduty_gets_what_the_page_on_paging_shows() -> None:
    """Both events, as they are made of an alert that fires and ends under the page's own files."""
    (values,) = examples("paging")
    found = objects(
        template("4", yaml.safe_load(values), release="ledger", namespace="notifications")
    )
    config = yaml.safe_load(one(found, "ConfigMap", "-gateway")["data"]["gateway.yaml"])
    source, _ = of_document(config).sources["alertmanager"]
    shown = [
        json.loads(block)
        for block in re.findall(r"^```json\n(.*?)^```", PAGING, re.MULTILINE | re.DOTALL)
    ]
    assert [event_of(source, state) for state in ("firing", "resolved")] == shown
    parse(yaml.safe_load(values)["routing"]["content"])


def event_of(source: Source, state: str) -> Json:
    """What PagerDuty is sent of an alert in a state."""
    labels = {
        "alertname": "NodeFilesystemFull", "instance": "node-1", "namespace": "shop",
        "severity": "critical",
    }  # fmt: skip
    one_alert = alert("6f1e", state, labels=labels, annotations={"summary": "/var is full"})
    payload = alertmanager(
        one_alert, status=state, commonLabels=labels, receiver="ledger",
        groupKey='{}:{alertname="NodeFilesystemFull", namespace="shop"}',
        commonAnnotations={"summary": "/var is full"}, externalURL="https://alertmanager.example.org",
    )  # fmt: skip
    ((desired,), _) = translate(source, Incoming({}, json.dumps(payload).encode()), 1_795_752_060.0)
    message = compose(desired.manifest, "pagerduty:on-call", "0.7-1", installation="ledger@1")
    return pagerduty_payload(message, "INTEGRATION-KEY")


def test_the_stack_is_given_what_alertmanager_takes(tmp_path: Path) -> None:
    """Its values hold a configuration that Alertmanager's own check accepts."""
    (values,) = examples("stack")
    config = yaml.safe_load(values)["alertmanager"]["config"]
    test_alertmanager_takes_its_block(yaml.safe_dump(config), tmp_path)
