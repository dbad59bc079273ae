"""
As much of `kubectl` as docs/quickstart.md asks for, for machines that have none.

    apply [--server-side] -f -                           create or change what standard input holds
    wait -n NS --for=jsonpath={PATH}=VALUE RESOURCE/NAME wait until a member has a value

Anything else is refused, so that a page which begins to ask for more fails here.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

import yaml

_PLURALS: Final = {
    "CustomResourceDefinition": "customresourcedefinitions",
    "NotificationRequest": "notificationrequests",
}


def request(method: str, path: str, body: str | None = None) -> Any:
    """One request with the administrator's token of $KUBECONFIG; returns the parsed answer."""
    config = json.loads(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    asked = urllib.request.Request(  # noqa: S310 - the test's own API server
        cluster["server"] + path,
        data=body.encode() if body else None,
        method=method,
        headers={
            "Authorization": f"Bearer {config['users'][0]['user']['token']}",
            "Content-Type": "application/apply-patch+yaml",
        },
    )
    context = create_default_context(cafile=cluster["certificate-authority"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(asked, timeout=15) as answer:
        return json.load(answer)


def apply(document: dict[str, Any]) -> str:
    """Apply one object on the server's side."""
    group = document["apiVersion"]
    name = document["metadata"]["name"]
    namespace = document["metadata"].get("namespace")
    place = f"/namespaces/{namespace}" if namespace else ""
    path = f"/apis/{group}{place}/{_PLURALS[document['kind']]}/{name}"
    request("PATCH", f"{path}?fieldManager=kubectl&force=true", json.dumps(document))
    return f"{document['kind'].lower()}/{name} applied"


def wait(namespace: str, condition: str, name: str, seconds: float) -> str:
    """Wait for a member of a notification."""
    path, _, value = condition.removeprefix("jsonpath=").rpartition("=")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found: Any = request(
            "GET", f"/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/notificationrequests/{name}"
        )
        for member in path.strip("{}").strip(".").split("."):
            found = found.get(member, {})
        if found == value:
            return f"notificationrequest/{name} condition met"
        time.sleep(0.2)
    sys.exit(f"{name}: timed out waiting for {condition}")


def main(arguments: list[str]) -> str:
    """Run a command; returns what to print."""
    match arguments:
        case ["apply", "-f", "-"] | ["apply", "--server-side", "-f", "-"]:
            return apply(yaml.safe_load(sys.stdin))
        case ["wait", "-n", namespace, condition, timeout, name]:
            seconds = float(timeout.removeprefix("--timeout=").removesuffix("s"))
            return wait(
                namespace, condition.removeprefix("--for="), name.partition("/")[2], seconds
            )
    sys.exit(f"this stand-in does not know: {arguments}")


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]) + "\n")
