"""
One word, one meaning: retired words stay out of code and pages.

A word is retired because the field has another one for the thing, or because it had several meanings here.
Interfaces (keys, records, metrics, settings, the CLI's JSON) keep their names.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
#: Each retired word with the word to use.
RETIRED: Final = {
    r"rooms?": "package, or space",
    r"ears?": "subscriber",
    r"lanes?": "receiver queue, or pipeline",
    r"tenures?": "lease term",
    r"narrators?": "event reporter",
    r"standings?": "channel state",
    r"parcels?": "batch, or part",
    r"ghosts?": "tombstone",
    r"greets?": "on_connect",
    r"welcomes?": "on_connect",
}
#: Retired in the product alone: tests and pages quote interfaces, or mean a check of their own.
RETIRED_IN_PRODUCT: Final = {
    r"verdicts?": "claim decision, manual resolution, or result",
    r"judged?": "check, or decide",
    r"whom": "name who",
    r"leisurely": "deferrable",
    r"unlooked": "unchecked",
    r"StatusStore": "ObjectClient",
}
#: What they are part of and keeps its name: a metric's label, two metrics, the error of an attempt.
_INTERFACES: Final = re.compile(r'"verdict"|"unlooked_\w+"|could not be judged')
#: Members of a log line that other lines have under another name, each with that name.
RETIRED_MEMBERS: Final = {"why": "reason"}
#: A name is split at capitals and underscores; a word in capitals ends where these end.
_END: Final = r"(?-i:(?![a-z])(?!(?<=[A-Z]{2})[A-Z]))"
#: What may say them: the page that explains, and history.
_EXEMPT: Final = {"docs/glossary.md", "CHANGELOG.md", "tests/docs/test_glossary.py"}


def found_in(text: str, retired: dict[str, str] = RETIRED) -> list[str]:
    """Lines that hold a retired word, each with the word to use."""
    words = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(retired)}){_END}", re.IGNORECASE)
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in words.findall(_INTERFACES.sub("", line)):
            use = next(u for w, u in retired.items() if re.fullmatch(w, word, re.IGNORECASE))
            out.append(f"line {number}: {word}: say {use}")
    return out


def files() -> list[str]:
    """Everything that people read: code, scripts, charts, pages."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.md", "*.lua", "*.yaml", "*.tpl", "scripts"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [f for f in listed.split("\0") if f and f not in _EXEMPT and (ROOT / f).is_file()]


def test_no_retired_word_is_used() -> None:
    """Names in the code are split at capitals and underscores, so that `LaneClosed` counts as well."""
    wrong = []
    for name in files():
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        wrong += [f"{name}: {found}" for found in found_in(text)]
    assert wrong == []


def test_no_word_retired_in_the_product_is_used_there() -> None:
    """Docstrings, log lines, texts of the commands and names of the two packages."""
    wrong = []
    for name in files():
        if name.startswith(("syncer/", "notifier/")):
            found = found_in((ROOT / name).read_text(encoding="utf-8"), RETIRED_IN_PRODUCT)
            wrong += [f"{name}: {line}" for line in found]
    assert wrong == []


def test_log_lines_name_a_thing_as_others_do() -> None:
    """One member of a log line, one name, whichever part of the product writes it."""
    given = re.compile(r"extra=\{([^}]*)\}")
    found = [
        f"{name}: {member}: say {RETIRED_MEMBERS[member]}"
        for name in files()
        if name.startswith(("syncer/", "notifier/")) and name.endswith(".py")
        for members in given.findall((ROOT / name).read_text(encoding="utf-8"))
        for member in re.findall(r'"(\w+)":', members)
        if member in RETIRED_MEMBERS
    ]
    assert found == []


def test_interfaces_keep_their_names() -> None:
    """A metric may be named by a retired word, an attribute may not."""
    text = 'self.unlooked = gauge("unlooked_seconds")'
    assert found_in(text, RETIRED_IN_PRODUCT) == ["line 1: unlooked: say unchecked"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the ear hears it", ["line 1: ear: say subscriber"]),
        ("\nclass LaneClosed:", ["line 2: Lane: say receiver queue, or pipeline"]),
        ("self._tenure_of(uid)", ["line 1: tenure: say lease term"]),
        ("an early year of planes, bedroom, outstanding, EARLY", []),
    ],
)
def test_a_retired_word_is_noticed(text: str, found: list[str]) -> None:
    """In prose, in a class and in a name with underscores; not within another word."""
    assert found_in(text) == found
