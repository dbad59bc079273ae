"""The page of the routing file and the JSON schemas: examples run, and files that are good pass."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from notifier.cli.main import main
from notifier.gateway.settings import of_document
from notifier.routing.parse import examine
from notifier.settings import Settings
from syncer.configfile import build, unknown_keys
from tests.chart.helm import CASES, OF_EACH_CASE, rendered
from tests.docs.pages import DOCS, documents
from tests.docs.routing import examples
from tests.unit.notifier.cli.planted import SHIPPED_ROUTING, SHIPPED_SETTINGS

SCHEMAS: Final[dict[str, Any]] = {
    name: json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    for name in ("settings", "routing", "gateway")
}


def faults(schema: str, document: object) -> list[str]:
    """What a schema finds, each with its place."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[schema])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def test_examples_of_the_routing_page_run() -> None:
    """Each is read without a finding, and passes the schema."""
    found = list(examples((DOCS / "routing.md").read_text()))
    assert len(found) >= 2
    for text in found:
        _, findings = examine(text, native=frozenset({"email", "webhook"}))
        assert findings == ()
        assert faults("routing", yaml.safe_load(text)) == []


EXAMPLES: Final = {
    f"{page.name}-{n}": text
    for page in documents()
    for n, text in enumerate(
        re.findall(
            r"^```yaml\n# example: settings\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
    )
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_settings_is_accepted(name: str) -> None:
    """The controller reads what any page shows without an error or a warning, and it passes the schema."""
    document = yaml.safe_load(EXAMPLES[name])
    assert faults("settings", document) == []
    build(Settings, document)
    assert unknown_keys(Settings, document) == []


@pytest.mark.parametrize("page", ["gateway.md", "gateway-configuration.md"])
def test_examples_of_the_gateway_s_file_pass(page: str) -> None:
    """Every one that a page shows."""
    found = [
        text
        for text in re.findall(
            r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
        )
        if "sources" in yaml.safe_load(text)
    ]
    assert found
    for text in found:
        document = yaml.safe_load(text)
        assert of_document(document).warnings == ()
        assert faults("gateway", document) == []


def test_what_the_replaced_controller_ships_passes() -> None:
    """Its settings, with where Redis is, and both of its routing files."""
    assert faults("settings", yaml.safe_load(SHIPPED_SETTINGS)) == []
    for text in SHIPPED_ROUTING.values():
        assert faults("routing", yaml.safe_load(text)) == []


@OF_EACH_CASE
@pytest.mark.parametrize("case", CASES)
def test_what_the_chart_makes_passes(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings and routing of every release that is rendered have no finding, and pass the schemas."""
    words: list[str] = []
    for found in rendered("4", case):
        for key, text in found["data"].items() if found["kind"] == "ConfigMap" else ():
            name = {"config.yaml": "settings", "gateway.yaml": "gateway"}.get(key, "")
            name = name or ("routing" if "\nreceivers:" in text else "")
            if name:
                path = tmp_path / f"{name}.yaml"
                path.write_text(text)
                words += [f"--{'config' if name == 'settings' else name}", str(path)]
                assert faults(name, yaml.safe_load(text)) == []
    assert "--config" in words
    assert main(["check", *words]) == 0, capsys.readouterr().out


def test_the_tree_of_the_page_is_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's command, on the page's routing file, prints what the page shows."""
    _, example, *_ = examples((DOCS / "routing.md").read_text())
    (tmp_path / "r.yaml").write_text(example)
    page = (DOCS / "notifier.md").read_text()
    (command,) = re.findall(r"`notifier (routes test --attributes [^`]+)`", page)
    assert main([*command.split(), "--routing", str(tmp_path / "r.yaml")]) == 0
    printed = capsys.readouterr().out
    assert textwrap.indent(printed, "    ", lambda line: bool(line.strip())) in page


def source(members: str) -> str:
    """A gateway's file with a source that has further members."""
    given = yaml.safe_load(members)
    whole = {"name": "a", "kind": "flux", "namespace": "n", "auth": {"insecure": True}, **given}
    return json.dumps({"sources": [whole]})


#: What an editor must mark, and where.
WRONG: Final[dict[str, tuple[str, str, str]]] = {
    "a misspelt setting": ("settings", "redis: {url: u}\nsnyc: {}", "'snyc' was unexpected"),
    "a number out of bounds": ("settings", "redis: {url: u}\nsharding: {incarnation: -1}", "minimum of 0"),
    "no duration": ("settings", "redis: {url: u}\ndelivery: {maxAge: soon}", "does not match"),
    "a misspelt key of a source": ("gateway", source("pre: alert"), "'pre' was unexpected"),
    "a kind that nobody knows": ("gateway", source("kind: slack"), "'slack' is not one of"),
    "a patience that is too long": ("gateway", source("patience: 61"), "maximum of 60"),
    "a link without an address": (
        "gateway", source("mapping: {links: [{service: s, label: l}]}"), "'url' is a required",
    ),
    "no proof at all": ("gateway", "sources: [{name: a, kind: flux, namespace: n}]", "'auth' is a req"),
    "no sources": ("gateway", "listen: ':8080'", "'sources' is a required property"),
    "a misspelt key of a route": (
        "routing", "route: {recever: a}\nreceivers: [{name: a}]", "'recever' was unexpected",
    ),
    "a misspelt list": ("routing", "route: {}\nreceivers: [{name: a, slackConfig: []}]", "slackConfig"),
    "a receiver without a name": ("routing", "route: {}\nreceivers: [{}]", "'name' is a required"),
    "a flag that is a text": (
        "routing", "route: {routes: [{continue: 'yes'}]}\nreceivers: [{name: a}]", "'yes' is not of",
    ),
    "a word that is none": (
        "routing", "route: {}\nreceivers: [{name: a, emailConfigs: [{tls: ssl}]}]", "'ssl' is not one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_an_editor_marks(case: str) -> None:
    """Mistakes that a schema can see."""
    schema, text, message = WRONG[case]
    assert message in "; ".join(faults(schema, yaml.safe_load(text)))


def test_pages_name_the_schemas_as_they_are_called() -> None:
    """A file's first line names what the command writes beside it."""
    named = [
        name
        for page in ("notifier.md", "routing.md", "configuration.md", "gateway-configuration.md")
        for name in SCHEMAS
        if f"# yaml-language-server: $schema=./{name}.schema.json" in (DOCS / page).read_text()
    ]
    assert sorted(set(named)) == ["gateway", "routing", "settings"]


@pytest.mark.parametrize("patience", ["20s", 20, None])
@pytest.mark.parametrize("days", ["7", 7, "{{ days }}", None])
def test_what_an_editor_does_not_mark(patience: object, days: object) -> None:
    """Durations in both forms, and a number where a text is made of it."""
    more = {"patience": patience, "mapping": {"retentionDays": days}}
    assert faults("gateway", json.loads(source(json.dumps(more)))) == []
