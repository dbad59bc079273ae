"""The gate of an audit store: how often it asks, and how many failures it bears."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from notifier.audit.gate import HealthGate
from notifier.contract import Outcome


class Client:
    """Answers as it is told."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, str]] = []

    async def get(self, _target: object, *, timeout_s: float, kind: str) -> Outcome:
        """Answer."""
        self.asked.append((timeout_s, kind))
        return self.answers.pop(0)


async def test_an_open_gate_closes_at_the_third_failure_in_a_row() -> None:
    """It says what the last one was: a code, or why there was none."""
    well, ill = Outcome.success(204), Outcome.transient("busy", code=503)
    refused = Outcome.transient("connection refused")
    client = Client(well, ill, ill, well, ill, refused, ill, refused, well)
    gate = HealthGate(cast("Any", client), "http://store/health", timeout_s=4.0)
    seen = []
    for _ in range(9):
        await gate.ask()
        seen.append(gate.problem)
    ill_said = "the audit store is not healthy: HTTP 503"
    refused_said = "the audit store is not healthy: connection refused"
    assert seen == [None] * 6 + [ill_said, refused_said, None]
    assert set(client.asked) == {(4.0, "audit health")}


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


async def test_the_gate_asks_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the answer was."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    client = Client(Outcome.transient("busy", code=503), Outcome.success(204))
    gate = HealthGate(cast("Any", client), "http://store/health", timeout_s=4.0)
    with pytest.raises(asyncio.CancelledError):
        await gate.run()
    assert pauses == [2.0, 2.0]
    assert gate.problem is None
