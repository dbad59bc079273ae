"""Exports: read back byte by byte, or refused with the line."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from syncer.cli.exits import BadExport
from syncer.cli.export_format import lines_of, read_export
from tests.unit.syncer.cli.samples import A1, PLAN, elements, failed, opened


def exported(*logs: tuple[bytes, ...]) -> list[str]:
    """The lines of a whole export."""
    out: list[dict[str, Any]] = [{"format": "notification-ledger-export/1"}]
    for n, log in enumerate(logs):
        out += lines_of(f"u{n}", log, -1)
    out.append({"end": True, "logs": len(logs), "records": sum(len(x) - 1 for x in logs)})
    return [json.dumps(line) for line in out]


LOG = elements(PLAN, opened(A1), failed(A1))


def test_export_reads_back_as_the_same_bytes() -> None:
    """What was written is read back byte by byte, a damaged log included."""
    damaged = (*LOG[:2], LOG[2][:-1] + b"\xff", LOG[3])
    first, second = read_export(exported(LOG, damaged))
    assert (first.elements, first.damaged) == (LOG, False)
    assert (second.elements, second.damaged) == (damaged, True)


def test_sound_record_in_raw_is_no_damage() -> None:
    """A record that another version wrote travels as bytes, and is as good as any."""
    lines = exported(LOG)
    line = json.loads(lines[3])
    raw = {"uid": line["uid"], "position": 2, "raw": base64.b64encode(LOG[2]).decode()}
    (log,) = read_export([*lines[:3], json.dumps(raw), *lines[4:]])
    assert (log.elements, log.damaged) == (LOG, False)


def without(lines: list[str], number: int) -> list[str]:
    """The lines but one."""
    return lines[: number - 1] + lines[number:]


def changed(lines: list[str], number: int, **members: Any) -> list[str]:
    """The lines with one changed."""
    line = json.loads(lines[number - 1]) | members
    return [*lines[: number - 1], json.dumps(line), *lines[number:]]


WHOLE = exported(LOG)
BAD = {
    "nothing at all": ([], "line 0: the last line is missing"),
    "something else": (['{"a": 1}'], "line 1: not an export of format"),
    "not JSON": ([WHOLE[0], "{"], "line 2: not JSON"),
    "nested too deeply": ([WHOLE[0], "[" * 100_000], "line 2: not JSON"),
    "not an object": ([WHOLE[0], "[]"], "line 2: not a JSON object"),
    "a file that was cut off": (WHOLE[:-1], "line 5: the last line is missing"),
    "a record is missing": (without(WHOLE, 4), "line 4: position 2 is missing"),
    "the last record is missing": (without(WHOLE, 5), "line 5: the log before has 2 record"),
    "a header is missing": (without(WHOLE, 2), "line 2: a record of no log"),
    "a record of another log": (changed(WHOLE, 3, uid="x"), "line 3: a record of no log"),
    "a word was changed": (changed(WHOLE, 4, id="0.7-9"), "line 4: the chain does not follow"),
    "a chain was changed": (changed(WHOLE, 4, chain="00000000"), "line 4: the chain does not"),
    "a body was changed": (changed(WHOLE, 4, body={"at": 1}), "line 4: the chain does not follow"),
    "an unknown kind": (changed(WHOLE, 4, kind="x"), "line 4: the record cannot be read"),
    "a body that is none": (changed(WHOLE, 4, body=[]), "line 4: the record cannot be read"),
    "a header that is none": (changed(WHOLE, 2, epoch="x"), "line 2: the header is none"),
    "a mark beyond all numbers": (changed(WHOLE, 2, acked=float("inf")), "line 2: the header is"),
    "a uid that is none": (changed(WHOLE, 2, log="a}b"), "line 2: the uid is none"),
    "a uid that is empty": (changed(WHOLE, 2, log=""), "line 2: the uid is none"),
    "a uid that is no text": (changed(WHOLE, 2, log=5), "line 2: the uid is none"),
    "a uid of two words": (changed(WHOLE, 2, log="a b"), "line 2: the uid is none"),
    "the counts are others": (changed(WHOLE, 6, records=4), "line 6: 1 logs with 3 records"),
    "something follows": ([*WHOLE, "{}"], "line 7: something follows the last line"),
}


@pytest.mark.parametrize("bad", BAD)
def test_export_that_is_not_whole(bad: str) -> None:
    """An import refuses a file with a gap, a change or an end too soon, and names the line."""
    lines, says = BAD[bad]
    with pytest.raises(BadExport, match=says):
        list(read_export(lines))
