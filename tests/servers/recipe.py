"""
How etcd and kube-apiserver are started and prepared, by the tests and by scripts/controlplane.

Standard library only. The facts behind the choices:

- The API server's address is 127.0.0.1, so it must not try to register an endpoint for itself:
  ``--endpoint-reconciler-type=none`` (any other type refuses a loopback address).
- It writes a self-signed certificate into ``--cert-dir``; that certificate is valid for
  ``127.0.0.1`` and not for ``localhost``. The same file is the CA of the clients. It stays over a
  restart, so clients and kubeconfigs stay valid.
- It wants a private key for service account tokens. A P-256 key without its public half is a fixed
  prefix, 32 random bytes and a fixed suffix, and Go works out the rest, so no openssl is needed.
- Without kube-controller-manager a namespace is never fully deleted and gets no service account.
- The API server reads YAML by itself, so a CRD file is sent as it is.
- Half of the CPU of a start goes into what only clusters with nodes and users need. None here has fair
  queues, admission of pods and the like, nor groups of the API that nobody asks for; a *bare* one has
  neither bootstrap roles, policies nor what the chart makes either. The chart's policy would mean nothing
  there: it asks for a verb, and everybody has every one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import secrets
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTROLLER_USER = "notification-controller"
#: Name of the policy on statuses in the chart's file.
POLICY = "notification-ledger-statuses"

# What upstream's chart grants its controller, the verbs that the policy on statuses asks for, and no more.
_ALL_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
CONTROLLER_RULES: list[dict[str, list[str]]] = [
    {"apiGroups": [group], "resources": [resource], "verbs": verbs}
    for group, resource, verbs in [
        ("kubernaut.ai", "notificationrequests", _ALL_VERBS),
        (
            "kubernaut.ai",
            "notificationrequests/status",
            ["get", "patch", "update", "record", "correct"],
        ),
        ("kubernaut.ai", "notificationrequests/finalizers", ["update"]),
        ("", "events", ["create", "patch"]),
        ("coordination.k8s.io", "leases", _ALL_VERBS),
        ("notification-ledger.dev", "deliveryholds", _ALL_VERBS),
        ("notification-ledger.dev", "deliveryholds/status", ["patch"]),
    ]
]
# Whether the policy is there.
CONTROLLER_RULES.append(
    {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        "resourceNames": [POLICY],
        "verbs": ["get"],
    }
)

# What nobody here asks for: neither the tests, the chart nor the API server's own hooks, which ask for
# pods, nodes and endpoints. To describe what is served, in two ways, takes a third of a start.
_UNASKED = [
    "autoscaling/v1", "certificates.k8s.io/v1", "events.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1",
    "node.k8s.io/v1", "resource.k8s.io/v1", "scheduling.k8s.io/v1", "storage.k8s.io/v1",
    "/v1/bindings", "/v1/componentstatuses", "/v1/limitranges", "/v1/persistentvolumes",
    "/v1/podtemplates", "/v1/replicationcontrollers", "/v1/resourcequotas",
]  # fmt: skip
# What the chart makes, and nobody on a bare API server.
_OF_THE_CHART = [
    "apps/v1", "autoscaling/v2", "batch/v1", "policy/v1", "/v1/persistentvolumeclaims",
]  # fmt: skip
# Admission of what nobody makes here: pods, nodes, volumes, certificates. Their informers take a fifth of a
# start. Policies and webhooks stay.
_NO_PODS = [
    "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest", "DefaultIngressClass", "DefaultStorageClass", "DefaultTolerationSeconds",
    "LimitRanger", "PersistentVolumeClaimResize", "PodSecurity", "Priority", "ResourceQuota",
    "RuntimeClass", "ServiceAccount", "StorageObjectInUseProtection", "TaintNodesByCondition",
]  # fmt: skip
_NO_POLICIES = [
    "MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
]  # fmt: skip
_RECIPE_FILE = "recipe.json"
_FIELD_MANAGER = "notification-ledger-tests"
_POLICIES = "/apis/admissionregistration.k8s.io/v1"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_NOTIFICATIONS = "/apis/kubernaut.ai/v1alpha1/notificationrequests?limit=1"
_POLL = 0.05


class ApiError(Exception):
    """The API server gave another answer than the one needed."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """
    One control plane on disk: where it lives, on which ports, with which tokens.

    Attributes:
        bare: Everybody with a token may do everything, and what is served is custom resources and the core.
    """

    directory: Path
    etcd_port: int
    peer_port: int
    api_port: int
    admin_token: str
    controller_token: str
    bare: bool = False

    @classmethod
    def create(cls, directory: Path, *, bare: bool = False) -> Recipe:
        """Choose ports and tokens and write all files that the two processes need."""
        recipe = cls(
            directory=directory,
            etcd_port=free_port(),
            peer_port=free_port(),
            api_port=free_port(),
            admin_token=secrets.token_hex(20),
            controller_token=secrets.token_hex(20),
            bare=bare,
        )
        recipe._pki.mkdir(parents=True)
        _write_private(recipe._service_account_key, _new_private_key())
        _write_private(
            recipe._tokens,
            f'{recipe.admin_token},admin,admin,"system:masters"\n'
            f"{recipe.controller_token},{CONTROLLER_USER},{CONTROLLER_USER}\n",
        )
        for path, user, token in (
            (recipe.kubeconfig, "admin", recipe.admin_token),
            (recipe.controller_kubeconfig, CONTROLLER_USER, recipe.controller_token),
        ):
            _write_private(path, json.dumps(recipe._kubeconfig(user, token), indent=2))
        fields = {**dataclasses.asdict(recipe), "directory": str(directory)}
        _write_private(directory / _RECIPE_FILE, json.dumps(fields, indent=2))
        return recipe

    @classmethod
    def load(cls, directory: Path) -> Recipe | None:
        """Read back what ``create`` wrote; None if there is no control plane in this directory."""
        try:
            fields = json.loads((directory / _RECIPE_FILE).read_text())
        except FileNotFoundError:
            return None
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        return cls(**{**known, "directory": directory})

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def ca_file(self) -> Path:
        """Certificate to verify the API server with; it writes this file on its first start."""
        return self._pki / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a user who may do everything."""
        return self.directory / "admin.kubeconfig"

    @property
    def controller_kubeconfig(self) -> Path:
        """Kubeconfig of the controller's user, who may do what ``CONTROLLER_RULES`` lists."""
        return self.directory / "controller.kubeconfig"

    @property
    def _pki(self) -> Path:
        return self.directory / "pki"

    @property
    def key_file(self) -> Path:
        """Key of that certificate. The API server makes both unless both are there."""
        return self._pki / "apiserver.key"

    @property
    def _tokens(self) -> Path:
        return self._pki / "tokens.csv"

    @property
    def _service_account_key(self) -> Path:
        return self._pki / "service-account.key"

    def commands(self, assets: Path) -> dict[str, list[str]]:
        """Return both command lines by program name, in the order in which to start them."""
        etcd = f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        unserved = _UNASKED + _OF_THE_CHART * self.bare
        return {
            "etcd": [
                str(assets / "etcd"),
                "--name=main",
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=main={peer}",
                "--unsafe-no-fsync",  # survives a killed process, not a power cut
                "--log-level=warn",
            ],
            "kube-apiserver": [
                str(assets / "kube-apiserver"),
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.api_port}",
                f"--cert-dir={self._pki}",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={self._service_account_key}",
                f"--service-account-key-file={self._service_account_key}",
                f"--token-auth-file={self._tokens}",
                "--anonymous-auth=false",
                "--enable-priority-and-fairness=false",
                f"--disable-admission-plugins={','.join(_NO_PODS + _NO_POLICIES * self.bare)}",
                f"--authorization-mode={'AlwaysAllow' if self.bare else 'RBAC'}",
                f"--runtime-config={','.join(f'{name}=false' for name in unserved)}",
            ],
        }

    def log(self, program: str) -> Path:
        """Return the log file of one of the two programs."""
        return self.directory / f"{program}.log"

    def _kubeconfig(self, user: str, token: str) -> Mapping[str, object]:
        """Return a kubeconfig; it is written as JSON, which every reader of YAML reads."""
        cluster = {"server": self.server, "certificate-authority": str(self.ca_file)}
        name = "notification-ledger"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        }


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the API server; ``json`` fails on its plain-text answers."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.text)


class Api:
    """
    A blocking client for what is needed before tests start: readiness, rights, the CRD.

    It keeps its connections, since each test asks something, and a new one costs both sides a few
    milliseconds. Threads may use it at once.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Remember the recipe; nothing is opened yet."""
        self._recipe = recipe
        self._idle: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close what is kept; a later request opens it anew."""
        while (kept := self._kept()) is not None:
            kept.close()

    def request(
        self,
        method: str,
        path: str,
        body: str | None = None,
        *,
        content_type: str = "application/json",
        timeout: float = 10,
    ) -> Answer:
        """Send one request; raises OSError while there is no server to talk to."""
        headers = {
            "Authorization": f"Bearer {self._recipe.admin_token}",
            "Content-Type": content_type,
            "Accept": "application/json",
        }
        words = (method, path, body and body.encode(), headers)
        if (kept := self._kept()) is not None:
            # Whoever has closed it, as a server that ends does, has not acted upon the request.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return self._ask(kept, timeout, *words)
            self.close()
        # http.client and not urllib: it takes no notice of proxy variables.
        fresh = http.client.HTTPSConnection(
            "127.0.0.1",
            self._recipe.api_port,
            timeout=timeout,
            context=ssl.create_default_context(cafile=str(self._recipe.ca_file)),
        )
        return self._ask(fresh, timeout, *words)

    def _kept(self) -> http.client.HTTPSConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _ask(self, connection: http.client.HTTPSConnection, timeout: float, *words: Any) -> Answer:
        """Send a request; the connection is kept if it is answered whole, and closed if not."""
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request(*words)
            response = connection.getresponse()
            answer = Answer(response.status, response.read().decode())
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(repr(error)) from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.request("GET", "/readyz", timeout=5).status == http.HTTPStatus.OK
        except OSError:
            return False

    def serves_notifications(self) -> bool:
        """Whether notifications are served; not where there is no definition of them."""
        try:
            return self.request("GET", _NOTIFICATIONS, timeout=5).status == http.HTTPStatus.OK
        except OSError:
            return False

    def grant(self) -> None:
        """Give the controller's user its rights."""
        name = CONTROLLER_USER
        group = "rbac.authorization.k8s.io"
        self._apply(
            f"{_RBAC}/clusterroles/{name}",
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": name},
                "rules": CONTROLLER_RULES,
            },
        )
        self._apply(
            f"{_RBAC}/clusterrolebindings/{name}",
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
            },
        )

    def apply_crd(self, file: Path, *, timeout: float = 30) -> None:
        """Apply a file that holds one CustomResourceDefinition; return when it is served."""
        text = file.read_text()
        self._apply(f"{_CRDS}/{self._crd_name(file, text)}", text)
        self.wait_served(timeout=timeout)

    def protect_statuses(self, file: Path) -> None:
        """
        Apply a file that holds one ValidatingAdmissionPolicy, and bind it everywhere.

        It takes effect within a second or two.
        """
        self._apply(f"{_POLICIES}/validatingadmissionpolicies/{POLICY}", file.read_text())
        kind = "ValidatingAdmissionPolicyBinding"
        self._apply(
            f"{_POLICIES}/{kind.lower()}s/{POLICY}",
            {
                "apiVersion": _POLICIES.removeprefix("/apis/"),
                "kind": kind,
                "metadata": {"name": POLICY},
                "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
            },
        )

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        answer = self.request(
            "POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": name}})
        )
        if answer.status != http.HTTPStatus.CREATED:
            msg = f"namespace {name} is refused with {answer.status}: {answer.text}"
            raise ApiError(msg)

    def wait_served(self, *, timeout: float = 30) -> None:
        """
        Wait until every custom resource is served; after a restart it takes longer than /readyz.

        A new resource is answered with 404 in plain text, then with 429 while its storage is made,
        then with 200; its condition "Established" comes too early.
        """
        deadline = time.monotonic() + timeout
        for crd in self.request("GET", _CRDS).json["items"]:
            group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
            for version in crd["spec"]["versions"]:
                if version["served"]:
                    path = f"/apis/{group}/{version['name']}/{plural}?limit=1"
                    self._wait_ok(path, deadline, crd["metadata"]["name"])

    def _leaving(self, crd: str) -> bool:
        """Whether a definition is gone or about to be: somebody else's test may be over."""
        answer = self.request("GET", f"{_CRDS}/{crd}")
        if answer.status == http.HTTPStatus.NOT_FOUND:
            return True
        return bool(answer.json["metadata"].get("deletionTimestamp"))

    def _crd_name(self, file: Path, text: str) -> str:
        """Let the API server read the file: a dry run tells the name, used already or not."""
        answer = self.request("POST", f"{_CRDS}?dryRun=All", text, content_type="application/yaml")
        if answer.status == http.HTTPStatus.CREATED:
            return str(answer.json["metadata"]["name"])
        if answer.status == http.HTTPStatus.CONFLICT:
            return str(answer.json["details"]["name"])
        msg = f"{file.name} is refused with {answer.status}: {answer.text}"
        raise ApiError(msg)

    def _apply(self, path: str, resource: str | Mapping[str, object]) -> Any:
        """Create or change one object by server-side apply and return it."""
        text = resource if isinstance(resource, str) else json.dumps(resource)
        answer = self.request(
            "PATCH",
            f"{path}?fieldManager={_FIELD_MANAGER}&force=true",
            text,
            content_type="application/apply-patch+yaml",
        )
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.CREATED):
            msg = f"PATCH {path} is answered with {answer.status}: {answer.text}"
            raise ApiError(msg)
        return answer.json

    def _wait_ok(self, path: str, deadline: float, crd: str) -> None:
        while (answer := self.request("GET", path)).status != http.HTTPStatus.OK:
            if answer.status == http.HTTPStatus.NOT_FOUND and self._leaving(crd):
                return
            if time.monotonic() > deadline:
                msg = f"{path} is still answered with {answer.status}: {answer.text}"
                raise ApiError(msg)
            time.sleep(_POLL)


def _new_private_key() -> str:
    """Return a P-256 private key as PEM (RFC 5915, the optional public key left out)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    secret = (secrets.randbelow(order - 1) + 1).to_bytes(32, "big")
    der = bytes.fromhex("30310201010420") + secret + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
