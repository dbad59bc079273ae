"""Pages made from the code are what it says; dashboards ask for what exists; links live."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import notifier.cli.main
from notifier.settings import DeliverySettings, Settings
from syncer.cli.arguments import SETTINGS_FILES
from syncer.configfile import Group
from tests.docs.metrics import families, named, series
from tests.docs.pages import DOCS, PAGES, ROOT, commands_of, dead_links, documents, options_of

DASHBOARDS: Final = ROOT / "charts" / "notification-ledger" / "files" / "dashboards"

#: Labels with a bounded set of values: words of the code, or of an operator's file (`channel`, `sink`,
#: `source`).
BOUNDED: Final = {
    "basis", "cause", "channel", "class", "code", "kind", "phase", "reason", "result", "row", "script",
    "service", "sink", "source", "state", "status", "verdict", "version",
}  # fmt: skip


def boards() -> dict[str, dict[str, Any]]:
    """All dashboards by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


@pytest.mark.parametrize("page", list(PAGES), ids=lambda page: page.name)
def test_page_is_what_the_code_says(page: Path) -> None:
    """A page that fell behind is told; `scripts/docs` writes it anew."""
    assert page.read_text(encoding="utf-8") == PAGES[page](), "run scripts/docs"


def test_every_setting_is_on_its_page() -> None:
    """The page of settings has a row for every key, counted without the code that makes it."""
    page = (DOCS / "configuration.md").read_text()
    schema = Settings.model_json_schema(by_alias=True)
    groups_of: list[type[Group]] = [*Group.__subclasses__(), DeliverySettings]
    constants = {
        (group.__name__, field.alias)
        for group in groups_of
        for field in group.model_fields.values()
        if field.exclude
    }
    groups = [schema, *schema["$defs"].values()]
    keys = [
        key
        for group in groups
        for key, found in group.get("properties", {}).items()
        if not _is_group(found) and (group["title"], key) not in constants
    ]
    assert len(keys) > 40
    missing = [key for key in keys if f"| `{key}` |" not in page]
    assert missing == []


def test_commands_in_a_pod_find_the_settings() -> None:
    """What a page runs in a pod needs no option: the file is where the command looks first."""
    chart = (ROOT / "charts/notification-ledger/templates/deployment.yaml").read_text()
    (mounted,) = re.findall(r"- (/\S+/config\.yaml)\n", chart)
    ran = [
        command
        for page in sorted(DOCS.glob("*.md"))
        for command in re.findall(
            r"kubectl [^\n]*\bexec .*?\n(?=\n)", page.read_text() + "\n", re.DOTALL
        )
        if "syncer" in command
    ]
    assert len(ran) >= 2
    assert [c for c in ran if "--config" in c] == []
    default = options_of(commands_of(notifier.cli.main._parser())["run"])["--config"].default
    assert (mounted, default) == SETTINGS_FILES


def _is_group(found: dict[str, Any]) -> bool:
    options = found.get("anyOf", [found])
    return any("$ref" in option for option in options) or "allOf" in found


def test_every_member_of_the_resource_is_on_its_page() -> None:
    """Names of members that the definition has, and the page lacks: none."""
    page = (DOCS / "crd.md").read_text()
    crd = yaml.safe_load((DASHBOARDS.parent / "crd.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert [p for p in _paths(schema, "") if f"| `{p}" not in page] == []


def _paths(properties: dict[str, Any], above: str) -> list[str]:
    out = []
    for name, below in properties.items():
        if not above and name not in {"spec", "status"}:
            continue
        path = f"{above}.{name}" if above else name
        if above:
            out.append(path)
        inner = below.get("items", below)
        array = "[]" if "items" in below else ""
        out += _paths(inner.get("properties", {}), path + array)
    return out


def test_labels_are_bounded() -> None:
    """No metric has a label that grows with the number of notifications."""
    assert {label for family in families() for label in family.labels} <= BOUNDED


def test_every_metric_says_what_it_is() -> None:
    """A help text is a sentence."""
    assert [f.name for f in families() if not f.text.endswith(".")] == []


def test_every_metric_is_on_a_dashboard() -> None:
    """Nothing is measured that no dashboard shows."""
    shown = named("".join(json.dumps(board) for board in boards().values()))
    assert [f.name for f in families() if not shown & set(f.series)] == []


@pytest.mark.parametrize("name", sorted(boards()))
def test_dashboard_asks_for_what_exists(name: str, tmp_path: Path) -> None:
    """Its expressions can be parsed, and name series of the registry alone."""
    board = boards()[name]
    expressions = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]
    assert len(expressions) > 20
    assert named(json.dumps(board)) <= series()
    rules = [
        {"record": f"x:{n}", "expr": _concrete(expression)}
        for n, expression in enumerate(expressions)
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; `. scripts/lib.sh; ensure_prometheus` installs it"
    answer = subprocess.run(
        [promtool, "check", "rules", str(file)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr


def _concrete(expression: str) -> str:
    return (
        expression.replace("$__rate_interval", "5m")
        .replace("$job", ".*")
        .replace("$namespace", ".*")
    )


@pytest.mark.parametrize("name", sorted(boards()))
def test_dashboard_is_well_formed(name: str) -> None:
    """Panels have ids, descriptions and places of their own."""
    panels = boards()[name]["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    assert [p["title"] for p in panels if p["type"] != "row" and not p.get("description")] == []
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


def test_dashboards_have_uids_of_their_own() -> None:
    """Grafana keeps dashboards apart by uid."""
    uids = [board["uid"] for board in boards().values()]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 for uid in uids)


def test_links_live() -> None:
    """Every link between files of the repository leads to a file, and to a heading in it."""
    assert dead_links(documents()) == []


def test_index_names_every_page() -> None:
    """A page that the index does not lead to is not found."""
    index = (DOCS / "README.md").read_text()
    pages = [p.relative_to(DOCS).as_posix() for p in sorted(DOCS.rglob("*.md"))]
    assert [p for p in pages if p != "README.md" and f"({p}" not in index] == []
