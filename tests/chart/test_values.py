"""Values, schema, README and settings say the same; what is rendered is what the controller reads."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from notifier.process import lifecycle as shutdown
from notifier.routing.parse import parse
from notifier.settings import Loaded, load
from syncer.ledger.client import LedgerClient
from syncer.model.resource import Json
from tests.channels.receiver import Certificates
from tests.chart.helm import (
    CASES,
    CHART,
    OF_EACH_CASE,
    ROOT,
    controller,
    members,
    objects,
    of_kind,
    one,
    rendered,
    settings_file,
    template,
    values_of,
)

pytestmark = OF_EACH_CASE

ENV = {"KUBERNAUT_CONTROLLER_NAMESPACE": "alerts"}
VALUES = (CHART / "values.yaml").read_text()
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())
#: Parts of Kubernetes objects, whose keys are Kubernetes's business.
PASSED_ON = {"#/definitions/object", "#/definitions/objects", "#/definitions/strings"}


@functools.cache
def generator() -> ModuleType:
    """Return scripts/chart.py as a module."""
    spec = importlib.util.spec_from_file_location("chart_script", ROOT / "scripts" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_what_is_made_is_up_to_date() -> None:
    """`scripts/chart generate` would change nothing."""
    made: dict[Path, str] = generator().made()
    assert len(made) == 2
    stale = [path.name for path, text in made.items() if path.read_text() != text]
    assert stale == [], "run scripts/chart generate"


def test_every_value_has_a_comment() -> None:
    """A comment stands right above each key of values.yaml."""
    lines = VALUES.splitlines()
    bare = []
    for number, line in enumerate(lines):
        if re.match(r" *[A-Za-z][\w.-]*:( |$)", line):
            above = lines[number - 1].strip()
            if not above.startswith("# ") or above.startswith("# ---"):
                bare.append(line)
    assert bare == []


def test_every_value_has_an_entry_in_the_schema() -> None:
    """Each key of values.yaml is in the schema with a description, and the other way round."""
    named = dict(_nodes(SCHEMA))
    assert [path for path, node in named.items() if not node.get("description")] == []
    there = [".".join(path) for path, _ in members(yaml.safe_load(VALUES))]
    # Below a group that names no keys are the user's or Kubernetes's own.
    free = {path for path, node in named.items() if not node.get("properties")}
    assert [
        path for path in there
        if path not in named and not any(path.startswith(f"{group}.") for group in free)
    ] == []  # fmt: skip
    assert [
        path for path in named.keys() - there
        if path.split(".")[0] != "global" and not path.startswith(("config.", "routing.content."))
    ] == []  # fmt: skip


def test_every_group_is_closed() -> None:
    """No group of the schema takes keys that it does not name, but for Kubernetes's own."""
    opened = [
        path for path, node in _nodes(SCHEMA)
        if node.get("type") == "object" and "properties" in node
        and node.get("additionalProperties") is not False
    ]  # fmt: skip
    assert opened == []
    assert SCHEMA["additionalProperties"] is False
    # What is an object and names no keys is passed on as it is, and that is said.
    free = [
        path for path, node in _nodes(SCHEMA)
        if node.get("type") == "object" and not node.get("properties")
        and "additionalProperties" not in node
    ]  # fmt: skip
    assert free == ["helmTest.notification.spec", "global"]


def test_defaults_of_the_settings_are_the_code_s(tmp_path: Path) -> None:
    """What values.yaml shows as defaults is what the controller does without them, but for one."""
    shown = _load_mounted(rendered("4", "default"), tmp_path)
    bare = load_text("redis: {url: redis://h}\n")
    own = {"controller", "redis"}
    for group in type(shown.settings).model_fields:
        if group not in own:
            one_side, other = getattr(shown.settings, group), getattr(bare.settings, group)
            if group == "sharding":
                other = other.model_copy(update={"lease_name": one_side.lease_name})
            if group == "sync":
                other = other.model_copy(update={"status_policy": one_side.status_policy})
            if group == "delivery":
                other = other.model_copy(
                    update={"credentials": one_side.credentials, "on_operator_error": "hold"}
                )
            assert one_side == other, group
    # The resource says this default itself, without the slash.
    assert shown.settings.delivery.credentials.dir == "/etc/notification/credentials"


def load_text(text: str) -> Loaded:
    """Load a settings file that names no secrets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text)
        return load(path, ENV)


@pytest.mark.parametrize("case", CASES)
def test_the_controller_takes_what_is_rendered(case: str, tmp_path: Path) -> None:
    """The settings file of each values file loads without a warning, and Redis's URL is usable."""
    found = rendered("4", case)
    loaded = _load_mounted(found, tmp_path)
    assert loaded.warnings == ()
    client = LedgerClient(loaded.settings.redis.url.get_secret_value(), prefix="x", timeout=1.0)
    assert client is not None


@functools.cache
def _tls() -> dict[str, str]:
    """Return the files of a TLS Secret, by name."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        Certificates(directory).context("redis")
        files = {"ca.crt": "ca.pem", "tls.crt": "redis.pem", "tls.key": "redis.key"}
        return {name: (directory / file).read_text() for name, file in files.items()}


def _load_mounted(found: tuple[Json, ...], folder: Path) -> Loaded:
    """Load a settings file with the secrets that the pod would find."""
    spec = controller(found)["spec"]
    secrets = [v for v in spec["volumes"] if v["name"] == "redis"]
    for source in [s for v in secrets for s in v["projected"]["sources"]]:
        for item in source["secret"]["items"]:
            name = item["path"]
            content = f"s3cr3t/{name}" if "password" in name else "redis://u:p@elsewhere/4"
            (folder / name).write_text(_tls().get(name, content))
    path = folder / "config.yaml"
    text = settings_file(found)
    assert "s3cr3t" not in text
    path.write_text(text.replace("/etc/notification/redis", str(folder)))
    return load(path, ENV)


URLS = {
    "default": "redis://ledger:s3cr3t%2Fpassword@r-notification-ledger-redis:6379/0",
    "embedded-strict": "redis://ledger:s3cr3t%2Fpassword@r-notification-ledger-redis:6379/0",
    "external-standalone": "rediss://notification%20ledger:s3cr3t%2Fpassword@redis.example.com:6380/3"
    "?ssl_ca_certs=@/ca.crt&ssl_certfile=@/tls.crt&ssl_keyfile=@/tls.key&ssl_check_hostname=true",
    "external-sentinel": "redis+sentinel://ledger:s3cr3t%2Fpassword@sentinel-0.redis,"
    "sentinel-1.redis:26380,[fd00::7]:26379/notifications/0?sentinel_username=watcher"
    "&sentinel_password=s3cr3t%2Fsentinel-password",
    "external-cluster": "rediss+cluster://:s3cr3t%2Fpassword@node-0.redis:7000,node-1.redis:7000,"
    "node-2.redis:7000/0?ssl_ca_certs=@/ca.crt&ssl_check_hostname=false",
    "external-url": "redis://u:p@elsewhere/4",
}


@pytest.mark.parametrize("case", URLS)
def test_redis_is_where_the_values_say(case: str, tmp_path: Path) -> None:
    """Each way to name a Redis becomes the URL that an operator would have written."""
    loaded = _load_mounted(rendered("4", case), tmp_path)
    url = loaded.settings.redis.url.get_secret_value()
    assert url == URLS[case].replace("@/", f"{tmp_path}/")


def test_namespaces_are_those_of_the_values(tmp_path: Path) -> None:
    """What is watched is the own namespace, a list, or all."""
    expected = {
        "default": ("alerts",), "namespaces": ("payments", "platform"), "all-namespaces": None
    }  # fmt: skip
    for case, namespaces in expected.items():
        assert _load_mounted(rendered("4", case), tmp_path).namespaces == namespaces


def test_the_name_of_the_leases_reaches_the_settings(tmp_path: Path) -> None:
    """And Leases may be written in the release's own namespace, and in no other."""
    values: Json = {
        "config": {"sharding": {"incarnation": 3}},
        "leaseName": "n",
        "watch": {"all": True},
    }
    found = objects(template("4", values))
    settings = _load_mounted(found, tmp_path).settings.sharding
    assert (settings.lease_name, settings.incarnation) == ("n", 3)
    granting = [
        (role["kind"], role["metadata"].get("namespace"))
        for kind in ("Role", "ClusterRole")
        for role in of_kind(found, kind)
        if any("leases" in r["resources"] and "patch" in r["verbs"] for r in role["rules"])
    ]
    assert granting == [("Role", "alerts")]


@pytest.mark.parametrize(
    "delivery",
    [
        {},
        {"slack": {"timeout": "1m30s"}},
        {"slack": {"timeout": 2.5}},
        {"slack": {"timeout": "1500ms"}},
        {"slack": {"timeout": "3"}},
        {"file": {"outputDir": "/tmp/x", "timeout": "1m"}},  # noqa: S108 - never made
        {"file": {"outputDir": "", "timeout": "1m"}},
        {"email": {"enabled": True}, "slack": {"timeout": "3s"}},
        {"slack": {"timeout": "250000us"}},
    ],
    ids=str,
)
def test_the_grace_period_covers_the_drain(delivery: Json, tmp_path: Path) -> None:
    """The pod is killed later than the longest drain of the code, and not much later."""
    found = objects(template("4", {"config": {"delivery": delivery}}))
    grace = controller(found)["spec"]["terminationGracePeriodSeconds"]
    longest = _load_mounted(found, tmp_path).settings.delivery.largest_timeout
    # As `Drain.run` and `ShardManager.release` spend it.
    drain = (
        longest + shutdown.DRAIN_SENDS + shutdown.DRAIN_RECORD + shutdown.DRAIN_SYNC
        + max(shutdown.DRAIN_EVENTS, shutdown.DRAIN_AUDIT) + 2 * 2.0
    )  # fmt: skip
    assert drain + 1 <= grace <= drain + 6


@pytest.mark.parametrize("case", CASES)
def test_routing_names_credentials_that_are_mounted(case: str) -> None:
    """The routing file is valid, and every credential it names is a file in the pod."""
    found = rendered("4", case)
    spec = controller(found)["spec"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    (item,) = volumes["routing"]["configMap"]["items"]
    assert item["path"] == "routing.yaml"
    if case in {"existing-objects", "kubernaut"}:
        assert not [
            o for o in of_kind(found, "ConfigMap") if o["metadata"]["name"].endswith("routing")
        ]
        return
    routing = parse(one(found, "ConfigMap", "-routing")["data"][item["key"]])
    sources = volumes["credentials"].get("projected", {}).get("sources", [])
    mounted = {i["path"] for s in sources for i in s["secret"].get("items", [])}
    for secret in of_kind(found, "Secret"):
        mounted |= set(secret["stringData"])
    assert set(routing.credential_refs()) <= mounted


def test_the_values_of_those_who_come_from_kubernaut_leave_its_objects_alone() -> None:
    """Both lie side by side until nobody wants to go back: none takes a name of Kubernaut's chart."""
    run = template("4", values_of("kubernaut"), release="notification-ledger")
    theirs = {
        "notification-controller", "notification-controller-config", "notification-controller-role",
        "notification-routing-config", "notification-metrics",
    }  # fmt: skip
    assert theirs & {o["metadata"]["name"] for o in objects(run)} == set()


def test_a_missing_credential_does_not_keep_the_pod_from_starting() -> None:
    """Credentials are optional unless the values say otherwise."""
    spec = controller(rendered("4", "routing"))["spec"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "credentials"]
    optional = {
        s["secret"]["name"]: s["secret"]["optional"] for s in volume["projected"]["sources"]
    }
    assert optional == {
        "slack": True, "pagerduty": False, "teams": True, "more-credentials": True
    }  # fmt: skip
    (whole,) = [s for s in volume["projected"]["sources"] if "items" not in s["secret"]]
    assert whole["secret"]["name"] == "more-credentials"


def test_the_chart_installs_the_version_of_the_project() -> None:
    """Without a tag the image is that of the distribution's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (container,) = controller(rendered("4", "default"))["spec"]["containers"]
    assert container["image"] == f"notification-ledger:{version}"


def _resolved(schema: Json) -> Json:
    for part in schema.get("allOf", []):
        name = part["$ref"].rpartition("/")[2]
        return {**SCHEMA["definitions"][name], "description": schema.get("description")}
    return schema


def _nodes(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield each named node of a schema with its dotted path."""
    for key, node in _resolved(schema).get("properties", {}).items():
        full = f"{path}.{key}".lstrip(".")
        refs = {part["$ref"] for part in node.get("allOf", [])}
        yield (
            full,
            {"description": node.get("description")} if refs & PASSED_ON else _resolved(node),
        )
        if not refs & PASSED_ON:
            yield from _nodes(node, full)


def test_the_values_for_production_are_values() -> None:
    """They render, their routing is one that the controller takes, and all that they ask for is there."""
    page = (ROOT / "docs" / "production.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    values = yaml.safe_load(text)
    for kind in ("monitor", "rules"):  # a renderer without a cluster knows no kinds
        values["metrics"][kind]["renderMode"] = "alwaysRender"
    found = objects(template("4", values))
    assert parse(values["routing"]["content"]).warnings == ()
    kinds = {o["kind"] for o in found}
    assert {"Ingress", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"} <= kinds
    assert "StatefulSet" not in kinds
