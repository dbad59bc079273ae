"""Every values file, under both majors of Helm: what is rendered is valid, safe and the same."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable

import kubernetes_validate.utils  # type: ignore[import-untyped]  # it has no types
import pytest

from syncer.model.resource import Json
from tests.chart.helm import (
    CASES,
    CHART,
    MAJORS,
    OF_EACH_CASE,
    component,
    controller,
    helm,
    objects,
    of_kind,
    one,
    pods,
    rendered,
    template,
)
from tests.chart.policy import RIGHTS, faults_of_pod, faults_of_role
from tests.servers.definition import load_crd

#: The oldest Kubernetes that the chart takes, and the newest whose schemas are at hand.
KUBERNETES = ("1.31.0", "1.37.0")
#: Kinds that Kubernetes itself does not know, with the members that a specification may have.
FOREIGN = {
    "ServiceMonitor": {"selector", "namespaceSelector", "endpoints"},
    "PodMonitor": {"selector", "namespaceSelector", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
#: Rights beyond those of every installation, by values file.
MORE_RIGHTS = {"files": {("kubernaut.ai", "notificationrequests", "delete")}}
TEST_RIGHTS = {
    ("kubernaut.ai", "notificationrequests", verb) for verb in ("create", "get", "delete")
}
PEOPLE = {
    ("kubernaut.ai", "notificationrequests", verb)
    for verb in ("get", "list", "watch", "create", "delete", "patch", "update")
}

# It reads all definitions of a version, a fifth of a second, for each object that it is asked about.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)

pytestmark = OF_EACH_CASE

each_case = pytest.mark.parametrize("case", CASES)
each_major = pytest.mark.parametrize("major", MAJORS)


@each_major
def test_lint_has_nothing_to_say(major: str) -> None:
    """The chart passes the strict linter with each values file, without a warning."""
    files = [a for case in CASES for a in ("--values", str(CHART / "ci" / f"{case}-values.yaml"))]
    for arguments in ([], files[:2]):
        run = helm(major, "lint", "--strict", str(CHART), *arguments)
        assert run.code == 0, run.out + run.err
        assert "[WARNING]" not in run.out + run.err


@each_case
def test_both_majors_render_the_same(case: str) -> None:
    """Helm 3 and Helm 4 make the same objects of the same values, in whatever order."""
    first, second = (sorted(map(json.dumps, rendered(major, case))) for major in MAJORS)
    assert first == second


@each_case
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_its_schema(case: str, version: str) -> None:
    """Every object is what Kubernetes's own schemas allow, without a member too many."""
    for o in rendered("4", case):
        if o["kind"] in FOREIGN:
            assert set(o["spec"]) <= FOREIGN[o["kind"]]
            continue
        _fits(json.dumps(o, sort_keys=True), version)


@functools.cache
def _fits(text: str, version: str) -> None:
    """Check an object once, however many values files make it."""
    kubernetes_validate.validate(json.loads(text), version, strict=True)


@each_case
def test_names_are_unique(case: str) -> None:
    """No two objects are the same one, and no list holds two entries of one name."""
    found = rendered("4", case)
    ids = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in found]
    assert len(ids) == len(set(ids))
    for name, spec in pods(found):
        for container in spec["containers"]:
            for part, key in (("env", "name"), ("volumeMounts", "mountPath")):
                entries = [entry[key] for entry in container.get(part) or []]
                assert len(entries) == len(set(entries)), f"{name}: {part}"
        volumes = [volume["name"] for volume in spec.get("volumes") or []]
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts") or []}
        claims = {
            t["metadata"]["name"]
            for o in of_kind(found, "StatefulSet")
            if name == f"StatefulSet/{o['metadata']['name']}"
            for t in o["spec"].get("volumeClaimTemplates") or []
        }
        assert len(volumes) == len(set(volumes))
        assert mounted == set(volumes) | claims, f"{name}: volumes and mounts"


@each_case
def test_every_object_is_labelled(case: str) -> None:
    """Whatever the chart itself makes can be found by the labels that everybody uses."""
    for o in rendered("4", case):
        if o["metadata"]["name"] in {"r-extra", "r-text"}:
            continue
        labels = o["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "r"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("notification-ledger-")


@each_case
def test_selectors_select_their_pods(case: str) -> None:
    """What selects pods by label selects those of one component of this release."""
    found = rendered("4", case)
    templates = {
        o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
        for o in of_kind(found, kind)
    }
    selectors = [
        (o["metadata"]["name"], o["spec"]["selector"]["matchLabels"])
        for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor")
        for o in of_kind(found, kind)
    ]
    selectors += [(o["metadata"]["name"], o["spec"]["selector"]) for o in of_kind(found, "Service")]
    selectors += [
        (o["metadata"]["name"], o["spec"]["podSelector"]["matchLabels"])
        for o in of_kind(found, "NetworkPolicy")
    ]
    assert selectors
    for name, selector in selectors:
        hit = [t for t, labels in templates.items() if selector.items() <= labels.items()]
        assert len(hit) == 1, name
        assert ("redis" in name) is (hit[0].endswith("-redis")), name


@each_case
def test_pods_are_restricted(case: str) -> None:
    """Every pod fits the restricted standard, has limits, and a token only if it needs one."""
    found = rendered("4", case)
    assert pods(found)
    for name, spec in pods(found):
        token = name.startswith(("Deployment/", "Job/"))
        token = token or (case == "helm-test" and name.startswith("Pod/"))
        assert faults_of_pod(spec, token=token) == [], name


@each_case
def test_rights_are_the_least(case: str) -> None:
    """No role has a right that is not on the list; the real rights are tried in test_rights."""
    found = rendered("4", case)
    roles = of_kind(found, "Role") + of_kind(found, "ClusterRole")
    assert roles or case == "existing-objects"
    for role in roles:
        allowed = RIGHTS | MORE_RIGHTS.get(case, set())
        label = role["metadata"]["labels"]["app.kubernetes.io/component"]
        special = {
            "access": PEOPLE,
            "test": TEST_RIGHTS,
            "redis-password": {("", "secrets", "create")},
            "status-writers": {
                ("kubernaut.ai", "notificationrequests/status", v)
                for v in ("get", "patch", "record", "update")
            },
            "gateway": {
                *(
                        ("kubernaut.ai", "notificationrequests", v)
                        for v in ("create", "get", "incident", "list")
                    ),
                *(("coordination.k8s.io", "leases", v) for v in ("create", "get", "patch")),
                ("authentication.k8s.io", "tokenreviews", "create"),
                ("authorization.k8s.io", "subjectaccessreviews", "create"),
            },
            "explorer": {
                ("notification-ledger.dev", "deliveryholds", "list"),
                *((group, resource, verb)
                for group, resource in (
                    ("kubernaut.ai", "notificationrequests"), ("coordination.k8s.io", "leases"),
                )
                for verb in ("get", "list", "watch")),
            },
        }  # fmt: skip
        allowed = special.get(label, allowed)
        assert faults_of_role(role["rules"], allowed) == [], role["metadata"]["name"]


@each_case
def test_roles_are_bound_to_the_account_that_runs(case: str) -> None:
    """Every role for the controller is bound, to the account of its pods, and nothing else is."""
    found = rendered("4", case)
    account = controller(found)["spec"]["serviceAccountName"]
    pod = component(found, "Deployment", "explorer")["spec"]["template"]["spec"]
    explorer = pod["serviceAccountName"]
    roles = {
        (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
        for kind in ("Role", "ClusterRole")
        for o in of_kind(found, kind)
        if o["metadata"]["labels"]["app.kubernetes.io/component"]
        not in {"access", "status-writers"}
    }
    bound = set()
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of_kind(found, kind):
            label = binding["metadata"]["labels"]["app.kubernetes.io/component"]
            if label == "status-writers":
                continue
            (subject,) = binding["subjects"]
            expected = {
                "test": "r-notification-ledger-test", "redis-password": binding["metadata"]["name"],
                "gateway": "r-notification-ledger-gateway", "explorer": explorer,
            }.get(label, account)  # fmt: skip
            assert (subject["name"], subject["namespace"]) == (expected, "alerts")
            ref = binding["roleRef"]
            bound.add((ref["kind"], binding["metadata"].get("namespace"), ref["name"]))
    assert bound == roles


def test_watched_namespaces_get_a_role_each() -> None:
    """Each watched namespace has the role, the release's own only if it is watched."""
    found = rendered("4", "namespaces")
    roles = [o for o in of_kind(found, "Role") if o["metadata"]["name"].endswith("-notifications")]
    assert [o["metadata"]["namespace"] for o in roles] == ["payments", "platform"]
    assert not [
        o for o in of_kind(found, "ClusterRole") if o["metadata"]["name"].endswith("-notifications")
    ]
    assert [o["kind"] for o in rendered("4", "no-cluster-rights") if "Cluster" in o["kind"]] == []


@each_major
@pytest.mark.parametrize("keep", [True, False])
def test_the_definition_is_the_one_that_the_command_prints(major: str, keep: bool) -> None:
    """The definition is the file, installed and kept if so wanted: by default Kubernaut's is left alone."""
    assert of_kind(objects(template(major, {})), "CustomResourceDefinition") == []
    values = {"crds": {"enabled": True, "keep": keep}}
    definition = copy.deepcopy(one(objects(template(major, values)), "CustomResourceDefinition"))
    annotations = definition["metadata"].pop("annotations", {})
    assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})
    definition["metadata"].pop("labels")
    assert definition == load_crd()


@each_major
def test_long_names_are_cut_and_stay_apart(major: str) -> None:
    """A name of 60 characters leaves every object a legal name, and none the name of another."""
    values = {
        "fullnameOverride": "n" + "o" * 58 + "x",
        "redis": {"embedded": {"podDisruptionBudget": {"enabled": True}}},
        "inlineCredentials": {"a": "b"},
        "helmTest": {"notification": {"enabled": True}},
        "networkPolicy": {"enabled": True},
    }
    found = objects(template(major, values, release="r" * 53, namespace="n" * 63))
    ids = [(o["kind"], o["metadata"]["name"]) for o in found]
    assert len(ids) == len(set(ids))
    for kind, name in ids:
        if kind != "CustomResourceDefinition":
            assert len(name) <= 63
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    # The controller adds a hash of up to 11 characters and puts the result in a label.
    assert len(one(found, "StatefulSet")["metadata"]["name"]) <= 52
    for o in found:
        labels = [o["metadata"]["labels"], (o.get("spec") or {}).get("selector") or {}]
        for value in [v for each in labels for v in each.values() if isinstance(v, str)]:
            assert LABEL.fullmatch(value)


def test_two_releases_of_one_name_do_not_meet() -> None:
    """Objects without a namespace have other names in another namespace."""
    values = {"watch": {"all": True}, "rbac": {"aggregate": True}}
    first, second = (
        {
            o["metadata"]["name"]
            for o in objects(template("4", values, namespace=namespace))
            if o["kind"].startswith(("ClusterRole", "Validating"))
        }
        for namespace in ("one", "two")
    )
    assert len(first) == len(second) == 6
    assert first & second == set()


def test_a_new_version_restarts_only_what_changed() -> None:
    """Labels of pods hold no version, so that an upgrade of the chart leaves Redis alone."""
    found = rendered("4", "default")
    for made in (*of_kind(found, "Deployment"), one(found, "StatefulSet")):
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert not {k for k in labels if "version" in k or "chart" in k}


CHANGES: dict[str, tuple[Json, bool, bool]] = {
    "settings": ({"config": {"events": {"enabled": False}}}, True, False),
    "the switch that is followed": ({"config": {"delivery": {"paused": True}}}, False, False),
    "routing": ({"routing": {"content": "route: {receiver: x}\nreceivers: [{name: x}]"}}, False, False),
    "a credential": ({"inlineCredentials": {"a": "b"}}, False, False),
    "Redis's settings": ({"redis": {"embedded": {"maxmemory": "64mb"}}}, False, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_read_at_the_start_restarts_its_pods(case: str) -> None:
    """Checksums change with what is read once, and not with what is followed."""
    values, ours, redis = CHANGES[case]
    before, after = rendered("4", "default"), objects(template("4", values))
    picked: list[tuple[Callable[[tuple[Json, ...]], Json], bool]] = [
        (lambda found: component(found, "Deployment", "controller"), ours),
        (lambda found: one(found, "StatefulSet"), redis),
        # The explorer follows nothing of its settings.
        (
            lambda found: component(found, "Deployment", "explorer"),
            ours or case == "the switch that is followed",
        ),
    ]  # fmt: skip
    for pick, expected in picked:
        sums = [
            pick(found)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for found in (before, after)
        ]
        assert (sums[0] != sums[1]) is expected, case


def test_routing_and_credentials_are_followed() -> None:
    """Both are mounted as whole directories: a single file would never change."""
    for case in CASES:
        (container,) = controller(rendered("4", case))["spec"]["containers"]
        assert [m["mountPath"] for m in container["volumeMounts"] if "subPath" in m] == []


def test_one_replica_has_no_disruption_budget() -> None:
    """A budget for one pod would keep its node from ever being drained."""
    assert of_kind(rendered("4", "trial"), "PodDisruptionBudget") == []
    budget = one(rendered("4", "all-namespaces"), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == "25%"
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert one(rendered("4", "extras"), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    # Whoever switches on that of the only Redis wants it to be asked for, not drained.
    redis = one(rendered("4", "embedded-strict"), "PodDisruptionBudget", "-redis")["spec"]
    assert redis["maxUnavailable"] == 0


def test_the_embedded_redis_forgets_nothing() -> None:
    """It appends to a file on a disk, evicts nothing, and only the release's own pods may connect."""
    found = rendered("4", "default")
    lines = one(found, "ConfigMap", "-redis")["data"]["redis.conf"].splitlines()
    assert {
        "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "dir /data",
        "no-appendfsync-on-rewrite no",
    } <= set(lines)  # fmt: skip
    stateful = one(found, "StatefulSet")["spec"]
    assert stateful["replicas"] == 1
    (claim,) = stateful["volumeClaimTemplates"]
    (container,) = stateful["template"]["spec"]["containers"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in container["volumeMounts"]
    (rule,) = one(found, "NetworkPolicy", "-redis")["spec"]["ingress"]
    assert [
        source["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for source in rule["from"]
    ] == ["controller", "explorer"]
    assert of_kind(rendered("4", "external-url"), "StatefulSet") == []


def test_monitors_say_when_the_cluster_does_not_know_them() -> None:
    """Each mode does what it says where the operator's kinds are missing, and where they are not."""
    values = {"metrics": {"monitor": {"enabled": True}}}
    for major in MAJORS:
        refused = template(major, values)
        assert refused.code != 0
        assert "does not know monitoring.coreos.com/v1/ServiceMonitor" in refused.err
        known = ("--api-versions", "monitoring.coreos.com/v1/ServiceMonitor")
        run = helm(major, "template", "r", str(CHART), *known, values=values)
        assert [o["kind"] for o in objects(run)].count("ServiceMonitor") == 1
    assert of_kind(rendered("4", "monitoring-service"), "ServiceMonitor") == []
    (endpoint,) = one(rendered("4", "monitoring"), "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint == {
        "port": "metrics", "interval": "15s", "scrapeTimeout": "10s", "honorLabels": True
    }  # fmt: skip


def test_dashboards_come_from_their_files() -> None:
    """Whatever files there are is rendered as it is, plus the labels that were asked for."""
    found = rendered("4", "monitoring")
    dashboards = {
        name: text
        for o in of_kind(found, "ConfigMap")
        if (o["metadata"].get("labels") or {}).get("grafana_dashboard") == "1"
        for name, text in o["data"].items()
    }
    files = {p.name: p.read_text() for p in (CHART / "files" / "dashboards").glob("*.json")}
    assert dashboards == files
