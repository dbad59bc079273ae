"""The send of one attempt: it always comes to an outcome, and nothing leaves where one is in the way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock, Mock

import pytest

from notifier.content.message import compose
from notifier.contract import Message, Outcome
from notifier.reconciler.attempt import Sender
from syncer.model.attempt import AttemptId
from syncer.model.record import intent_record
from syncer.model.resource import parse_object
from syncer.sync.notification import Notification
from tests.unit.notifier.reconciler.starting import document

INTENT: Final = intent_record(AttemptId("0.7-1"), "slack:ops", at=1, by="t")
MESSAGE: Final = compose(document("a", 1), "slack:ops", "0.7-1")


class World:
    """A sender, and what it asks."""

    def __init__(self) -> None:
        self.receiver = Mock(timeout_s=3.0, shows_status=True, keeps_state="")
        self.receiver.send = AsyncMock(return_value=Outcome.success(204))
        self.notification = Notification(parse_object(document("a", 1)))
        self.notification.in_flight.begin(AttemptId("0.7-1"), "c")
        self.denial: str | None = None
        self.composing: Exception | None = None
        self.covered, self.deleted, self.held = True, False, False
        self.now = 100.0
        self.asked: list[tuple[Any, ...]] = []
        cache = SimpleNamespace(monotonic=lambda: self.now)
        ports = SimpleNamespace(
            router=SimpleNamespace(denial=self._denial), notifications=SimpleNamespace(cache=cache)
        )
        holds = SimpleNamespace(hold=lambda _request, _channel: self.held)
        self.sender = Sender(cast("Any", ports), cast("Any", SimpleNamespace(holds=holds)))
        self.sender.compose = self._compose  # type: ignore[method-assign] # raises as a test wants

    def _denial(self, channel: str, namespace: str) -> str | None:
        self.asked.append((channel, namespace))
        return self.denial

    async def _compose(
        self, notification: Notification, intent: object, *, with_status: bool
    ) -> Message:
        assert (notification, intent) == (self.notification, INTENT)
        self.asked.append(("compose", with_status))
        if self.composing is not None:
            raise self.composing
        if self.deleted:
            self.notification.gone()
        return MESSAGE

    async def send(self) -> Outcome:
        def may_send(now: float, seconds: float) -> bool:
            return self.covered and now + seconds <= 103.0

        term = cast("Any", SimpleNamespace(may_send=may_send))
        return await self.sender.send(self.notification, term, INTENT, self.receiver)

    @property
    def left(self) -> bool:
        """Whether bytes may have left."""
        return not self.notification.in_flight.never_sent


async def hanging(_message: Message) -> None:
    """A send without an end."""
    await asyncio.Event().wait()


@pytest.fixture
def world() -> World:
    """One in which nothing is in the way."""
    return World()


async def test_a_message_is_composed_and_sent(world: World) -> None:
    """With the status where the channel shows it; whether the receiver is for the namespace is asked."""
    assert await world.send() == Outcome.success(204)
    world.receiver.send.assert_awaited_once_with(MESSAGE)
    assert world.asked == [("slack:ops", "n"), ("compose", True)]
    assert world.left
    world.receiver.shows_status = False
    await world.send()
    assert world.asked[-1] == ("compose", False)


async def test_a_channel_may_ask_again_while_it_sends(world: World) -> None:
    """The message may leave while the lease covers this moment; the channel's time is spent by then."""
    await world.send()
    ((message,), _) = world.receiver.send.await_args
    world.now = 103.0
    assert message.may_leave()
    world.now = 103.1
    assert not message.may_leave()


async def test_a_channel_that_is_not_there(world: World) -> None:
    """It is a failure for good, in upstream's words."""
    outcome = await world.sender.send(world.notification, cast("Any", None), INTENT, None)
    assert outcome == Outcome.permanent(
        "channel not registered: slack:ops (DD-NOT-007: use RegisterChannel() to register)"
    )
    assert not world.left


#: What is in the way, as members of the world; what it comes to.
STOPPED: Final[dict[str, tuple[dict[str, object], Outcome]]] = {
    "the receiver is not for the namespace": (
        {"denial": "receiver ops is not for namespace n"},
        Outcome.denied("receiver ops is not for namespace n"),
    ),
    "the message cannot be composed": (
        {"composing": ValueError("pwd=oak31")},
        Outcome.permanent("the message cannot be composed (ValueError)"),
    ),
    "it is not composed in time": (
        {"composing": TimeoutError()}, Outcome.not_sent("the message was not composed in time"),
    ),
    "the notification is deleted meanwhile": (
        {"deleted": True}, Outcome.not_sent("the notification was deleted before it was sent"),
    ),
    "an operator holds it meanwhile": (
        {"held": True}, Outcome.not_sent("an operator held it before it was sent"),
    ),
    "the lease is over": (
        {"covered": False}, Outcome.not_sent("the lease would not have covered the send"),
    ),
    "the lease does not cover the whole time of the channel": (
        {"now": 100.1}, Outcome.not_sent("the lease would not have covered the send"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STOPPED)
async def test_what_stops_a_send(world: World, case: str) -> None:
    """It is an outcome, and no byte leaves."""
    members, outcome = STOPPED[case]
    vars(world).update(members)
    assert await world.send() == outcome
    world.receiver.send.assert_not_awaited()
    assert not world.left


async def test_a_channel_that_does_not_keep_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds after its own limit it is given up; the message may have arrived."""
    limits: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        limits.append(seconds)
        return real(0.0)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    world.receiver.send = hanging
    assert await world.send() == Outcome.unknown("the channel did not end within its own deadline")
    assert limits == [5.0]
    assert world.left


async def test_a_channel_that_raises(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is a defect, which is logged; the message may have arrived."""
    world.receiver.send.side_effect = RuntimeError("pwd=oak31")
    assert await world.send() == Outcome.unknown("the channel failed unexpectedly (RuntimeError)")
    (line,) = caplog.records
    assert line.message == "a channel raised; it must answer with an outcome"
    shown = {name: line.__dict__[name] for name in ("uid", "channel", "attempt")}
    assert shown == {"uid": "uid-a", "channel": "slack:ops", "attempt": "0.7-1"}


async def test_a_send_that_is_cancelled_passes_that_on(world: World) -> None:
    """Who asked for it records what it came to."""
    world.receiver.send = hanging
    task = asyncio.create_task(world.send())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
