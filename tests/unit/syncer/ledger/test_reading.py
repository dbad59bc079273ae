"""Reading a log as far as it goes: what is readable, what is not, and where."""

from __future__ import annotations

from dataclasses import replace

from syncer.ledger.codec import decode_record
from syncer.ledger.reading import lines_of, read_log
from syncer.rules.fold import ROOT_CHAIN
from tests.unit.syncer.cli.samples import A1, PLAN, elements, failed, opened

LOG = elements(PLAN, opened(A1), failed(A1))


def shown(log: tuple[bytes, ...]) -> list[tuple[int, str]]:
    """Position of each line, and the kind of its record or "?"."""
    lines = lines_of(read_log(log), log)
    assert all((line.record is None) == bool(line.error) for line in lines)
    return [(line.position, line.record.kind.value if line.record else "?") for line in lines]


def test_a_whole_log() -> None:
    """Every record is a line, with its position."""
    assert shown(LOG) == [(1, "plan"), (2, "intent"), (3, "failed")]


def test_no_log() -> None:
    """Nothing is no damage."""
    assert shown(()) == []


def test_a_header_that_cannot_be_read() -> None:
    """Without it nothing else is shown: one line, at the header's place."""
    assert shown((b"something else", *LOG[1:])) == [(0, "?")]


def test_a_damaged_record() -> None:
    """What follows it is read for itself, each by the element before."""
    damaged = (*LOG[:2], LOG[2][:-1] + b"\xff", LOG[3])
    assert shown(damaged) == [(1, "plan"), (2, "?"), (3, "?")]
    read = read_log(damaged)
    assert (len(read.records), read.view.position) == (1, 1)
    assert read.problem.startswith("record 2: ")
    assert lines_of(read, damaged)[1].error == read.problem, "as a reader of the log says it"


def test_a_record_behind_the_damage() -> None:
    """One whose chain follows from the last that could be read is a record again."""
    alone = elements(PLAN, failed(A1))
    chain = decode_record(LOG[1], ROOT_CHAIN, 1).chain
    assert decode_record(alone[2], chain, 2).chain
    assert shown((*LOG[:2], b"damage", alone[2])) == [(1, "plan"), (2, "?"), (3, "failed")]


def test_a_record_that_cannot_be_folded() -> None:
    """Its element is sound, and what it states is not: the log is read up to it, with its place."""
    record = failed(A1)
    log = elements(replace(record, body={**record.body, "class": "no class"}))
    read = read_log(log)
    assert (read.header is not None, read.records) == (True, ())
    assert shown(log) == [(1, "?")]
    assert read.problem.startswith("record 1: ")
    assert shown(log) == [(1, "?")]
