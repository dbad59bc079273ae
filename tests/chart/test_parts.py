"""Parts of the chart by themselves: Redis's scripts on real servers, policies, alerts, the package."""

from __future__ import annotations

import copy
import ipaddress
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from notifier.channels.egress import METADATA
from syncer.configfile import build
from syncer.ledger.preflight import preflight
from syncer.model.resource import Json
from syncer.settings import RedisSettings
from tests.chart.helm import (
    CASES,
    CHART,
    MAJORS,
    component,
    controller,
    helm,
    notes,
    objects,
    of_kind,
    one,
    rendered,
    settings_file,
    template,
    values_of,
)
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.users import acl_rule

PASSWORD = 'p"a$s\\w o`r#d'  # with all that a shell or a file of settings would trip over


@pytest.mark.parametrize("case", ["default", "embedded-strict"])
def test_the_embedded_redis_starts_as_rendered(
    case: str, redis_binary: Path, tmp_path: Path
) -> None:
    """The rendered scripts start a real server that keeps what it is told, behind its users."""
    port = free_port()
    for name in ("data", "etc", "run", "auth", "bin"):
        (tmp_path / name).mkdir()
    found = rendered("4", case)
    for name, content in one(found, "ConfigMap", "-redis")["data"].items():
        for old, new in (
            ("/etc/redis-auth", f"{tmp_path}/auth"),
            ("/etc/redis", f"{tmp_path}/etc"),
            ("/run/redis", f"{tmp_path}/run"),
            ("dir /data", f"dir {tmp_path}/data"),
            ("6379", str(port)),
            ("bind * -::*", "bind 127.0.0.1"),
        ):
            content = content.replace(old, new)  # noqa: PLW2901 - one after the other
        (tmp_path / "etc" / name).write_text(content)
    for file, word in (("password", PASSWORD), ("explorer", "another")):
        (tmp_path / "auth" / file).write_text(word + "\n")
    kind = "valkey" if "valkey" in redis_binary.name else "redis"
    client = shutil.which("redis-cli")
    assert client is not None, "it comes with redis-server"
    (tmp_path / "bin" / f"{kind}-server").symlink_to(redis_binary)
    (tmp_path / "bin" / f"{kind}-cli").symlink_to(client)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}

    def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", tmp_path / "etc" / name, *arguments],
            env=env, capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip

    def ready() -> bool:
        return script("ready.sh").returncode == 0

    def login(user: str | None, password: str | None) -> redis.Redis:
        # Its vendor would ask again, three times and for seconds, who has a wrong password.
        return redis.Redis(
            port=port, username=user, password=password, retry=Retry(NoBackoff(), retries=0)
        )

    assert not ready()
    server = ServerProcess(
        "redis", ["sh", str(tmp_path / "etc" / "start.sh")], log=tmp_path / "log", env=env
    )
    try:
        server.start(ready, timeout=30)
        for user, password in (
            (None, None),
            (None, PASSWORD),
            ("default", ""),
            ("ledger", "x"),
            ("admin", PASSWORD),
            ("explorer", PASSWORD),
            ("ledger", "another"),
        ):
            with login(user, password) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        for path in (tmp_path / "run").iterdir():
            assert PASSWORD not in path.read_text()
            assert path.stat().st_mode & 0o077 == 0
        with login("ledger", PASSWORD) as own:
            info = {k: str(v) for k, v in own.info().items()}
            with pytest.raises(redis.exceptions.NoPermissionError):
                own.config_get("requirepass")
            settings = build(RedisSettings, yaml.safe_load(settings_file(found))["redis"])
            assert preflight(settings.seen_in(info), durability=settings.durability) == ()
            own.rpush("nl:{a}", "b")
            # What a script writes in one go is a transaction in the file.
            twice = "redis.call('RPUSH', KEYS[1], 'c', 'd') redis.call('LSET', KEYS[1], 0, 'a')"
            assert own.evalsha(str(own.script_load(twice)), 1, "nl:{b}") is None
        # The words of the page and those of the chart are one rule, on this very server.
        for name, word in (("ledger", PASSWORD), ("explorer", "another")):
            assert script("admin.sh", *acl_rule("twin", word, page=name)).stdout == "OK\n"
            theirs, ours = (
                sorted(script("admin.sh", "ACL", "GETUSER", user).stdout.split())
                for user in ("twin", name)
            )
            assert ours == theirs
        assert script("admin.sh", "CONFIG", "GET", "appendfsync").stdout.split()[1] == (
            settings.appendfsync
        )
        # A directory in the place of a file stands for a disk that takes no more.
        (tmp_path / "data" / "dump.rdb").mkdir()
        assert script("admin.sh", "CONFIG", "SET", "save", "3600 1").stdout == "OK\n"
        assert "started" in script("admin.sh", "BGSAVE").stdout
        server.wait_until(
            lambda: not ready() and script("ready.sh").stdout.startswith("MISCONF "),
            what="say that it cannot save", timeout=20,
        )  # fmt: skip
        assert script("admin.sh", "CONFIG", "SET", "save", "").stdout == "OK\n"
        server.terminate()
        server.start(ready, timeout=30)
        with login("ledger", PASSWORD) as own:
            assert own.lrange("nl:{a}", 0, -1) == [b"b"]
            assert own.lrange("nl:{b}", 0, -1) == [b"a", b"d"]
    finally:
        server.kill()


def test_the_embedded_redis_is_found_while_it_is_not_ready() -> None:
    """Who asks it then reads why, its disk or its file, instead of a refused connection."""
    service = one(rendered("4", "default"), "Service", "-redis")
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_embedded_redis_may_have_further_users() -> None:
    """Lines of an ACL file, as they are: nothing in them means anything to the shell."""
    line = "exporter on #0123 ~$HOME* resetchannels +info"
    values = {"redis": {"embedded": {"extraUsers": [line]}}}
    start = one(objects(template("4", values)), "ConfigMap", "-redis")["data"]["start.sh"]
    assert f"<<'END'\nuser {line}\nEND\n" in start


def test_the_password_is_made_once_and_by_nobody_else() -> None:
    """A Job before the installation makes it, with one right, unless there is one already."""
    found = rendered("4", "default")
    job = one(found, "Job", "-redis-password")
    hook = job["metadata"]["annotations"]
    assert hook["helm.sh/hook"] == "pre-install,pre-upgrade"
    role = one(found, "Role", "-redis-password")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    secret = {e["name"]: e["value"] for e in container["env"]}["SECRET"]
    explorer = component(found, "Deployment", "explorer")
    # One volume each: the server has both passwords, and of the others each has its own.
    for user, keys in (
        (one(found, "StatefulSet"), ["password", "explorer-password"]),
        (controller(found), ["password"]), (explorer, ["explorer-password"]),
    ):  # fmt: skip
        pod = user["spec"].get("template", user)["spec"]
        text = json.dumps(pod["volumes"])
        assert text.count(f'"{secret}"') == 1
        assert re.findall(r'"key": "((?:\w+-)?password)"', text) == keys
    # What the server is started with holds them: on no disk of the node.
    volumes = one(found, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert [v["emptyDir"]["medium"] for v in volumes if v["name"] == "run"] == ["Memory"]
    for case in ("embedded-strict", "external-url"):
        assert not [o for o in rendered("4", case) if "redis-password" in o["metadata"]["name"]]


def _ports(rules: list[Json]) -> set[int | str]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_the_controller_may_speak_to_what_it_needs() -> None:
    """The policy opens what the values make necessary: Redis, the audit store, the receivers."""
    base = {53, 443, 6443}
    sentinel = one(rendered("4", "external-sentinel"), "NetworkPolicy", "-ledger")["spec"]
    # A Sentinel names its server's address, which may have any port: the usual one is opened.
    assert _ports(sentinel["egress"]) == base | {26379, 26380, 6379}
    kubernaut = component(rendered("4", "kubernaut"), "NetworkPolicy", "controller")["spec"]
    assert _ports(kubernaut["egress"]) == base | {6379, 8080}
    policy = one(rendered("4", "network-policy"), "NetworkPolicy", "-ledger")["spec"]
    assert _ports(policy["egress"]) == {53, 6443, 6379, 443, 8443, 3128}
    (receivers,) = [r for r in policy["egress"] if "except" in str(r)]
    assert receivers["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(receivers["to"][0]["ipBlock"]["except"])
    names = [port for rule in policy["egress"] for port in rule["ports"] if port["port"] == 53]
    assert [port["protocol"] for port in names] == ["UDP", "TCP"], "large answers come over TCP"
    metrics, health = policy["ingress"]
    assert (metrics["ports"][0]["port"], "from" in metrics) == ("metrics", True)
    assert (health["ports"][0]["port"], "from" in health) == ("health", False)
    by_hand = one(rendered("4", "network-policy-egress"), "NetworkPolicy", "-ledger")["spec"]
    assert by_hand["egress"] == [{"to": [{"namespaceSelector": {}}]}]


def test_the_explorer_reads_and_is_reached_by_nobody() -> None:
    """Its user of Redis only reads, no Service and no rule leads to its pages, and it may start slowly."""
    found = rendered("4", "network-policy")
    pod = component(found, "Deployment", "explorer")["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"][0] == "web"
    probe = pod["containers"][0]["startupProbe"]
    assert (probe["httpGet"]["path"], probe["failureThreshold"]) == ("/healthz", 60)
    settings = yaml.safe_load(one(found, "ConfigMap", "-explorer")["data"]["config.yaml"])
    assert settings["redis"]["url"].startswith("redis://explorer@")
    policy = component(found, "NetworkPolicy", "explorer")["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [
        [{"port": "health", "protocol": "TCP"}]
    ]
    assert not reaches(policy, "203.0.113.5", 8443)
    selectors = [o["spec"]["selector"] for o in of_kind(found, "Service")]
    labels = pod_labels(found, "explorer")
    assert not [s for s in selectors if s.items() <= labels.items()]
    own = {"name": "mine", "urlKey": "reader"}
    external = {"hosts": ["r:1"], "existingSecret": {"name": "theirs", "passwordKey": "p"}}
    values = {
        "explorer": {"redis": {"existingSecret": own}},
        "redis": {"mode": "external", "external": external},
    }
    found = objects(template("4", values))
    settings = yaml.safe_load(one(found, "ConfigMap", "-explorer")["data"]["config.yaml"])
    path = settings["redis"]["urlFile"]
    assert set(settings["redis"]) & {"url", "passwordFile"} == set()
    pod = component(found, "Deployment", "explorer")["spec"]["template"]["spec"]
    assert "theirs" not in json.dumps(pod)
    (mounted,) = [
        m for m in pod["containers"][0]["volumeMounts"] if path.startswith(m["mountPath"] + "/")
    ]
    (volume,) = [v for v in pod["volumes"] if v["name"] == mounted["name"]]
    (source,) = volume["projected"]["sources"]
    assert source["secret"] == {"name": "mine", "items": [{"key": "reader", "path": "url"}]}
    without = objects(template("4", {"explorer": {"enabled": False}}))
    # Its password is made with the controller's, for it may come later.
    assert "explorer" not in json.dumps([
        o for o in without
        if o["kind"] != "CustomResourceDefinition" and not o["metadata"]["name"].endswith("-redis-password")
    ])  # fmt: skip


def pod_labels(found: tuple[Json, ...], name: str) -> Json:
    """Labels of the pods of a component."""
    labels: Json = component(found, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    return labels


def reaches(policy: Json, address: str, port: int) -> bool:
    """Whether a policy lets its pods connect to an address that is no pod's."""
    where = ipaddress.ip_address(address)

    def within(cidr: str) -> bool:
        network = ipaddress.ip_network(cidr)
        return network.version == where.version and where in network

    for rule in policy["egress"]:
        if port not in {p["port"] for p in rule["ports"]}:
            continue
        blocks = [to["ipBlock"] for to in rule["to"] if "ipBlock" in to] if "to" in rule else None
        if blocks is None:
            return True
        if any(
            within(b["cidr"]) and not any(within(e) for e in b.get("except", [])) for b in blocks
        ):
            return True
    return False


API_SERVER = "198.51.100.7"
INSIDE = {
    "networkPolicy": {
        "enabled": True,
        "receivers": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}],
        "receiverPorts": [80, 443],
        "apiServerCIDRs": [f"{API_SERVER}/32"],
    }
}


def test_the_receivers_are_all_that_is_reached() -> None:
    """No rule for anything else opens what the list of receivers leaves out, at any port."""
    policy = one(objects(template("4", INSIDE)), "NetworkPolicy", "-ledger")["spec"]
    for port in (80, 443, 6443, 6379):
        for address in ("192.0.2.1", "203.0.113.200", "169.254.169.254", "2001:db8::1"):
            assert not reaches(policy, address, port), (address, port)
    assert reaches(policy, "203.0.113.5", 443)
    assert reaches(policy, API_SERVER, 6443)
    assert not reaches(policy, API_SERVER, 80)


def test_metadata_is_never_a_receiver() -> None:
    """Where receivers are everywhere, the addresses that the controller denies are left out."""
    values = {"networkPolicy": {"enabled": True, "receiverPorts": [80]}}
    policy = one(objects(template("4", values)), "NetworkPolicy", "-ledger")["spec"]
    assert reaches(policy, "203.0.113.5", 80)
    assert reaches(policy, "2001:db8::1", 80)
    for address in [*map(str, METADATA), "169.254.169.254", "fe80::1"]:
        assert not reaches(policy, address, 80), address


def test_rules_for_one_namespace_do_not_serve_many() -> None:
    """With more than one namespace nobody is let in unasked, and incidents are kept apart."""
    for case, many in (("default", False), ("namespaces", True), ("all-namespaces", True)):
        found = rendered("4", case)
        aggregated = [o for o in found if "rbac.authorization.k8s.io/aggregate" in str(o)]
        assert bool(aggregated) is not many
        settings = yaml.safe_load(settings_file(found))
        assert settings["delivery"]["pagerduty"]["dedupNamespace"] is many
    for explicit in (True, False):
        said: Json = {"delivery": {"pagerduty": {"dedupNamespace": explicit}}}
        for version in MAJORS:
            for scope in ({}, {"all": True}, {"namespaces": ["one", "two"]}):
                values = {"watch": scope, "config": said, "rbac": {"aggregate": explicit}}
                found = objects(template(version, values))
                settings = yaml.safe_load(settings_file(found))
                assert settings["delivery"]["pagerduty"] == {"dedupNamespace": explicit}
                roles = [o for o in found if o["kind"] in {"Role", "ClusterRole"}]
                assert bool([r for r in roles if "aggregate-to" in str(r)]) is explicit


OPEN: Final = {"watch": {"all": True}}
GRANT: Final = "set rbac.aggregate to true"
#: Values, what the notes may say, and whether they do.
NOTES: Final[dict[str, tuple[Json, str, bool]]] = {
    "how to wait": ({}, "Wait until it is ready", True),
    "how to ask": ({}, "\n    kubectl ledger explain ", True),
    # An upgrade takes rights from people without an error.
    "how to let people in": (OPEN, GRANT, True),
    "nothing of people who are let in": ({**OPEN, "rbac": {"aggregate": False}}, GRANT, False),
    "nothing of people without a namespace of others": ({}, GRANT, False),
    "how to open the explorer": ({"explorer": {"enabled": True}}, "\n    kubectl ledger ui\n", True),
    "nothing of an explorer": ({"explorer": {"enabled": False}}, "\n    kubectl ledger ui\n", False),
    # Kubernaut's upgrade starts its controller again, and then both send.
    "that Kubernaut's must not run": (
        {"kubernaut": {"enabled": True}}, "set notification.replicas to 0", True,
    ),
    "nothing of Kubernaut": (
        {"kubernaut": {"enabled": False}}, "set notification.replicas to 0", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTES)
def test_the_notes_say_what_there_is_to_do(case: str) -> None:
    """What a person has to know who installs with such values, and nothing of what is not there."""
    values, text, said = NOTES[case]
    assert (text in notes(values)) is said


@pytest.mark.parametrize("case", ["default", "kubernaut", "extras"])
def test_the_plugin_finds_the_controllers_pods(case: str) -> None:
    """By labels that every pod of a controller has, whatever the release is called, and no other pod."""
    script = (CHART.parents[1] / "syncer" / "kubectl-ledger").read_text()
    (labels,) = re.findall(r'labels="(.+)\$1"', script)
    wanted = dict(label.split("=") for label in f"{labels}controller".split(","))
    found = [
        (o["kind"], o["spec"]["template"]["spec"]["containers"][0]["name"])
        for o in rendered("4", case)
        if o["kind"] in {"Deployment", "StatefulSet", "Job"}
        and wanted.items() <= o["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert found == [("Deployment", "controller")]


def test_an_audience_makes_a_token_for_the_audit_store_alone() -> None:
    """Without one the store gets the pod's own; none is made for a store that is reached in the clear."""
    own: Json = {"auditToken": {"audience": "store"}}
    found = objects(template("4", own | {"config": {"datastorage": {"url": "https://store"}}}))
    (volume,) = [v for v in controller(found)["spec"]["volumes"] if v["name"] == "audit-token"]
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "store"
    path = yaml.safe_load(settings_file(found))["datastorage"]["tokenFile"]
    (container,) = controller(found)["spec"]["containers"]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "audit-token"]
    assert path == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    stores: tuple[tuple[Json, Json], ...] = (
        ({"url": "http://store"}, own),
        ({"url": "https://store"}, {}),
        ({"url": "https://store", "tokenFile": "/mine"}, own),
    )
    for store, values in stores:
        made = objects(template("4", {"config": {"datastorage": store}, **values}))
        assert "serviceAccountToken" not in json.dumps(controller(made))
        assert yaml.safe_load(settings_file(made))["datastorage"] == store


def test_beside_kubernaut_the_pods_are_its_controllers() -> None:
    """For its data store and their rights: account, label, authority, address; and no second budget."""
    found = objects(template("4", values_of("kubernaut"), namespace="kn"))
    pods = controller(found)
    labels, spec = pods["metadata"]["labels"], pods["spec"]
    assert labels["app"] == spec["serviceAccountName"] == "notification-controller"
    # Else Kubernaut's own Deployment and Service would select them.
    assert "control-plane" not in labels
    assert "notification-controller" not in [
        o["metadata"]["name"] for o in of_kind(found, "ServiceAccount")
    ]
    accounts = {
        s["name"]
        for o in of_kind(found, "RoleBinding")
        if o["metadata"]["labels"]["app.kubernetes.io/component"] == "controller"
        for s in o["subjects"]
    }
    assert accounts == {"notification-controller"}
    (container,) = spec["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert env["TLS_CA_FILE"] == f"{mounts['tls-ca']}/ca.crt"
    assert {"name": "tls-ca", "configMap": {"name": "inter-service-ca"}} in spec["volumes"]
    settings = yaml.safe_load(settings_file(found))
    store = "https://data-storage-service.kn.svc.cluster.local:8080"
    assert settings["datastorage"] == {"url": store}
    policy = component(found, "NetworkPolicy", "controller")["spec"]["egress"]
    (rule,) = [r for r in policy if {"port": 8080, "protocol": "TCP"} in r["ports"]]
    assert rule["to"] == [{"podSelector": {"matchLabels": {"app": "datastorage"}}}]
    assert not of_kind(found, "PodDisruptionBudget")
    assert of_kind(rendered("4", "default"), "PodDisruptionBudget")


def test_the_policy_follows_the_settings() -> None:
    """A store that is asked for its health elsewhere, and mail, are reached as well."""
    values: Json = {
        "networkPolicy": {"enabled": True},
        "config": {
            "datastorage": {"url": "https://store", "healthUrl": "http://store:8081/health"},
            "delivery": {"email": {"enabled": True}},
        },
    }
    policy = one(objects(template("4", values)), "NetworkPolicy", "-ledger")["spec"]
    store, receivers = policy["egress"][-2:]
    assert _ports([store]) == {443, 8081}
    assert _ports([receivers]) == {443, 25, 465, 587}


def test_replicas_are_spread() -> None:
    """A constraint without a selector gets that of the pods."""
    for case, key in (
        ("default", "kubernetes.io/hostname"),
        ("extras", "topology.kubernetes.io/zone"),
    ):
        deployment = component(rendered("4", case), "Deployment", "controller")["spec"]
        (constraint,) = deployment["template"]["spec"]["topologySpreadConstraints"]
        assert constraint["topologyKey"] == key
        assert constraint["labelSelector"] == deployment["selector"]


def test_templates_are_evaluated_where_they_may_be() -> None:
    """Variables, volumes and further objects may speak of the release."""
    found = rendered("4", "extras")
    (container,) = controller(found)["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env["RELEASE"] == "r"
    assert {"r-extra", "r-text"} <= {o["metadata"]["name"] for o in of_kind(found, "ConfigMap")}
    assert container["image"].endswith("@sha256:" + "b" * 64)


def _alerts(groups: list[Json]) -> dict[str, Json]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_alerts_are_those_of_the_file() -> None:
    """Expressions, durations and texts are the file's; labels and annotations are added."""
    path = CHART / "files" / "alerts.yaml"
    groups = yaml.safe_load(path.read_text())["groups"]
    found = one(rendered("4", "monitoring"), "PrometheusRule")["spec"]["groups"]
    assert [g["name"] for g in found] == [g["name"] for g in groups]
    expected = copy.deepcopy(groups)
    pages = "https://git.example.com/ledger/blob/v0.1.0/docs/alerts.md"
    for name, rule in _alerts(expected).items():
        rule["labels"] = {**rule.get("labels", {}), "team": "platform"}
        added = {"installation": "alerts/r", "runbook_url": f"{pages}#{name.lower()}"}
        rule["annotations"] = {**rule.get("annotations", {}), **added}
    assert found == expected
    first, second, *_ = _alerts(groups)
    values = {
        "admission": {"enabled": False},
        "metrics": {
            "rules": {
                "enabled": True, "renderMode": "alwaysRender", "disabled": [first], "heartbeat": True,
                "overrides": {second: {"for": "42m", "labels": {"severity": "none"}}},
            }
        }
    }  # fmt: skip
    changed = _alerts(one(objects(template("4", values)), "PrometheusRule")["spec"]["groups"])
    # A pulse that somebody outside misses once it stops.
    beat = changed.pop("LedgerHeartbeat")
    assert (beat["expr"], beat["labels"], "for" in beat) == (
        "vector(1)",
        {"severity": "none"},
        False,
    )
    # Whoever has decided against the policies is not told that they are absent.
    assert set(changed) == set(_alerts(groups)) - {first, "NotificationLedgerStatusesUnprotected"}
    assert changed[second]["for"] == "42m"
    assert changed[second]["labels"]["severity"] == "none"
    assert changed[second]["expr"] == _alerts(groups)[second]["expr"]
    assert "runbook_url" not in changed[second]["annotations"]


def test_an_alert_that_does_not_exist_is_not_changed_in_silence() -> None:
    """A misspelt name of an alert is refused: it would change nothing."""
    for part in ({"disabled": ["NoSuchAlert"]}, {"overrides": {"NoSuchAlert": {"for": "1m"}}}):
        values = {"metrics": {"rules": {"enabled": True, "renderMode": "alwaysRender", **part}}}
        run = template("4", values)
        assert run.code != 0
        assert "there is no alert NoSuchAlert" in run.err


@pytest.mark.parametrize("major", MAJORS)
def test_an_old_kubernetes_is_refused(major: str) -> None:
    """A cluster that would drop parts of the definition is too old."""
    run = helm(major, "template", "r", str(CHART), "--kube-version", "1.30.9", values={})
    assert run.code != 0
    assert "which is incompatible with Kubernetes v1.30.9" in run.err
    run = helm(major, "template", "r", str(CHART), "--kube-version", "1.31.0-eks.1", values={})
    assert run.code == 0, run.err


def test_nothing_is_random_and_nothing_asks_the_cluster() -> None:
    """Two renderings are equal, as GitOps needs it: no template uses what would make them differ."""
    forbidden = re.compile(
        r"\b(lookup|rand\w+|genCA\w*|genSelfSignedCert\w*|genSignedCert\w*|genPrivateKey|uuidv4|now"
        r"|htpasswd|bcrypt|derivePassword)\b(?=[^}]*}})"
    )
    used = [
        f"{path.name}: {match[0]}"
        for path in (CHART / "templates").rglob("*")
        if path.is_file() and path.suffix in {".yaml", ".tpl"}
        for block in re.findall(
            r"{{.*?}}",
            re.sub(r"{{-? ?/\*.*?\*/ ?-?}}", "", path.read_text(), flags=re.DOTALL),
            re.DOTALL,
        )
        for match in forbidden.finditer(block)
    ]
    assert used == []
    assert forbidden.search("{{ randAlphaNum 5 }}")
    assert template("4", {}).out == template("4", {}).out


def test_the_package_holds_what_it_needs(tmp_path: Path) -> None:
    """A packaged chart has files and templates, not the values files of the tests, and renders."""
    run = helm("4", "package", str(CHART), "-d", str(tmp_path))
    assert run.code == 0, run.err
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"files/crd.yaml", "files/helm-test.py", "values.schema.json", "README.md"} <= names
    assert not [name for name in names if name.startswith("ci/")]
    run = helm("4", "template", "r", str(package), "-n", "alerts", values={})
    assert objects(run) == rendered("4", "default")


def test_every_values_file_says_what_it_is_about() -> None:
    """Each begins with a comment, and there is one for each way to a Redis."""
    for case in CASES:
        assert (CHART / "ci" / f"{case}-values.yaml").read_text().startswith("# "), case
    assert {"external-standalone", "external-sentinel", "external-cluster", "external-url"} <= set(
        CASES
    )
