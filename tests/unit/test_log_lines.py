"""
Log lines lead to the record: whoever speaks of a notification names its uid, of an attempt its id.

Read from the source: a line that is written once a year must say it too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from notifier.content.sanitise import sanitise

ROOT: Final = Path(__file__).resolve().parents[2]
#: Modules in whose functions these names mean one notification, and one attempt of it.
MODULES: Final = (
    "notifier/reconciler/attempt.py", "notifier/reconciler/holds.py", "notifier/reconciler/outcomes.py",
    "notifier/reconciler/reconciler.py", "notifier/reconciler/sending.py",
    "notifier/dispatch/dispatcher.py", "syncer/sync/status_writer.py",
    "syncer/sync/recorder.py", "syncer/sync/scrubber.py", "syncer/sync/claim.py",
)  # fmt: skip
NOTIFICATION: Final = {"entry", "uid", "job"}
ATTEMPT: Final = {"intent", "attempt", "attempt_id", "abandoned"}
#: Lines about all notifications, in functions that see one of them too.
GENERAL: Final = {"no status is written: %s", "a receiver's circuit breaker changed its state"}


def lines(source: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Each log call: its text, the members it carries, the names its function was given."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = {
            argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)
        }
        given |= {
            name.id
            for loop in ast.walk(function)
            if isinstance(loop, ast.For | ast.AsyncFor)
            for name in ast.walk(loop.target)
            if isinstance(name, ast.Name) and any(_is_log(n) for n in ast.walk(loop))
        }
        for call in ast.walk(function):
            if _is_log(call):
                assert isinstance(call, ast.Call)
                extra = [k.value for k in call.keywords if k.arg == "extra"]
                members = {
                    key.value
                    for found in extra
                    if isinstance(found, ast.Dict)
                    for key in found.keys
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                }
                yield ast.unparse(call.args[0]).strip("'\""), members, given


def _is_log(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"logger", "archive"}
    )


def silent(source: str) -> list[str]:
    """Lines that could name what they speak of, and do not."""
    return [
        text
        for text, members, given in lines(source)
        if text not in GENERAL
        and (
            (given & NOTIFICATION and "uid" not in members)
            or (given & ATTEMPT and "attempt" not in members)
        )
    ]


def redacted(source: str) -> list[str]:
    """Texts of errors and log lines that the redaction of logs takes for a secret."""
    said = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise) or _is_log(node)
    ]
    texts = (
        text.value for node in said for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    )  # fmt: skip
    return [text for text in texts if sanitise(text) != text]


def test_what_is_said_is_not_taken_for_a_secret() -> None:
    """A log line that hides its own words, such as those after `bearer`, does not say what is wrong."""
    sources = [path for top in ("notifier", "syncer") for path in (ROOT / top).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): redacted(path.read_text()) for path in sources}
    assert {path: texts for path, texts in found.items() if texts} == {}
    assert redacted("raise E('a bearer token of ours')\nlogger.info('password: hidden')") == [
        "a bearer token of ours", "password: hidden",
    ]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_lines_name_what_they_speak_of(module: str) -> None:
    """A function that has a notification, or an attempt, in its hands names it."""
    source = (ROOT / module).read_text()
    assert list(lines(source))
    assert silent(source) == []


def test_a_line_that_names_nothing_is_noticed() -> None:
    """The rule can fail, for a notification and for an attempt."""
    source = (
        "def f(entry):\n logger.info('a')\n"
        "def g(uid, intent):\n logger.info('b', extra={'uid': uid})\n"
        "def h(entries):\n for entry in entries:\n  logger.info('c', extra={'uid': 1})\n"
        "def i(n):\n logger.info('d')\n"
    )
    assert silent(source) == ["a", "b"]
