"""The keeper of holds: which condition it writes, when, and who writes it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.reconciler.operator_holds import HoldKeeper
from syncer.model.errors import Conflict
from tests.unit.notifier.reconciler.holding import OPS, World


class Written:
    """Takes conditions; the first one meets a hold that has changed."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, str]] = []

    async def request(self, _method: str, path: str, *, body: Any, **_: Any) -> Any:
        (condition,) = body["status"]["conditions"]
        assert body["metadata"] == {"resourceVersion": "1"}
        self.all.append((path.split("/")[-2], condition["status"], condition["message"]))
        if len(self.all) == 1:
            raise Conflict("409")


async def test_nothing_is_let_go_that_could_not_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """While holds are unknown, or nothing is sent, a rate stands still."""
    world, gone, idle = World(), list[float](), [False]
    outside = SimpleNamespace(objects=None, router=None, monotonic=lambda: world.now)
    loaded = SimpleNamespace(environment=SimpleNamespace(namespace="ns"), namespaces=None)
    keeper = HoldKeeper(
        cast("Any", loaded), cast("Any", outside), world.controller.placed, world.shards,
        idle=lambda: idle[0],
    )  # fmt: skip
    monkeypatch.setattr(world.controller.placed, "let_go", gone.append)
    await keeper.let_go()
    keeper.watch._confirmed_at = world.now
    idle[0] = True
    await keeper.let_go()
    assert gone == []
    idle[0] = False
    await keeper.let_go()
    assert len(gone) == 1


async def test_the_owner_of_the_first_shard_writes_what_has_changed() -> None:
    """Once for each hold in force; a conflict is tried again, and nobody else writes."""
    world, kube = World(), Written()
    outside = SimpleNamespace(
        objects=kube, router=SimpleNamespace(channels=["slack:ops"]), monotonic=lambda: world.now
    )
    loaded = SimpleNamespace(environment=SimpleNamespace(namespace="ns"), namespaces=("payments",))
    keeper = HoldKeeper(
        cast("Any", loaded), cast("Any", outside), world.controller.placed, world.shards
    )
    assert world.controller.placed.unknown() is not None, "nothing is sent before they are read"
    typo = replace(OPS, name="typo", receivers=("opps",), namespaces=("payments",))
    said = "no receiver matches opps; did you mean ops?"
    world.controller.placed.obey([OPS, typo, replace(OPS, name="over", until=1)])
    await keeper.round()
    assert kube.all == [
        (OPS.name, "True", "something known matches each pattern"), ("typo", "False", said),
    ]  # fmt: skip
    world.controller.placed.obey([OPS, replace(typo, matched=("False", said))])
    await keeper.round()
    assert kube.all[2:] == [(OPS.name, "True", "something known matches each pattern")]
    world.shards.drop(0)
    await keeper.round()
    assert len(kube.all) == 3
