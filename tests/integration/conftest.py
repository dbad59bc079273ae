"""What tests of the operators' command and of one installation share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.harness import Stage, stage
from tests.integration.operating import Operator
from tests.servers.controlplane import ControlPlane


@pytest.fixture
async def here(control_plane: ControlPlane, redis_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """An installation."""
    async with stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here:
        yield here


@pytest.fixture
def operator(here: Stage, capsys: pytest.CaptureFixture[str]) -> Operator:
    """The command."""
    return Operator(here, capsys)
