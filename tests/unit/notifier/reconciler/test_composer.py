"""Messages for attempts: which are composed with a status, and what is kept of large ones."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import ANY, AsyncMock

import pytest

from notifier.content.message import compose
from notifier.reconciler import attempt as module
from notifier.reconciler.attempt import Sender
from syncer.model.attempt import AttemptId
from syncer.model.record import intent_record
from syncer.model.resource import RetryPolicy, parse_object
from syncer.rules.merge import Facts
from syncer.runtime.offload import SMALL, offload
from syncer.sync.notification import Notification
from tests.fakes.notification import shows

INTENT = intent_record(AttemptId("0.7-1"), "slack:ops", at=1, by="t")


def notification(n: int, *, size: int = 10, generation: int = 1) -> Notification:
    """A notification with a body of so many characters."""
    return Notification(
        parse_object(
            {
                "metadata": {
                    "uid": f"uid-{n}", "namespace": "n", "name": f"a{n}", "resourceVersion": "1",
                    "generation": generation,
                },
                "spec": {"type": "Simple", "subject": "s", "body": "x " * (size // 2)},
                "status": {"phase": "Sending"},
            }
        )
    )  # fmt: skip


class World:
    """A sender, and how often it has a spec sanitised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sanitised: list[str] = []
        self.offloading = AsyncMock(wraps=offload)

        def composing(document: Any, *given: Any, spec: Any, **more: Any) -> Any:
            if spec is None:
                self.sanitised.append(document["metadata"]["uid"])
            return compose(document, *given, spec=spec, **more)

        monkeypatch.setattr(module, "compose", composing)
        monkeypatch.setattr(module, "offload", self.offloading)
        facts = SimpleNamespace(facts=lambda _: Facts(1, RetryPolicy(), False))
        time = SimpleNamespace(now=lambda: 5_000)
        self.ports = SimpleNamespace(
            notifications=SimpleNamespace(time=time), installation=lambda: "nl@1", explorer=""
        )
        self.sender = Sender(cast("Any", self.ports), cast("Any", facts))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A sender that has composed nothing."""
    return World(monkeypatch)


async def test_a_message_is_that_of_the_attempt(world: World) -> None:
    """Its channel, its attempt, its object."""
    message = await world.sender.compose(notification(1), INTENT, with_status=False)
    assert (message.uid, message.key, message.attempt_id) == ("uid-1", "n/a1", "0.7-1")
    assert message.spec.subject == "s"
    world.offloading.assert_awaited_once_with(ANY, size=ANY, seconds=10.0, author="n")


async def test_a_message_leads_to_its_page(world: World) -> None:
    """Where the explorer's address is configured; behind its author's links."""
    plain = await world.sender.compose(notification(1), INTENT, with_status=False)
    world.ports.explorer = "https://ledger.example/x/"
    linked = await world.sender.compose(notification(1), INTENT, with_status=False)
    assert linked.spec.action_links == (
        *plain.spec.action_links,
        ("explorer", "https://ledger.example/x/n/n/a1", "What happened to this notification"),
    )
    assert replace(linked, spec=plain.spec) == plain


async def test_a_status_is_shown_as_it_is_now(world: World) -> None:
    """Merged with the log, since the object's own lags behind; where nobody shows it, it is not made."""
    found = notification(1)
    shows(found, generation=7)
    shown = (await world.sender.compose(found, INTENT, with_status=True)).document()
    assert shown["status"]["phase"] == "Sending"
    assert "observedGeneration" in shown["status"]


async def test_the_spec_of_a_large_notification_is_sanitised_once(world: World) -> None:
    """Its channels are tried one after the other; another generation may hold another spec."""
    large = notification(1, size=SMALL + 100)
    for _ in range(3):
        await world.sender.compose(large, INTENT, with_status=False)
    assert world.sanitised == ["uid-1"]
    again = notification(1, size=SMALL + 100, generation=2)
    await world.sender.compose(again, INTENT, with_status=False)
    assert world.sanitised == ["uid-1"] * 2


async def test_nothing_is_kept_of_a_small_notification(world: World) -> None:
    """At the bound itself it is small still."""
    small = notification(1)
    shows(small, raw=small.request.raw.ljust(SMALL))
    for _ in range(2):
        await world.sender.compose(small, INTENT, with_status=False)
    assert world.sanitised == ["uid-1"] * 2


async def test_a_few_large_notifications_are_kept(world: World) -> None:
    """The sixteen that came last; the bound holds whatever comes."""
    for n in range(17):
        await world.sender.compose(notification(n, size=SMALL + 100), INTENT, with_status=False)
    world.sanitised.clear()
    for n in range(1, 17):
        await world.sender.compose(notification(n, size=SMALL + 100), INTENT, with_status=False)
    assert world.sanitised == []
    await world.sender.compose(notification(0, size=SMALL + 100), INTENT, with_status=False)
    assert world.sanitised == ["uid-0"]
