"""Whose Events wait for whose where webhooks of namespaces are slow, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from syncer.kube import events
from syncer.kube.client import KubeClient
from syncer.kube.events import EventRecorder
from syncer.model.errors import (
    DENIED,
    Ambiguous,
    Conflict,
    Gone,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.resource import NotificationRequest, parse_object
from tests.beside import beside, eventually

QUICK = 0.02


class Server:
    """Takes Events at once, of namespaces named slow when it is let; `answers` are the next ones."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.answers: list[Exception | None] = []
        self.tried: list[tuple[str, float]] = []
        self.taken: list[str] = []

    async def request(self, _method: str, path: str, *, body: Any, timeout: float) -> None:
        namespace = path.split("/")[4]
        self.tried.append((namespace, timeout))
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        if namespace.startswith("slow"):
            try:
                await asyncio.wait_for(self.go.wait(), timeout)
            except TimeoutError as error:
                raise Ambiguous("no answer") from error
        self.taken.append(body["message"])


@pytest.fixture(autouse=True)
def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_QUICK", QUICK)


@asynccontextmanager
async def recording(*, queue: int = 1000) -> AsyncIterator[tuple[Server, EventRecorder]]:
    """Run a recorder for the time of the context."""
    server = Server()
    recorder = EventRecorder(cast("KubeClient", server), instance="pod-0", queue=queue, timeout=60)
    async with beside(recorder.run()):
        yield server, recorder


def request(namespace: str) -> NotificationRequest:
    """Return a NotificationRequest to speak about."""
    metadata = {"namespace": namespace, "name": "a", "uid": "u", "resourceVersion": "7"}
    return parse_object({"metadata": metadata, "spec": {"type": "Simple", "subject": "s"}})


def emit(recorder: EventRecorder, namespace: str, message: str) -> None:
    """Emit an event that is told by its message."""
    recorder.emit(request(namespace), "Normal", "Sent", message, discriminator=message)


async def test_slow_namespaces_leave_senders_to_the_others() -> None:
    """However many webhooks dawdle, others wait for a first try of each; of theirs, nothing is lost."""
    async with recording() as (server, recorder):
        slow = [f"slow-{n}" for n in range(20)]
        for n in range(2):
            for namespace in slow:
                emit(recorder, namespace, f"{namespace}-{n}")
        for n in range(3):
            emit(recorder, "quick", f"quick-{n}")
        await eventually(lambda: len(server.taken) == 3)
        assert server.taken == ["quick-0", "quick-1", "quick-2"]
        await eventually(lambda: len(server.tried) == 3 + 20 + events._SENDERS)
        server.go.set()
        assert await recorder.drain(60) == 0
        assert recorder.dropped == 0
        assert len(server.taken) == len(set(server.taken)) == 43
        for namespace in slow:
            told = [message for message in server.taken if message.startswith(f"{namespace}-")]
            assert told == [f"{namespace}-0", f"{namespace}-1"]


async def test_a_namespace_that_is_quick_again_has_its_turns_among_the_quick() -> None:
    """It is slow only until it takes an event at once; a further one is tried as at first."""
    async with recording() as (server, recorder):
        emit(recorder, "slow", "1")
        await eventually(lambda: len(server.tried) == 2)
        # Nothing of it is under way or waits now, and it is known all the same.
        await asyncio.sleep(QUICK)
        server.go.set()
        assert await recorder.drain(60) == 0
        for message in "23":
            emit(recorder, "slow", message)
            assert await recorder.drain(60) == 0
        assert [timeout for _, timeout in server.tried] == [QUICK, 60, 60, QUICK]


async def test_what_is_under_way_at_the_end_is_counted() -> None:
    """Nobody waits for its answer, so it is as lost as what waits."""
    async with recording() as (server, recorder):
        for namespace in ("slow-1", "slow-2", "slow-2"):
            emit(recorder, namespace, "1")
        await eventually(lambda: len(server.tried) == 4)
        assert await recorder.drain(0.01) == 3
        assert recorder.dropped == 3


async def test_no_more_slow_namespaces_are_remembered_than_events() -> None:
    """Namespaces come and go; what is known of them is bounded."""
    async with recording(queue=2) as (server, recorder):
        for n in range(5):
            server.go.clear()
            server.tried.clear()
            emit(recorder, f"slow-{n}", "1")
            await eventually(lambda: len(server.tried) == 2)
            await asyncio.sleep(QUICK)
            server.go.set()
            assert await recorder.drain(60) == 0
        assert len(recorder._slow) == 2


#: What a server answers, how many tries that takes, how many are lost, and whether it is said.
ANSWERS: dict[str, tuple[list[Exception | None], int, int, bool]] = {
    "it is taken": ([None], 1, 0, False),
    "it is there already": ([Conflict("there")], 1, 0, False),
    "there is no such namespace": ([Gone("none")], 1, 1, False),
    "its namespace ends": ([Rejected("ends", reason="NamespaceTerminating")], 1, 1, False),
    "it is refused": ([Rejected("no", reason="Invalid")], 1, 1, True),
    "it may not be written": ([Unauthorised("no", reason=DENIED)], 1, 1, True),
    "its answer is lost, and it is there then": (
        [Ambiguous("lost"), Conflict("there")],
        2,
        0,
        False,
    ),
    "it is away for a moment": ([Unavailable("away"), Unavailable("away")], 3, 0, False),
    "it is away for longer": ([Unavailable("away")] * 9, 1 + events._TRIES, 1, True),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_becomes_of_an_event(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be written is counted, and said unless its namespace ends."""
    monkeypatch.setattr(events, "_PAUSE_FIRST", 0.0)
    answers, tries, dropped, said = ANSWERS[case]
    async with recording() as (server, recorder):
        server.answers = list(answers)
        emit(recorder, "ns", "1")
        assert await recorder.drain(60) == 0
        assert (len(server.tried), recorder.dropped) == (tries, dropped)
        assert bool([r for r in caplog.records if r.levelname == "WARNING"]) is said
        emit(recorder, "ns", "2")
        server.answers.clear()
        assert await recorder.drain(60) == 0, "the next one goes all the same"
        assert (server.taken[-1], recorder.dropped) == ("2", dropped)


async def test_a_full_queue_takes_from_whoever_has_most() -> None:
    """One author's flood costs his own events; of equal ones the newest is not taken."""
    recorder = EventRecorder(cast("KubeClient", Server()), instance="pod-0", queue=4)
    for n in range(4):
        emit(recorder, "flood", f"flood-{n}")
    emit(recorder, "flood", "flood-4")
    assert recorder.dropped == 1
    emit(recorder, "other", "other-0")
    emit(recorder, "third", "third-0")
    assert recorder.dropped == 3
    emit(recorder, "fourth", "fourth-0")
    waiting = {name: [e["message"] for e in queue] for name, queue in recorder._waiting.items()}
    assert recorder.dropped == 4
    assert waiting == {
        "flood": ["flood-0"], "other": ["other-0"], "third": ["third-0"], "fourth": ["fourth-0"],
    }  # fmt: skip
    async with beside(recorder.run()):
        assert await recorder.drain(60) == 0


async def test_what_is_dropped_at_the_end_is_dropped_once() -> None:
    """What waits is not sent any more, and a second end has nothing left of it."""
    async with recording() as (server, recorder):
        for n in range(3):
            emit(recorder, "slow", str(n))
        await eventually(lambda: len(server.tried) == 2)
        assert await recorder.drain(0.01) == 3
        server.go.set()
        assert await recorder.drain(60) == 0
        assert server.taken == ["0"]
        assert recorder.dropped == 3
