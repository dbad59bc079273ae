"""The plugin as krew takes it: by its own validator, which downloads, unpacks and installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import ROOT

#: What is changed in the manifest, and what krew says to it.
MISTAKES: Final = {
    "a name that is not the file's": ("name: ledger", "name: other", "name"),
    "a version that is none": ("version: v", "version: x", "version"),
    "another digest": ("sha256: ", "sha256: 00", "sha256"),
    "a program that is not in the archive": ("bin: kubectl-ledger", "bin: other", "other"),
    "no text that says what it is": ("shortDescription: Ask", "other: Ask", "short description"),
    "a file that is not in the archive": ("from: LICENSE", "from: COPYING", "COPYING"),
}


def plugin(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "plugin", *words], capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with what a release has of the plugin."""
    made = plugin("build", "--output", str(tmp_path), "--url", "https://forge.example/v/releases/x")
    assert made.returncode == 0, made.stderr
    return tmp_path


# The first run builds krew.
@pytest.mark.timeout(600)
def test_krew_installs_it_and_finds_mistakes(built: Path) -> None:
    """What is released is taken; a mistake in the manifest is refused, and named."""
    done = plugin("check", str(built))
    assert (done.returncode, done.stderr) == (0, "")
    manifest = built / "ledger.yaml"
    right, taken = manifest.read_text(), {}
    for case, (text, instead, said) in MISTAKES.items():
        assert right.count(text) == 1, text
        manifest.write_text(right.replace(text, instead))
        done = plugin("check", str(built))
        if done.returncode != 1 or said not in done.stderr:
            taken[case] = done.stdout + done.stderr
    assert taken == {}
