"""The vendor's transport without its generated API: the same code, at a fraction of the cost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

LEAN = "from syncer.kube import transport"
WHOLE = "import kubernetes_asyncio.client; from syncer.kube import transport"
REPORT = """
import inspect, json, sys
names = ["ApiClient", "Configuration", "ConfigException", "load_incluster_config", "load_kube_config"]
print(json.dumps({
    "sources": {n: inspect.getsource(getattr(transport, n)) for n in names},
    "modules": sorted(m for m in sys.modules if m.startswith("kubernetes_asyncio")),
    "same": transport.ApiClient is sys.modules["kubernetes_asyncio.client"].ApiClient,
}))
"""


def run(code: str) -> dict[str, Any]:
    """Run it in an interpreter of its own, where nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_vendors_own_code_without_what_is_not_used() -> None:
    """What is used is the vendor's text to the letter, whichever way it came in."""
    lean, whole = run(LEAN), run(WHOLE)
    assert lean["sources"] == whole["sources"]
    assert lean["same"]
    assert whole["same"]
    generated = ("kubernetes_asyncio.client.api.", "kubernetes_asyncio.client.models.")
    assert not [m for m in lean["modules"] if m.startswith(generated)]
    assert len([m for m in whole["modules"] if m.startswith(generated)]) > 500


def test_what_is_left_out_says_so() -> None:
    """Code that wants more of the vendor in the same process learns why it cannot have it."""
    code = f"{LEAN}\nfrom kubernetes_asyncio import client\nclient.CoreV1Api"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "kubernetes_asyncio.client.CoreV1Api is left out by syncer.kube.transport" in done.stderr


def test_the_start_imports_no_generated_code() -> None:
    """No module of the program brings the whole package back."""
    code = "import notifier.app, sys; print([m for m in sys.modules if 'asyncio.client.' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "kubernetes_asyncio.client.api_client" in done.stdout
    assert "kubernetes_asyncio.client.api." not in done.stdout
