"""
How a one-node cluster is laid out: addresses, files, command lines.

Standard library only, because ``scripts/cluster`` runs this before anything else is installed. All
programs share one network namespace that has no way out: its only interfaces are a veth pair, both
ends inside, and what the programs make. The facts behind the choices:

- The node's address is on ``eth0``; the other end of the pair only carries the default route, which
  packets to a Service's address need until kube-proxy has rewritten them.
- The API server's self-signed certificate is the CA of all clients, of pods too.
- The kubelet lets everyone in: nobody but the API server and the pods of a test can reach it, and
  so no further certificates are needed.
- ``restrict_oom_score_adj``: a root without CAP_SYS_RESOURCE may not lower the score of a sandbox.
- CoreDNS is a process on the node's address and needs no pod.
- A control group of its own holds all pods, so that a leftover is known as ours and can be removed.
"""

from __future__ import annotations

import json
import secrets
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.servers.recipe import _new_private_key, _write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADDRESS = "10.99.0.2"
PEER = "10.99.0.1"
API_PORT = 6443
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
DOMAIN = "cluster.local"
NODE = "node1"
PAUSE_IMAGE = "localhost/pause:1"
STORAGE_CLASS = "local"
VOLUMES = 8

# Group by user; the uid is the user's name.
_USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    f"system:node:{NODE}": "system:nodes",
}
# User by kubeconfig; CoreDNS takes the first.
_CONFIGS = {
    "admin": "admin",
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kube-proxy": "system:kube-proxy",
    "kubelet": f"system:node:{NODE}",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    A cluster's folder and all that follows from it.

    Attributes:
        folder: holds everything that the cluster writes.
        programs: folders with the programs, by the name of each.
        cni: folder of the network plugins.
    """

    folder: Path
    programs: Mapping[str, Path]
    cni: Path

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.folder / "containerd.sock"

    @property
    def group(self) -> str:
        """Name of the control group that holds all pods."""
        return f"notification-ledger-{zlib.crc32(str(self.folder).encode()):08x}"

    def kubeconfig(self, name: str = "admin") -> Path:
        """Kubeconfig of one of the users."""
        return self.folder / f"{name}.kubeconfig"

    def log(self, program: str) -> Path:
        """Log of one of the programs."""
        return self.folder / "logs" / f"{program}.log"

    @property
    def ca_file(self) -> Path:
        """Certificate to verify the API server with."""
        return self.folder / "pki" / "apiserver.crt"

    @property
    def network(self) -> list[list[str]]:
        """Commands that make the network of the namespace, to be run inside it."""
        return [
            ["ip", "link", "set", "lo", "up"],
            ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
            ["ip", "address", "add", f"{ADDRESS}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
            ["ip", "link", "set", "eth1", "up"],
            ["ip", "route", "add", "default", "via", PEER, "dev", "eth0"],
        ]

    @property
    def switches(self) -> dict[str, str]:
        """Files in /proc/sys of the namespace and what they hold."""
        return {
            "net/ipv4/ip_forward": "1",
            "net/bridge/bridge-nf-call-iptables": "1",
        }

    def write(self) -> None:
        """Write every file that the programs read."""
        for name in ("pki", "logs", "cni", "volumes"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for n in range(VOLUMES):
            (self.folder / "volumes" / str(n)).mkdir(exist_ok=True)
        tokens = {user: secrets.token_hex(20) for user in _USERS}
        lines = [f'{tokens[user]},{user},{user},"{group}"\n' for user, group in _USERS.items()]
        _write_private(self.folder / "pki" / "tokens.csv", "".join(lines))
        _write_private(self.folder / "pki" / "service-account.key", _new_private_key())
        for name, user in _CONFIGS.items():
            _write_private(self.kubeconfig(name), self._kubeconfig(user, tokens[user]))
        (self.folder / "token").touch(mode=0o600)
        (self.folder / "token").write_text(tokens["admin"])
        (self.folder / "resolv.conf").write_text("")
        self._json("cni/10-pods.conflist", self._cni())
        self._json("kubelet.json", self._kubelet())
        self._json("kube-proxy.json", self._kube_proxy())
        self._json("objects.json", {"apiVersion": "v1", "kind": "List", "items": self._objects()})
        (self.folder / "containerd.toml").write_text(self._containerd())
        (self.folder / "Corefile").write_text(
            f".:53 {{\n  bind {ADDRESS}\n  errors\n  kubernetes {DOMAIN} in-addr.arpa {{\n"
            f"    kubeconfig {self.kubeconfig()}\n  }}\n}}\n"
        )

    def commands(self) -> dict[str, list[str]]:
        """Return the command line of each program, in the order in which to start them."""
        pki = self.folder / "pki"
        etcd, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        client = {
            name: [f"--{kind}kubeconfig={self.kubeconfig(name)}" for kind in _KINDS]
            for name in ("kube-controller-manager", "kube-scheduler")
        }
        arguments = {
            "etcd": [
                "--name=main",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=main={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd}",
                f"--bind-address={ADDRESS}",
                f"--advertise-address={ADDRESS}",
                f"--secure-port={API_PORT}",
                f"--cert-dir={pki}",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={pki / 'service-account.key'}",
                f"--service-account-key-file={pki / 'service-account.key'}",
                f"--token-auth-file={pki / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--kubelet-preferred-address-types=InternalIP",
                "--anonymous-auth=false",
            ],
            "kube-controller-manager": [
                *client["kube-controller-manager"],
                f"--service-account-private-key-file={pki / 'service-account.key'}",
                f"--root-ca-file={self.ca_file}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ],
            "kube-scheduler": [
                *client["kube-scheduler"],
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ],
            "containerd": [f"--config={self.folder / 'containerd.toml'}"],
            "kubelet": [
                f"--config={self.folder / 'kubelet.json'}",
                f"--kubeconfig={self.kubeconfig('kubelet')}",
                f"--root-dir={self.folder / 'kubelet'}",
                f"--cert-dir={self.folder / 'kubelet-pki'}",
                f"--hostname-override={NODE}",
                f"--node-ip={ADDRESS}",
            ],
            "kube-proxy": [f"--config={self.folder / 'kube-proxy.json'}"],
            "coredns": [f"-conf={self.folder / 'Corefile'}"],
        }
        return {
            program: [str(self.programs[program] / program), *arguments[program]]
            for program in arguments
        }

    def ctr(self, *arguments: str) -> list[str]:
        """Return a command to containerd."""
        address = str(self.containerd_socket)
        return [str(self.programs["ctr"] / "ctr"), "-a", address, "-n", "k8s.io", *arguments]

    def _json(self, name: str, document: Mapping[str, object]) -> None:
        (self.folder / name).write_text(json.dumps(document, indent=2))

    def _kubeconfig(self, user: str, token: str) -> str:
        """Return a kubeconfig; JSON, which every reader of YAML reads."""
        cluster = {
            "server": f"https://{ADDRESS}:{API_PORT}",
            "certificate-authority": str(self.ca_file),
        }
        name = "notification-ledger"
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": cluster}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
                "current-context": name,
            },
            indent=2,
        )

    def _containerd(self) -> str:
        """Return containerd's settings; everything it writes is below the folder."""
        runc = self.programs["runc"] / "runc"
        return f"""\
version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
[grpc]
  address = "{self.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{self.cni}"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
"""

    def _cni(self) -> dict[str, object]:
        """Return the pods' network: a bridge, addresses from one host, ports mapped."""
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_NETWORK}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(self.folder / "cni-addresses"),
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": True},
                "webhook": {"enabled": False},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.group}",
            "clusterDNS": [ADDRESS],
            "clusterDomain": DOMAIN,
            "containerRuntimeEndpoint": f"unix://{self.containerd_socket}",
            "enforceNodeAllocatable": ["none"],
            # A full disk of the machine is no reason to evict a test.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzBindAddress": "127.0.0.1",
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": str(self.folder / "pods"),
            "resolvConf": str(self.folder / "resolv.conf"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
        }

    def _kube_proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("kube-proxy"))},
            "clusterCIDR": POD_NETWORK,
            # Zero is "leave it": the limits belong to the machine.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "healthzBindAddress": "127.0.0.1:10256",
            "hostnameOverride": NODE,
            "metricsBindAddress": "127.0.0.1:10249",
            "mode": "iptables",
        }

    def _objects(self) -> list[dict[str, object]]:
        """Return what a cluster's installer would have made: a default class, and some disks."""
        affinity = {
            "matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
            ]
        }
        storage_class: dict[str, object] = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        disks: list[dict[str, object]] = [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"disk-{n}"},
                "spec": {
                    "capacity": {"storage": "10Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": STORAGE_CLASS,
                    "local": {"path": str(self.folder / "volumes" / str(n))},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [affinity]}},
                },
            }
            for n in range(VOLUMES)
        ]
        return [storage_class, *disks]


_KINDS = ("", "authentication-", "authorization-")
