"""When entries are written: no ticket is lost, and none is drawn twice for nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, make_attempt_id
from syncer.model.record import Plan, plan_record
from syncer.model.resource import Rollup, Status, parse_object
from syncer.rules.fold import ROOT_CHAIN, LogView
from syncer.sync.cache import Cache, summary
from syncer.sync.notification import Claim, Notification
from tests.fakes.notification import read, shows

ATTEMPT = make_attempt_id(Epoch("0.7"), 1)
Happened = Callable[[Notification], object]


def expires(notification: Notification) -> None:
    """It is acknowledged to its end, and its log expires."""
    notification.acknowledge(0, expiring=True)


class Bench:
    """A cache at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cache = Cache(window=0.5, monotonic=lambda: self.now)

    def add(self, uid: str, namespace: str = "n", *happened: Happened) -> Notification:
        """One to which this has happened."""
        request = parse_object({"metadata": {"uid": uid, "namespace": namespace, "name": uid}})
        notification = self.cache.entries[uid] = Notification(request)
        for happens in happened:
            happens(notification)
        return notification

    def mark(self, uid: str = "u", *, urgent: bool = True) -> None:
        """Something of it is to be written."""
        self.cache.mark_dirty(self.cache.entries.get(uid) or self.add(uid), urgent=urgent)

    def pass_(self, seconds: float) -> None:
        self.now += seconds

    @property
    def u(self) -> Notification:
        """The one that is called so."""
        return self.cache.entries.get("u") or self.add("u")

    def taken(self) -> list[str]:
        """What is due now, taken."""
        out = []
        while (notification := self.cache.take_due(self.now)) is not None:
            notification.publication.cover()
            out.append(notification.uid)
        return out


@pytest.fixture
def here() -> Bench:
    """An empty one."""
    return Bench()


Step = tuple[Callable[[Any], object], list[str]]
URGENT: Final[Step] = (lambda here: here.mark(), ["u"])
#: What happens in turn, and what is due to be written from then on.
COURSES: Final[dict[str, list[Step]]] = {
    "what is quiet is written with its window once an attempt begins": [
        (lambda here: here.u.wait("slack:ops", here.now + 30), []),
        (lambda here: (here.mark(urgent=False), here.u.in_flight.begin(ATTEMPT, "console")), []),
        (lambda here: here.pass_(0.5), ["u"]), (lambda here: here.pass_(9), []),
    ],
    "and once its wait ends": [
        (lambda here: here.u.wait("slack:ops", here.now + 30), []),
        (lambda here: (here.mark(urgent=False), here.u.wait("slack:ops", None)), []),
        (lambda here: here.pass_(0.5), ["u"]), (lambda here: here.pass_(9), []),
    ],
    "what comes behind the window is no reason to wait for it": [
        (lambda here: (here.u.waits({"a": here.now + 0.6, "b": here.now + 9}),
                       here.mark(urgent=False)), ["u"]),
    ],
    "what comes at its end is": [
        (lambda here: (here.u.waits({"a": here.now + 0.5, "b": here.now + 9}),
                       here.mark(urgent=False)), []),
    ],
    "however often it is marked, it is written once, and at the earliest time": [
        (lambda here: [here.mark(urgent=False) for _ in range(100)], []),
        URGENT, (lambda here: here.pass_(1), []),
    ],
    "what is marked during its write is written again behind it": [
        URGENT, (lambda here: (here.u.publication.begin(), here.mark()), []),
        (lambda here: (here.u.publication.over(), here.mark(urgent=False)), ["u"]),
    ],
    "a failed write waits however often it is marked": [
        URGENT, (lambda here: here.cache.failed(here.u), []),
        (lambda here: [here.mark() for _ in range(10)], []), (lambda here: here.pass_(0.25), ["u"]),
    ],
    "what needs no write any more has not failed": [
        (lambda here: (here.mark(), here.cache.failed(here.u), here.cache.failed(here.u)), []),
        (lambda here: here.u.publication.clean(), []), URGENT,
    ],
    "of what is gone nothing is written": [
        (lambda here: (here.mark(), here.u.gone()), []), (lambda here: here.mark(), []),
        (lambda here: (here.cache.failed(here.u), here.pass_(60)), []),
    ],
    "a pause holds for all as long as the longest one asked for": [
        (lambda here: (here.mark("a"), here.mark("b"), here.cache.pause_writes(2.0)), []),
        (lambda here: (here.cache.pause_writes(0.0), here.pass_(1.9)), []),
        (lambda here: here.pass_(0.1), ["a", "b"]),
    ],
    "none lasts for minutes": [
        (lambda here: (here.mark(), here.cache.pause_writes(300.0)), []),
        (lambda here: here.pass_(29.9), []), (lambda here: here.pass_(0.1), ["u"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("course", COURSES)
def test_what_is_due_in_the_course_of_things(here: Bench, course: str) -> None:
    """A change is written once, when its reason says, and no sooner than failures and pauses allow."""
    here.cache._jitter = lambda: 1.0
    for happens, due in COURSES[course]:
        happens(here)
        assert here.taken() == due


def test_namespaces_take_turns(here: Bench) -> None:
    """Thousands of writes of one author that are due leave each other namespace its turn."""
    for n in range(1000):
        here.cache.mark_dirty(here.add(f"crowd-{n}", "crowd"), urgent=True)
    here.now += 1
    for uid in ("b-0", "b-1", "c-0"):
        here.cache.mark_dirty(here.add(uid, uid[0]), urgent=True)
    got = []
    for _ in range(6):
        notification = here.cache.take_due(here.now)
        assert notification is not None
        notification.publication.cover()
        got.append(notification.uid)
    assert got == ["crowd-0", "b-0", "c-0", "crowd-1", "b-1", "crowd-2"]
    assert here.cache.next_due() == math.inf, "turns that have come are due"
    here.cache.mark_dirty(here.cache.entries["crowd-3"], urgent=True)
    assert here.taken()[0] == "crowd-3"
    assert here.cache.next_due() == math.inf


def test_who_waits_for_a_turn_and_is_gone_is_passed_over(here: Bench) -> None:
    """A notification that ends, or is held anew, while its write waits is no longer that one."""
    for uid in ("gone", "lost", "new", "clean", "stays"):
        here.cache.mark_dirty(here.add(uid), urgent=True)
    here.cache.mark_dirty(here.add("first", "other"), urgent=True)
    first = here.cache.take_due(here.now)
    assert first is not None
    assert first.uid == "gone"
    first.publication.cover()
    del here.cache.entries["lost"], here.cache.entries["new"]
    here.add("new")
    here.cache.entries["clean"].publication.clean()
    assert here.taken() == ["first", "stays"]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_deleted_notification_leaves_no_stub(here: Bench, deleted: bool) -> None:
    """Its deletion may come while its last status is being written, and comes only once."""
    notification = here.add("u")
    if deleted:
        notification.gone()
    here.cache.retire(notification)
    assert here.cache.entries == {}
    assert ("u" in here.cache.finished) is not deleted


SETTLED: dict[str, tuple[Happened, bool]] = {
    "what is finished, published and audited goes": (lambda _: None, True),
    "a log without an expiry keeps it": (lambda e: e.acknowledge(0, expiring=False), False),
    "a write under way keeps it": (lambda e: e.publication.begin(), False),
    "an attempt under way keeps it": (lambda e: e.in_flight.begin(ATTEMPT, "c"), False),
    "an unpublished change keeps it": (lambda e: e.publication.mark(1.0, urgent=False), False),
    "a log that cannot be read keeps it": (lambda e: e.unintelligible("damaged"), False),
    "a deleted object is for the claim to retire": (lambda e: e.gone(), False),
}


@pytest.mark.parametrize("case", SETTLED)
def test_settled_entries_are_retired(here: Bench, case: str) -> None:
    """A notification leaves memory when it is settled, and not before."""
    changed, gone = SETTLED[case]
    notification = here.add("u", "n", expires, changed)
    shows(notification, status=Status(phase="Sent"))
    here.cache.retire_if_settled(notification)
    assert ("u" not in here.cache.entries, "u" in here.cache.finished) == (gone, gone)


#: What keeps a journaled notification in memory although it is finished; the last one does not.
HELD_WHOLE: Final[dict[str, tuple[Happened, dict[str, Any], bool]]] = {
    "its log is claimed": (lambda e: e.claimed(Claim(Epoch("0.9"), 1, "")), {}, False),
    "it has another mark": (lambda e: e.journaling("0.9-2"), {}, False),
    "its status was not read": (
        lambda e: e.observe(replace(e.request, status=Status())),
        {},
        False,
    ),
    "it is not finished": (lambda _: None, {"phase": "Sending"}, False),
    "a result is not shown": (lambda _: None, {"attempts": ()}, False),
    "some attempts are only counted": (lambda _: None, {"rollup": Rollup(1)}, False),
    "its status tells all": (lambda _: None, {}, True),
}


@pytest.mark.parametrize("case", HELD_WHOLE)
def test_a_journaled_one_shrinks_once_its_status_tells_all(here: Bench, case: str) -> None:
    """Until the log is back, which may take hours; its summary says that the log is to be claimed."""
    changed, shown, gone = HELD_WHOLE[case]
    notification = here.add("u", "n", lambda e: e.journaling("0.9-1"))
    success = Attempt(AttemptId("0.9-1"), "c", AttemptState.SUCCESS)
    notification.learn([success])
    status = Status("Sent", attempts=(success,), journal="0.9-1", total_attempts=1)
    shows(notification, status=replace(status, **shown))
    changed(notification)
    here.cache.retire_if_settled(notification)
    assert ("u" not in here.cache.entries, [s.uid for s in here.cache.journaled()]) == (
        gone,
        ["u"] if gone else [],
    )


@pytest.mark.parametrize(("limit", "acked", "gone"), [(0, 2, True), (0, 1, False), (9, 2, False)])
def test_where_the_feed_lags_published_entries_are_retired(
    here: Bench, limit: int, acked: int, gone: bool
) -> None:
    """Beyond the limit a finished notification does not wait for the feed; what is not published stays."""
    here.cache.audit_limit = limit
    notification = here.cache.unaudited["a"] = here.add("a")
    read(notification, LogView(position=2), acked=acked)
    shows(notification, status=Status(phase="Sent"))
    here.cache.retire_if_settled(notification)
    assert ("a" in here.cache.entries, "a" in here.cache.finished) == (not gone, gone)
    assert ("a" in here.cache.unaudited) is not gone


def test_what_is_forgotten(here: Bench) -> None:
    """Nothing of it stays, but for what the audit feed has yet to hand over, while that has space."""
    here.cache.audit_limit = 1
    first, second = here.add("a"), here.add("b")
    for notification in (first, second):
        here.cache.mark_unaudited(notification)
        here.cache.finished[notification.uid] = summary(notification.request)
    assert (here.cache.audit_capacity, here.cache.auditing) == (0, True)
    here.cache.forget("b")
    assert (list(here.cache.entries), list(here.cache.finished)) == (["a"], ["a"])
    assert list(here.cache.unaudited) == ["a"]
    here.cache.forget("a")
    assert (here.cache.entries, here.cache.finished) == ({}, {})
    assert list(here.cache.unaudited) == ["a"], "the feed has yet to hand it over"
    here.cache.mark_audited(first, 0)
    assert (here.cache.unaudited, here.cache.audit_capacity) == ({}, 1)


def test_nothing_waits_for_a_feed_that_does_not_run(here: Bench) -> None:
    """Without a feed, or with a notification whose log cannot be read, nothing is kept for it."""
    notification = here.add("a")
    here.cache.mark_unaudited(notification)
    assert (here.cache.unaudited, here.cache.auditing, here.cache.audit_capacity) == ({}, False, 0)
    here.cache.unaudited["b"] = here.add("b")
    here.cache.forget("b")
    assert here.cache.unaudited == {}, "what is forgotten is forgotten whole"
    here.cache.audit_limit = 5
    notification.unintelligible("damaged")
    here.cache.mark_unaudited(notification)
    assert (here.cache.unaudited, here.cache.audit_capacity) == ({}, 5)


def test_what_was_audited_only_rises(here: Bench) -> None:
    """A feed that hands over the same again takes nothing back; the notification waits while it lags."""
    here.cache.audit_limit = 5
    notification = here.add("a")
    record = plan_record(Plan(("c",), "r", "m", at=1))
    notification.view.apply(stored(record, ROOT_CHAIN, 1))
    here.cache.mark_unaudited(notification)
    here.cache.mark_audited(notification, 0)
    assert list(here.cache.unaudited) == ["a"]
    here.cache.mark_audited(notification, 1)
    here.cache.mark_audited(notification, 0)
    assert (notification.audited, here.cache.unaudited) == (1, {})


def test_an_entry_that_was_replaced_is_not_retired(here: Bench) -> None:
    """What is held under its uid now is another one."""
    old = here.add("a", "n", expires)
    shows(old, status=replace(old.request.status, phase="Sent"))
    new = here.add("a")
    here.cache.retire_if_settled(old)
    assert here.cache.entries == {"a": new}


def test_the_writer_is_woken_for_an_earlier_turn_alone(here: Bench) -> None:
    """A mark whose turn comes behind that for which the writer waits already does not wake it."""
    first, second, third = here.add("a"), here.add("b"), here.add("c")
    here.cache.mark_dirty(first)
    assert (here.cache.wake.is_set(), here.cache.next_due()) == (True, here.now + 0.5)
    here.cache.wake.clear()
    here.now += 0.1
    here.cache.mark_dirty(second)
    assert not here.cache.wake.is_set()
    here.cache.mark_dirty(third, urgent=True)
    assert here.cache.wake.is_set()


def test_the_age_of_what_is_not_published(here: Bench) -> None:
    """It is that of the oldest change, and none where all is published."""
    assert here.cache.oldest_dirty() == 0.0
    for uid in ("a", "b"):
        here.cache.mark_dirty(here.add(uid))
        here.now += 2
    here.add("clean")
    assert here.cache.oldest_dirty() == 4.0
    assert [e.uid for e in here.cache.dirty()] == ["a", "b"]
    here.cache.entries["a"].publication.clean()
    assert here.cache.oldest_dirty() == 2.0


def test_who_may_not_have_its_turn_keeps_it(here: Bench) -> None:
    """The next namespace is served meanwhile, and nothing is lost."""
    for uid in ("a-0", "a-1", "b-0"):
        here.cache.mark_dirty(here.add(uid, uid[0]), urgent=True)
    first = here.cache.take_due(here.now, lambda namespace: namespace != "a")
    assert first is not None
    assert first.uid == "b-0"
    assert here.cache.take_due(here.now, lambda namespace: namespace != "a") is None
    assert here.taken() == ["a-0", "a-1"]


def test_the_namespace_of_what_is_known(here: Bench) -> None:
    """A live notification has its own, what is not known has none."""
    here.add("a", "team")
    assert (here.cache.namespace_of("a"), here.cache.namespace_of("b")) == ("team", "")


def test_a_write_takes_what_is_marked_and_leaves_what_comes(here: Bench) -> None:
    """A mark during the write is a new one, with its own time and no urgency of the old one."""
    notification = here.add("a")
    here.cache.mark_dirty(notification, urgent=True)
    notification.publication.cover()
    assert (notification.publication.dirty_since, notification.publication.urgent) == (None, False)
    here.now += 3
    here.cache.mark_dirty(notification)
    assert (notification.publication.dirty_since, notification.publication.urgent) == (103.0, False)
    assert here.cache.write_at(notification) == 103.5
    with pytest.raises(ValueError, match="the notification is clean"):
        here.cache.write_at(here.add("b"))


def test_a_failure_is_remembered_with_its_time_and_share(here: Bench) -> None:
    """The change keeps its age, and each failure draws another share of the wait."""
    shares = [0.5, 0.75]
    here.cache = Cache(window=0.5, monotonic=lambda: here.now, jitter=lambda: shares.pop(0))
    notification = here.add("a")
    for failures, share, due in ((1, 0.5, 100.125), (2, 0.75, 101.375)):
        here.cache.failed(notification)
        found = notification.publication
        assert (found.failures, found.last_failure) == (failures, here.now)
        assert (found.jitter, found.dirty_since) == (share, 100.0)
        assert here.cache.write_at(notification) == due
        here.now += 1


def test_what_is_reopened_is_held_in_full(here: Bench) -> None:
    """The summary goes; a notification that is there stays, and takes the newer object."""
    notification = here.add("a")
    here.cache.finished["a"] = summary(notification.request)
    newer = replace(notification.request, resource_version="9")
    assert here.cache.reopen(newer) is notification
    assert (notification.request, here.cache.finished) == (newer, {})
    other = replace(newer, uid="b")
    assert here.cache.reopen(other) is here.cache.entries["b"]
    assert here.cache.entries["b"].request == other


def test_what_many_summaries_name_is_kept_once() -> None:
    """A namespace and a phase, which come as a new text with every object."""
    request = Bench().add("a").request
    found = []
    for _ in range(2):
        namespace, phase = json.loads('["team-a", "Sent"]')
        found.append(summary(replace(request, namespace=namespace, status=Status(phase))))
    assert found[0].namespace is found[1].namespace
    assert found[0].phase is found[1].phase


def test_an_answer_replaces_what_it_is_not_older_than(here: Bench) -> None:
    """The same version of an answer is believed, and one that the watch has overtaken is not."""
    notification = here.cache.entries["a"] = Notification(here.add("a").request, doubtful=True)
    notification.observe(replace(notification.request, resource_version="7"))
    old, same = (
        replace(notification.request, resource_version=v, generation=5) for v in ("6", "7")
    )
    notification.take(old, since="5")
    assert (notification.request.resource_version, notification.doubtful) == ("7", True)
    notification.take(same, since="5")
    assert (notification.request, notification.doubtful) == (same, False)
    notification.take(old, since="7")
    assert notification.request == old


def test_a_share_of_the_wait_is_drawn_for_each_failure() -> None:
    """At least half of it, at most all, and not always the same."""
    cache = Cache(window=0.5)
    notification = Bench().add("a")
    shares = set()
    for _ in range(200):
        cache.failed(notification)
        shares.add(notification.publication.jitter)
    assert len(shares) > 100
    assert 0.5 <= min(shares) < 0.75 < max(shares) <= 1.0
