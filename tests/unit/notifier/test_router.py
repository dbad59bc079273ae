"""The router of a process: every question is answered by the routing in force at that moment."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from notifier import router as module
from notifier.channels.log import LogChannel
from notifier.channels.registry import ChannelRegistry
from notifier.router import LiveRouter
from notifier.routing.reload import Routing
from syncer.model.errors import Unavailable
from syncer.model.resource import NotificationRequest, parse_object
from tests.beside import beside, eventually

ROUTING: dict[str, Any] = {
    "route": {
        "receiver": "plain",
        "routes": [{"receiver": "ops", "match": {"priorty": "High"}}],
    },
    "receivers": [
        {"name": "plain", "logConfigs": [{}]},
        {
            "name": "ops",
            "slackConfigs": [{"credentialRef": "hook"}],
            "allowedNamespaces": ["team-a"],
        },
    ],
}


def requested() -> NotificationRequest:
    """A notification that no rule names."""
    return parse_object(
        {
            "metadata": {"uid": "u", "namespace": "team-b", "name": "n", "resourceVersion": "1"},
            "spec": {"type": "Simple", "priority": "High", "subject": "s", "body": "b"},
        }
    )


@pytest.fixture
def router(tmp_path: Path) -> LiveRouter:
    """A router of a file with a slip in it, and without a directory of credentials."""
    (tmp_path / "routing.yaml").write_text(json.dumps(ROUTING), encoding="utf-8")
    routing = Routing(tmp_path / "routing.yaml", tmp_path / "credentials")
    routing.load_initial()
    none: Any = cast("Any", SimpleNamespace())
    channels = ChannelRegistry(
        lambda: routing.current,
        none,
        http_timeout=10.0,
        file=None,
        log=LogChannel("json"),
        mail_timeout=10.0,
        dedup_namespace=False,
    )
    return LiveRouter(routing, channels)


async def test_a_plan_freezes_channels_and_why(router: LiveRouter) -> None:
    """It names the channels, the time and the body; what looks like a slip comes with it."""
    plan, doubts = await router.plan(requested(), 1234)
    assert (plan.channels, plan.at) == (("log",), 1234)
    assert plan.body_hash == requested().content_hash()
    assert any("priorty" in doubt for doubt in doubts)
    assert router.doubts == 1


async def test_a_plan_that_is_not_made_in_time(
    router: LiveRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notification is looked at again later, and nothing is decided."""
    late = AsyncMock(side_effect=TimeoutError)
    monkeypatch.setattr(module, "offload", late)
    with pytest.raises(Unavailable, match="earlier large notifications are still being routed"):
        await router.plan(requested(), 1234)
    (asked,) = late.await_args_list
    assert (asked.kwargs["seconds"], asked.kwargs["author"]) == (30.0, "team-b")


async def test_the_files_are_followed(router: LiveRouter, tmp_path: Path) -> None:
    """While it runs, a change of the routing file is taken."""
    async with beside(router.run()):
        await asyncio.sleep(0)
        routing = {"route": {"receiver": "plain"}, "receivers": ROUTING["receivers"][:1]}
        (tmp_path / "routing.yaml").write_text(json.dumps(routing), encoding="utf-8")
        await eventually(lambda: not router.doubts)
        assert router.not_ready("slack:ops") is None


def test_channels_by_name(router: LiveRouter) -> None:
    """One that is not registered, one whose credential is missing, one that takes nothing."""
    assert router.channel("log") is not None
    assert router.channel("slack:absent") is None
    held = router.not_ready("slack:ops")
    assert "hook" in (held or "")
    assert router.not_ready("log") is None
    assert router.denial("slack:ops", "team-a") is None
    assert router.denial("slack:ops", "team-b") is not None
    assert "credentials directory" in (router.problem or "")
