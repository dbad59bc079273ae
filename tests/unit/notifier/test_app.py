"""The composition root: what is built, and that building touches nothing."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from notifier import app as composition
from notifier.app import Parts
from notifier.audit.assembly import Outlets
from notifier.channels.egress import EgressGuard
from notifier.outside import Outside
from notifier.reconciler.controller import make_manager
from notifier.version import __version__
from syncer.kube.errors import BAD_REQUEST
from syncer.kube.reflector import Reflector
from syncer.ledger.connection import CLOCK
from syncer.model.errors import Rejected, Unavailable
from syncer.model.resource import NotificationRequest, parse_object
from tests.beside import beside, eventually
from tests.fakes.memorylog import MemoryClient
from tests.fakes.outside import NoCluster, loaded_with, unreachable
from tests.fakes.ownership import Held


def built(outside: Outside | None = None, **members: Any) -> Parts:
    """The product of a file with these members alone; it reaches nothing, or what it is given."""
    return Parts(loaded_with(**members), outside or unreachable())


class Listing(NoCluster):
    """A cluster of Kubernaut's definition that notes which lists it is asked for, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    async def request(
        self, method: str, path: str, *_: Any, accept: str = "", params: Any = None, **__: Any
    ) -> Any:
        """Not now; and never, where a phase is selected."""
        if "fieldSelector" in (params or {}):
            raise Rejected("field label not supported: status.phase", reason=BAD_REQUEST)
        self.asked.append((path, accept))
        raise Unavailable("not now")


def requested(phase: str) -> NotificationRequest:
    """A notification."""
    return parse_object(
        {
            "metadata": {"uid": "u", "namespace": "ns", "name": "n", "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": {"phase": phase},
        }
    )


def test_no_part_is_set_afterwards() -> None:
    """What a part works with, it was given when it was made: the type checker knows each as final."""
    (parts,) = ast.parse(textwrap.dedent(inspect.getsource(Parts))).body
    final = {
        ast.unparse(node.target).removeprefix("self.")
        for node in ast.walk(parts)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("Final")
    }
    assert final == set(vars(built()))


def test_what_the_settings_say_reaches_the_parts(tmp_path: Path) -> None:
    """Whether unknown results end a channel, how much waits for the audit, a pause, and the self-audit."""
    audit = {"file": str(tmp_path / "audit.jsonl")}
    plain = built(sync={"scrubRate": 5.0})
    other = built(
        sync={"scrubRate": 0}, audit=audit, delivery={"guarantee": "atMostOnce", "paused": True}
    )
    for parts, once, limit in ((plain, False, None), (other, True, 10_000)):
        assert parts.controller.decisions.bounds.at_most_once is once
        assert parts.status_writer.at_most_once is once
        assert parts.cache.audit_limit == limit
        assert parts.controller.holds.paused is once
        assert (parts.scrubber is None) is once


def test_ledger_time_begins_with_the_wall_clock() -> None:
    """Until a claim brings the time of Redis."""
    wall = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    parts = built(outside=replace(unreachable(), wall=lambda: wall))
    now = parts.status_writer.recorder.time.now()
    assert 0 <= now - wall.timestamp() * 1000 < 60_000


def test_the_version_is_a_metric() -> None:
    """A scrape tells which version runs."""
    registry = built().outside.registry
    name = "notification_ledger_build_info"
    assert registry.get_sample_value(name, {"version": __version__}) == 1


#: What a server says, with what the file says of Redis, and why it is given no attempts.
SERVERS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "one that keeps everything": ({}, {}, ""),
    "one that may drop a record": ({"maxmemory_policy": "allkeys-lru"}, {}, "allkeys-lru"),
    "one that syncs too seldom for the file": (
        {"appendfsync": "everysec"}, {"durability": "strict"}, "appendfsync is everysec",
    ),
    "one that does not say how it syncs": ({}, {"durability": "strict"}, "is not visible"),
    "one of which the file says it": (
        {}, {"durability": "strict", "appendfsync": "always"}, "",
    ),
    "one whose clock is an hour ahead": ({CLOCK: "3600000"}, {}, "3600 s ahead of the API"),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_is_judged_by_the_file_and_the_clocks(case: str) -> None:
    """The client of Redis is told why a server must not be given attempts."""
    info, redis, reason = SERVERS[case]
    parts = built(redis={"url": "redis://127.0.0.1:1", **redis})
    parts.outside.api_time.offset = 0
    found = parts.client.fitness({"redis_version": "7.2.0", "master_replid": "8f6a", **info})
    assert reason in found if found and reason else found is None and not reason


def test_each_lag_of_the_loop_is_counted() -> None:
    """The watch over the loop tells the metrics."""
    outside = built().outside
    outside.watch.late(0.04)
    name = "notification_ledger_loop_lag_seconds"
    assert outside.registry.get_sample_value(f"{name}_count") == 1
    assert outside.registry.get_sample_value(f"{name}_sum") == pytest.approx(0.04)


@pytest.mark.parametrize(("enabled", "waiting"), [(True, 1), (False, 0)])
async def test_events_can_be_switched_off(enabled: bool, waiting: int) -> None:
    """Then none waits to be written, whatever is reported."""
    parts = built(events={"enabled": enabled})
    parts.controller.reconciler.ports.reporter.started(requested("Sending"))
    assert await parts.events.drain(0.01) == waiting


@pytest.mark.parametrize(
    ("namespaces", "lists"),
    [
        ((), {"/apis/kubernaut.ai/v1alpha1/namespaces/ns/notificationrequests"}),
        ("*", {"/apis/kubernaut.ai/v1alpha1/notificationrequests"}),
        (
            ("a", "b"),
            {f"/apis/kubernaut.ai/v1alpha1/namespaces/{n}/notificationrequests" for n in "ab"},
        ),
    ],
    ids=["its own", "all", "some"],
)
async def test_namespaces_that_are_listed(namespaces: object, lists: set[str]) -> None:
    """The own one, all of them in one list, or each that the file names."""
    cluster = Listing()
    parts = built(
        controller={"namespaces": namespaces} if namespaces else {},
        outside=replace(unreachable(), objects=cluster),
    )
    async with beside(parts.reflector.run()):
        await eventually(lambda: {path for path, _ in cluster.asked} == lists)


@pytest.mark.parametrize(("guarantee", "once"), [("atMostOnce", True), ("atLeastOnce", False)])
async def test_audit_is_there_where_a_sink_is(tmp_path: Path, guarantee: str, once: bool) -> None:
    """The feed is made of the outlets of the process, and follows the guarantee of the settings."""
    settings: dict[str, Any] = {
        "audit": {"file": str(tmp_path / "audit.jsonl")},
        "datastorage": {"url": "http://127.0.0.1:1", "buffer": {"batchSize": 7}},
        "delivery": {"guarantee": guarantee},
    }
    loaded = loaded_with(**settings)
    outlets = Outlets(loaded, EgressGuard())
    assert built(**settings).audit is None
    audit = built(**settings, outside=replace(unreachable(), audit=outlets)).audit
    assert audit is not None
    assert list(audit.sinks) == outlets.sinks
    assert audit.buffer.batch_size == 7
    assert audit.at_most_once is once
    await outlets.close()


def test_a_replica_is_able_to_work_where_it_can_send_and_knows_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without Redis, without a list, or while it ends, it leaves shards to others."""
    made, answered = Mock(wraps=make_manager), True
    monkeypatch.setattr(composition, "make_manager", made)
    monkeypatch.setattr(Reflector, "answered", property(lambda _: answered))
    parts = built()
    (able,) = [call.kwargs["able"] for call in made.call_args_list]
    client = cast("MemoryClient", parts.client)
    assert not able()
    client.problem = None
    assert able()
    parts.progress.draining = True
    assert not able()
    parts.progress.draining, answered = False, False
    assert not able()


@pytest.mark.parametrize("deleting", [True, False])
async def test_lists_are_in_brief_unless_objects_are_deleted(deleting: bool) -> None:
    """Who deletes finished objects has to know when they ended, which a list in brief leaves out."""
    cluster = Listing()
    outside = replace(unreachable(), objects=cluster)
    parts = built(outside, retention={"deleteObjects": deleting}, sharding={"shards": 1})
    parts.shards.take(0, Held())
    async with beside(parts.reflector.run()):
        await eventually(lambda: cluster.asked)
    assert ("as=Table" in cluster.asked[0][1]) is not deleting
