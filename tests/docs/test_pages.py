"""Pages made from the code are what it says; dashboards ask for what exists; links live."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import notifier.cli.main
from syncer.cli.arguments import SETTINGS_FILES
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
def test_dashboard_asks_for_what_exists(name: str) -> None:
    """Its expressions, which test_alerts.py evaluates, name series of the registry alone."""
    board = boards()[name]
    assert sum(len(panel.get("targets", ())) for panel in board["panels"]) > 20
    assert named(json.dumps(board)) <= series()


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
