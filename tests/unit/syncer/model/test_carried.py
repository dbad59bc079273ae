"""What the condition carries: its form on the wire, and what counts as none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from syncer.model.carried import TYPE, expand, fold, journaled
from syncer.model.rendering import render_status
from syncer.model.resource import parse_status
from tests.unit.syncer.model.documents import FULL

MESSAGE = (
    '{"v":1,"names":["a","b","c"],"epochs":["0.7","0.6"],'
    '"attempts":[[0,1,1700000000,0,1,0,1,200],[1,1,0,0,2,1,3,503],[2,4,0,0,3,-4,3]],'
    '"channels":[[0,"Delivered",1,0],[1,"Retrying",1,1700000000009]],'
    '"rollup":[3,[2,3,1,9,3,1]],"journal":"0.7-1","log":[9,"0.7","ff"]}'
)


def message_in(status: dict[str, Any]) -> str:
    """What the condition says."""
    (condition,) = (c for c in status["conditions"] if c["type"] == TYPE)
    return str(condition["message"])


def saying(message: str) -> dict[str, Any]:
    """A written status of which the condition says something else."""
    written = render_status(replace(FULL, journal="0.7-1"))
    written["conditions"][-1]["message"] = message
    return written


def test_the_message_on_the_wire() -> None:
    """Any version reads the one before: its form is laid down here."""
    written = render_status(replace(FULL, journal="0.7-1"))
    assert message_in(written) == MESSAGE
    assert written["conditions"][-1] == {
        "type": "notification-ledger/Record", "status": "True", "reason": "Recorded",
        "message": MESSAGE, "lastTransitionTime": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    assert [e["status"] for e in written["deliveryAttempts"]] == ["success", "failed", "failed"]


def test_members_for_people_are_not_read() -> None:
    """Whoever edits them changes nothing."""
    written = render_status(FULL)
    written |= {"channels": [{"name": "x", "state": "Delivered"}], "uncertainAttempts": 9}
    written |= {"log": None, "rollup": {"through": 7}, "journal": {"outage": "9.9-9"}}
    written["deliveryAttempts"][1] |= {
        "id": "0.9-9",
        "class": "permanent",
        "code": 1,
        "startedAt": "",
    }
    assert parse_status(written) == FULL
    bare = parse_status(written | {"conditions": []})
    assert (bare.channels, bare.rollup, bare.log, bare.journal, bare.uncertain) == (
        (),
        None,
        None,
        None,
        0,
    )
    assert [a.id for a in bare.attempts] == ["0-0", "0-1", "0-2"]


NONE: dict[str, str] = {
    "nothing": "",
    "no JSON": "see the log",
    "no object": "[1]",
    "another version": MESSAGE.replace('"v":1', '"v":2'),
    "a version that is a truth": MESSAGE.replace('"v":1', '"v":true'),
    "no version": MESSAGE.replace('"v":1,', ""),
    "cut short": MESSAGE[:-1],
    "a name that is none": MESSAGE.replace('"a"', "1"),
    "a place beyond its list": MESSAGE.replace("[1,1,0,0,2", "[3,1,0,0,2"),
    "a place before its list": MESSAGE.replace("[1,1,0,0,2", "[-1,1,0,0,2"),
    "a class of no version": MESSAGE.replace("-4,3]", "-9,3]"),
    "a fraction": MESSAGE.replace("1700000000,", "1700000000.5,"),
    "a time beyond the calendar": MESSAGE.replace("1,3,503", f"1,{10**17},503"),
    "a number without measure": MESSAGE.replace("503", "5" * 30),
    "one of too many digits": MESSAGE.replace("503", "5" * 5000),
    "a code too many": MESSAGE.replace("503", "503,1"),
    "an attempt without its class": MESSAGE.replace("[2,4,0,0,3,-4,3]", "[2,4,0,0,3]"),
    "a channel without its state": MESSAGE.replace('[0,"Delivered",1,0]', "[0]"),
    "a mark that is a text": MESSAGE.replace('[9,"0.7","ff"]', '"0.7"'),
    "a mark without measure": MESSAGE.replace('"ff"', f'"{"f" * 129}"'),
    "a state without measure": MESSAGE.replace("Retrying", "R" * 65),
    "attempts below zero": MESSAGE.replace('"Retrying",1', '"Retrying",-1'),
    "half a character": MESSAGE.replace('"b"', '"\\ud800"'),
    "a channel twice": MESSAGE.replace('[1,"Retrying"', '[0,"Retrying"'),
    "a channel folded twice": MESSAGE.replace("[2,3,1,9,3,1]", "[2,3,1,9,3,1],[2,3,1,9,3,1]"),
    "depth without end": "[" * 30_000,
}


@pytest.mark.parametrize("case", NONE)
def test_what_none_of_ours_has_written_counts_as_absent(case: str) -> None:
    """As a whole, whichever part is wrong."""
    written = saying(NONE[case])
    assert NONE[case] != MESSAGE
    status = parse_status(written)
    assert [a.id for a in status.attempts] == ["0-0", "0-1", "0-2"]
    assert len(status.nameless) == 3
    assert (status.channels, status.rollup, status.log, status.journal) == ((), None, None, None)


def test_whether_attempts_may_be_journaled() -> None:
    """A list in brief passes over what is finished and carries no mark."""
    assert journaled(render_status(replace(FULL, journal="0.7-1")))
    assert not journaled(render_status(FULL))
    assert not journaled({"phase": "Sent"})
    for case in (
        "nothing",
        "no JSON",
        "no object",
        "another version",
        "cut short",
        "depth without end",
    ):
        assert journaled(saying(NONE[case])), case


#: What another writer makes of the second of three entries of ours, and whether it is still ours.
CHANGED: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "the fraction of its second is gone": ({"timestamp": "2023-11-14T22:13:20Z"}, True),
    "another text": ({"error": "x"}, True),
    "another result": ({"status": "success"}, False),
    "another second": ({"timestamp": "2023-11-14T22:13:21.004Z"}, False),
    "a time of another form": ({"timestamp": "2023-11-14T23:13:20.004+01:00"}, False),
    "another number": ({"attempt": 2}, False),
    "another channel": ({"channel": "c"}, False),
}


@pytest.mark.parametrize("case", CHANGED)
def test_an_entry_is_ours_as_long_as_it_says_what_we_wrote(case: str) -> None:
    """What says something else is another's claim, and does not bear the name of our attempt."""
    change, ours = CHANGED[case]
    written = render_status(FULL)
    written["deliveryAttempts"][1] |= change
    found = parse_status(written)
    assert (found.attempts[1].id == "0.7-2", set(found.nameless)) == (
        ours,
        set() if ours else {"0-1"},
    )
    assert [found.attempts[n].id for n in (0, 2)] == ["0.7-1", "0.7-3"]


def test_duplicates_are_told_apart_by_their_order() -> None:
    """The replaced controller may have written an attempt twice: each entry is taken once."""
    entry = {"channel": "a", "attempt": 1, "status": "failed", "timestamp": "2026-01-01T00:00:00Z"}
    entries = [entry | {"id": "0-0"}, entry | {"id": "0-1"}]
    written = json.loads(json.dumps(fold({"deliveryAttempts": entries})))
    written["deliveryAttempts"] = [entry, entry, entry]
    assert [e.get("id") for e in expand(written)["deliveryAttempts"]] == ["0-0", "0-1", None]
