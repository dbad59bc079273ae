"""
The checklist "Adding a channel" in CONTRIBUTING, held against the channels that there are.

Each step has a check here, and each check a step there; a channel that skips one fails its check.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from notifier.channels.registry import ChannelRegistry
from notifier.contract import Channel
from notifier.routing.config import RoutingConfig
from notifier.routing.parse import parse
from notifier.routing.receivers import KINDS
from notifier.settings import DeliverySettings
from tests.properties.test_payloads import BUILDERS, CHECKS

ROOT: Final = Path(__file__).resolve().parents[2]
CHANNELS: Final = list(KINDS)
#: Always there, so they have no switch and no part of a credential.
SWITCHED: Final = {"webhook", "email"}
WITH_CREDENTIAL: Final = {"slack", "pagerduty", "teams", "webhook", "email"}
#: Modules of vendors' libraries, each behind the channel that needs it.
VENDORS: Final = {"email": "aiosmtplib"}


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _class(kind: str) -> Any:
    module = importlib.import_module(f"notifier.channels.{kind}")
    (found,) = [
        each
        for name, each in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Channel") and each.__module__ == module.__name__
    ]
    return found


def _contracts() -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = tomllib.loads(_read("pyproject.toml"))["tool"][
        "importlinter"
    ]["contracts"]
    return contracts


def _module(kind: str) -> None:
    made = _class(kind)
    assert inspect.iscoroutinefunction(made.send)
    assert list(inspect.signature(made.send).parameters) == ["self", "message"]
    assert inspect.signature(made.send).return_annotation == "Outcome"
    assert "timeout_s" in inspect.getsource(made)
    assert (made.__doc__ or "").strip()


def _routing(kind: str) -> None:
    key = KINDS[kind]
    text = f"route: {{receiver: r}}\nreceivers: [{{name: r, {key}: [{{credentialRef: c}}]}}]"
    config: RoutingConfig = parse(text)
    ((named, _),) = config.receivers[0].channels()
    assert named.partition(":")[0] == kind


def _registry(kind: str) -> None:
    source = inspect.getsource(inspect.getmodule(ChannelRegistry))  # type: ignore[arg-type]  # it has a module
    name = _class(kind).__name__
    assert re.search(
        rf"^\s*from notifier\.channels\.{kind} import [^\n]*\b{name}\b", source, re.MULTILINE
    )
    assert f'"{kind}"' in source


def _settings(kind: str) -> None:
    if kind not in SWITCHED:
        return
    assert kind not in DeliverySettings().native
    switched = DeliverySettings.model_validate({kind: {"enabled": True}})
    assert kind in switched.native
    fields = type(getattr(switched, kind)).model_fields
    group = kind if "timeout" in fields else "slack"
    slow = DeliverySettings.model_validate(
        {kind: {"enabled": True}, group: {"enabled": True, "timeout": 77}}
        if group == kind
        else {kind: {"enabled": True}, group: {"timeout": 77}}
    )
    assert slow.largest_timeout == 77


def _import_contracts(kind: str) -> None:
    module = f"notifier.channels.{kind}"
    apart = [c for c in _contracts() if c["type"] == "independence" and module in c["modules"]]
    assert apart, "channels do not know each other"
    (http,) = [c for c in _contracts() if c.get("forbidden_modules") == ["aiohttp"]]
    assert f"{module} -> aiohttp" not in http["ignore_imports"]
    if kind in VENDORS:
        library = VENDORS[kind]
        (own,) = [c for c in _contracts() if c.get("forbidden_modules") == [library]]
        assert own["source_modules"] == ["notifier", "syncer"]
        assert own["ignore_imports"] == [f"{module} -> {library}"]
        assert f"| {library} " in _read("docs/adr/0002-what-we-write-ourselves.md")


def _channel_tests(kind: str) -> None:
    name = _class(kind).__name__
    texts = [path.read_text() for path in (ROOT / "tests" / "channels").glob("test_*.py")]
    using = [text for text in texts if f"{name}(" in text]
    assert using, f"nothing in tests/channels makes a {name}"
    golden = {"email": "test_golden_message", "console": "test_console", "log": "test_log_json",
              "file": "test_file_json"}.get(kind, f"test_{kind}_golden")  # fmt: skip
    assert any(f"def {golden}(" in text for text in using)


def _properties(kind: str) -> None:
    built = {name for name in BUILDERS if name.partition(",")[0] == kind}
    assert built
    assert built <= CHECKS.keys()


def _canary(kind: str) -> None:
    text = _read("tests/e2e/test_canary.py")
    assert f'"{KINDS[kind]}":' in text
    assert kind not in WITH_CREDENTIAL or re.search(rf'"{kind}|smtp password|hook url', text)


def _documents(kind: str) -> None:
    word = {"email": "e-mail", "pagerduty": "PagerDuty"}.get(kind, kind)
    assert word.lower() in _read("CHANGELOG.md").lower()
    if kind in SWITCHED:
        assert f"delivery.{kind}.enabled" in _read("docs/compatibility.md")


#: By the file that a step begins with.
STEPS: Final[dict[str, Callable[[str], None]]] = {
    "notifier/channels/<kind>.py": _module,
    "notifier/routing/receivers.py": _routing,
    "notifier/channels/registry.py": _registry,
    "notifier/settings.py": _settings,
    "pyproject.toml": _import_contracts,
    "tests/channels/test_<kind>.py": _channel_tests,
    "tests/properties/test_payloads.py": _properties,
    "tests/e2e/test_canary.py": _canary,
    "CHANGELOG.md": _documents,
}


def _listed() -> list[str]:
    chapter = _read("CONTRIBUTING.md").partition("## Adding a channel\n")[2].partition("\n## ")[0]
    return re.findall(r"^[0-9]+\. `([^`]+)`", chapter, re.MULTILINE)


def test_each_step_of_the_checklist_is_checked() -> None:
    """Steps and checks are the same, in the same order, and each names a file that is there."""
    assert _listed() == list(STEPS)
    assert [name for name in STEPS if "<" not in name and not (ROOT / name).exists()] == []


def test_each_channel_is_a_kind() -> None:
    """A module that defines a channel is one of the kinds that routing knows."""
    modules = {path.stem for path in (ROOT / "notifier" / "channels").glob("*.py")}
    found = {
        name
        for name in modules - {"__init__", "base", "registry"}
        if re.search(r"^class \w+Channel:", _read(f"notifier/channels/{name}.py"), re.MULTILINE)
    }
    assert found == set(CHANNELS)
    assert Channel.__doc__


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", CHANNELS)
def test_step_was_made(kind: str, step: str) -> None:
    """No channel skips a step."""
    STEPS[step](kind)


def test_example_in_the_documentation_is_usable() -> None:
    """The routing file that `docs/channels.md` shows is read without a warning."""
    blocks = re.findall(r"```yaml\n(.*?)```", _read("docs/channels.md"), re.DOTALL)
    (example,) = [block for block in blocks if block.startswith("route:")]
    config = parse(example, native=frozenset(SWITCHED))
    assert config.warnings == ()
    assert [name for name, _ in config.receivers[0].channels(config.native)] == [
        "email:ops:" + tag for tag in ("2ce4e89dba5b", "9b2f86b88995")
    ] + ["webhook:ops:0", "webhook:ops:1"]
    assert config.credential_refs() == (
        "smtp-password", "hook-token", "hook-signing", "other-hook-url", "other-hook-password",
    )  # fmt: skip
