"""
Checks that settings, metrics and alerts that the pages name exist; `test_commands.py` checks commands.

A page is read by somebody in a hurry; a name that does not exist costs more than no name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import BaseModel

from notifier.settings import Settings
from syncer.configfile import fields_of, group_of
from tests.docs.alerts import alerts
from tests.docs.metrics import families, named, series
from tests.docs.pages import ROOT, documents

#: Decisions are history: they may name what has changed since.
PAGES: Final = [p for p in documents() if "adr" not in p.parts]
#: Pages about the chart: names with dots are its values, which have tests of their own.
VALUES: Final = {ROOT / "charts/notification-ledger/README.md", ROOT / "docs/install.md"}
_CODE: Final = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


def code(page: Path) -> Iterator[str]:
    """Pieces of code in the text of a page."""
    for found in _CODE.finditer(page.read_text(encoding="utf-8")):
        yield " ".join(found[1].split())


def settings(model: type[BaseModel] = Settings, above: str = "") -> set[str]:
    """Dotted names of all settings and groups."""
    out = set()
    for name, field in fields_of(model):
        path = f"{above}{field.alias or name}"
        out.add(path)
        inner = group_of(field.annotation)
        if inner is not None:
            out |= settings(inner, f"{path}.")
    return out


def wrong_settings(page: Path) -> list[str]:
    """Settings on a page that no file can have."""
    known = settings()
    groups = {name for name in known if "." not in name}
    wrong = []
    for piece in code(page):
        found = re.fullmatch(r"([a-z][A-Za-z]*(?:\.[a-z][A-Za-z]*)+)(?:: .*)?", piece)
        if not found or found[1].partition(".")[0] not in groups or found[1].endswith(".py"):
            continue
        if found[1] not in known:
            wrong.append(found[1])
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_exist(page: Path) -> None:
    """Settings and metrics that a page names exist."""
    if page not in VALUES:
        assert wrong_settings(page) == []
    bare = {family.name for family in families()}
    assert named(page.read_text()) - series() - bare - {"notification_ledger_"} <= _ELSEWHERE


#: Metrics of the replaced controller that the comparing pages name, and beginnings of metric names.
_ELSEWHERE: Final = {
    "kubernaut_notification_", "kubernaut_notification_channel_health_score",
    "notification_ledger_audit_",
}  # fmt: skip


def test_alerts_named_on_pages_exist() -> None:
    """Alerts that a page names exist."""
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"\bNotificationLedger[A-Z]\w+", text)) <= set(alerts())


#: Pages for people who are on call, who search a log for the quoted texts, word by word.
RUNBOOKS: Final = [ROOT / "docs/alerts.md", ROOT / "docs/recovery.md"]
#: Quoted texts that are not lines of a log.
_NO_LOG_LINE: Final = {"start clean"}


def product(*words: str) -> Iterator[ast.AST]:
    """Yield the nodes of both packages' source; if words are given, only of files with one of them."""
    for package in ("notifier", "syncer"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if not words or any(word in text for word in words):
                yield from ast.walk(ast.parse(text))


def quoted(text: str) -> set[str]:
    """Return the texts that a page quotes from a log: quotes of several words, outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    found = {" ".join(q.split()) for q in re.findall(r'"([^"\n]+(?:\n[^"\n]+)?)"', prose)}
    return {q for q in found if " " in q}


def test_quoted_log_lines_exist() -> None:
    """A runbook quotes only texts that the product logs; `…` stands for the parts that differ."""
    texts = {
        node.value
        for node in product()
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    wanted = {q for page in RUNBOOKS for q in quoted(page.read_text())} - _NO_LOG_LINE
    assert len(wanted) > 5
    parts = {part.strip() for q in wanted for part in q.split("…") if part.strip()}
    assert {part for part in parts if not any(part in text for text in texts)} == set()


def test_named_checks_of_readyz_exist() -> None:
    """Lines of `/readyz` that a page names are lines that a process can show."""
    checks = {
        node.args[0].value
        for node in product(".check(", ".detail(")
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"check", "detail"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    named = {
        name
        for page in PAGES
        for names in re.findall(r"`/readyz`[\w ]*\(((?:`\w+`(?:, )?)+)", page.read_text())
        for name in re.findall(r"`(\w+)`", names)
    }
    assert {"redis", "shards", "status"} <= named <= checks
