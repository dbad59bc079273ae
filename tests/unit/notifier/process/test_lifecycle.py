"""The life of the process: what runs, what ends it, what readiness says meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from notifier.app import build
from notifier.process.lifecycle import WORKERS, Lifecycle
from notifier.process.parts import Parts
from notifier.process.sweeps import Sweeps
from notifier.settings import Environment, Loaded, Settings
from syncer.configfile import build as build_settings
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.kube.reflector import Reflector
from syncer.model.attempt import Epoch
from syncer.model.errors import ConfigError
from syncer.runtime.supervise import TaskEndedError
from tests.fakes.outside import Checks, NoRouter, unreachable

PATIENCE = 60.0


class Product:
    """A product that reaches nothing, with its lifecycle."""

    def __init__(self, *, path: Path | None = None, **members: Any) -> None:
        settings = build_settings(Settings, {"redis": {"url": "redis://127.0.0.1:1"}, **members})
        self.admin, self.router = Checks(), NoRouter()
        self.parts: Parts = build(
            Loaded(settings, (), Environment("ns", Path("/routing.yaml")), path),
            unreachable(self.admin, self.router),
        )
        self.lifecycle = Lifecycle(self.parts)

    def problems(self) -> dict[str, str]:
        """What keeps it from being ready, by check."""
        found = {name: check() for name, check in self.admin.checks.items()}
        return {name: problem for name, problem in found.items() if problem}

    async def run(self) -> None:
        """Run it to its end."""
        async with asyncio.timeout(PATIENCE):
            await self.lifecycle.run()


async def waits(product: Product) -> None:
    """Wait until the start has met the API server that is not there."""
    async with asyncio.timeout(PATIENCE):
        while product.problems()["cluster"] != "cannot connect (ECONNREFUSED)":
            await asyncio.sleep(0.01)


async def test_readiness_names_what_is_missing() -> None:
    """Before anything is connected, each server is named with its reason."""
    product = Product()
    assert product.problems() == {
        "redis": "not connected yet",
        "cluster": "not connected yet",
        "shards": "no shard is looked at yet",
    }
    assert list(product.admin.checks) == [
        "shutdown", "redis", "cluster", "shards", "schema", "status", "epoch",
    ]  # fmt: skip
    product.router.problem = "the last good one stays"
    assert product.admin.details["routing"]() == "the last good one stays"


async def test_readiness_is_worked_out_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing keeps it up to date; shards that come after the first list do not make it unready."""
    product = Product()
    product.parts.progress.cluster = product.parts.progress.shards = None
    product.parts.shards.take(3, LeaseTerm(Epoch("0.1"), Session("u", 0.0, LeaseTimings())))
    synced = False
    monkeypatch.setattr(Reflector, "synced", property(lambda _: synced))
    found = product.problems()
    assert found["cluster"] == "objects are not listed yet"
    assert found["shards"] == product.parts.manager.problem
    synced = True
    assert "cluster" not in product.problems()
    synced = False
    assert "cluster" not in product.problems()
    product.parts.progress.cluster = "the API server is away"
    assert product.problems()["cluster"] == "the API server is away"


async def test_a_replica_that_owns_nothing_has_listed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that only stands by is ready; one whose first shards came is not, until they are listed."""
    product = Product()
    product.parts.progress.cluster = None
    answered = False
    monkeypatch.setattr(Reflector, "answered", property(lambda _: answered))
    monkeypatch.setattr(Reflector, "synced", property(lambda _: not product.parts.shards.owned))
    assert product.problems()["cluster"] == "objects are not listed yet"
    answered = True
    assert "cluster" not in product.problems()
    product.parts.shards.take(3, LeaseTerm(Epoch("0.1"), Session("u", 0.0, LeaseTimings())))
    assert product.problems()["cluster"] == "objects are not listed yet"


async def test_a_signal_ends_a_start_that_waits() -> None:
    """What waits for a server is not waited for."""
    product = Product()
    task = asyncio.create_task(product.run())
    await waits(product)
    product.parts.outside.stop.request()
    await task
    assert product.problems()["shutdown"] == "draining"


async def test_a_replica_that_must_leave_drains_and_says_why() -> None:
    """Its work ends as after a signal; the reason is the process's."""
    product = Product()
    task = asyncio.create_task(product.run())
    await waits(product)
    refusal = ConfigError("the installation has 4 shards", path="sharding.shards")
    product.parts.outside.stop.refuse(refusal)
    with pytest.raises(ConfigError) as caught:
        await task
    assert caught.value is refusal
    assert product.parts.progress.draining


async def test_a_loop_that_ends_takes_the_process_down() -> None:
    """A controller that has lost a loop looks alive and does nothing."""
    product = Product()
    product.router.ended.set()
    with pytest.raises(ExceptionGroup) as caught:
        await product.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, TaskEndedError)
    assert str(error) == "task routing ended"
    assert not product.parts.progress.draining


async def test_loops() -> None:
    """Every worker is a loop; the switch in the settings file is one where there is a file."""
    names = [name for name, _ in Product().lifecycle.loops()]
    workers = [f"worker-{n}" for n in range(WORKERS)]
    assert names == ["redis", "sync", "routing", "events", *workers, "wake-ups"]
    with_file = [name for name, _ in Product(path=Path("/config.yaml")).lifecycle.loops()]
    assert with_file == [*names, "pause-switch"]


async def test_sweeps() -> None:
    """Objects are deleted, and the self-audit is made, only where that is wanted."""
    plain = [s.name for s in Sweeps(Product(sync={"scrubRate": 0}).parts).rounds()]
    assert plain == ["resync", "live-sweep", "finished-sweep", "orphan-sweep", "holds"]
    more = Product(retention={"deleteObjects": True}, sync={"scrubRate": 1.0}).parts
    assert [s.name for s in Sweeps(more).rounds()] == ["retention-sweep", *plain, "self-audit"]


async def test_a_takeover_brings_its_sweeps_forward() -> None:
    """The start is over only when both were through after the last shard that was acquired."""
    parts = Product().parts
    sweeps, takeover = Sweeps(parts), parts.takeover
    assert not sweeps.through
    takeover.owning.set()
    takeover.start_sweeps()
    sweeps.looked_at.update(finished=3, logs=5)
    assert not sweeps.through
    for sweep in (sweeps.finished, sweeps.orphans):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await sweep()
    # They wait for the objects to be listed, and are wanted until then.
    assert takeover.finished.is_set()
    assert takeover.orphans.is_set()
    assert not sweeps.through


async def test_gauges_are_read_at_a_scrape() -> None:
    """A scrape brings them up to date: what they show is of that moment."""
    product = Product()
    value = product.parts.outside.registry.get_sample_value
    product.admin.refresh()
    assert value("notification_ledger_log_available") == 0
    assert value("notification_ledger_shards") == product.parts.shards.shards
    assert value("notification_ledger_queue_depth") == 0
    product.parts.queue.add("uid-a")
    product.router.doubts = 2
    product.admin.refresh()
    assert value("notification_ledger_queue_depth") == 1
    assert value("notification_ledger_routing_doubtful_keys") == 2
