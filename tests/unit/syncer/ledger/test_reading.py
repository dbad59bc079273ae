"""Logs that are damaged, read as far as they are legible and beyond."""

from __future__ import annotations

from syncer.ledger.reading import lines_of, read_log
from syncer.model.record import (
    Record,
)
from tests.unit.syncer.cli.samples import A1, PLAN, C, elements, failed, opened


def test_attempt_that_cannot_be_read_is_damage() -> None:
    """What is stored well and says nothing that a fold could read ends the reading all the same."""
    bad = Record(PLAN.kind.INTENT, "seven", C, {"at": 1})
    log = read_log(elements(PLAN, bad, opened(A1)))
    assert (len(log.records), log.view.position) == (1, 1)
    assert log.problem.startswith("record 2: not an attempt id")


def test_lines_behind_damage() -> None:
    """Each element has its line: the records before the damage, then what is wrong with each."""
    log = list(elements(PLAN, opened(A1), failed(A1)))
    log[2] = log[2][:-1] + b"\xff"
    read = read_log(log)
    lines = lines_of(read, log)
    assert [line.position for line in lines] == [1, 2, 3]
    assert lines[0].record == read.records[0]
    assert [line.error for line in lines[1:]] == [
        "record 2: checksum does not match", "record 3: chain does not follow from the record before",
    ]  # fmt: skip


def test_lines_behind_an_inserted_element() -> None:
    """Records that still follow from the last sound one are shown as such."""
    sound = elements(PLAN, opened(A1), failed(A1))
    log = [*sound[:2], b"damage", *sound[2:]]
    assert [line.record is not None for line in lines_of(read_log(log), log)] == [
        True, False, True, True,
    ]  # fmt: skip


def test_lines_without_a_header() -> None:
    """A log whose header cannot be read has one line; no log has none."""
    log = [b"something else", *elements(PLAN)[1:]]
    (line,) = lines_of(read_log(log), log)
    assert (line.position, line.record) == (0, None)
    assert "is not of format" in line.error
    assert lines_of(read_log([]), []) == ()
