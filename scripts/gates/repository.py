"""
Checks the repository as a newcomer finds it: layout, commands, links, lists, and forbidden words.

Facts that documents state about the code are compared with the code where that is possible.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from syncer.model.record import Kind
from tests.covered import FLOORS, parse
from tests.scheduling import read_durations

ROOT: Final = Path(__file__).resolve().parents[2]
ADR: Final = ROOT / "docs" / "adr"
LEDGER: Final = ROOT / "syncer" / "ledger"
LIST: Final = ROOT / "tests" / "conformance-pass.txt"
SUITE: Final = Path(os.environ.get("CONFORMANCE_SUITE") or ROOT.parent / "shared" / "conformance")

#: Each pattern has a letter in brackets; otherwise this file would contain the forbidden text.
BANNED: Final = {
    "absolute paths of one machine": r"(^|[^\w.])/([w]ork|[f]arm)/|/[r]oot/",
    "host names of package registries": (
        r"pypi\.[o]rg|files\.[p]ythonhosted|proxy\.[g]olang|registry\.[n]pmjs|deb\.[d]ebian"
    ),
    "words about how the work was organised": r"\bsub[a]gents?\b|developers? [s]ession",
}


def _tracked() -> list[str]:
    """Files of the repository; in an unpacked archive, without a repository, this fails."""
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return [name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


@functools.cache
def _texts() -> dict[str, str]:
    """Return the text of each file of the repository."""
    return {name: (ROOT / name).read_text("utf-8", errors="replace") for name in _tracked()}


def test_no_test_file_imports_another() -> None:
    """Code that two of them need is in a separate module, so that either can be changed or removed."""
    named = re.compile(r"(?m)^ *from tests\.[\w.]*\.test_\w+ import|^ *import tests\.[\w.]*\.test_")
    found = [name for name, text in _texts().items() if name.endswith(".py") and named.search(text)]
    assert found == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_named_commands_can_be_run(name: str) -> None:
    """Every script that a document names exists, and is executable."""
    named = set(re.findall(r"(?<![\w/.])(?:scripts|\.ci)/[\w./-]*\w", (ROOT / name).read_text()))
    assert {"scripts/test", "scripts/demo"} <= named
    unusable = [n for n in named if not os.access(ROOT / n, os.X_OK)]
    assert unusable == [], f"{name} names them"


def test_conformance_list_is_in_order() -> None:
    """The list holds one known scenario per line, sorted, each once."""
    lines = LIST.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    ids = lines[len(comments) :]
    assert comments == lines[: len(comments)], "comments stand at the top"
    assert ids
    assert [i for i in ids if not re.fullmatch(r"KN-[A-Z]+-\d{3}", i)] == []
    assert ids == sorted(set(ids))
    if SUITE.is_dir():
        text = (SUITE / "scenarios" / "public.yaml").read_text()
        known = set(re.findall(r"^- id: (\S+)$", text, re.MULTILINE))
        assert set(ids) - known == set()


def _history(file: Path) -> str:
    """Return all that commits have added to a file; without history there is one, which adds everything."""
    return subprocess.run(
        ["git", "log", "--format=", "--patch", "--unified=0", "--", file.relative_to(ROOT)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_conformance_list_only_grows() -> None:
    """Whatever a commit has put on the list is still there."""
    added = set(re.findall(r"^\+(KN-\S+)$", _history(LIST), re.MULTILINE))
    assert added
    assert added - set(LIST.read_text().splitlines()) == set()


def test_floors_of_coverage_only_rise() -> None:
    """No floor is lower than a commit has set it."""
    now = parse(FLOORS.read_text().splitlines())
    before: dict[str, int] = {}
    for package, percent in re.findall(r"^\+([\w/]+) (\d+)$", _history(FLOORS), re.MULTILINE):
        before[package] = max(before.get(package, 0), int(percent))
    assert before
    assert {p: (before[p], now[p]) for p in now if now[p] < before.get(p, 0)} == {}


def test_only_tests_that_are_there_have_durations() -> None:
    """A file or test that moved does not keep its old line."""
    gone = []
    for name in read_durations():
        path, _, test = name.partition("::")
        if path.endswith(".py"):
            text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            function = re.escape(test.partition("[")[0].rpartition("::")[2])
            if not re.search(rf"def {function}", text):
                gone.append(name)
    assert gone == []


def test_conformance_without_a_suite_is_a_failure(tmp_path: Path) -> None:
    """Without a suite to judge by, the exit code does not report success, not even in CI."""
    answer = subprocess.run(
        [ROOT / "scripts" / "conformance"],
        env={**os.environ, "CI": "true", "CONFORMANCE_SUITE": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert answer.returncode == 2
    assert "no conformance suite" in answer.stderr


#: A comment that switches a check off, and what follows it on the line.
SUPPRESSION: Final = re.compile(
    r"#\s*(?:(?:ruff: )?noqa|(?:type|mypy|pyright|zizmor):\s*ignore|pragma:|nosec|shellcheck disable)\b"
    r"(?P<rules>[:=]?\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*"
    r"|\[[\w, -]+\]|:? no cover)?(?P<reason>.*)"
)


def _unreasoned(line: str) -> bool:
    """Whether a line switches a check off without naming the rule and giving a reason."""
    found = SUPPRESSION.search(line)
    return found is not None and (
        not found["rules"] or re.fullmatch(r"\s*(-|#|\().*\w{2}.*", found["reason"]) is None
    )


def test_suppressions_name_the_rule_and_give_the_reason() -> None:
    """Whoever switches a check off says which one and why, on the same line."""
    quiet, ignored = "x = 1  # " + "noqa", "x = 1  # " + "type: ignore"
    assert _unreasoned(f"{quiet}: S311")
    assert _unreasoned(f"{quiet} - no rule")
    assert _unreasoned(f"{ignored}[arg-type]")
    assert not _unreasoned(f"{ignored}[arg-type]  # of the vendor")
    assert _unreasoned("# ruff: " + "noqa")
    assert _unreasoned("# mypy: " + "ignore-errors")
    assert _unreasoned("x=1  # shellcheck " + "disable=SC2034")
    assert not _unreasoned(f"{quiet}: S311, E501 (no secret)")
    found = [
        f"{name}:{number}: {line.strip()[:90]}"
        for name, text in _texts().items()
        if name.startswith(("notifier/", "syncer/", "tests/", "scripts/", "charts/", "."))
        and name.rpartition(".")[2] not in {"md", "sum", "mod", "json", "txt", "lua"}
        for number, line in enumerate(text.splitlines(), 1)
        if _unreasoned(line)
    ]
    assert found == []


@pytest.mark.parametrize("what", BANNED, ids=str)
def test_words_that_stay_out(what: str) -> None:
    """No file contains text that says nothing, or too much, outside the place where it was written."""
    pattern = re.compile(BANNED[what], re.MULTILINE)
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0].strip()}"
        for name, text in _texts().items()
        if name != "uv.lock"  # it names the registry that its files come from
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_a_long_file_has_its_reason() -> None:
    """CONTRIBUTING gives a reason for each file above 500 lines; the composition root stays short."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("## Files above 500 lines\n")[2].partition("\n## ")[0]
    reasons = set(re.findall(r"^- `([^`]+)`: \S", section, re.MULTILINE))
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in ("notifier", "syncer")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name, count in lines.items() if count > 500} == reasons
    assert lines["notifier/app.py"] <= 250


def test_every_dependency_has_its_reason() -> None:
    """ADR 0002 names every dependency of the distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[^\w-]", each)[0] for each in project["dependencies"]]
    text = (ADR / "0002-what-we-write-ourselves.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    missing = [n for n in names if not any(re.search(rf"\b{n}\b", row) for row in rows)]
    assert names
    assert missing == []


def test_every_script_and_kind_is_described() -> None:
    """ADR 0001 describes the scripts that exist, no others, and every kind of record."""
    text = (ADR / "0001-one-list-per-notification.md").read_text()
    described = re.findall(r"^\| `([A-Z]+)[ `]", text, re.MULTILINE)
    there = {path.stem.upper() for path in LEDGER.glob("scripts/*.lua")} - {"PRELUDE"}
    assert sorted(described) == sorted(there)
    for kind in Kind:
        family = kind.value.partition(".")[0]
        assert re.search(rf"`{family}(\.<state>)?`", text), f"{kind} is not described"


def test_facts_are_taken_without_memory() -> None:
    """As ADR 0001 says of `allow-oom`, every script except INTENT, PROBE and KEEP carries it."""
    text = "".join(path.read_text() for path in LEDGER.glob("*.py"))
    flags = dict(re.findall(r'Script\("(\w+)", allow_oom=(True|False)\)', text))
    assert flags.keys() == {path.stem for path in LEDGER.glob("scripts/*.lua")} - {"prelude"}
    assert [name for name, carried in flags.items() if carried == "False"] == [
        "intent",
        "probe",
        "keep",
    ]
