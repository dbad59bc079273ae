"""The gate of an audit store: how often it asks, and how many failures it bears."""

from __future__ import annotations

from typing import Any, cast

from notifier.audit.gate import HealthGate
from notifier.contract import Outcome


class Client:
    """Answers as it is told."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, str]] = []

    async def post(
        self,
        _target: object,
        body: None,
        _headers: object,
        *,
        timeout_s: float,
        kind: str,
        method: str,
    ) -> Outcome:
        """Answer."""
        assert (body, method) == (None, "GET")
        self.asked.append((timeout_s, kind))
        return self.answers.pop(0)


async def test_a_store_without_a_page_for_its_health_gates_nothing() -> None:
    """None is set, or it answers 404; both are remarked, and a store that has one is asked."""
    unset = HealthGate(cast("Any", Client()), "", timeout_s=4.0)
    assert (unset.asking, unset.problem) == (False, None)
    assert unset.remark == "its health is not asked for: datastorage.healthUrl is not set"
    absent, ill = Outcome.permanent("no such page", code=404), Outcome.transient("busy", code=503)
    client = Client(absent, ill, absent, *[ill] * 3)
    gate = HealthGate(cast("Any", client), "http://store/health", timeout_s=4.0)
    seen = []
    for _ in range(6):
        await gate.ask()
        seen.append((gate.problem is None, gate.remark))
    said = "its health is not known: datastorage.healthUrl answers 404"
    assert seen == [(True, said), (True, None), (True, said), *[(True, None)] * 2, (False, None)]
