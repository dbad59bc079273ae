"""Refused status writes: what is said of them, how often they are tried, and what follows their end."""

from __future__ import annotations

import logging
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from syncer.metrics import SyncMetrics
from syncer.model.errors import DENIED, NOT_CORRECTED, Ambiguous, Rejected, Unauthorised
from syncer.model.resource import NO_STATUS, NotificationRequest, parse_object
from syncer.rules.reconcile import Action
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.status_writer import Flushed, StatusWriter
from tests.unit.syncer.sync.bench import HELD, bench, delivered


class Server:
    """Answers status writes; `error` is what it says to all of them, or to those of one namespace."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.only = ""
        self.asked = 0

    async def patch(
        self, namespace: str, name: str, status: object, **_: object
    ) -> NotificationRequest:
        self.asked += 1
        if self.error is not None and self.only in ("", namespace):
            raise self.error
        del status
        return shown(namespace, name, version="6")


def shown(namespace: str, name: str, version: str = "5") -> NotificationRequest:
    """An object that nothing has happened to."""
    meta = {"uid": name, "namespace": namespace, "name": name, "resourceVersion": version}
    spec = {"type": "Simple", "subject": "s", "body": "b"}
    return parse_object({"metadata": meta, "spec": spec})


class Bench:
    """A status writer with a clock of its own, and what is to be written."""

    def __init__(self, *objects: tuple[str, str]) -> None:
        self.now = 100.0
        self.server = Server()
        self.cache = Cache(window=0.1, monotonic=lambda: self.now, jitter=lambda: 1.0)
        recorder = cast("Any", type("Recorder", (), {"cache": self.cache, "time": self}))
        metrics = SyncMetrics(CollectorRegistry())
        self.sync = StatusWriter(recorder, cast("Any", self.server), HELD, metrics)
        self.entries = [Notification(shown(*where)) for where in objects]
        for notification in self.entries:
            self.cache.entries[notification.uid] = notification

    async def write(self, notification: Notification) -> Flushed | None:
        """Have the status written, or not, and count it as the loop does."""
        notification.publication.begin()
        if self.sync.refusals.waits(notification.request.namespace):
            result = Flushed.UNAVAILABLE
        else:
            notification.publication.cover()
            result, _ = await self.sync._write(notification, NO_STATUS, {"phase": "Sending"})
        notification.publication.over()
        self.sync._after(notification, result)
        return result


NO_RIGHT = Unauthorised('User "c" cannot patch "status"', reason="Forbidden")


async def test_a_missing_right_is_said_once_and_probed(caplog: pytest.LogCaptureFixture) -> None:
    """However many objects wait, it is one line and one request every few seconds, until it is back."""
    here = Bench(*(("ns", f"n{n}") for n in range(50)))
    here.server.error = NO_RIGHT
    for _ in range(8):
        for notification in here.entries:
            await here.write(notification)
        assert here.sync.refusals.problem == (
            'status writes are refused in namespace ns (User "c" cannot patch "status")'
        )
        here.now += 5.0
    assert here.server.asked == 8
    assert all(here.cache.write_at(notification) > here.now for notification in here.entries)
    here.server.error = None
    assert await here.write(here.entries[7]) is Flushed.WRITTEN
    assert here.sync.refusals.problem is None
    late = [e for e in here.cache.dirty() if here.cache.write_at(e) > here.now]
    assert (late, len(list(here.cache.dirty()))) == ([], 49), "the others go at once"
    told = [(r.levelname, r.message) for r in caplog.records]
    assert told == [
        ("ERROR", "a permission is missing in a namespace; calls that need it are tried again"),
        ("WARNING", "a missing permission is back"),
    ]


async def test_a_right_that_is_missing_in_one_namespace_concerns_no_other() -> None:
    """Others are written meanwhile, and prove nothing about it; without objects it is no problem."""
    here = Bench(("a", "x"), ("b", "y"))
    here.server.error, here.server.only = NO_RIGHT, "a"
    refused, other = here.entries
    assert await here.write(refused) is Flushed.REFUSED
    assert await here.write(other) is Flushed.WRITTEN
    assert await here.write(refused) is Flushed.UNAVAILABLE
    assert here.sync.refusals.problem is not None
    here.server.only = ""
    here.now += 1.0
    assert await here.write(other) is Flushed.REFUSED
    assert "refused in namespace a and 1 more (" in str(here.sync.refusals.problem)
    for notification in here.entries:
        notification.publication.clean()
    assert here.sync.refusals.problem is None


async def test_a_refused_object_is_said_once_for_each_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A policy or a schema may refuse it for days: that is no missing right, and each try no news."""
    here = Bench(("ns", "x"), ("ns", "y"))
    notification, other = here.entries
    for error in (Unauthorised("policy", reason=DENIED), Rejected("schema"), Rejected("schema")):
        here.server.error, here.server.only = error, ""
        for _ in range(3):
            assert await here.write(notification) is Flushed.REFUSED
        here.server.error = None
        assert await here.write(other) is Flushed.WRITTEN
        assert here.sync.refusals.problem is None
    assert [r.__dict__["error"] for r in caplog.records] == ["policy", "schema"]
    assert await here.write(notification) is Flushed.WRITTEN
    here.server.error = Rejected("schema")
    assert await here.write(notification) is Flushed.REFUSED
    assert len(caplog.records) == 3, "refused anew is news"
    assert {r.levelno for r in caplog.records} == {logging.ERROR}


async def test_a_status_that_only_who_corrects_may_write_is_a_problem_of_its_own() -> None:
    """It makes the process unready until it is written or gone, and others are written meanwhile."""
    here = Bench(("ns", "x"), ("ns", "y"))
    notification, other = here.entries
    for end in ("written", "gone"):
        here.server.error = Unauthorised('403 User "c" cannot correct', reason=NOT_CORRECTED)
        assert await here.write(notification) is Flushed.REFUSED
        here.server.error = None
        assert await here.write(other) is Flushed.WRITTEN
        assert (
            here.sync.refusals.problem == '1 status(es) are refused (403 User "c" cannot correct)'
        )
        if end == "written":
            assert await here.write(notification) is Flushed.WRITTEN
        else:
            del here.cache.entries[notification.uid]
        assert here.sync.refusals.problem is None


async def test_a_missing_permission_to_read_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent for a notification that cannot be read, so both log and readiness say why."""
    async with bench() as (here, notification):
        get, permissions = here.objects.get, here.claimer.permissions
        now = here.cache.monotonic()
        here.cache.monotonic = lambda: now
        refused = AsyncMock(side_effect=NO_RIGHT)
        monkeypatch.setattr(here.objects, "get", refused)
        for begun in (now, now + 4.9, now + 5.0):
            now = begun
            assert Action.HOLD in await here.claimer.claim(notification, HELD)
            assert notification.unreadable
            assert str(permissions.problem).startswith("reads of notifications are refused in ")
        assert refused.await_count == 2, "within five seconds, nobody asks again"
        told = [r.__dict__ for r in caplog.records]
        assert [(t["namespace"], t["refused"]) for t in told] == [("ns", "reads of notifications")]
        monkeypatch.setattr(here.objects, "get", get)
        now += 5.0
        assert Action.OPEN in await here.claimer.claim(notification, HELD)
        assert permissions.problem is None


async def test_no_request_is_made_while_a_right_is_missing() -> None:
    """The writer asks before it merges: the notification waits like after any failed write."""
    async with bench(most=3) as (here, notification):
        await delivered(here, notification)
        here.objects.refusals = [NO_RIGHT]
        assert await here.sync.flush(notification) is Flushed.REFUSED
        assert await here.sync.flush(notification) is Flushed.UNAVAILABLE
        assert here.objects.tried == 1


async def test_an_unclear_write_that_was_not_stored_backs_off() -> None:
    """A server that fails gets one write and one read a turn, not six of each."""
    async with bench(most=3) as (here, notification):
        await delivered(here, notification)
        here.objects.refusals = [Ambiguous("500 of a webhook")] * 2
        for tries in (1, 2):
            assert await here.sync.flush(notification) is Flushed.UNAVAILABLE
            assert (here.objects.tried, here.objects.written) == (tries, [])
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert notification.acked == notification.view.position
