"""When a finished notification may be deleted, and what keeps it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import pytest
from prometheus_client import CollectorRegistry

from syncer.ledger.answers import LogHead
from syncer.metrics import SyncMetrics
from syncer.model.errors import (
    DENIED,
    Ambiguous,
    Conflict,
    ContractError,
    Gone,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.resource import LogMark, NotificationRequest, Status, parse_object
from syncer.runtime.clock import LedgerTime, ServerTime
from syncer.sync.cache import Finished
from syncer.sync.retention import Retention, due
from tests.fakes.ownership import Ours

DAY: Final = 86_400_000
ENDED: Final = 1_800_000_000_000


@pytest.mark.parametrize(
    ("ended", "days", "now", "expected"),
    [
        pytest.param(ENDED, 7, ENDED + 7 * DAY - 1, False, id="a moment before its days are over"),
        pytest.param(ENDED, 7, ENDED + 7 * DAY, True, id="when its days are over"),
        pytest.param(ENDED, 1, ENDED + DAY, True, id="after the shortest time"),
        pytest.param(ENDED, 0, ENDED + DAY - 1, False, id="never within a day"),
        pytest.param(0, 7, ENDED, False, id="never if its end is not known"),
        pytest.param(ENDED, 7, ENDED - DAY, False, id="not by a clock that fell back"),
    ],
)
def test_due(ended: int, days: int, now: int, expected: bool) -> None:
    """The days count from the end, and are at least one."""
    assert due(ended, days, now) is expected


STORE: Final = "store-1"
OVER: Final = ENDED + 7 * DAY
HEADER: Final = b"nl1 object=ns/n epoch=0.7 acked=3 audited=3"
GONE: Final = LogHead(None, 0, -2)
SETTLED: Final = LogHead(HEADER, 4, 60)


def finished(uid: str = "u", **changed: Any) -> Finished:
    """What is kept of a notification whose days are over."""
    return replace(Finished(uid, "ns", f"n-{uid}", "5", "Sent", 7, ENDED), **changed)


def stored_object(uid: str = "u", **changed: Any) -> NotificationRequest:
    """The object as it is now."""
    request = parse_object(
        {
            "metadata": {
                "uid": uid, "namespace": "ns", "name": f"n-{uid}", "resourceVersion": "6",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"type": "simple", "retentionDays": 7},
        }
    )  # fmt: skip
    status = Status(phase="Sent", completed_at=ENDED, log=LogMark(3, "0.7", STORE))
    return replace(replace(request, status=status), **changed)


class Server:
    """A Redis and an API server that hold what a test puts there."""

    def __init__(self) -> None:
        self.store = STORE
        self.heads: dict[str, LogHead | Exception] = {}
        self.objects: dict[str, NotificationRequest | Exception] = {}
        self.refusal: Exception | None = None
        self.pages: list[int] = []
        self.read: list[str] = []
        self.deleted: list[tuple[str, str, str, str]] = []

    async def read_headers(self, uids: Sequence[str]) -> list[LogHead]:
        """Answer for logs, those that nobody mentions are settled."""
        self.pages.append(len(uids))
        heads = [self.heads.get(uid, SETTLED) for uid in uids]
        for head in heads:
            if isinstance(head, Exception):
                raise head
        return cast("list[LogHead]", heads)

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        self.read.append(name)
        found = self.objects.get(name, stored_object(name.removeprefix("n-")))
        if isinstance(found, Exception):
            raise found
        return found

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.deleted.append((namespace, name, uid, resource_version))


@pytest.fixture
def server() -> Server:
    """Servers on which nothing keeps an object."""
    return Server()


def retention_of(server: Server, *others: str) -> Retention:
    """The real thing before these servers, as its time comes; some uids are another replica's."""
    time = LedgerTime(lambda: 0.0)
    time.set(OVER)
    any_server: Any = server
    metrics = SyncMetrics(CollectorRegistry())
    return Retention(any_server, any_server, Ours(others=others), time, metrics)


def counted(retention: Retention) -> float:
    """Deletions by the metric."""
    return float(retention.metrics.deleted._value.get())


def shown(**changed: Any) -> NotificationRequest:
    """The object, with another status."""
    request = stored_object()
    return replace(request, status=replace(request.status, **changed))


@dataclass(frozen=True)
class Kept:
    """What keeps an object: each member, where it differs from its default, alone would."""

    summary: Finished = field(default_factory=finished)
    others: tuple[str, ...] = ()
    head: LogHead = SETTLED
    found: NotificationRequest = field(default_factory=stored_object)
    store: str = STORE


KEPT: Final = {
    "its days are not over": Kept(summary=finished(retention_days=8)),
    "its end is not known": Kept(summary=finished(ended=0)),
    "it belongs to another replica": Kept(others=("u",)),
    "a record is not published": Kept(head=SETTLED._replace(length=5)),
    "a record is not audited": Kept(
        head=SETTLED._replace(element=HEADER.replace(b"audited=3", b"audited=2"))
    ),
    "its log does not expire": Kept(head=SETTLED._replace(ttl=-1)),
    "its log cannot be read": Kept(head=SETTLED._replace(element=b"something else")),
    "it is no longer final": Kept(found=shown(phase="Sending")),
    "it is being deleted": Kept(found=stored_object(deleting=True)),
    "it ended later than was known": Kept(found=shown(completed_at=ENDED + 1)),
    "its status ends it before it was created": Kept(found=stored_object(created=ENDED + 1)),
    "it is kept for longer by now": Kept(found=stored_object(retention_days=8)),
    "another object has its name": Kept(found=stored_object("w")),
    "its status names no log": Kept(found=shown(log=None)),
    "its attempts were journaled": Kept(found=shown(journal="0.1-1")),
    "its log is gone with its store": Kept(head=GONE, store="store-2"),
    "its log is gone, and neither names a store": Kept(
        head=GONE, found=shown(log=LogMark(3, "0.7", "")), store=""
    ),
}


@pytest.mark.parametrize("case", KEPT)
async def test_what_is_kept(case: str) -> None:
    """Each of these reasons alone keeps an object, and the next one goes all the same, as it was read."""
    kept, server = KEPT[case], Server()
    server.heads["u"], server.objects["n-u"], server.store = kept.head, kept.found, kept.store
    retention = retention_of(server, *kept.others)
    assert await retention.sweep([kept.summary, finished("v")]) == 1
    assert server.deleted == [("ns", "n-v", "v", "6")]
    assert counted(retention) == 1


@pytest.mark.parametrize("head", [GONE, SETTLED._replace(ttl=0)], ids=["over", "its last second"])
async def test_a_log_whose_time_is_over_in_the_same_store(server: Server, head: LogHead) -> None:
    """The object goes."""
    server.heads["u"] = head
    assert await retention_of(server).sweep([finished()]) == 1


async def test_a_clock_that_is_ahead_deletes_nothing(server: Server) -> None:
    """The earlier of Redis's time and the API server's decides; unheard, that one says never."""
    retention = retention_of(server)
    for heard, deleted in ((None, 0), (OVER - 1, 0), (OVER, 1)):
        retention.time.api_time = api_time = ServerTime(lambda: 0.0)
        if heard is not None:
            api_time.set(heard)
        assert await retention.sweep([finished()]) == deleted
    assert len(server.deleted) == 1


async def test_one_question_for_a_page(server: Server) -> None:
    """Many logs are asked for in few questions, and none is left out at the border of a page."""
    many = [finished(f"u{n}") for n in range(600)]
    assert await retention_of(server).sweep(many) == 600
    assert server.pages == [256, 256, 88]
    assert [uid for _, _, uid, _ in server.deleted] == [summary.uid for summary in many]


#: What a deletion meets, how many of three are asked for, and the level of what is logged.
REFUSALS: Final[dict[str, tuple[Exception, int, int | None]]] = {
    "somebody wrote meanwhile": (Conflict("c"), 3, None),
    "somebody deleted it": (Gone("g"), 3, None),
    "the server refuses it": (Rejected("r"), 3, logging.WARNING),
    "the credentials are refused": (Unauthorised("u"), 1, logging.ERROR),
    "the right is missing": (Unauthorised("u", reason="Forbidden"), 1, logging.ERROR),
    "a webhook refuses it": (Unauthorised("u", reason=DENIED), 3, logging.WARNING),
    "the server does not answer": (Unavailable("s"), 1, logging.INFO),
    "the answer is lost": (Ambiguous("a"), 1, logging.INFO),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refused_deletion(
    server: Server, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What concerns one object passes it over; what concerns all ends the sweep until the next."""
    refusal, asked, level = REFUSALS[case]
    server.refusal = refusal
    retention = retention_of(server)
    with caplog.at_level(logging.INFO, "ledger.retention"):
        assert await retention.sweep([finished(uid) for uid in "uvw"]) == 0
    assert len(server.read) == asked
    assert (server.deleted, counted(retention)) == ([], 0)
    levels = [record.levelno for record in caplog.records]
    assert levels == ([level] * (asked if level == logging.WARNING else 1) if level else [])


async def test_a_right_that_is_missing_in_one_namespace(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """One with its roles gone keeps its objects, is asked for once, and holds back no other."""
    for uid in "uw":
        server.objects[f"n-{uid}"] = Unauthorised("u", reason="Forbidden")
    elsewhere = [finished(uid, namespace="other") for uid in "vx"]
    summaries = [finished(), elsewhere[0], finished("w"), elsewhere[1]]
    with caplog.at_level(logging.WARNING, "ledger.retention"):
        assert await retention_of(server).sweep(summaries) == 2
    assert [name for _, name, _, _ in server.deleted] == ["n-v", "n-x"]
    assert server.read == ["n-u", "n-v", "n-x"]
    assert [getattr(record, "namespace", "") for record in caplog.records] == ["ns"]


#: What the read before a deletion meets, and how many of two are then read.
UNREAD: Final[dict[str, tuple[Exception, int]]] = {
    "it is gone": (Gone("g"), 2),
    "it cannot be parsed": (ContractError("c"), 2),
    "the server does not answer": (Unavailable("s"), 1),
}


@pytest.mark.parametrize("case", UNREAD)
async def test_an_object_that_cannot_be_read_stays(server: Server, case: str) -> None:
    """Nothing is deleted without having been seen."""
    error, read = UNREAD[case]
    server.objects["n-u"] = error
    assert await retention_of(server).sweep([finished(), finished("v")]) == read - 1
    assert len(server.read) == read
    assert [name for _, name, _, _ in server.deleted] == ["n-v"][: read - 1]


async def test_a_redis_that_does_not_answer_ends_the_sweep(server: Server) -> None:
    """Without the logs nothing is known, so nothing is deleted, and the caller hears of it."""
    server.heads["u"] = Unavailable("away")
    with pytest.raises(Unavailable):
        await retention_of(server).sweep([finished()])
    assert server.read == []
