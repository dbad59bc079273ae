"""Reading a log as far as it goes: what is readable, what is not, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.ledger.reading import lines_of, read_log
from tests.unit.syncer.cli.samples import A1, PLAN, elements, failed, opened

LOG = elements(PLAN, opened(A1), failed(A1))


def shown(log: tuple[bytes, ...]) -> list[tuple[int, str]]:
    """Position of each line, and the kind of its record or "?"."""
    lines = lines_of(read_log(log), log)
    assert all((line.record is None) == bool(line.error) for line in lines)
    return [(line.position, line.record.kind.value if line.record else "?") for line in lines]


DAMAGED = (*LOG[:2], LOG[2][:-1] + b"\xff", LOG[3])
#: A record that is sound, and states what cannot be.
NONSENSE = failed(A1)
ODD = elements(replace(NONSENSE, body={**NONSENSE.body, "class": "no class"}))
LINES: dict[str, tuple[tuple[bytes, ...], list[tuple[int, str]]]] = {
    "every record is a line, with its position": (LOG, [(1, "plan"), (2, "intent"), (3, "failed")]),
    "no log is no damage": ((), []),
    "without a header nothing else is shown": ((b"something else", *LOG[1:]), [(0, "?")]),
    "what follows damage is read by the element before": (DAMAGED, [(1, "plan"), (2, "?"), (3, "?")]),
    "one whose chain follows from the last that could be read is a record again": (
        (*LOG[:2], b"damage", elements(PLAN, failed(A1))[2]), [(1, "plan"), (2, "?"), (3, "failed")],
    ),
    "a log is read up to what cannot be folded": (ODD, [(1, "?")]),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_lines(case: str) -> None:
    """A log is shown as far as it goes, and what is behind damage with its place."""
    log, wanted = LINES[case]
    assert shown(log) == wanted


def test_where_a_log_ends() -> None:
    """What stands before the damage is in the view; the problem names the record, as its line does."""
    damaged, odd = read_log(DAMAGED), read_log(ODD)
    assert (len(damaged.records), damaged.view.position) == (1, 1)
    assert damaged.problem.startswith("record 2: ")
    assert lines_of(damaged, DAMAGED)[1].error == damaged.problem
    assert (odd.header is not None, odd.records) == (True, ())
    assert odd.problem.startswith("record 1: ")
