"""The life of the process: what runs, what ends it, what readiness says meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from notifier.app import Parts
from notifier.audit.assembly import Outlets
from notifier.channels.egress import EgressGuard
from notifier.process import lifecycle
from notifier.process.lifecycle import WORKERS, Lifecycle
from notifier.process.sweeps import Sweeps
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.kube.reflector import Reflector
from syncer.ledger.lua import INTENT
from syncer.ledger.replies import Refused
from syncer.model.attempt import Epoch
from syncer.model.errors import ConfigError
from syncer.model.resource import parse_object
from syncer.runtime.supervise import TaskEndedError
from syncer.sync.notification import Notification
from tests.beside import eventually
from tests.fakes.memorylog import MemoryClient
from tests.fakes.outside import Checks, NoRouter, loaded_with, unreachable
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.starting import document

PATIENCE = 60.0


class Product:
    """A product that reaches nothing, with its lifecycle."""

    def __init__(self, *, path: Path | None = None, **members: Any) -> None:
        self.admin, self.router = Checks(), NoRouter()
        loaded = loaded_with(path, **members)
        outside = unreachable(self.admin, self.router)
        if loaded.settings.auditing:
            outside = replace(outside, audit=Outlets(loaded, EgressGuard()))
        self.parts = Parts(loaded, outside)
        self.lifecycle = Lifecycle(self.parts)

    def problems(self) -> dict[str, str]:
        """What keeps it from being ready, by check."""
        found = {name: check() for name, check in self.admin.checks.items()}
        return {name: problem for name, problem in found.items() if problem}

    async def run(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.lifecycle.run()


async def waits(product: Product) -> None:
    """Wait until the start has met the API server that is not there."""
    await eventually(lambda: product.problems()["cluster"] == "cannot connect (ECONNREFUSED)")


@pytest.fixture
def product() -> Product:
    """A product that has not begun."""
    return Product()


async def test_readiness_names_what_is_missing(product: Product) -> None:
    """Before anything is connected, each server is named with its reason."""
    assert product.problems() == {
        "redis": "not connected yet",
        "cluster": "not connected yet",
        "shards": "shards are not examined yet",
        "holds": "nothing is sent, since the operators' holds are not known: not read yet",
    }
    assert list(product.admin.checks) == [
        "shutdown", "redis", "cluster", "shards", "status", "epoch", "holds",
    ]  # fmt: skip
    product.router.problem = "the last good one stays"
    assert list(product.admin.details) == [
        "routing", "receivers", "holds", "status-policy", "installation", "failpoints", "retention",
    ]  # fmt: skip
    assert product.admin.details["routing"]() == "the last good one stays"
    assert product.admin.details["failpoints"]() is None


async def test_readiness_is_worked_out_when_it_is_asked_for(
    product: Product,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing keeps it up to date; shards that come after the first list do not make it unready."""
    product.parts.progress.cluster = None
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


async def test_readiness_goes_on_naming_what_fails_after_the_start(product: Product) -> None:
    """Redis that is lost again, a list that is behind, a log of a later epoch for too long."""
    parts = product.parts
    client = cast("MemoryClient", parts.client)
    parts.progress.redis, client.problem = None, None
    assert "redis" not in product.problems()
    client.writes.on_error("", INTENT, Refused("OOM"))
    assert product.problems()["redis"] == "Redis answers OOM: it is full (maxmemory)"

    assert "epoch" not in product.problems()
    uid = "uid-a"
    parts.shards.take(parts.shards.sharding.of(uid), Held())
    parts.cache.entries[uid] = Notification(parse_object(document("a", 1)))
    now = parts.cache.monotonic()
    parts.cache.entries[uid].epochs(fenced=now - parts.settings.lease_duration + 60)
    assert "epoch" not in product.problems()
    parts.cache.entries[uid].epochs(fenced=now - parts.settings.lease_duration - 1)
    assert "raise sharding.incarnation" in product.problems()["epoch"]


async def test_an_audit_store_counts_for_readiness(tmp_path: Path) -> None:
    """A file does not; loops of the audit are loops like any other."""
    file: dict[str, Any] = {"audit": {"file": str(tmp_path / "audit.jsonl")}}
    product = Product(**file)
    assert "datastorage" not in product.admin.checks
    names = [name for name, _ in product.lifecycle.loops()]
    assert (names[-1], "audit-gate" in names) == ("audit", False)
    url = "http://127.0.0.1:1"
    silent = Product(**file, datastorage={"url": url})
    assert "datastorage" not in silent.problems()
    assert "healthUrl is not set" in (silent.admin.details["datastorage"]() or "")
    store = Product(**file, datastorage={"url": url, "healthUrl": f"{url}/health"})
    assert store.problems()["datastorage"] == "the audit store is not healthy: not asked yet"
    assert [name for name, _ in store.lifecycle.loops()][-2:] == ["audit", "audit-gate"]
    registry = store.parts.outside.registry
    store.parts.cache.unaudited["uid-a"] = Notification(parse_object(document("a", 1)))
    assert store.admin.refresh is not None
    await store.admin.refresh()
    assert registry.get_sample_value("notification_ledger_audit_waiting_notifications") == 1
    for made in (silent, store):
        assert made.parts.outside.audit is not None
        await made.parts.outside.audit.close()


async def test_tasks_of_a_process(product: Product) -> None:
    """Loops, rounds, the start, and the end; a signal ends a start that waits for a server."""
    task = asyncio.create_task(product.run())
    await waits(product)
    names = {t.get_name() for t in asyncio.all_tasks()}
    sweeps = {sweep.name for sweep in Sweeps(product.parts).rounds()}
    loops = {name for name, _ in product.lifecycle.loops()}
    assert names >= {*loops, *sweeps, "bring-up", "end"}
    product.parts.outside.stop.requested.set()
    await task
    assert product.problems()["shutdown"] == "draining"


async def test_a_replica_that_owns_nothing_has_listed_nothing(
    product: Product,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that only stands by is ready; one whose first shards came is not, until they are listed."""
    product.parts.progress.cluster = None
    answered = False
    monkeypatch.setattr(Reflector, "answered", property(lambda _: answered))
    monkeypatch.setattr(Reflector, "synced", property(lambda _: not product.parts.shards.owned))
    assert product.problems()["cluster"] == "objects are not listed yet"
    answered = True
    assert "cluster" not in product.problems()
    product.parts.shards.take(3, LeaseTerm(Epoch("0.1"), Session("u", 0.0, LeaseTimings())))
    assert product.problems()["cluster"] == "objects are not listed yet"


async def test_a_replica_that_must_leave_drains_and_says_why(product: Product) -> None:
    """Its work ends as after a signal; the reason is the process's."""
    task = asyncio.create_task(product.run())
    await waits(product)
    refusal = ConfigError("the installation has 4 shards", path="sharding.shards")
    product.parts.outside.stop.refuse(refusal)
    with pytest.raises(ConfigError) as caught:
        await task
    assert caught.value is refusal
    assert product.parts.progress.draining


async def test_a_loop_that_ends_takes_the_process_down(product: Product) -> None:
    """A controller that has lost a loop looks alive and does nothing."""
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
    assert names == [
        "redis",
        "sync",
        "journal",
        "routing",
        "events",
        "hold-watch",
        *workers,
        "wake-ups",
    ]
    with_file = [name for name, _ in Product(path=Path("/config.yaml")).lifecycle.loops()]
    assert with_file == [*names, "pause-switch"]


async def test_sweeps_begin_when_they_are_wanted(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a takeover none of them waits for its next round."""
    restarting = Mock(side_effect=lambda *_, every, **__: asyncio.sleep(every))
    monkeypatch.setattr(lifecycle, "restarting", restarting)
    running = asyncio.create_task(product.run())
    await waits(product)
    product.parts.outside.stop.requested.set()
    await running
    woken = {call.args[0]: call.kwargs["sooner"] for call in restarting.call_args_list}
    wanted = {s.name: s.sooner for s in product.lifecycle._sweeps.rounds() if s.sooner}
    assert wanted
    assert {name: woken[name] for name in wanted} == wanted
