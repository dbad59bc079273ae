"""The policies of the chart, at a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.conftest import STATUS_POLICY
from tests.servers.controlplane import ControlPlane
from tests.servers.recipe import POLICY

POLICIES: Final = "/apis/admissionregistration.k8s.io/v1"


BINDINGS: Final = "validatingadmissionpolicybindings"


SSA: Final = "application/apply-patch+yaml"


@asynccontextmanager
async def without_the_planes_own(plane: ControlPlane) -> AsyncIterator[None]:
    """Take the plane's own policy out of force, so that what refuses is the release's."""
    answer = plane.api.request("DELETE", f"{POLICIES}/{BINDINGS}/{POLICY}")
    assert answer.status == 200, answer.text
    try:
        yield
    finally:
        plane.api.protect_statuses(STATUS_POLICY)
