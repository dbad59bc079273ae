"""A `kubectl` that answers from scripts, and writes down what it was asked: a program on the PATH."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

PLUGIN: Final = Path(__file__).resolve().parents[4] / "syncer" / "kubectl-ledger"
#: What kubectl says of each request that is not allowed.
FORBIDDEN: Final = "Error from server (Forbidden): pods is forbidden"


def pod(
    name: str, *, release: str = "ledger", namespace: str = "notifications", phase: str = "Running",
    ready: str = "True", going: str = "",
) -> str:  # fmt: skip
    """A pod of a release, as the plugin has kubectl print it."""
    return f"{namespace} {release} {name} {phase} ready={ready} going={going}"


class StandIn:
    """The program, and what it is to say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for verb in ("get", "exec", "create", "port-forward"):
            self.does(verb, ":")
        program = folder / "kubectl"
        program.write_text(
            f"#!/bin/sh\nfolder={folder}\n"
            'for word in "$@"; do printf "%s\\n" "$word" >> $folder/words; done\n'
            "echo >> $folder/words\n"
            'for word in "$@"; do case "$word" in\n'
            "get|create|port-forward|exec) . $folder/$word; exit;; esac; done\n"
            "exit 64\n"
        )
        program.chmod(0o755)
        self.lists(pod("ledger-1"))

    def lists(self, *pods: str, forbidden: str = " nowhere ") -> None:
        """Have it list these pods; not where this is among the words, which is forbidden."""
        (self.folder / "pods").write_text("".join(f"{p}\n" for p in pods))
        self.does(
            "get",
            f'case " $* " in *"{forbidden}"*) echo "{FORBIDDEN}" >&2; exit 1;;\n'
            '*" pods "*) cat $folder/pods;; *) cat $folder/phase;; esac',
        )

    def does(self, verb: str, script: str) -> None:
        """Have one of its commands be this shell script."""
        (self.folder / verb).write_text(script)

    @property
    def asked(self) -> list[list[str]]:
        """The words of each call."""
        file = self.folder / "words"
        text = file.read_text() if file.exists() else ""
        return [call.splitlines() for call in text.split("\n\n") if call]

    @property
    def remote(self) -> list[list[str]]:
        """The words of each command in a pod, without what sets the variables that it gets."""
        calls = [call[call.index("--") + 1 :] for call in self.asked if "exec" in call]
        return [call[call.index("--") + 1 :] for call in calls]


def on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> StandIn:
    """The program in front of every other on the PATH."""
    found = StandIn(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return found
