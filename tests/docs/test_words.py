"""
What the pages name exists: commands and options of `syncer`, settings, metrics, alerts, conditions.

A page is read by somebody in a hurry; a name that is not there costs more than no name.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import BaseModel

from notifier.settings import Settings
from syncer.cli.main import _parser
from syncer.configfile import fields_of, group_of
from tests.docs.alerts import alerts
from tests.docs.metrics import families, named, series
from tests.docs.pages import ROOT, documents

#: Decisions are history: they may name what has changed since.
PAGES: Final = [p for p in documents() if "adr" not in p.parts]
#: Pages about the chart: names with dots are its values, which have tests of their own.
VALUES: Final = {ROOT / "charts/notification-ledger/README.md", ROOT / "docs/install.md"}
_CODE: Final = re.compile(
    r"`([^`\n]+(?:\n[^`\n]+)?)`|^ {4,}(syncer .+)$|^(syncer .+)$", re.MULTILINE
)


def code(page: Path) -> Iterator[str]:
    """Pieces of code on a page: in the text, indented, or in a block."""
    for found in _CODE.finditer(page.read_text(encoding="utf-8")):
        yield " ".join(next(g for g in found.groups() if g).split())


def commands() -> dict[str, set[str]]:
    """Options of each command of `syncer`."""
    (found,) = [
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    return {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in found.choices.items()
    }


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


def wrong_commands(page: Path) -> list[str]:
    """Commands of `syncer` on a page that are not there, or have an option too many."""
    known = commands()
    wrong = []
    for piece in code(page):
        for found in re.finditer(r"\bsyncer ([a-z]+)\b([^|;&]*)", piece):
            name, rest = found[1], found[2].partition("  ")[0]
            options = set(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest))
            if name not in known or not options <= known[name]:
                wrong.append(found[0].strip())
    return wrong


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
    """Commands, settings and metrics that a page names are there."""
    assert wrong_commands(page) == []
    if page not in VALUES:
        assert wrong_settings(page) == []
    bare = {family.name for family in families()}
    assert named(page.read_text()) - series() - bare - {"notification_ledger_"} <= _ELSEWHERE


#: Of the replaced controller: named on the pages that compare, or as the beginning of names.
_ELSEWHERE: Final = {
    "kubernaut_notification_", "kubernaut_notification_channel_health_score",
    "notification_ledger_audit_",
}  # fmt: skip


def test_alerts_named_on_pages_exist() -> None:
    """A page that sends somebody to an alert sends him to one that exists."""
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"\bNotificationLedger[A-Z]\w+", text)) <= set(alerts())


#: Pages for somebody who is on call: what they quote is looked for in a log, word by word.
RUNBOOKS: Final = [ROOT / "docs/alerts.md", ROOT / "docs/recovery.md"]
#: Quoted, and no line of a log.
_NO_LOG_LINE: Final = {"start clean"}


def product(*words: str) -> Iterator[ast.AST]:
    """Nodes of the source of both packages, or of those files alone that hold one of some words."""
    for package in ("notifier", "syncer"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if not words or any(word in text for word in words):
                yield from ast.walk(ast.parse(text))


def quoted(text: str) -> set[str]:
    """What a page quotes of a log: more than a word, outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    found = {" ".join(q.split()) for q in re.findall(r'"([^"\n]+(?:\n[^"\n]+)?)"', prose)}
    return {q for q in found if " " in q}


def test_quoted_log_lines_exist() -> None:
    """A runbook quotes what the product logs; `…` stands for what differs."""
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
    """A page that names a line of `/readyz` names one that a process of ours can show."""
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


def test_a_wrong_quotation_is_noticed() -> None:
    """Quotations over two lines count, words and code do not."""
    text = 'The line "one\ntwo", a "word", `"some code"`.'
    assert quoted(text) == {"one two"}


def test_a_wrong_name_is_noticed(tmp_path: Path) -> None:
    """A command, an option and a setting that are not there are told."""
    page = tmp_path / "page.md"
    page.write_text(
        "`syncer explain NS/N --config F`, `syncer explan x`, `syncer list --unsinked`\n"
        "`egress.mode: strict` `egress.modes` `redis.url` `delivery.slack.timeout` `os.path`\n"
    )
    assert wrong_commands(page) == ["syncer explan x", "syncer list --unsinked"]
    assert wrong_settings(page) == ["egress.modes"]
