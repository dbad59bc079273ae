"""What the controller knows of the policy on statuses, by what the API server answers over time."""

from __future__ import annotations

import logging
from typing import Any, cast
from unittest.mock import AsyncMock, Mock, call

import pytest

from syncer.kube.status_policy import StatusPolicy
from syncer.model.errors import Gone, KindMissing, Unauthorised, Unavailable
from syncer.rules.status_policy import State
from tests.unit.syncer.rules.policies import NAME, POLICY, binding

POLICIES, BINDINGS = "validatingadmissionpolicies", "validatingadmissionpolicybindings"


async def test_it_follows_what_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """In force, absent or unknown, with the reason; a change is logged once, and silence is borne."""
    caplog.set_level(logging.INFO)
    server, now = Mock(request=AsyncMock()), 0.0
    policy = StatusPolicy(server, NAME, ("a",), lambda: now)
    assert (policy.found.state, policy.problem) == (State.UNKNOWN, "not checked yet")

    async def look(policies: Any, bindings: Any = None) -> tuple[State, str | None]:
        server.request.side_effect = [policies, bindings]
        await policy.look()
        return policy.found.state, policy.problem

    silent = Unavailable("503")
    assert await look(silent) == (State.UNKNOWN, "the API server does not say (503)")
    for _ in range(2):
        assert await look(POLICY, binding()) == (State.IN_FORCE, None)
    now = 299.0
    assert await look(POLICY, silent) == (State.IN_FORCE, None)
    now = 300.0
    assert await look(silent) == (State.UNKNOWN, "the API server does not say (503)")
    assert await look(POLICY, Gone("404")) == (State.ABSENT, f"there is no {BINDINGS}/{NAME}")
    assert await look(KindMissing("404")) == (State.ABSENT, f"there is no {POLICIES}/{NAME}")
    refused = Unauthorised("403 no", reason="Forbidden")
    assert await look(refused) == (State.UNKNOWN, f"{POLICIES}/{NAME} may not be read (403 no)")
    others = {"metadata": {}, "spec": {"policyName": "x"}}
    assert await look(POLICY, others) == (State.ABSENT, f"{NAME}: its binding names another policy")
    assert [r.__dict__["state"] for r in caplog.records] == [
        "in-force", "unknown", "absent", "unknown", "absent",
    ]  # fmt: skip
    group = "/apis/admissionregistration.k8s.io/v1"
    asked = [call("GET", f"{group}/{kind}/{NAME}", timeout=10.0) for kind in (POLICIES, BINDINGS)]
    assert server.request.await_args_list[-2:] == asked


async def test_without_a_name_nobody_is_asked() -> None:
    """Who installs without the chart has no policy, unless its name is configured."""
    policy = StatusPolicy(cast("Any", None), "", None, lambda: 0.0)
    await policy.look()
    assert policy.found.state is State.ABSENT
    assert "sync.statusPolicy" in str(policy.problem)
