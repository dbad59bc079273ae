"""
What `helm test` runs: is every replica ready, and if asked, does a notification arrive on record?

Standard library only. Every call has a timeout, the whole has a deadline, and what is wrong is said in
one line. It runs as an account of its own that may create, read and delete notifications in the
release's namespace if it is to send one, and has no token otherwise.

    SERVICE      host name that has one address per replica
    REPLICAS     how many there should be
    SECONDS      deadline
    SPEC         spec of the notification to send, as JSON; empty sends none
    PORT         of /readyz, where it is not 8081
    ACCOUNT      directory with the token, where it is not the pod's own
"""

# ruff: noqa: INP001, T201 - a program by itself, that prints

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT") or "/var/run/secrets/kubernetes.io/serviceaccount")
HEALTH = int(os.environ.get("PORT") or 8081)
POLL = 0.5
DEADLINE = time.monotonic() + float(os.environ["SECONDS"])
# No proxy lies between this pod and the cluster.
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def not_ready(service: str, replicas: int) -> str:
    """Return what keeps the replicas from being ready, empty if nothing does."""
    try:
        found = socket.getaddrinfo(service, HEALTH, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"{service} cannot be looked up: {error}"
    hosts = sorted({str(address[4][0]) for address in found})
    for host in hosts:
        shown = f"[{host}]" if ":" in host else host
        try:
            OPEN.open(f"http://{shown}:{HEALTH}/readyz", timeout=5).close()
        except urllib.error.HTTPError as error:
            return f"{host} is not ready: {error.read(2000).decode(errors='replace').strip()}"
        except OSError as error:
            return f"{host} does not answer: {error}"
    if len(hosts) < replicas:
        return f"{len(hosts)} of {replicas} replicas are there"
    return ""


class Api:
    """The notifications of the own namespace at the API server, with the pod's token."""

    def __init__(self) -> None:
        """Read what the pod was given."""
        host = os.environ["KUBERNETES_SERVICE_HOST"]
        host = f"[{host}]" if ":" in host else host
        namespace = (ACCOUNT / "namespace").read_text().strip()
        self.url = (
            f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}/apis/kubernaut.ai/v1alpha1"
            f"/namespaces/{namespace}/notificationrequests"
        )
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        self.open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open

    def ask(self, method: str, name: str = "", body: Any = None) -> Any:
        """Return the answer; raises OSError."""
        request = urllib.request.Request(  # noqa: S310 - https by construction
            f"{self.url}/{name}".rstrip("/"),
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={
                "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
                "Content-Type": "application/json",
            },
        )
        with self.open(request, timeout=10) as answer:
            return json.load(answer)


def deliver(spec: Any) -> str:
    """Send one notification; returns what went wrong, empty if it is on record as sent."""
    api = Api()
    name = f"helm-test-{uuid.uuid4().hex[:8]}"
    api.ask(
        "POST",
        body={
            "apiVersion": "kubernaut.ai/v1alpha1",
            "kind": "NotificationRequest",
            "metadata": {"name": name},
            "spec": spec,
        },
    )
    say(f"created NotificationRequest {name}")
    status: dict[str, Any] = {}
    try:
        while status.get("phase") not in ("Sent", "PartiallySent", "Failed"):
            if time.monotonic() > DEADLINE:
                return f"{name} is still {status.get('phase') or 'without a phase'}"
            time.sleep(POLL)
            status = api.ask("GET", name).get("status") or {}
    finally:
        api.ask("DELETE", name)
    for attempt in status.get("deliveryAttempts") or []:
        say(f"attempt {attempt.get('id')}: {attempt.get('channel')} {attempt.get('status')}")
    if status["phase"] != "Sent" or not status.get("successfulDeliveries"):
        return f"{name} ended as {status['phase']}: {status.get('message')}"
    return ""


def main() -> int:
    """Run the test; returns the exit code."""
    service, replicas = os.environ["SERVICE"], int(os.environ["REPLICAS"])
    while problem := not_ready(service, replicas):
        if time.monotonic() > DEADLINE:
            say(f"FAILED: {problem}")
            return 1
        time.sleep(POLL)
    say("every replica is ready")
    if spec := os.environ.get("SPEC"):
        try:
            problem = deliver(json.loads(spec))
        except OSError as error:
            body = error.read(2000).decode(errors="replace") if hasattr(error, "read") else ""
            problem = f"the API server: {error} {body}".strip()
        if problem:
            say(f"FAILED: {problem}")
            return 1
        say("delivered, and on record")
    return 0


if __name__ == "__main__":
    sys.exit(main())
