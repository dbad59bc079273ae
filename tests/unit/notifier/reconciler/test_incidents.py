"""Where an incident is open by the record, and what must not be sent since something newer is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest

from notifier.contract import Channel, Message, Outcome
from notifier.reconciler import incidents
from notifier.reconciler.incidents import Incidents
from notifier.router import Routed
from syncer.kube.notification_requests import Page
from syncer.model.attempt import Attempt, AttemptState, FailureClass, parse_attempt_id
from syncer.model.errors import Unavailable
from syncer.model.incident import INCIDENT, STATE, incident_label
from syncer.model.record import Fallback, Plan, attempt_record, intent_record, read_attempt
from syncer.model.resource import Json, NotificationRequest, parse_object
from syncer.model.times import format_time
from syncer.rules.channel_state import State
from syncer.rules.fold import LogView
from tests.fakes.notification import shows
from tests.unit.notifier.reconciler.attempting import World

NOW: Final = 1_795_752_000_000
PAGER: Final = "pagerduty:ops"
ID: Final = parse_attempt_id("0.7-1")
SUCCESS, OPEN, UNKNOWN = AttemptState.SUCCESS, AttemptState.INTENT, AttemptState.UNKNOWN
REFUSED: Final = FailureClass.PERMANENT


def notification(
    name: str, state: str, age: float, *, incident: str = "i", at: int = 0, phase: str = "Sent"
) -> NotificationRequest:
    """One of an incident, so many seconds old."""
    document: Json = {
        "metadata": {
            "uid": f"uid-{name}", "namespace": "n", "name": name, "resourceVersion": "9",
            "creationTimestamp": format_time(NOW - round(age * 1000), millis=False),
        },
        "spec": {
            "type": "Simple", "priority": "High", "subject": "s", "body": "b",
            "extensions": {
                INCIDENT: incident, STATE: state, **({"notification-ledger/at": str(at)} if at else {}),
            },
        },
        "status": {"phase": phase} if phase else {},
    }  # fmt: skip
    return parse_object(document)


class Outside:
    """The API server, the logs, and the routing, in memory; what is `away` does not answer."""

    def __init__(self, *mates: NotificationRequest) -> None:
        self.mates = mates
        self.logs: dict[str, LogView] = {}
        self.routes: dict[str, tuple[str, ...]] = {}
        self.away = self.log_away = False
        self.aged = 0
        self.asked: list[str] = []

    def had(self, name: str, **attempts: AttemptState | FailureClass | None) -> None:
        """Have a log, with a channel for each attempt; None for a channel without one."""
        view = self.logs[f"uid-{name}"] = LogView()
        view.plan = Plan(tuple(f"{kind}:ops" for kind in attempts))
        for n, (kind, came) in enumerate(attempts.items(), 1):
            failed = isinstance(came, FailureClass)
            state = AttemptState.FAILED if failed else came
            if state is not None:
                view.learn(
                    Attempt(
                        parse_attempt_id(f"0.7-{n}"), f"{kind}:ops", cast("AttemptState", state),
                        started=NOW - 9_000 - self.aged, ended=NOW - 9_000,
                        failure=cast("FailureClass", came) if failed else None,
                    )
                )  # fmt: skip

    async def list_page(
        self, namespace: str | None = None, *, continue_token: str = "", labels: str = ""
    ) -> Page[NotificationRequest]:
        """Two pages."""
        if self.away:
            raise Unavailable("away")
        self.asked.append(labels)
        assert namespace == "n"
        half = len(self.mates) // 2
        found = self.mates[half:] if continue_token else self.mates[:half]
        return Page(tuple(found), 0, "" if continue_token else "more", "1")

    async def read(self, uid: str) -> object:
        if self.log_away:
            raise Unavailable("away")
        view = self.logs.get(uid)
        return None if view is None else SimpleNamespace(view=view)

    async def plan(self, request: NotificationRequest, _now: int) -> Routed:
        """Where it would go now."""
        return Routed(Plan(self.routes.get(request.name, ("log",))))

    def incidents(self) -> Incidents:
        """What looks all of it up."""
        here = cast("Any", self)
        return Incidents(here, here, here, lambda: NOW, at_most_once=False)


async def channels(outside: Outside, state: str = "resolved") -> tuple[str, ...]:
    """Where a notification of the incident goes whose own route is `mail:ops`."""
    own = Plan(("mail:ops",), message="matched")
    plan = await outside.incidents().routed(notification("last", state, 1), own)
    if plan.channels != own.channels:
        assert plan.message.startswith("matched; and where its incident is open: ")
    return plan.channels


async def test_an_end_goes_where_the_incident_is_open() -> None:
    """Where it arrived, may have arrived, or may still be sent; not where it was refused for good."""
    outside = Outside(
        notification("f", "firing", 60), notification("other", "firing", 60, incident="x")
    )
    outside.had("f", pagerduty=SUCCESS, slack=UNKNOWN, teams=REFUSED, webhook=None, mail=SUCCESS)
    outside.had("other", file=SUCCESS)
    assert await channels(outside) == ("mail:ops", "pagerduty:ops", "slack:ops", "webhook:ops")
    assert outside.asked == [f"{INCIDENT}={incident_label('i')}"] * 2
    assert await channels(outside, "firing") == ("mail:ops",)


async def test_what_a_status_says_beyond_its_log_closes_nothing() -> None:
    """Whoever may write one cannot keep an end from where the incident is open."""
    said = Attempt(ID, "pagerduty:ops", AttemptState.FAILED, failure=REFUSED)
    begun = notification("f", "firing", 60)
    outside = Outside(replace(begun, status=replace(begun.status, attempts=(said,))))
    outside.had("f", pagerduty=None)
    assert await channels(outside) == ("mail:ops", "pagerduty:ops")


async def test_what_an_earlier_end_has_closed_is_closed() -> None:
    """Only what that did not reach is open still; what fired after it counts in full."""
    outside = Outside(
        notification("old", "firing", 90), notification("end", "resolved", 60),
        notification("again", "firing", 30),
    )  # fmt: skip
    outside.had("old", slack=SUCCESS, teams=SUCCESS)
    outside.had("end", slack=SUCCESS, teams=REFUSED)
    outside.had("again", pagerduty=SUCCESS)
    assert await channels(outside) == ("mail:ops", "pagerduty:ops", "teams:ops")


async def test_an_end_goes_to_a_fallback_where_that_was_used() -> None:
    """And where it may still be; the end's own fallback is no fallback then."""
    own = Plan(("mail:ops", "chat:ops"), fallbacks=(Fallback("chat:ops", ("mail:ops",)),))
    cases: dict[str, dict[str, AttemptState | FailureClass | None]] = {
        "not needed": {"pagerduty": SUCCESS, "chat": None},
        "standing by": {"pagerduty": None, "chat": None},
        "soon perhaps": {"pagerduty": FailureClass.TRANSIENT, "chat": None},
        "used": {"pagerduty": REFUSED, "chat": SUCCESS},
    }
    for used, attempts in cases.items():
        outside = Outside(notification("f", "firing", 60))
        outside.had("f", **attempts)
        view = outside.logs["uid-f"]
        stands_by = Fallback("chat:ops", ("pagerduty:ops",))
        view.plan = replace(view.plan or own, fallbacks=(stands_by,))
        plan = await outside.incidents().routed(notification("last", "resolved", 1), own)
        open_at = {"used": ("chat:ops",), "soon perhaps": ("pagerduty:ops", "chat:ops")}
        more = open_at.get(used, ("pagerduty:ops",))
        assert plan.first == ("mail:ops", *more), used
        assert plan.channels == tuple(dict.fromkeys((*plan.first, "chat:ops"))), used
        assert plan.fallbacks == (() if "chat:ops" in more else own.fallbacks), used


@pytest.mark.parametrize("away", [True, False])
async def test_without_a_log_the_routes_say_where_it_went(away: bool) -> None:
    """It has none yet, or Redis is away; a status is not asked."""
    outside = Outside(notification("f", "firing", 60))
    outside.routes["f"] = ("slack:dev",)
    outside.log_away = away
    assert await channels(outside) == ("mail:ops", "slack:dev")
    outside.away = True
    with pytest.raises(Unavailable):
        await channels(outside)


#: Of a notification that is 60 s old and fires: its mates, those with an open attempt, and what is found.
LATE: Final[dict[str, tuple[Sequence[NotificationRequest], str, tuple[str, str]]]] = {
    "it is alone": ((), "", ("", "")),
    "something is newer": (
        (notification("old", "firing", 90), notification("end", "resolved", 30)), "", ("end", ""),
    ),
    "the newest counts": (
        (notification("end", "resolved", 30), notification("new", "firing", 10)), "", ("new", ""),
    ),
    "the same second, told apart by the gateway's time": (
        (notification("end", "resolved", 60, at=6),), "", ("end", ""),
    ),
    "the same second and time": ((notification("a", "resolved", 60, at=5),), "", ("", "")),
    "another incident": ((notification("end", "resolved", 30, incident="x"),), "", ("", "")),
    "an older one is on the wire": (
        (notification("old", "firing", 90, phase="Sending"),), "old",
        ("", "an attempt of old is under way"),
    ),
    "an older one backs off": ((notification("old", "firing", 90, phase="Retrying"),), "", ("", "")),
}  # fmt: skip


def channel(timeout: float = 10, *, keeps_state: str = "") -> Channel:
    """How an attempt is sent."""
    return cast("Channel", SimpleNamespace(timeout_s=timeout, keeps_state=keeps_state))


@pytest.mark.parametrize("case", LATE)
async def test_only_the_newest_is_sent_and_one_at_a_time(case: str) -> None:
    """By all that is about the incident, and what their logs say."""
    mates, on_the_wire, wanted = LATE[case]
    outside = Outside(*mates)
    if on_the_wire:
        outside.had(on_the_wire, pagerduty=OPEN)
    request = notification("f", "firing", 60, at=5)
    assert await outside.incidents().look(request, PAGER, channel()) == wanted


#: Its state, what is newer and whether that goes to the same channel, and what supersedes it.
ELSEWHERE: Final[dict[str, tuple[str, dict[str, tuple[str, bool]], str]]] = {
    "labels drift to another receiver": ("firing", {"new": ("firing", False)}, ""),
    "one of two stays": ("firing", {"one": ("firing", True), "new": ("firing", False)}, "new"),
    "it ended meanwhile": ("firing", {"end": ("resolved", False), "new": ("firing", False)}, "new"),
    "it is an end": ("resolved", {"new": ("firing", False)}, "new"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
@pytest.mark.parametrize("known", ["by its log", "by its routes", "by its fallback"])
async def test_what_is_newer_and_goes_elsewhere_does_not_keep_a_page_back(
    case: str, known: str
) -> None:
    """Nobody else tells that receiver that the incident began."""
    state, newer, wanted = ELSEWHERE[case]
    outside = Outside(*(notification(n, s, 30 - i) for i, (n, (s, _)) in enumerate(newer.items())))
    for name, (_, here) in newer.items():
        if known == "by its routes":
            outside.routes[name] = (PAGER if here else "pagerduty:web",)
            continue
        outside.had(name, teams=SUCCESS, pagerduty=SUCCESS if here else None)
        view = outside.logs[f"uid-{name}"]
        first = ("teams:ops", PAGER) if here and known == "by its log" else ("teams:ops",)
        fallback = Fallback(PAGER, ("teams:ops",))
        view.plan = Plan((*dict.fromkeys((*first, PAGER)),), fallbacks=(fallback,))
        if PAGER in first:
            view.plan = Plan(first)
    found = await outside.incidents().look(notification("f", state, 60), PAGER, channel())
    assert found == (wanted, "")


@pytest.mark.parametrize(
    ("state", "came", "timeout", "waits"),
    [
        ("resolved", UNKNOWN, 10, True), ("resolved", UNKNOWN, 3, False), ("firing", UNKNOWN, 10, False),
        ("resolved", SUCCESS, 10, False), ("resolved", REFUSED, 10, False),
    ],
)  # fmt: skip
async def test_an_end_gives_what_may_be_on_the_wire_its_time(
    state: str, came: AttemptState | FailureClass, timeout: float, *, waits: bool
) -> None:
    """A trigger that was unknown nine seconds ago may still open what was closed; a look takes five."""
    outside = Outside(notification("f", "firing", 60))
    outside.had("f", pagerduty=came)
    last = notification("last", state, 1)
    found = await outside.incidents().look(last, PAGER, channel(timeout))
    assert found == ("", "an attempt of f may still arrive" if waits else "")


async def test_an_end_does_not_wait_for_what_waits_for_a_person() -> None:
    """Whose log keeps an open intent, since nobody may settle it."""
    outside = Outside(notification("f", "firing", 600, phase="Sending"))
    last = notification("last", "resolved", 1)
    for outside.aged, wanted in ((0, "an attempt of f is under way"), (120_000, "")):
        outside.had("f", pagerduty=OPEN)
        assert await outside.incidents().look(last, PAGER, channel()) == ("", wanted)


async def test_without_redis_statuses_say_what_was_tried() -> None:
    """Where attempts are journaled; else it is looked at again once logs can be read."""
    first = notification("f", "firing", 60, phase="Retrying")
    made = Attempt(ID, PAGER, UNKNOWN, ended=NOW - 9_000)
    outside = Outside(replace(first, status=replace(first.status, attempts=(made,))))
    outside.log_away = True
    look = partial(outside.incidents().look, notification("last", "resolved", 1), PAGER)
    wanted = ("", "an attempt of f may still arrive")
    assert await look(channel(), journaled=True) == wanted
    assert await look(channel(3), journaled=True) == ("", "")
    with pytest.raises(Unavailable):
        await look(channel())


async def test_what_was_journaled_may_arrive_once_redis_is_back() -> None:
    """The log gets it later; what no outage explains is none of the log's. Its time is that of a host."""
    first = notification("f", "firing", 60, phase="Sending")
    for outage, age, waits in (
        ("0.7-1", 2_000, True), ("0.7-1", 5_000_000, True), (None, 2_000, False),
    ):  # fmt: skip
        made = Attempt(ID, PAGER, UNKNOWN, ended=NOW - age)
        status = replace(first.status, attempts=(made,), journal=outage)
        outside = Outside(replace(first, status=status))
        found = await outside.incidents().look(
            notification("last", "resolved", 1), PAGER, channel()
        )
        assert found == ("", "an attempt of f may still arrive" if waits else "")


async def test_a_beginning_gives_an_end_its_time_too() -> None:
    """An end that was given up with an unknown result may still close what fires anew."""
    ended = notification("end", "resolved", 60, phase="Failed")
    outside = Outside(replace(ended, status=replace(ended.status, completed_at=NOW - 9_000)))
    outside.had("end", pagerduty=UNKNOWN)
    again = notification("again", "firing", 1)
    wanted = ("", "an attempt of end may still arrive")
    assert await outside.incidents().look(again, PAGER, channel()) == wanted
    assert await outside.incidents().look(again, PAGER, channel(3)) == ("", "")


@pytest.mark.parametrize(
    ("state", "via", "first", "before", "after"),
    [
        ("firing", PAGER, True, False, True), ("firing", PAGER, False, True, True),
        ("resolved", PAGER, True, True, True), ("resolved", "slack:ops", False, False, False),
        ("resolved", "webhook:keeps", True, True, True), ("resolved", "webhook:ops", True, False, False),
    ],
)  # fmt: skip
async def test_who_looks_and_when(
    state: str, via: str, *, first: bool, before: bool, after: bool
) -> None:
    """Whoever is told states looks after the intent, and before it unless it begins something."""
    outside = Outside(notification("new", "firing", 0))
    outside.routes["new"] = (PAGER, "webhook:keeps")
    here, request = outside.incidents(), notification("f", state, 60)
    sent = channel(keeps_state=(via.endswith(":keeps") and "here") or "")
    assert here.may_be_late(request, via, sent, first=first) is before
    found = await here.before_send(request, intent_record(ID, via, at=1, by="p"), sent, ())
    assert found == (Outcome.superseded("new") if after else "")
    asked = intent_record(ID, via, at=1, by="p", order="resend")
    assert await here.before_send(request, asked, sent, ()) == ""
    outside.away = True
    found = await here.before_send(request, intent_record(ID, via, at=1, by="p"), sent, ())
    failed = found.failure if isinstance(found, Outcome) else None
    assert failed is (FailureClass.NOT_SENT if after else None)


async def attempted(
    outside: Outside, made: Callable[[World], None] = lambda _: None, state: str = "resolved"
) -> World:
    """An attempt of a notification that is due on a channel of a receiver with state."""
    world = World()
    shows(world.notification, notification("a", state, 60, phase=""))
    ports = world.controller.attempts.ports
    plan = AsyncMock(return_value=Routed(Plan((PAGER,), "r", "m", 1)))
    object.__setattr__(ports.router, "plan", plan)
    object.__setattr__(ports, "incidents", outside.incidents())
    await world.planned()
    made(world)
    await world.controller.attempts.run("uid-a", PAGER)
    assert await world.controller.notifications.outcomes.drain(5) == 0
    return world


def answered(outside: Outside, name: str, answer: str) -> None:
    """Have a receiver give an id to what it made of one."""
    outside.had(name, pagerduty=SUCCESS)
    view = outside.logs[f"uid-{name}"]
    view.learn(replace(view.of_channel(PAGER)[0], answer=answer))


async def test_what_a_receiver_has_made_is_known_to_the_next_attempt() -> None:
    """By the newest that it gave an id to since the incident began anew."""
    outside = Outside(
        notification("older", "firing", 99), notification("end", "resolved", 95),
        notification("old", "firing", 90), notification("plain", "firing", 80),
    )  # fmt: skip
    answered(outside, "older", "here/a0")
    answered(outside, "end", "here/a9")
    outside.had("plain", pagerduty=SUCCESS)
    incidents = outside.incidents()

    async def known(via: str = "here", *tried: Attempt, journaled: bool = False) -> Outcome | str:
        about, intent = notification("a", "resolved", 60), intent_record(ID, PAGER, at=1, by="p")
        sent = channel(keeps_state=via)
        return await incidents.before_send(about, intent, sent, tried, journaled=journaled)

    assert await known() == ""
    answered(outside, "old", "here/a1")
    assert await known() == "a1"
    assert await known("there") == "", "two receivers have changed places"
    assert await known(journaled=True) == "", "no log has it then"
    gone = Attempt(ID, PAGER, AttemptState.FAILED, failure=FailureClass.TRANSIENT, code=404)
    assert await known("here", replace(gone, code=503)) == "a1"
    for code in (404, 400):
        assert await known("here", replace(gone, code=code)) == "", "what it had made is gone"
    assert await known("here", replace(gone, code=429)) == "a1"
    assert await known("here", replace(gone, failure=FailureClass.PERMANENT)) == "a1"
    seen: list[Message] = []

    def keeps(world: World) -> None:
        send = world.receiver.send
        world.receiver.keeps_state = "here"

        async def sent(message: Message) -> Outcome:
            seen.append(message)
            return replace(await send(message), answer="a2")

        object.__setattr__(world.receiver, "send", sent)

    world = await attempted(outside, keeps, "firing")
    assert [message.answer for message in seen] == ["a1"]
    (attempt,) = world.attempts
    assert attempt.answer == read_attempt(attempt_record(attempt)).answer == "here/a2"


@pytest.mark.parametrize("state", ["firing", "resolved"])
async def test_what_is_superseded_ends_without_a_request(state: str) -> None:
    """By the name of what is newer, on record; whether that is found before the intent or after it."""
    world = await attempted(Outside(notification("end", "resolved", 30)), state=state)
    (attempt,) = world.attempts
    assert world.receiver.sent == 0
    assert (attempt.error, attempt.failure) == ("superseded by end", FailureClass.SUPERSEDED)
    (end,) = world.controller.decisions.channel_states(world.notification)
    assert (end.state, end.attempts) == (State.SUPERSEDED, 1)


async def test_what_is_on_the_wire_is_waited_for() -> None:
    """Nothing is opened, and it is looked at again soon; so it is while nobody knows."""
    outside = Outside(notification("old", "firing", 90, phase="Sending"))
    outside.had("old", pagerduty=OPEN)
    world = await attempted(outside)
    assert (world.receiver.sent, world.attempts) == (0, [])
    assert world.notification.due == {PAGER: 101.0}
    assert world.notification.view.last_skip == {PAGER: "an attempt of old is under way"}
    outside.away = True
    world = await attempted(outside)
    assert (world.receiver.sent, world.attempts) == (0, [])
    outside = Outside(notification("old", "firing", 90))
    world = await attempted(outside)
    assert world.receiver.sent == 1
    assert len(outside.asked) == 4


async def test_what_is_created_between_look_and_intent_supersedes() -> None:
    """Another replica's is found by the second look, and the attempt ends on record."""
    outside = Outside()

    class Late(Outside):
        async def list_page(self, *args: Any, **more: Any) -> Page[NotificationRequest]:
            """There is one more the second time."""
            page = await outside.list_page(*args, **more)
            outside.mates = (notification("new", "firing", 0),)
            return page

    world = await attempted(Late())
    assert (world.receiver.sent, len(world.attempts)) == (0, 1)
    assert world.attempts[0].error == "superseded by new"


@pytest.mark.parametrize("hangs", ["list_page", "read"])
async def test_a_look_that_takes_too_long_sends_nothing(
    hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is newer waits for no longer than that, and then goes."""
    monkeypatch.setattr(incidents, "_LOOK", 0.01)
    outside = Outside(notification("old", "firing", 90))
    monkeypatch.setattr(outside, hangs, lambda *_, **__: asyncio.Event().wait())
    intent = intent_record(ID, PAGER, at=NOW, by="t")
    sent = channel(keeps_state="here")
    outcome = await outside.incidents().before_send(
        notification("f", "firing", 1), intent, sent, ()
    )
    assert isinstance(outcome, Outcome)
    assert outcome.failure is FailureClass.NOT_SENT
    assert outcome.error.endswith("is not known: no answer within 0 s")


async def test_what_is_deleted_during_the_look_is_not_sent() -> None:
    """The look takes a request's time, and everything may have changed."""

    class Slow(Outside):
        async def list_page(self, *args: Any, **more: Any) -> Page[NotificationRequest]:
            """Meanwhile the object goes."""
            worlds[0].notification.gone()
            return await super().list_page(*args, **more)

    worlds: list[World] = []
    world = await attempted(Slow(), worlds.append)
    assert (world.receiver.sent, world.attempts) == (0, [])
