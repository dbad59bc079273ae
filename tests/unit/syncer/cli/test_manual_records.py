"""Manual resolutions and resend requests: what they append, and what is refused."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
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
from syncer.model.attempt import Attempt, AttemptState, FailureClass
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

SUCCESS = attempt_record(Attempt(A2, C, AttemptState.SUCCESS, ended=NOW))
UNKNOWN = attempt_record(
    Attempt(A1, C, AttemptState.UNKNOWN, ended=NOW, failure=FailureClass.UNCERTAIN)
)
ENDED = request(entry("failed"), phase="Failed")
#: Its status shows an attempt more than a log that was made anew.
AHEAD = replace(ENDED, status=replace(ENDED.status, attempts=(
    Attempt(A2, C, AttemptState.FAILED, ended=NOW, failure=FailureClass.TRANSIENT),
)))  # fmt: skip
TRIED, REFUSED = (PLAN, opened(A1), failed(A1)), (PLAN, opened(A1), failed(A1, wait=0))
ORDER = resend_record(f"order:{C}:2", C, at=NOW, by="me", why="w")
DAMAGED = r"^the log cannot be read \(record 4.*\); repair it first$"
#: A log, the object, the channels that are named; and what is refused, empty where one more attempt is
#: requested: its id follows from the attempts made, so that the same request twice is one.
ORDERS: dict[str, tuple[tuple[Record, ...], NotificationRequest, tuple[str, ...], str]] = {
    "what has failed": (REFUSED, ENDED, (), ""),
    "its channel, by name": (REFUSED, ENDED, (C,), ""),
    "another channel": (REFUSED, ENDED, ("x",), f"^x is not a channel of .*; its channels are {C}$"),
    "a channel where there are none": (
        (), request(phase="Failed"), ("x",),
        "^x is not a channel of this notification; its channels are none$",
    ),
    "what was delivered, by name": (
        (PLAN, opened(A2), SUCCESS), ENDED, (C,), "nothing is sent after a recorded",
    ),
    "what was delivered": ((PLAN, opened(A2), SUCCESS), ENDED, (), "no channel has ended without success"),
    "what is under way": (
        (PLAN, opened(A2)), ENDED, (C,), "is Sending: it will be tried without a request",
    ),
    "what has attempts left": (
        TRIED, request(), (C,), "is Retrying: it will be tried without a request",
    ),
    "what would have attempts left, if its phase were not final": (TRIED, ENDED, (C,), ""),
    "a log that was made anew": ((opened(A1), failed(A1)), AHEAD, (), "its log is gone"),
    "a log with its plan": (TRIED, AHEAD, (), ""),
    "a request that waits, by name": (
        (*REFUSED, ORDER), ENDED, (C,), f"^one more attempt of {C} has already been requested$",
    ),
    "a request that waits": ((*REFUSED, ORDER), ENDED, (), "^no channel has ended without success$"),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS)
def test_one_more_attempt_is_requested(case: str) -> None:
    """What makes no sense, or could send twice, is refused with the reason before anything is written."""
    records, found, channels, refusal = ORDERS[case]
    made = partial(
        resend_requests, found, channels=channels, at_most_once=False, at=NOW, by="me", reason="w"
    )
    if refusal:
        with pytest.raises(Refused, match=refusal):
            made(read_log(elements(*records)))
    else:
        (request,) = made(read_log(elements(*records)))
        assert (request.text, request.record) == (f"{C}: one more attempt, after 1", ORDER)
    for log, why in (([], "its log is gone"), ([*elements(*REFUSED), b"damage"], DAMAGED)):
        with pytest.raises(Refused, match=why):
            made(read_log(log))


BOTH = (PLAN, opened(A1), UNKNOWN, opened(A2))
#: A log, what is asked for, and the results that are recorded, or why none is.
VERDICTS: dict[str, tuple[tuple[Record, ...], dict[str, Any], list[str] | str]] = {
    "the only unknown result": (BOTH, {}, [f"attempt {A1} on {C}: unknown -> success"]),
    "one of two": (
        BOTH, {"delivered": False, "even_open": True}, "2 attempts have an unknown result: which one",
    ),
    "two, of which one is open": (
        BOTH, {"delivered": False, "even_open": True},
        f"--attempt {A2}  on {C}, 2027-01-15T07:59:10",
    ),
    "all": (
        BOTH, {"attempt": "all", "delivered": False, "even_open": True},
        [f"attempt {A1} on {C}: unknown -> failed", f"attempt {A2} on {C}: intent -> failed"],
    ),
    "nothing is unknown": (
        TRIED, {},
        f"no attempt of this notification has an unknown result; channels with attempts: {C}",
    ),
    "an attempt that it does not have": (BOTH, {"attempt": "0.7-9"}, "has no attempt 0.7-9"),
    "a channel that it does not have": (
        BOTH, {"channel": ("x",)}, f"no attempt on x has an unknown result; channels with attempts: {C}",
    ),
    "a channel without attempts": ((PLAN,), {"channel": ("x",)}, "channels with attempts: none"),
    "what is open": ((PLAN, opened(A1)), {"attempt": A1}, "is open: its owner will record"),
    "a success": ((PLAN, opened(A2), SUCCESS), {"attempt": A2, "delivered": False}, "which stands"),
    "a failure": (TRIED, {"attempt": A1, "delivered": False}, "which stands"),
}  # fmt: skip


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict_is_on_what_is_not_known(case: str) -> None:
    """A resolution never lowers what is known, and guesses neither what is meant nor what is under way."""
    records, given, wanted = VERDICTS[case]
    options: dict[str, Any] = {
        "attempt": "", "channel": (), "delivered": True, "even_open": False, "at": NOW,
        "by": "me", "reason": "w", **given,
    }  # fmt: skip
    if isinstance(wanted, list):
        made = resolutions(read_log(elements(*records)), **options)
        assert [s.text for s in made] == wanted
        # Two who disagree do not take each other's word for their own.
        verdict = "success" if options["delivered"] else "failed"
        assert made[0].record.id == f"resolve:{A1}:{verdict}"
    else:
        with pytest.raises(Refused, match=wanted):
            resolutions(read_log(elements(*records)), **options)
    with pytest.raises(Refused, match=DAMAGED):
        resolutions(read_log([*elements(*REFUSED), b"damage"]), **options)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", "must not be empty"), ("  ", "must not be empty"),
        ("x" * 257, "must not be longer than 256 bytes"), ("é" * 128 + "x", "must not be longer than 256"),
        ("x" * 256, ""), ("é" * 128, ""), (" a\nb ", ""),
    ],
)  # fmt: skip
def test_reason_is_required_and_bounded(text: str, refusal: str) -> None:
    """A reason is one line that says something, of 256 bytes at most."""
    if refusal:
        with pytest.raises(Refused, match=f"^--reason {refusal}"):
            parse_reason(text)
    else:
        assert parse_reason(text) == " ".join(text.split())


# -- appending ------------------------------------------------------------------------------------


UNKNOWN_LOG = (PLAN, opened(A1), UNKNOWN)


async def written(world: World, *records: Record, delivered: bool = True, **options: bool) -> int:
    """Resolve the attempt of a log as it was read, and write the results; the exit code."""
    made = resolutions(
        read_log(elements(*records)), attempt=A1, channel=(), delivered=delivered,
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
        Refused,
        match=r"^its log is gone, or was recreated .*; run `syncer verify --repair`, .* and ask again$",
    ):
        await written(world, *UNKNOWN_LOG)
    assert world.redis.published == []


async def test_a_log_made_anew_since_it_was_read_takes_no_resend_request() -> None:
    """It may lack deliveries, which would be made once more."""
    world = World(Objects())
    (made,) = resend_requests(
        ENDED,
        read_log(elements(*REFUSED)),
        channels=(),
        at_most_once=False,
        at=NOW,
        by="me",
        reason="w",
    )
    world.put("u", elements(*TRIED))
    options = argparse.Namespace(dry_run=False, json=False)
    with pytest.raises(Refused, match=r"^its log is gone"):
        await write_records(world.at, request(), (made,), options, by="me")
    world.put("u", elements(*REFUSED))
    assert await write_records(world.at, request(), (made,), options, by="me") == 0


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
