"""Manual resolutions and resend requests: what they append, and what is refused."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from syncer.cli.exits import Refused
from syncer.cli.resend import (
    parse_reason,
    resend_requests,
    resolutions,
    write_records,
)
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import (
    Record,
    attempt_record,
    resend_record,
)
from syncer.model.resource import NotificationRequest
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    NOW,
    PLAN,
    C,
    elements,
    entry,
    failed,
    opened,
    request,
)
from tests.unit.syncer.cli.world import Objects, World


def requested(*records: Record, found: NotificationRequest, **options: Any) -> list[str]:
    """Ids of the records of a resend request."""
    base: dict[str, Any] = {
        "channels": (), "at_most_once": False, "at": NOW, "by": "me", "reason": "w",
    }  # fmt: skip
    made = resend_requests(found, read_log(elements(*records)), **base | options)
    return [s.record.id for s in made]


ENDED = request(entry("failed"), phase="Failed")
SUCCESS = attempt_record(Attempt(A2, C, AttemptState.SUCCESS, ended=NOW))


def test_order_counts_what_was_tried() -> None:
    """The id of a request follows from the attempts made: the same request twice is one."""
    tried = (PLAN, opened(A1), failed(A1, wait=0))
    assert requested(*tried, found=ENDED) == [f"order:{C}:2"]
    assert requested(*tried, found=ENDED, channels=(C,)) == [f"order:{C}:2"]


@pytest.mark.parametrize(
    ("records", "options", "says"),
    [
        (
            (PLAN, opened(A1), failed(A1, wait=0)),
            {"channels": ("x",)},
            "x is not a channel of this",
        ),
        ((PLAN, opened(A2), SUCCESS), {"channels": (C,)}, "nothing is sent after a recorded"),
        ((PLAN, opened(A2), SUCCESS), {}, "no channel has ended without success"),
        ((PLAN, opened(A2)), {"channels": (C,)}, "is Sending: it will be tried without a request"),
    ],
)
def test_order_that_makes_no_sense(
    records: tuple[Record, ...], options: dict[str, Any], says: str
) -> None:
    """An order is refused with the reason, before anything is written."""
    with pytest.raises(Refused, match=says):
        requested(*records, found=ENDED, **options)


def test_order_of_a_channel_with_attempts_left() -> None:
    """What will be tried by itself need not be ordered, unless its object's phase is final."""
    tried = (PLAN, opened(A1), failed(A1))
    with pytest.raises(Refused, match="is Retrying: it will be tried without a request"):
        requested(*tried, found=request(), channels=(C,))
    assert requested(*tried, found=ENDED, channels=(C,)) == [f"order:{C}:2"]


def test_order_without_a_log() -> None:
    """Without its log, or with one made anew, nobody can tell what was delivered: nothing is sent again."""
    with pytest.raises(Refused, match="its log is gone"):
        resend_requests(
            ENDED, read_log([]), channels=(), at_most_once=False, at=NOW, by="me", reason="w"
        )  # fmt: skip
    last = Attempt(A2, C, AttemptState.FAILED, ended=NOW, failure=FailureClass.TRANSIENT)
    more = replace(ENDED, status=replace(ENDED.status, attempts=(last,)))
    with pytest.raises(Refused, match="its log is gone"):
        requested(opened(A1), failed(A1), found=more)
    assert requested(PLAN, opened(A1), failed(A1), found=more) == [f"order:{C}:2"]


def resolved(*records: Record, **options: Any) -> list[str]:
    """Texts of manual resolutions."""
    base: dict[str, Any] = {
        "attempt": "", "channel": "", "delivered": True, "even_open": False, "at": NOW,
        "by": "me", "reason": "w",
    }  # fmt: skip
    return [s.text for s in resolutions(read_log(elements(*records)), **base | options)]


def unknown(attempt: AttemptId) -> Record:
    """An unknown result."""
    return attempt_record(
        Attempt(attempt, C, AttemptState.UNKNOWN, ended=NOW, failure=FailureClass.UNCERTAIN)
    )


def test_verdict_is_on_what_is_not_known() -> None:
    """The only unknown result is meant, of several one is asked for; open ones only if that is said."""
    log = (PLAN, opened(A1), unknown(A1), opened(A2))
    assert resolved(*log) == [f"attempt {A1} on {C}: unknown -> success"]
    with pytest.raises(Refused) as asked:
        resolved(*log, delivered=False, even_open=True)
    assert "2 attempts have an unknown result: which one?" in str(asked.value)
    assert f"--attempt {A2}  on {C}, 2027-01-15T07:59:10" in str(asked.value)
    assert resolved(*log, attempt="all", delivered=False, even_open=True) == [
        f"attempt {A1} on {C}: unknown -> failed", f"attempt {A2} on {C}: intent -> failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("records", "options", "says"),
    [
        (
            (PLAN, opened(A1), failed(A1)),
            {},
            f"nothing of it is unknown now; channels with attempts: {C}",
        ),
        ((PLAN, opened(A1), unknown(A1)), {"attempt": "0.7-9"}, "has no attempt 0.7-9"),
        (
            (PLAN, opened(A1), unknown(A1)),
            {"channel": "x"},
            f"nothing on x is unknown now; channels with attempts: {C}",
        ),
        ((PLAN,), {"channel": "x"}, "channels with attempts: none"),
        ((PLAN, opened(A1)), {"attempt": A1}, "is open: its owner records"),
        ((PLAN, opened(A2), SUCCESS), {"attempt": A2, "delivered": False}, "which stands"),
        ((PLAN, opened(A1), failed(A1)), {"attempt": A1, "delivered": False}, "which stands"),
    ],
)
def test_verdict_that_makes_no_sense(
    records: tuple[Record, ...], options: dict[str, Any], says: str
) -> None:
    """A resolution never lowers what is known, and never guesses what is under way."""
    with pytest.raises(Refused, match=says):
        resolved(*records, **options)


def test_verdicts_that_contradict_each_other_have_ids_of_their_own() -> None:
    """Two who look at the same log and disagree do not take each other's word for their own."""
    log = read_log(elements(PLAN, opened(A1), unknown(A1)))
    ids = {
        said.record.id
        for delivered in (True, False)
        for said in resolutions(
            log, attempt=A1, channel="", delivered=delivered, even_open=False, at=NOW, by="me",
            reason="w",
        )
    }  # fmt: skip
    assert ids == {f"resolve:{A1}:success", f"resolve:{A1}:failed"}


def test_reason_is_required_and_bounded() -> None:
    """A reason is one line that says something."""
    assert parse_reason(" a\nb ") == "a b"
    for text in ("", "  ", "x" * 257):
        with pytest.raises(Refused, match="--reason"):
            parse_reason(text)


@pytest.mark.parametrize("text", ["x" * 256, "é" * 128])
def test_the_longest_reason(text: str) -> None:
    """256 bytes are one, a byte more is refused with the number."""
    assert parse_reason(text) == text
    with pytest.raises(Refused) as caught:
        parse_reason(text + "x")
    assert str(caught.value) == "--reason must not be longer than 256 bytes"


def test_nothing_is_recorded_in_a_log_that_cannot_be_read() -> None:
    """Neither a resolution nor a request: what is behind the damage is not known."""
    log = read_log((*elements(PLAN, opened(A1), failed(A1, wait=0)), b"damage"))
    common: dict[str, Any] = {"at": NOW, "by": "me", "reason": "w"}
    asks: list[Callable[[], object]] = [
        lambda: resend_requests(ENDED, log, channels=(), at_most_once=False, **common),
        lambda: resolutions(log, attempt=A1, channel="", delivered=True, even_open=True, **common),
    ]
    for ask in asks:
        with pytest.raises(
            Refused, match=r"^the log cannot be read \(record 4.*\); repair it first$"
        ):
            ask()


def test_a_request_that_waits_is_not_made_again() -> None:
    """Neither by name nor among all; what it says names the attempts made."""
    tried = (PLAN, opened(A1), failed(A1, wait=0))
    order = resend_record(f"order:{C}:2", C, at=NOW, by="me", why="w")
    with pytest.raises(Refused, match=f"^one more attempt of {C} has already been requested$"):
        requested(*tried, order, found=ENDED, channels=(C,))
    with pytest.raises(Refused, match=r"^no channel has ended without success$"):
        requested(*tried, order, found=ENDED)
    (made,) = resend_requests(
        ENDED, read_log(elements(*tried)), channels=(), at_most_once=False, at=NOW, by="me",
        reason="w",
    )  # fmt: skip
    assert made.text == f"{C}: one more attempt, after 1"
    assert made.record == resend_record(f"order:{C}:2", C, at=NOW, by="me", why="w")
    with pytest.raises(
        Refused, match=r"^x is not a channel of this notification; its channels are none$"
    ):
        requested(found=request(phase="Failed"), channels=("x",))


# -- appending ------------------------------------------------------------------------------------


UNKNOWN_LOG = (PLAN, opened(A1), unknown(A1))


async def written(world: World, *records: Record, delivered: bool = True, **options: bool) -> int:
    """Resolve the attempt of a log as it was read, and write the results; the exit code."""
    made = resolutions(
        read_log(elements(*records)), attempt=A1, channel="", delivered=delivered,
        even_open=False, at=NOW, by="me", reason="w",
    )  # fmt: skip
    chosen = argparse.Namespace(**{"dry_run": False, "json": False, **options})
    return await write_records(world.at, request(), made, chosen, by="me")


async def test_a_record_is_appended_once_and_its_owner_woken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second time it is found to be there; a dry run only says what it would do."""
    world, text = World(Objects()), f"attempt {A1} on {C}: unknown -> success"
    world.put("u", elements(*UNKNOWN_LOG))
    assert await written(world, *UNKNOWN_LOG, dry_run=True) == 0
    assert capsys.readouterr().out == f"would record: {text}\n"
    assert world.redis.published == []
    assert len(world.redis.twin.logs["nl:{u}"]) == 4
    for word in ("recorded", "recorded before"):
        assert await written(world, *UNKNOWN_LOG) == 0
        assert capsys.readouterr().out == f"{word}: {text}\n"
    assert len(world.redis.twin.logs["nl:{u}"]) == 5
    assert world.redis.published == [("nl:poke", b"u")] * 2


async def test_what_is_known_by_now_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that has moved on keeps what it says; the answer names that, with a code of its own."""
    world = World(Objects())
    sent = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW))
    world.put("u", elements(*UNKNOWN_LOG, sent))
    assert await written(world, *UNKNOWN_LOG, delivered=False) == 1
    assert capsys.readouterr().out == (
        f"not recorded: attempt {A1} on {C}: unknown -> failed; by now it is success, which stands\n"
    )
    assert await written(world, *UNKNOWN_LOG, delivered=False, json=True) == 1
    assert json.loads(capsys.readouterr().out)["stands"] == "success"


async def test_a_log_that_has_gone_takes_no_record() -> None:
    """What would help is named, and nobody is woken."""
    world = World(Objects())
    with pytest.raises(
        Refused, match=r"^its log is gone; `syncer verify --repair` restores it from the status$"
    ):
        await written(world, *UNKNOWN_LOG)
    assert world.redis.published == []


@pytest.mark.parametrize("dry_run", [False, True])
async def test_results_as_json(dry_run: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys are an interface; a dry run has appended nothing."""
    world = World(Objects())
    world.put("u", elements(*UNKNOWN_LOG))
    await written(world, *UNKNOWN_LOG, json=True, dry_run=dry_run)
    assert json.loads(capsys.readouterr().out) == {
        "uid": "u", "object": "ns/n", "record": f"resolve:{A1}:success",
        "kind": "resolve.success", "channel": C, "by": "me",
        "what": f"attempt {A1} on {C}: unknown -> success", "appended": not dry_run,
        "stands": None, "dryRun": dry_run,
    }  # fmt: skip
