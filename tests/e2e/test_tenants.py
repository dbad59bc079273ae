"""
Tenants: what the author of a notification can reach, on a real API server.

The operators' routing names receivers for some namespaces. Whoever may create notifications in another
one must not get there: not by calling his namespace otherwise, and not by any attribute he sets.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.harness import NotifierProcess, Stage, until
from tests.e2e.tenants import channels, here, routing, warnings

__all__ = ["here"]

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


async def test_an_author_cannot_say_where_an_object_is(here: tuple[Stage, NotifierProcess]) -> None:
    """`namespace` and `name` in the extensions lose against the object's own, and a warning says so."""
    stage, _ = here
    for key, value in (("namespace", "prod-payments"), ("name", "prod-db")):
        uid = await stage.create(f"forged-{key}", extensions={key: value})
        version = await stage.wait_phase(uid)
        assert channels(version) == [("slack:all", "success")]

        async def told(uid: str = uid, key: str = key) -> bool:
            return any(key in text for text in await warnings(stage, uid, "ReservedAttribute"))

        await until(told, "the author is told", within=20)


async def test_a_receiver_takes_only_whom_it_names(here: tuple[Stage, NotifierProcess]) -> None:
    """What the routing sends to a receiver for others fails for good, on record, and with a reason."""
    stage, _ = here
    uid = await stage.create("stranger", extensions={"team": "payments"})
    version = await stage.wait_phase(uid, "Failed")
    assert channels(version) == [("slack:pay", "failed")]
    (attempt,) = version.status["deliveryAttempts"]
    assert attempt["class"] == "permanent"
    assert f"takes no notifications of namespace {stage.namespace}" in attempt["error"]
    assert stage.receiver.calls("stranger") == []

    async def told() -> bool:
        return bool(await warnings(stage, uid, "ReceiverRefused"))

    await until(told, "an event names the rule", within=20)


async def test_who_is_named_gets_there(here: tuple[Stage, NotifierProcess]) -> None:
    """A route matches the object's own namespace, a pattern covers it, and a new rule holds at once."""
    stage, _ = here
    uid = await stage.create("mine", extensions={"team": "own", "namespace": "elsewhere"})
    assert channels(await stage.wait_phase(uid)) == [("slack:own", "success")]
    path = stage.folder / "routing.yaml"
    await asyncio.to_thread(path.write_text, json.dumps(routing(stage, stage.namespace)))

    async def taken(n: list[int] = [0]) -> bool:  # noqa: B006 - a counter of its own
        n[0] += 1
        uid = await stage.create(f"later-{n[0]}", extensions={"team": "payments"})
        await until(
            lambda: stage.watcher.phase(uid) in {"Sent", "Failed"}, "it has ended", within=30
        )
        return stage.watcher.phase(uid) == "Sent"

    await until(taken, "the new rule is in force", within=30)
