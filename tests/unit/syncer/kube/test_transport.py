"""The vendor's transport without its generated API: the same code, at a fraction of the cost."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from syncer.kube import transport

LEAN = "from syncer.kube import transport"
WHOLE = "import kubernetes_asyncio.client; from syncer.kube import transport"
REPORT = """
import inspect, json, sys
names = ["ApiClient", "Configuration", "ConfigException"]
names += ["load_incluster_config", "load_kube_config_from_dict"]
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


@pytest.mark.slow("an interpreter imports all of the vendor's package")
def test_the_vendors_own_code_without_what_is_not_used() -> None:
    """What is used is the vendor's text to the letter, whichever way it came in."""
    lean, whole = run(LEAN), run(WHOLE)
    assert lean["sources"] == whole["sources"]
    assert lean["same"]
    assert whole["same"]
    generated = ("kubernetes_asyncio.client.api.", "kubernetes_asyncio.client.models.")
    assert not [m for m in lean["modules"] if m.startswith(generated)]
    assert len([m for m in whole["modules"] if m.startswith(generated)]) > 500


def test_the_start_imports_no_generated_code() -> None:
    """No module of the program brings the whole package back."""
    code = (
        "import notifier.process.production, sys;"
        " print([m for m in sys.modules if 'asyncio.client.' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "kubernetes_asyncio.client.api_client" in done.stdout
    assert "kubernetes_asyncio.client.api." not in done.stdout


def test_a_package_that_is_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is entered as a package, and says of whatever is missed who has left it out."""
    monkeypatch.setitem(sys.modules, "nowhere.inner", sys)
    made = transport._enter("nowhere.inner", ["/a"])
    assert sys.modules["nowhere.inner"] is made
    assert (made.__name__, list(made.__path__)) == ("nowhere.inner", ["/a"])
    with pytest.raises(AttributeError) as caught:
        _ = made.thing
    assert str(caught.value) == "nowhere.inner.thing is left out by syncer.kube.transport"


def test_the_packages_that_are_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's, its client and the models: each a member of the one above, and no code of it runs."""
    names = [m for m in sys.modules if m.partition(".")[0] == "kubernetes_asyncio"]
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    for name in ("", ".client", ".client.models"):
        monkeypatch.setitem(sys.modules, f"kubernetes_asyncio{name}", sys)
    spec = SimpleNamespace(submodule_search_locations=["/x/kubernetes_asyncio"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    transport._enter_packages()
    top = sys.modules["kubernetes_asyncio"]
    assert list(top.__path__) == ["/x/kubernetes_asyncio"]
    assert top.client is sys.modules["kubernetes_asyncio.client"]
    assert list(top.client.__path__) == ["/x/kubernetes_asyncio/client"]
    assert top.client.models is sys.modules["kubernetes_asyncio.client.models"]
    assert list(top.client.models.__path__) == []


@pytest.mark.parametrize("found", [None, SimpleNamespace(submodule_search_locations=None)])
def test_a_vendor_that_is_not_installed(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is a single file of that name the vendor's package."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: found)
    with pytest.raises(ImportError, match="kubernetes_asyncio is not installed") as caught:
        transport._enter_packages()
    assert caught.value.name == "kubernetes_asyncio"
