"""The answer of `syncer doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syncer.cli import main as cli

Checks = dict[str, dict[str, Any]]


async def examine(
    url: str, capsys: pytest.CaptureFixture[str], config: Path | None = None
) -> tuple[int, Checks]:
    """Run the command against a server alone."""
    capsys.readouterr()
    where = ["--config", str(config)] if config else ["--redis-url", url]
    nowhere = ["--kubeconfig", "/does/not/exist"]
    code = await cli.execute(["doctor", "-o", "json", *where, *nowhere])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {line["check"]: line for line in lines}
