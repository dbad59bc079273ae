"""What tests of a real API server and of the operators' command ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.harness import Stage
from tests.integration.api import Api
from tests.integration.operating import Operator
from tests.servers.controlplane import ControlPlane


@pytest.fixture
async def api(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """Return a client of the real server, in a fresh namespace."""
    plane = control_plane
    async with Api(plane.server, plane.admin_token, plane.ca_file, namespace) as client:
        yield client


@pytest.fixture
def operator(here: Stage, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Return the command."""
    return Operator(here, capsys)
