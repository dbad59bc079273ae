"""What a status is worth that others may have written: a table of cases, and what holds for all of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import Fallback, Plan
from syncer.model.resource import (
    NO_STATUS,
    ChannelRollup,
    ChannelStatus,
    NotificationRequest,
    RetryPolicy,
    Rollup,
    Status,
)
from syncer.rules.evidence import (
    LATE_WRITE,
    Circumstances,
    Ground,
    Verdict,
    beyond,
    judge,
    known_part,
)
from syncer.rules.fold import LogView
from syncer.rules.journal import BORN_MARGIN

DAY: Final = 86_400_000
#: When the installation was founded, and the store was last another one.
FOUNDED, CHANGED = 100 * DAY, 110 * DAY
NOW: Final = 113 * DAY
FRESH: Final = 112 * DAY
ABOUT: Final = Circumstances(adopted_before=FOUNDED, since=CHANGED, lost=CHANGED, now=NOW)
_, UNKNOWN, FAILED, SUCCESS = AttemptState
AGREES, BELIEVED, DISREGARDED, DOUBTED = Verdict


def attempt(n: int, state: AttemptState = FAILED, channel: str = "a") -> Attempt:
    """An attempt of ours."""
    failure = FailureClass.TRANSIENT if state is FAILED else None
    return Attempt(AttemptId(f"0.7-{n}"), channel, state, ended=FRESH + n, failure=failure)


def view(*attempts: Attempt, channels: tuple[str, ...] = ("a",), **more: Any) -> LogView:
    """A log that holds a plan and these."""
    known = {a.id: a for a in attempts}
    more = {"whole": True, "position": 1 + len(known), **more}
    return LogView(plan=Plan(channels), attempts=known, **more)


def status(phase: str, *attempts: Attempt, **more: Any) -> Status:
    """A status that shows these."""
    return Status(phase=phase, attempts=attempts, total_attempts=len(attempts), **more)


def shown(said: Status, created: int = FRESH) -> NotificationRequest:
    """An object with that status, which allows three attempts."""
    policy = RetryPolicy(max_attempts=3)
    return NotificationRequest("u", "ns", "n", "5", created=created, policy=policy, status=said)


def lost_plan(*attempts: Attempt) -> LogView:
    """A log made anew for a person's request for a fallback, all of whose attempts it had before."""
    ids = frozenset(a.id for a in attempts if a.channel == "b")
    return replace(view(*attempts, orders={"b": ids}), plan=None)


def asked(*attempts: Attempt) -> LogView:
    """A log of a channel and its fallback, which a person has asked for."""
    log = view(*attempts, channels=("a", "b"), orders={"b": frozenset(a.id for a in attempts)})
    log.plan = Plan(("a", "b"), fallbacks=(Fallback("b", ("a",)),))
    return log


NO_LOG: Final = LogView()
OVERTAKEN: Final = replace(attempt(2, channel="b"), failure=FailureClass.SUPERSEDED)
FAILS: Final = (attempt(1), attempt(2), attempt(3))
#: A channel that arrived, after its fallback had been tried.
USED: Final = (attempt(1, SUCCESS), attempt(2, channel="b"))
UNSENT: Final = replace(attempt(3), failure=FailureClass.NOT_SENT)
ENDED: Final = (*FAILS[:2], UNSENT)
CHANNELS: Final = (ChannelStatus("b", "Delivered"),)
DELIVERED: Final = ChannelStatus("a", "Delivered")
FOLDED: Final = Rollup(3, (ChannelRollup("a", 3, AttemptId("0.7-3"), 3),))

# Name: status, log, what else, created, verdict.
CASES: dict[str, tuple[Status, LogView, dict[str, Any], int, Verdict]] = {
    "nothing said of a new one": (NO_STATUS, NO_LOG, {}, FRESH, AGREES),
    "a phase under way, and channels, decide nothing": (
        status("Sending", channels=CHANNELS), NO_LOG, {}, FRESH, AGREES,
    ),
    "a final phase of what was never handled": (status("Sent"), NO_LOG, {}, FRESH, DISREGARDED),
    "a success of what was never handled": (
        status("Sent", attempt(1, SUCCESS), channels=CHANNELS), NO_LOG, {}, FRESH, DISREGARDED,
    ),
    "failures of what was never handled": (status("Sending", *FAILS), NO_LOG, {}, FRESH, DISREGARDED),
    "folded attempts of what was never handled": (
        status("Sending", rollup=FOLDED), NO_LOG, {}, FRESH, DISREGARDED,
    ),
    "what the store may have lost": (
        status("Sending", attempt(1)), NO_LOG, {}, CHANGED - DAY, BELIEVED,
    ),
    "delivered without its fallback, and the store may have lost that": (
        status("Sent", attempt(1, SUCCESS), channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        NO_LOG, {}, CHANGED - DAY, BELIEVED,
    ),
    "delivered, a fallback was requested, and the store may have lost that": (
        status("Sent", attempt(1, SUCCESS), channels=(DELIVERED, ChannelStatus("b", "Pending"))),
        NO_LOG, {}, CHANGED - DAY, BELIEVED,
    ),
    "delivered, a requested fallback has failed, and its outcome made a log anew": (
        status("Sent", attempt(1, SUCCESS), channels=(DELIVERED, ChannelStatus("b", "Sending"))),
        replace(view(attempt(2, channel="b"), whole=False), plan=None), {}, CHANGED - DAY, BELIEVED,
    ),
    "a final phase that no loss explains": (status("Sent"), NO_LOG, {}, CHANGED - DAY, DOUBTED),
    "a former owner's last write, stored after log and status were compared": (
        status("Sending", attempt(1)), NO_LOG, {"compared": CHANGED + LATE_WRITE - 1}, CHANGED - DAY,
        BELIEVED,
    ),
    "a forgery once no write of a former owner can be stored any more": (
        status("Sending", attempt(1)), NO_LOG, {"compared": CHANGED + LATE_WRITE}, CHANGED - DAY, DOUBTED,
    ),
    "a forgery soon after a loss, of what is younger": (
        status("Sending", attempt(1)), view(), {"compared": CHANGED + 1}, CHANGED + BORN_MARGIN + 1,
        DOUBTED,
    ),
    "too close to a change of the store, and compared since": (
        status("Sent"), NO_LOG, {"compared": NOW}, CHANGED + BORN_MARGIN, DOUBTED,
    ),
    "the store is not known": (
        status("Sending", attempt(1)), NO_LOG, {"since": math.inf, "lost": 0}, FRESH, DOUBTED,
    ),
    "nothing was noted of the store before": (
        status("Sending", attempt(1)), NO_LOG, {"lost": 0}, CHANGED - DAY, DOUBTED,
    ),
    "another controller's": (status("Sent"), NO_LOG, {}, FOUNDED - 1, BELIEVED),
    "another controller's, beside a log of ours": (
        status("Retrying", attempt(1), attempt(2, SUCCESS)), view(attempt(1)), {}, FOUNDED - 1, BELIEVED,
    ),
    "another controller's, finished with attempts that a log of ours lacks": (
        status("Failed", *ENDED, attempt(4)), view(*ENDED), {}, FOUNDED - 1, BELIEVED,
    ),
    "another controller's, ended as it counts what was not sent": (
        status("Failed", *ENDED), view(*ENDED), {"lost": 0}, FOUNDED - 1, AGREES,
    ),
    "another controller's, called sent, and a log of ours has a channel that was never tried": (
        status("Sent"), view(attempt(1, SUCCESS), channels=("a", "b")), {}, FOUNDED - 1, DOUBTED,
    ),
    "another controller's, called sent, and its log was made anew": (
        status("Sent"), view(attempt(1, SUCCESS), channels=("a", "b"), whole=False), {}, FOUNDED - 1,
        BELIEVED,
    ),
    "journaled in an outage": (
        status("Sending", attempt(1), journal="0.7-1"), NO_LOG, {"marked": True}, FRESH, BELIEVED,
    ),
    "journaled to its end, and a resend was requested of the empty log": (
        status("Failed", *FAILS, journal="0.7-1"),
        LogView(position=1, orders={"a": frozenset()}), {"marked": True}, FRESH, BELIEVED,
    ),
    "not journaled, in an outage": (
        status("Sending", attempt(1)), NO_LOG, {"marked": True}, FRESH, DOUBTED,
    ),
    "journaled, and no outage is known": (
        status("Sending", attempt(1), journal="0.7-1"), NO_LOG, {}, FRESH, DISREGARDED,
    ),
    "finished, and its log has expired": (
        status("Sent", attempt(1, SUCCESS)), NO_LOG, {"now": FRESH + 8 * DAY}, FRESH, AGREES,
    ),
    "journaled and finished, and its log is gone": (
        status("Failed", journal="0.7-1"), NO_LOG, {"now": FRESH + 8 * DAY}, FRESH, DOUBTED,
    ),
    "finished, and its log was made anew after its time": (
        status("Sent", attempt(1), attempt(2, SUCCESS)), view(attempt(1), whole=False),
        {"now": FRESH + 8 * DAY}, FRESH, AGREES,
    ),
    "finished, and of its log made anew a former owner remembers the plan alone": (
        status("Sent", attempt(1, SUCCESS)), view(whole=None), {"now": FRESH + 8 * DAY}, FRESH, AGREES,
    ),
    "called finished, and a log that holds its beginning says less": (
        status("Sent", attempt(1), attempt(2, SUCCESS)), view(attempt(1)),
        {"now": FRESH + 8 * DAY}, FRESH, DOUBTED,
    ),
    "called finished before its time, and its log was made anew": (
        status("Sent", attempt(1), attempt(2, SUCCESS)), view(attempt(1), whole=False), {}, FRESH, DOUBTED,
    ),
    "not finished after all that time, and its log was made anew": (
        status("Retrying", attempt(1), attempt(2, SUCCESS)), view(attempt(1), whole=False),
        {"now": FRESH + 8 * DAY}, FRESH, DOUBTED,
    ),
    "called finished, and too old to be new": (
        status("Failed"), NO_LOG, {"now": FRESH + 8 * DAY}, FRESH, AGREES,
    ),
    "log and status agree": (status("Sending", attempt(1)), view(attempt(1)), {}, FRESH, AGREES),
    "a finished one": (status("Failed", *FAILS), view(*FAILS), {}, FRESH, AGREES),
    "ended by what was unknown, and was not sent as its former owner said late": (
        status("Failed", *ENDED), view(*ENDED, doubted=frozenset({UNSENT.id})), {}, FRESH, AGREES,
    ),
    "called ended by what was not sent": (status("Failed", *ENDED), view(*ENDED), {}, FRESH, DOUBTED),
    "at most once, ended by what was unknown and failed": (
        status("Failed", attempt(1)), view(attempt(1), doubted=frozenset({attempt(1).id})),
        {"at_most_once": True}, FRESH, AGREES,
    ),
    "at most once, ended by what was unknown and a person calls failed": (
        status("Failed", attempt(1)), view(attempt(1), resolved=frozenset({attempt(1).id})),
        {"at_most_once": True}, FRESH, AGREES,
    ),
    "called failed, and what a person calls failed would be tried again": (
        status("Failed", attempt(1)), view(attempt(1), resolved=frozenset({attempt(1).id})), {}, FRESH,
        DOUBTED,
    ),
    "ended by what was journaled, and was not sent as the log alone was told": (
        status("Failed", *ENDED[:2], attempt(3, UNKNOWN), journal="0.7-1"), view(*ENDED),
        {"marked": True}, FRESH, AGREES,
    ),
    "ended by what was not sent, and the store has lost what it was before": (
        status("Failed", *ENDED), view(*ENDED), {"compared": NOW}, CHANGED - DAY, AGREES,
    ),
    "delivered after its end, and the store has lost the request for that": (
        status("Failed", *FAILS), view(*FAILS, attempt(4, SUCCESS)), {"compared": NOW}, CHANGED - DAY,
        AGREES,
    ),
    "finished, without a channel": (status("Failed"), view(channels=()), {}, FRESH, AGREES),
    "a log behind its status": (
        status("Retrying", attempt(1, SUCCESS)), view(channels=("a", "b")), {}, FRESH, DOUBTED,
    ),
    "a final phase after one failure": (status("Failed", attempt(1)), view(attempt(1)), {}, FRESH, DOUBTED),
    "delivered in part, and called sent": (
        status("Sent", attempt(1, SUCCESS)), view(attempt(1, SUCCESS), channels=("a", "b")), {}, FRESH,
        DOUBTED,
    ),
    "sent in part, and nothing is": (status("PartiallySent", *FAILS), view(*FAILS), {}, FRESH, DOUBTED),
    "more folded than the log holds": (
        status("Sending", rollup=FOLDED), view(attempt(1)), {}, FRESH, DOUBTED,
    ),
    "folded as the log holds them": (
        status("Sending", rollup=replace(FOLDED)), view(*FAILS), {}, FRESH, AGREES,
    ),
    "folded, and what the log held is lost": (
        status("Sending", rollup=FOLDED), view(), {"compared": NOW}, CHANGED - DAY, AGREES,
    ),
    "sent, and a fallback that was not needed is asked for": (
        status("Sent", attempt(1, SUCCESS)), asked(attempt(1, SUCCESS)), {}, FRESH,
        AGREES,
    ),
    "sent, its plan is lost, and a fallback that was not needed is asked for": (
        status("Sent", attempt(1, SUCCESS), channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        lost_plan(attempt(1, SUCCESS), attempt(2, channel="b")), {}, FRESH, AGREES,
    ),
    "sent, its plan is lost, and a fallback that was not needed has failed": (
        status("Sent", attempt(1, SUCCESS), channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        replace(lost_plan(attempt(1, SUCCESS), attempt(2, channel="b")), orders={}), {}, FRESH, DOUBTED,
    ),
    "sent, and a log made anew has got a fallback that failed before the others arrived": (
        status("Sent", *USED, channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        replace(view(*USED, whole=False), plan=None), {}, FRESH, AGREES,
    ),
    "called sent, and a log made anew has an attempt of a fallback that the status lacks": (
        status("Sent", USED[0], channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        replace(view(*USED, whole=False), plan=None), {}, FRESH, DOUBTED,
    ),
    "called sent, and a log that holds its beginning has what is called a fallback": (
        status("Sent", *USED, channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        replace(view(*USED), plan=None), {}, FRESH, DOUBTED,
    ),
    "called sent, and the plan of a log made anew knows no fallback": (
        status("Sent", *USED, channels=(DELIVERED, ChannelStatus("b", "NotNeeded"))),
        view(*USED, channels=("a", "b"), whole=False), {}, FRESH, DOUBTED,
    ),
    "sent, and what was superseded is asked for": (
        status("Sent", attempt(1, SUCCESS), OVERTAKEN),
        asked(attempt(1, SUCCESS), OVERTAKEN), {}, FRESH, AGREES,
    ),
    "accepted by a person": (status("Sent"), view(accepted="Sent"), {}, FRESH, AGREES),
    "another phase was accepted": (status("Sent"), view(accepted="Failed"), {}, FRESH, DOUBTED),
    "called failed, and delivered": (status("Failed"), view(attempt(1, SUCCESS)), {}, FRESH, DOUBTED),
    "failed, and delivered late": (
        status("Failed", *FAILS), view(*FAILS[:2], attempt(3, SUCCESS)), {}, FRESH, AGREES,
    ),
    "a resend was requested": (
        status("Sent"), view(attempt(1), orders={"a": frozenset({AttemptId("0.7-1")})}), {}, FRESH,
        DISREGARDED,
    ),
    "called failed and never tried, and a resend was requested": (
        status("Failed"), view(orders={"a": frozenset()}), {}, FRESH, DISREGARDED,
    ),
    "a resend after the end is under way": (
        status("Failed", *FAILS),
        view(
            *FAILS, attempt(4, AttemptState.INTENT), orders={"a": frozenset(a.id for a in FAILS)}
        ), {}, FRESH, AGREES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    """Each is judged, and says why."""
    said, log, changed, created, wanted = CASES[name]
    judged = judge(shown(said, created), log, replace(ABOUT, **changed))
    assert judged.verdict is wanted, judged
    assert judged.reason
    assert (judged.ground is not None) is (wanted is BELIEVED)


def test_laws() -> None:
    """Over all combinations: what is believed has a ground, and what is doubted or false opens no log."""
    statuses = [case[0] for case in CASES.values()]
    logs = [NO_LOG, view(), view(attempt(1)), view(*FAILS), view(attempt(1, SUCCESS))]
    times = [
        FOUNDED - DAY,
        FOUNDED + DAY,
        CHANGED,
        CHANGED + BORN_MARGIN,
        CHANGED + BORN_MARGIN + 1,
        FRESH,
    ]
    seen: set[tuple[Verdict, bool]] = set()
    for said, log, created, marked, compared, protected in product(
        statuses, logs, times, (False, True), (0, CHANGED, CHANGED + LATE_WRITE, NOW), (False, True)
    ):
        about = replace(ABOUT, marked=marked, compared=compared, protected=protected)
        request = shown(said, created)
        judged, says = judge(request, log, about), beyond(request, log, about)
        if protected:
            assert judged.ground is Ground.POLICY
            continue
        assert judge(request, log, about, alone=True).verdict is (DISREGARDED if says else AGREES)
        seen.add((judged.verdict, log.position > 0))
        complete = about.complete(created, 7)
        if judged.verdict is BELIEVED:
            assert not complete
            assert judged.ground is not None
            assert created < FOUNDED or (marked and said.journal) or (
                created <= CHANGED + BORN_MARGIN and compared < CHANGED + LATE_WRITE
            )  # fmt: skip
        elif judged.verdict is DISREGARDED:
            assert complete
            assert not log.position
        elif judged.verdict is DOUBTED:
            assert says
            assert log.position or not complete
        elif says:
            assert said.terminal
            assert not complete
            assert not (log.position and log.whole)
        if not says:
            assert judged.verdict is AGREES
            assert {a.id for a in said.attempts} <= log.attempts.keys()
    assert len(seen) == 7, "a log makes that a status is not disregarded; all else was met"


def test_without_what_the_log_lacks() -> None:
    """What is used to give attempts their order brings none along."""
    said = status("Sending", attempt(1), attempt(2), nameless=frozenset({AttemptId("0.7-2")}))
    part = known_part(said, view(attempt(1)))
    assert [a.id for a in part.attempts] == ["0.7-1"]
    assert not part.nameless
