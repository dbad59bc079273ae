"""Somebody who follows the pages on the real cluster: a folder like a checkout, a shell, a kubeconfig."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from syncer.model.resource import Json

LEDGER: Final = "notifications"
#: Full name of what the documented release installs.
NAME: Final = "ledger-notification-ledger"
#: Seconds for a block, and for something to come about.
BLOCK: Final = 240.0
WAIT: Final = 90.0


class StepFailed(Exception):
    """A block, or what was to be seen after it, did not hold; the text says what."""


@dataclass
class Reader:
    """Somebody who follows the pages: a folder with the checkout, and a shell."""

    folder: Path
    env: Mapping[str, str]
    kept: dict[str, Any] = field(default_factory=dict)

    def type(self, text: str) -> str:
        """Run a text of a page in a shell of its own and return what it prints."""
        with (self.folder / "out.txt").open("w+") as out:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=self.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code = shell.wait(BLOCK)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
            out.seek(0)
            said = out.read()
        if code != 0:
            raise StepFailed(f"exit code {code} ({BLOCK:.0f} s are allowed):\n{said[-3000:]}")
        return said

    def kubectl(self, *arguments: str, within: float = 60) -> str:
        """Ask the cluster something that is not printed on a page."""
        done = subprocess.run(
            ["kubectl", *arguments], env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=within, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StepFailed(f"`kubectl {' '.join(arguments)}`: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def get(self, *arguments: str) -> Json:
        """Return an object or a list of objects."""
        answer: Json = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + WAIT
        while not condition():
            if time.monotonic() > end:
                raise StepFailed(f"not within {WAIT:.0f} s: {what}")
            time.sleep(0.3)

    def pods(self, namespace: str, component: str) -> list[Json]:
        """Pods of a component of the release there."""
        found = self.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/component={component}")
        items: list[Json] = found["items"]
        return items

    def ready(self, namespace: str) -> None:
        """Check that both replicas are ready at once: `--wait` has waited for that."""
        found = self.get("deployment", "-n", namespace, NAME)
        if found["status"].get("readyReplicas") != 2:
            raise StepFailed(f"two replicas are ready; status: {found['status']}")

    def sent(self, namespace: str, name: str, *, attempts: int = 1) -> None:
        """Wait until a notification has been sent, by so many attempts."""
        seen: Json = {}

        def told() -> bool:
            seen.update(self.get("notificationrequest", "-n", namespace, name).get("status", {}))
            return seen.get("phase") == "Sent"

        self.wait(told, f"{name} is sent")
        if len(seen["deliveryAttempts"]) != attempts:
            raise StepFailed(f"{name} took {attempts} attempts; on record: {seen}")

    def nothing_left(self) -> None:
        """Check that the cluster is as it was before the installation."""
        kinds = (
            "pods,services,configmaps,secrets,pvc,serviceaccounts,roles,rolebindings,leases,jobs"
        )
        found = self.get(kinds, "-n", LEDGER)["items"]
        found += self.get("clusterroles,clusterrolebindings,crd")["items"]
        names = [f"{i['kind']}/{i['metadata']['name']}" for i in found]
        left = [n for n in names if "ledger" in n or "kubernaut" in n or "helm" in n]
        if left:
            raise StepFailed(f"left behind: {left}")

    def settings(self, namespace: str, file: str) -> None:
        """Write the settings of an installation as somebody outside of its pods has them."""
        name = NAME
        (text,) = self.get("configmap", "-n", namespace, f"{name}-config")["data"].values()
        settings = yaml.safe_load(text)
        secret = self.get("secret", "-n", namespace, f"{name}-redis-auth")
        password = base64.b64decode(secret["data"]["password"])
        address = self.get("service", "-n", namespace, f"{name}-redis")["spec"]["clusterIP"]
        (self.folder / "password").touch(mode=0o600)
        (self.folder / "password").write_bytes(password)
        settings["redis"] |= {
            "url": f"redis://ledger@{address}:6379/0",
            "passwordFile": str(self.folder / "password"),
        }
        settings["controller"]["namespaces"] = [namespace]
        (self.folder / file).write_text(yaml.safe_dump(settings))

    def scaled(self, namespace: str, replicas: int) -> None:
        """Scale the controller, and wait until it is so."""
        self.kubectl("-n", namespace, "scale", "deployment", NAME, f"--replicas={replicas}")
        self.wait(lambda: len(self.pods(namespace, "controller")) == replicas, "it is scaled")
        self.kubectl("-n", namespace, "rollout", "status", f"deployment/{NAME}", within=WAIT)
