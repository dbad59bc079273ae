"""Answers for people: they claim nothing that was not read, and hold nothing that a terminal obeys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.cli.explanation import Rules, as_text, explain
from syncer.cli.inspection import Inspection
from syncer.cli.inspection import as_json as inspection_json
from syncer.cli.inspection import as_text as inspection_text
from syncer.cli.output import write_remark
from syncer.ledger.reading import Line, read_log
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.record import (
    Plan,
    attempt_record,
    plan_record,
    skip_record,
)
from syncer.model.resource import parse_object
from tests.unit.syncer.cli.samples import A1, NOW, PLAN, C, elements, entry, opened, request

INSPECTED = read_log(
    elements(PLAN, opened(A1), attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW)))
)


def test_what_was_not_read_was_not_compared() -> None:
    """Of a log alone nothing is said of its publication, and nothing is called agreed."""
    lines = tuple(Line(r.position, r) for r in INSPECTED.records)
    alone = Inspection("u", "ns/n", None, "not asked", INSPECTED.header, lines, INSPECTED.view, -1)
    answer = inspection_text(alone, now=NOW)
    text = "\n".join(answer)
    assert "agree" not in text
    assert "not published yet" not in text
    assert "status not read" in text
    assert answer[-1] == "log and status were not compared: the status was not read"
    assert inspection_json(alone, now=NOW)["compared"] is False
    shown = request(entry("success"), phase="Sent")
    both = replace(alone, request=shown, object_problem="")
    assert inspection_text(both, now=NOW)[-1] == "log and status agree"
    assert inspection_json(both, now=NOW)["compared"] is True


def test_answers_for_people_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """What a creator or another writer wrote neither begins a line nor commands the terminal."""
    hostile = "x\x1b[2J\x9b1m\nNEXT    nothing"
    plan = plan_record(Plan((C,), "RoutingRuleMatched", hostile, at=NOW - 60_000))
    skip = skip_record("skip:2:1", C, at=NOW, why=hostile)
    log = elements(plan, skip)
    request = parse_object(
        {
            "metadata": {"namespace": "ns", "name": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": {"phase": "Sending", "message": hostile},
        }
    )
    read = read_log(log)
    lines = tuple(Line(r.position, r) for r in read.records)
    found = Inspection("u", "ns/n", request, "", read.header, lines, read.view, -1)
    inspected = inspection_text(found, now=NOW)
    explained = as_text(explain(request, read, Rules(), now=NOW))
    write_remark(hostile)
    for line in (*explained, *inspected, capsys.readouterr().err.rstrip("\n")):
        assert line.isprintable(), line
    assert any("x [2J 1m NEXT    nothing" in line for line in inspected)
