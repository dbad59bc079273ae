"""The gate of an audit store: how often it asks, and how many failures it bears."""

from __future__ import annotations

from unittest.mock import AsyncMock, Mock

from notifier.audit.gate import HealthGate
from notifier.contract import Outcome


async def test_a_store_without_a_page_for_its_health_gates_nothing() -> None:
    """None is set, or it answers 404; both are remarked, and a store that has one is asked."""
    unset = HealthGate(Mock(), "", timeout_s=4.0)
    assert (unset.asking, unset.problem) == (False, None)
    assert unset.remark == "its health is not asked for: datastorage.healthUrl is not set"
    absent, ill = Outcome.permanent("no such page", code=404), Outcome.transient("busy", code=503)
    client = Mock(post=AsyncMock(side_effect=[absent, ill, absent, *[ill] * 3]))
    gate = HealthGate(client, "http://store/health", timeout_s=4.0)
    seen = []
    for _ in range(6):
        await gate.ask()
        seen.append((gate.problem is None, gate.remark))
    said = "its health is not known: datastorage.healthUrl answers 404"
    assert seen == [(True, said), (True, None), (True, said), *[(True, None)] * 2, (False, None)]
    for asked in client.post.await_args_list:
        assert (asked.args[1], asked.kwargs["method"]) == (None, "GET")
