"""The command line: wrong usage, nowhere to look, the version, what starting it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from notifier.cli import main as notifier_main
from syncer.cli import main as cli

ROOT = Path(cli.__file__).resolve().parents[2]

USAGE: dict[str, list[str]] = {
    "no command": [],
    "an unknown command": ["frobnicate"],
    "an unknown option": ["list", "--frob"],
    "a resolution without a reason": ["resolve", "ns/n", "--as", "failed"],
    "a result that is none": ["resolve", "ns/n", "--as", "perhaps", "--reason", "x"],
    "a class that is none": ["verify", "--class", "x"],
    "a negative limit": ["repair", "--limit", "-1"],
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(case: str) -> None:
    """Wrong usage ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(USAGE[case])
    assert ended.value.code == 2


def test_nowhere_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings and URL the command says what it needs, with code 2."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert cli.main(["list"]) == 2
    assert (
        "say where to look: --config FILE, --redis-url URL or $REDIS_URL" in capsys.readouterr().err
    )


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands say their version, and the same."""
    assert notifier_main(["--version"]) == 0
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("notification-ledger ")


def test_the_parser_imports_nothing_that_takes_time() -> None:
    """Help and completion are quick: what a command needs is imported when it runs."""
    program = (
        "import sys; from syncer.cli import main; main._parser();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}),"
        " *(name for name in sys.modules if name.startswith('syncer.')))"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    loaded = set(answer.stdout.split())
    assert not loaded & {
        "asyncio", "aiohttp", "dataclasses", "json", "kubernetes_asyncio",
        "logging", "msgpack", "pydantic", "redis", "yaml",
    }  # fmt: skip
    shared = {"syncer.cli.arguments", "syncer.cli.exits", "syncer.model", "syncer.model.errors"}
    commands = {cast("ModuleType", module).__name__ for module in cli.COMMANDS.values()}
    inner = {name for name in loaded if name.startswith("syncer.")}
    assert inner - commands == shared | {"syncer.cli", "syncer.cli.main", "syncer.cli.completion"}
