"""
Makes the passwords of the embedded Redis, once, before its pod is made: a Secret that stays.

A template cannot: each rendering would have another one, and tools that render without a look at the
cluster would change it with every run. Standard library only. The account that it runs as may create
Secrets in the release's namespace, read none, and is gone when this has ended. A Secret that is there
already stays as it is.

    SECRET       name of the Secret
    KEY          key of the controller's password in it
    EXPLORER_KEY key of the explorer's
    LABELS       its labels, as JSON
    ACCOUNT      directory with the token, where it is not the pod's own
"""

# ruff: noqa: INP001, T201 - a program by itself, that prints

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT") or "/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 60.0
POLL = 1.0


def address() -> str:
    """Return the API server's address."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def password() -> str:
    """Return a new one, as a Secret holds it."""
    return base64.b64encode(secrets.token_hex(32).encode()).decode()


def make(name: str, keys: list[str], labels: dict[str, str]) -> int:
    """Create the Secret with a password for each key; returns the code of the answer."""
    namespace = (ACCOUNT / "namespace").read_text().strip()
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": {key: password() for key in keys},
    }
    request = urllib.request.Request(  # noqa: S310 - always https
        f"{address()}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
            "Content-Type": "application/json",
        },
        method="POST",
    )
    # No proxy lies between this pod and the cluster.
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def main() -> int:
    """Create it, or find it there; returns the exit code."""
    name, keys = os.environ["SECRET"], [os.environ["KEY"], os.environ["EXPLORER_KEY"]]
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            code = make(name, keys, json.loads(os.environ["LABELS"]))
            problem = f"the API server answered {code}"
        except OSError as error:
            code, problem = 0, f"the API server cannot be reached: {error}"
        if code == 201:
            print(f"made the Secret {name}", flush=True)
            return 0
        if code == 409:
            print(f"the Secret {name} is there already", flush=True)
            return 0
        # Rights that were granted a moment ago may not be known yet.
        if time.monotonic() > deadline:
            print(f"the Secret {name} could not be made: {problem}", flush=True)
            return 1
        time.sleep(POLL)


if __name__ == "__main__":
    sys.exit(main())
