"""
A `kubectl` that answers from a script, and writes down what it was asked.

It is a program of its own on the PATH, so that what the plugin starts is what runs: another process, with a
session, an input that is closed or not, and an exit code.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

#: What kubectl says after a command that has not ended with 0.
TERMINATED: Final = "command terminated with exit code"
FORBIDDEN: Final = (
    'Error from server (Forbidden): pods is forbidden: User "u" cannot list resource "pods"'
)


def pod(
    name: str, *, release: str = "ledger", namespace: str = "notifications", ready: bool = True,
    phase: str = "Running", going: bool = False, containers: Sequence[str] = ("controller",),
) -> dict[str, Any]:  # fmt: skip
    """A pod of a release, as the API server shows it."""
    state: dict[str, Any] = {"running": {}} if phase == "Running" else {"waiting": {}}
    return {
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"app.kubernetes.io/instance": release},
            **({"deletionTimestamp": "2027-01-15T08:00:00Z"} if going else {}),
        },
        "spec": {"containers": [{"name": c} for c in containers]},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": c, "ready": ready, "state": state} for c in containers],
        },
    }  # fmt: skip


class StandIn:
    """The program, and what it is to say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: list[str] = []
        folder.mkdir()
        self.lists(pod("ledger-1"))

    def lists(self, *pods: dict[str, Any], forbidden: str = "") -> None:
        """Have it list these pods; nowhere where this is among the words, which is forbidden."""
        (self._folder / "pods.json").write_text(json.dumps({"items": list(pods)}))
        refused = f"echo {shlex.quote(FORBIDDEN)} >&2; exit 1"
        refused = f'case "$*" in *{shlex.quote(forbidden)}*) {refused};; esac'
        self._write(get=f"{refused if forbidden else ':'}\ncat {self._folder}/pods.json")

    def fails(self, said: str) -> None:
        """Have it fail to list pods."""
        self._write(get=f"echo {shlex.quote(said)} >&2; exit 1")

    def runs(self, script: str) -> None:
        """Have a command in a pod be this shell script."""
        self._write(run=script)

    def gets(self, script: str) -> None:
        """Have it print a notification by this script, and still list pods."""
        (self._folder / "object").write_text(script)
        one = 'case "$*" in *notificationrequests*) . ./object; exit;; esac'
        self._write(get=f"{one}; cat {self._folder}/pods.json")

    def does(self, verb: str, script: str) -> None:
        """Have another command of its own be this shell script."""
        (self._folder / verb).write_text(script)

    def forwards(self, script: str) -> None:
        """Have a forwarded port be this shell script."""
        self.does("port-forward", script)

    def _write(self, *, get: str = "", run: str = "") -> None:
        for name, text in (("get", get), ("run", run)):
            if text or not (self._folder / name).exists():
                (self._folder / name).write_text(text)
        program = self._folder / "kubectl"
        program.write_text(
            "#!/bin/sh\n"
            f"cd {self._folder}\n"
            'for word in "$@"; do printf "%s\\n" "$word" >> words; done\n'
            "echo >> words\n"
            'for word in "$@"; do case "$word" in\n'
            "get|create|port-forward) . ./$word; exit;; exec) . ./run; exit;; esac; done\n"
            "exit 64\n"
        )
        program.chmod(0o755)

    @property
    def asked(self) -> list[list[str]]:
        """The words of each call."""
        file = self._folder / "words"
        text = file.read_text() if file.exists() else ""
        return [call.splitlines() for call in text.split("\n\n") if call]

    @property
    def remote(self) -> list[str]:
        """The words of the command in the pod."""
        (call,) = (c for c in self.asked if "exec" in c)
        return call[call.index("--") + 1 :]

    def wrote(self, name: str) -> str:
        """A file that a script has written."""
        return (self._folder / name).read_text()

    def file(self, name: str) -> Path:
        """The same file."""
        return self._folder / name


def on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> StandIn:
    """The program in front of every other on the PATH."""
    found = StandIn(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("KUBECTL", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return found
