"""
Values that cannot be used are refused, with a text that says what to change.

The schema is read by each major of Helm in its own way; the sentences about contradictions are the chart's
templates, of which `test_render` shows that both make the same.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
import yaml

from syncer.model.resource import Json
from tests.chart.helm import CASES, CHART, MAJORS, members, template, values_of

EXTERNAL: Json = {"mode": "external", "external": {"hosts": ["h"]}}


def external(**more: Any) -> Json:
    """Return values for a Redis outside the chart."""
    return {"redis": {"mode": "external", "external": {"hosts": ["h"], **more}}}


#: Values that a rule about one value refuses, and what the text names.
SHAPE: dict[str, tuple[Json, str]] = {
    "a key that does not exist": ({"replicaCount": 3}, "replicaCount"),
    "a key of settings that does not exist": (
        {"config": {"delivery": {"perReciever": 3}}}, "perReciever"
    ),
    "a key of the routing that does not exist": (
        {"routing": {"content": {"route": {"recever": "a"}, "receivers": [{"name": "a"}]}}}, "recever"
    ),
    "a key deep inside": ({"redis": {"embedded": {"persistence": {"sise": "1Gi"}}}}, "sise"),
    "a key that the chart sets: addresses": (
        {"config": {"controller": {"metricsAddr": ":1"}}}, "controller"
    ),
    "a key that the chart sets: Redis's URL": (
        {"config": {"redis": {"url": "redis://h"}}}, "url"
    ),
    "a key that the chart sets: the name of the Leases": (
        {"config": {"sharding": {"leaseName": "x"}}}, "leaseName"
    ),
    "a number as text": ({"replicas": "three"}, "replicas"),
    "a negative number": ({"replicas": -1}, "replicas"),
    "a text as a truth": ({"crds": {"enabled": "yes"}}, "enabled"),
    "a mode that does not exist": ({"redis": {"mode": "bitnami"}}, "mode"),
    "a setting that does not exist": ({"config": {"logging": {"level": "LOUD"}}}, "level"),
    "a duration that is none": (
        {"config": {"delivery": {"slack": {"timeout": "10 seconds"}}}}, "timeout"
    ),
    "a negative duration": ({"config": {"delivery": {"maxAge": "-1s"}}}, "maxAge"),
    "a number out of range": ({"config": {"sharding": {"incarnation": -1}}}, "incarnation"),
    "an audit store without its URL": ({"config": {"datastorage": {"timeout": "1s"}}}, "url"),
    "an evicting fsync": ({"redis": {"embedded": {"appendfsync": "no"}}}, "appendfsync"),
    "a namespace that cannot be": ({"watch": {"namespaces": ["*"]}}, "namespaces"),
    "a credential without its key": (
        {"credentials": [{"name": "a", "secretName": "b"}]}, "credentials"
    ),
    "a credential that is a hidden file": (
        {"credentials": [{"name": ".a", "secretName": "b", "secretKey": "c"}]}, "name"
    ),
    "a digest that is none": ({"image": {"digest": "latest"}}, "digest"),
    "a pull policy that does not exist": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "a host with a scheme": (external(hosts=["redis://h"]), "hosts"),
    "a mode of rendering that does not exist": (
        {"metrics": {"monitor": {"renderMode": "maybe"}}}, "renderMode"
    ),
    "an unknown scope of rights": ({"rbac": {"scope": "world"}}, "scope"),
    "a name that is too long": ({"fullnameOverride": "x" * 64}, "fullnameOverride"),
    "an address for a repository": ({"image": {"repository": "https://r.example.com/nl"}}, "repository"),
    "a tag in a repository": ({"image": {"repository": "r.example.com/nl:1.0"}}, "repository"),
    "a tag like a port in a repository": (
        {"redis": {"embedded": {"image": {"repository": "redis:7"}}}}, "repository"
    ),
    "a name of the page for a repository": ({"image": {"repository": "REGISTRY/nl"}}, "repository"),
    "a limit of what is no resource list": ({"resources": {"limit": {}}}, "limit"),
}  # fmt: skip

#: Values that only contradict each other, and the sentence.
CONTRADICTIONS: dict[str, tuple[Json, str]] = {
    "a user beside the file of users": (
        {"redis": {"embedded": {"extraConfig": "hz 5\n  User exporter on nopass ~* +info"}}},
        "redis.embedded.extraConfig names a user",
    ),
    "a file of users beside the chart's": (
        {"redis": {"embedded": {"extraConfig": "aclfile /data/users.acl"}}},
        "redis.embedded.extraConfig names a user",
    ),
    "all namespaces and some": (
        {"watch": {"all": True, "namespaces": ["a"]}},
        "watch.all and watch.namespaces cannot be combined",
    ),
    "all namespaces with a Role": (
        {"watch": {"all": True}, "rbac": {"scope": "namespaced"}},
        "watch.all needs rbac.scope auto or cluster",
    ),
    "no account": (
        {"serviceAccount": {"create": False}}, "serviceAccount.name must name the account"
    ),
    "Kubernaut's account and another": (
        {"kubernaut": {"enabled": True}, "serviceAccount": {"name": "a"}},
        "serviceAccount.name must stay empty",
    ),
    "deletions that Kubernaut records as cancellations": (
        {"kubernaut": {"enabled": True}, "config": {"retention": {"deleteObjects": True}}},
        "webhook records each deletion as a cancellation",
    ),
    "two routing files": (
        {"routing": {"existingConfigMap": "a", "content": "route: {}"}},
        "routing.existingConfigMap and routing.content cannot be combined",
    ),
    "a shortcut that would not be taken": (
        {"slack": {"secretName": "a"}, "routing": {"existingConfigMap": "b"}},
        "slack.secretName has no effect together with routing",
    ),
    "one name for two credentials": (
        {
            "credentials": [{"name": "a", "secretName": "b", "secretKey": "c"}],
            "inlineCredentials": {"a": "d"},
        },
        "credentials: a name is given twice",
    ),
    "a gateway without a source": (
        {"gateway": {"enabled": True}}, "gateway.enabled needs gateway.config.sources"
    ),
    "a gateway of more replicas at least than at most": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}}},
        "gateway.autoscaling.minReplicas must be at most maxReplicas",
    ),
    "an Ingress for every name": (
        {"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.enabled needs gateway.ingress.host"
    ),
    "a gateway that is scaled by nothing": (
        {"gateway": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}},
        "gateway.autoscaling needs gateway.resources.requests.cpu",
    ),
    "a gateway that listens elsewhere": (
        {"gateway": {"enabled": True, "config": {"listen": ":1", "sources": [{"namespace": "a"}]}}},
        "gateway.config.listen is the chart's to set",
    ),
    "an external Redis that is nowhere": (
        {"redis": {"mode": "external"}}, "redis.mode external needs redis.external.hosts"
    ),
    "hosts beside a URL": (
        external(existingSecret={"name": "a", "urlKey": "b"}),
        "redis.external.hosts and redis.external.existingSecret.urlKey cannot be combined",
    ),
    "a password beside a URL": (
        external(hosts=[], existingSecret={"name": "a", "urlKey": "b", "passwordKey": "c"}),
        "names a whole URL, with user and passwords",
    ),
    "a key without its Secret": (
        external(existingSecret={"passwordKey": "a"}), "existingSecret has a key but no name"
    ),
    "a Secret without a key": (
        external(existingSecret={"name": "a"}), "existingSecret has a name but no key"
    ),
    "several hosts for one server": (
        external(hosts=["a", "b"]), "topology standalone takes one host"
    ),
    "Sentinels of nobody": (
        external(topology="sentinel"), "topology sentinel needs redis.external.service"
    ),
    "a service without Sentinels": (
        external(service="a"), "belong to topology sentinel"
    ),
    "a database of a cluster": (
        external(topology="cluster", database=1), "database must be 0 for topology cluster"
    ),
    "TLS that is not switched on": (
        external(tls={"existingSecret": "a"}), "redis.external.tls is configured but not enabled"
    ),
    "a client certificate out of nowhere": (
        external(tls={"enabled": True, "clientCertificate": True}),
        "clientCertificate needs redis.external.tls.existingSecret",
    ),
    "an external Redis beside the embedded": (
        {"redis": {"external": {"hosts": ["h"]}}},
        "redis.external is configured, but redis.mode is embedded",
    ),
    "a password that nothing may make": (
        {"rbac": {"create": False}},
        "nothing may make the password of redis.embedded: set redis.embedded.existingSecret.name",
    ),
    "receivers beside an open way to the API server": (
        {"networkPolicy": {"enabled": True, "receivers": [{"cidr": "10.0.0.0/8"}]}},
        "other rules open their ports to every address: set networkPolicy.apiServerCIDRs",
    ),
    "receivers beside an open way to everything": (
        {
            "networkPolicy": {
                "enabled": True, "receivers": [{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}],
                "apiServerCIDRs": ["10.1.1.1/32"],
            },
            "config": {"datastorage": {"url": "https://store"}},
            "redis": EXTERNAL,
        },
        "set networkPolicy.redisTo and networkPolicy.datastorageTo",
    ),
    "strict, with a server that is not": (
        {"config": {"redis": {"durability": "strict"}}},
        "durability strict needs redis.embedded.appendfsync always",
    ),
    "strict, without a disk": (
        {
            "config": {"redis": {"durability": "strict"}},
            "redis": {"embedded": {"appendfsync": "always", "persistence": {"enabled": False}}},
        },
        "durability strict needs redis.embedded.appendfsync always and redis.embedded.persistence",
    ),
    "two budgets": (
        {"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}},
        "podDisruptionBudget.minAvailable and maxUnavailable cannot be combined",
    ),
    "a grace shorter than the drain": (
        {"terminationGracePeriodSeconds": 30},
        "terminationGracePeriodSeconds is 30, but with the timeouts in config a drain may take 35 s",
    ),
    "one audit file for two": (
        {
            "config": {"audit": {"file": "/a/b"}},
            "volumes": {"audit": {"persistentVolumeClaim": {"claimName": "c"}}},
        },
        "volumes.audit is one claim for several replicas",
    ),
    "an audit file in a directory that is taken": (
        {"config": {"audit": {"file": "/etc/notification-routing/audit.jsonl"}}},
        "config.audit.file needs a directory of its own: something else is mounted at /etc",
    ),
    "delivered files in the audit file's directory": (
        {
            "config": {
                "audit": {"file": "/data/audit.jsonl"},
                "delivery": {"file": {"outputDir": "/data/"}},
            },
        },
        "config.delivery.file.outputDir needs a directory of its own: something else is mounted at /data",
    ),
    "delivered files nowhere in particular": (
        {"config": {"delivery": {"file": {"outputDir": "files"}}}},
        "config.delivery.file.outputDir must be an absolute path",
    ),
    "two bundles": (
        {"caBundle": {"existingConfigMap": "a"}, "config": {"egress": {"caBundle": "/b"}}},
        "caBundle.existingConfigMap and config.egress.caBundle cannot be combined",
    ),
    "a variable that the chart sets": (
        {"extraEnv": [{"name": "ROUTING_CONFIG_PATH", "value": "/x"}]},
        "extraEnv sets ROUTING_CONFIG_PATH, which the chart sets",
    ),
    "a test that nobody would answer": (
        {
            "helmTest": {"notification": {"enabled": True}},
            "watch": {"namespaces": ["elsewhere"]},
        },
        "helmTest.notification sends in the release's namespace alerts",
    ),
    "a rule without effect": (
        {"networkPolicy": {"egress": [{}], "extraEgress": [{}]}},
        "networkPolicy.extraEgress would have no effect",
    ),
}  # fmt: skip


def paths(values: Json) -> list[tuple[str, ...]]:
    """Return the path of each value that is no mapping, and of each empty mapping."""
    return [path for path, value in members(values) if not isinstance(value, dict) or not value]


def apart(first: Json, second: Json) -> bool:
    """Whether neither sets a value that the other one sets or has members of."""
    return not any(
        one[: len(other)] == other or other[: len(one)] == one
        for one in paths(first)
        for other in paths(second)
    )


def merged(into: Json, values: Json) -> Json:
    """Return values with those of both."""
    both = dict(into)
    for key, value in values.items():
        both[key] = merged(both[key], value) if key in both else value
    return both


@functools.cache
def shape_batches() -> dict[str, Json]:
    """Return for each case of `SHAPE` values that it is rendered with: its own and others'."""
    batches: list[tuple[list[str], Json]] = []
    for case, (values, _) in SHAPE.items():
        for names, given in batches:
            if apart(given, values):
                names.append(case)
                given.update(merged(given, values))
                break
        else:
            batches.append(([case], dict(values)))
    return {case: given for names, given in batches for case in names}


@functools.cache
def refusal(major: str, given: str) -> list[tuple[tuple[str, ...], str]]:
    """Return where and why the schema refuses values, given as JSON, one line each."""
    run = template(major, json.loads(given))
    assert run.code != 0
    assert "values don't meet the specifications of the schema" in run.err
    form = r" *- \(?(\S*?)\)?: (.*)" if major == "3" else r" *- at '(\S*)': (.*)"
    found = [match for line in run.err.splitlines() if (match := re.fullmatch(form, line))]
    return [
        (tuple(part for part in re.split(r"[./]", match[1]) if part not in {"", "root"}), match[2])
        for match in found
    ]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("case", SHAPE)
def test_a_value_that_cannot_be_is_refused_by_the_schema(major: str, case: str) -> None:
    """Each wrong key, type or value is refused at its own place, and named."""
    values, named = SHAPE[case]

    def is_own(at: tuple[str, ...], path: tuple[str, ...]) -> bool:
        if len(at) >= len(path):
            return at[: len(path)] == path
        # A key too few is said of its parent, and one too many of that of its whole group.
        return at == path[: len(at)] and (len(at) == len(path) - 1 or named == path[len(at)])

    assert any(
        named in ".".join((*at, why)) and any(is_own(at, path) for path in paths(values))
        for at, why in refusal(major, json.dumps(shape_batches()[case]))
    )


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused_with_a_sentence(case: str) -> None:
    """Values that are fine one by one and not together are refused, with what to change."""
    values, sentence = CONTRADICTIONS[case]
    run = template("4", values)
    assert run.code != 0
    assert "These values cannot be used together:" in run.err
    assert sentence in run.err


@pytest.mark.parametrize("major", MAJORS)
def test_every_contradiction_is_told_at_once(major: str) -> None:
    """Whoever has made two mistakes is told of both."""
    run = template(
        major, {"watch": {"all": True, "namespaces": ["a"]}, "redis": {"mode": "external"}}
    )
    assert "watch.all and watch.namespaces" in run.err
    assert "redis.mode external needs" in run.err


@pytest.mark.parametrize("major", MAJORS)
def test_a_key_with_nothing_below_it_is_named_or_does_no_harm(major: str) -> None:
    """A group whose members are all comments is refused by its name, or the chart does without it."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # The settings below `config` are the code's.
    groups = [
        path for path, value in members(values)
        if isinstance(value, dict) and (path[0] != "config" or len(path) == 1)
    ]  # fmt: skip
    named = set()
    for depth in (1, 2, 3):  # what lies deeper is Kubernetes's own
        emptied = _emptied(group for group in groups if len(group) == depth)
        for at, why in refusal(major, json.dumps(emptied)):
            named |= {(*at, name) for name in re.findall(r"'(\w+)'", why) or [why.split()[0]]}
    assert {("redis",), ("routing",), ("redis", "embedded", "persistence")} <= named
    harmless = [group for group in groups if group not in named]
    assert {("resources",), ("inlineCredentials",), ("gateway", "config")} <= {*harmless}
    run = template(major, _emptied(harmless))
    assert run.code == 0, run.err


def test_a_redis_elsewhere_needs_nothing_of_the_chart_s_own() -> None:
    """Whoever has taken away what is below `redis.embedded` has no use for it."""
    values = external()
    values["redis"]["embedded"] = None
    run = template("4", values)
    assert run.code == 0, run.err
    assert run.out == template("4", external()).out


def _emptied(groups: Iterable[tuple[str, ...]]) -> Json:
    """Return values with nothing below each of these keys."""
    values: Json = {}
    for *above, last in groups:
        place: Any = values
        for name in above:
            place = place.setdefault(name, {}) if place is not None else None
        if place is not None:
            place[last] = None
    return values


def test_a_closed_list_stays_closed() -> None:
    """Each group of each values file refuses a key that nobody knows."""
    values: Json = {}
    refused = []
    for path in sorted(
        {
            p
            for case in CASES
            for p, value in members(values_of(case))
            if value and isinstance(value, dict)
        }
    ):
        if path[0] in OPEN or any(".".join(path[:n]) in OPEN for n in range(1, len(path) + 1)):
            continue
        group = values
        for name in path:
            group = group.setdefault(name, {})
        group["surprise"] = 1
        refused.append(f"at '/{'/'.join(path)}': additional properties 'surprise' not allowed")
    assert len(refused) > 15
    found = template("4", values).err
    assert [line for line in refused if line not in found] == []


#: Groups whose keys are the user's or Kubernetes's own.
OPEN = {
    "commonLabels", "inlineCredentials", "routing.content", "volumes.files", "volumes.audit",
    "redis.embedded.probes.readiness", "redis.embedded.nodeSelector",
    "redis.embedded.persistence.labels", "redis.embedded.persistence.annotations",
    "metrics.monitor.labels", "metrics.monitor.endpoint", "metrics.rules.labels",
    "metrics.rules.alertLabels", "metrics.rules.alertAnnotations", "metrics.dashboards.annotations",
    "gateway.autoscaling.behavior", "gateway.config", "gateway.ingress.annotations",
    "podAnnotations", "podLabels", "deploymentAnnotations", "nodeSelector", "affinity",
}  # fmt: skip
