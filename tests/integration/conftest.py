"""What tests of the operators' command ask for."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Stage
from tests.integration.operating import Operator


@pytest.fixture
def operator(here: Stage, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Return the command."""
    return Operator(here, capsys)
