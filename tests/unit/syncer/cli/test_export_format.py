"""Exports: read back byte by byte, or refused with the line."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from syncer.cli import export_format
from syncer.cli.exits import BadExport
from syncer.cli.export_format import lines_of, read_export
from tests.unit.syncer.cli.samples import A1, A2, PLAN, elements, failed, opened


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
    "the last record is missing": (without(WHOLE, 5), "line 5: the previous log has only 2 record"),
    "a header is missing": (without(WHOLE, 2), "line 2: the record belongs to no log"),
    "a record of another log": (changed(WHOLE, 3, uid="x"), "line 3: the record belongs to no log"),
    "a word was changed": (changed(WHOLE, 4, id="0.7-9"), "line 4: the chain does not follow"),
    "a chain was changed": (changed(WHOLE, 4, chain="00000000"), "line 4: the chain does not"),
    "a body was changed": (changed(WHOLE, 4, body={"at": 1}), "line 4: the chain does not follow"),
    "an unknown kind": (changed(WHOLE, 4, kind="x"), "line 4: the record cannot be read"),
    "a body that is none": (changed(WHOLE, 4, body=[]), "line 4: the record cannot be read"),
    "a header that is none": (changed(WHOLE, 2, epoch="x"), "line 2: the header does not"),
    "a mark beyond all numbers": (
        changed(WHOLE, 2, acked=float("inf")),
        "line 2: the header does not",
    ),
    "a uid that is none": (changed(WHOLE, 2, log="a}b"), "line 2: this is not a uid"),
    "a uid that is empty": (changed(WHOLE, 2, log=""), "line 2: this is not a uid"),
    "a uid that is no text": (changed(WHOLE, 2, log=5), "line 2: this is not a uid"),
    "a uid of two words": (changed(WHOLE, 2, log="a b"), "line 2: this is not a uid"),
    "the counts are others": (changed(WHOLE, 6, records=4), "line 6: 1 logs with 3 records"),
    "something follows": ([*WHOLE, "{}"], "line 7: something follows the last line"),
}


@pytest.mark.parametrize("bad", BAD)
def test_export_that_is_not_whole(bad: str) -> None:
    """An import refuses a file with a gap, a change or an end too soon, and names the line."""
    lines, says = BAD[bad]
    with pytest.raises(BadExport, match=says):
        list(read_export(lines))


def test_a_log_as_lines() -> None:
    """Header and records in words and numbers; what has no expiry names none."""
    head, *records = lines_of("u", LOG, 0)
    assert head == {
        "log": "u", "records": 3, "ttl": 0, "object": "ns/n", "epoch": "0.7", "acked": 0,
        "audited": 0,
    }  # fmt: skip
    assert [(r["uid"], r["position"], r["kind"], r["id"]) for r in records] == [
        ("u", 1, "plan", "plan"), ("u", 2, "intent", A1), ("u", 3, "failed", A1),
    ]  # fmt: skip
    assert all(
        set(r) == {"uid", "position", "kind", "id", "channel", "chain", "body"} for r in records
    )
    assert "ttl" not in next(iter(lines_of("u", LOG, -1)))


def test_what_another_writer_encodes_in_its_own_way_is_exported_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record that can be read, and would not be written the same, comes back byte by byte."""
    monkeypatch.setattr(export_format, "encode_element", lambda *_: b"")
    lines = exported(LOG)
    assert [json.loads(line)["raw"] for line in lines[2:5]] == [
        base64.b64encode(element).decode() for element in LOG[1:]
    ]


def test_an_expiry_is_read_back() -> None:
    """Seconds, down to none at all; one that is no number is refused."""
    for ttl in (0, 60):
        lines = [json.dumps(line) for line in lines_of("u0", LOG, ttl)]
        (log,) = read_export([WHOLE[0], *lines, WHOLE[-1]])
        assert log.ttl == ttl
    (log,) = read_export(WHOLE)
    assert log.ttl == -1
    says = "line 6: the time to live of the previous log is not a number"
    with pytest.raises(BadExport, match=says):
        list(read_export(changed(WHOLE, 2, ttl="60")))


def test_what_is_behind_damage_is_read_by_the_chain_of_the_damage() -> None:
    """A record whose body is damaged still says its chain; one that says none leaves the one before."""
    for broken in (LOG[2][:-1] + b"\xff", b"damage", b"a b c d"):
        lines = exported((*LOG[:2], broken, LOG[3]))
        assert json.loads(lines[3]) == {
            "uid": "u0", "position": 2, "raw": base64.b64encode(broken).decode(),
        }  # fmt: skip
        legible = broken.startswith(LOG[2][:20])
        assert ("raw" in json.loads(lines[4])) is not legible
        (log,) = read_export(lines)
        assert (log.elements, log.damaged) == ((*LOG[:2], broken, LOG[3]), True)


def test_a_header_that_is_damaged_travels_as_bytes() -> None:
    """The log counts as damaged, and has no header."""
    damaged = (b"\xffno header", *LOG[1:])
    lines = exported(damaged)
    assert json.loads(lines[1]) == {
        "log": "u0", "records": 3, "raw": base64.b64encode(damaged[0]).decode(),
    }  # fmt: skip
    first, second = read_export(exported(damaged, LOG))
    assert (first.elements, first.header, first.damaged) == (damaged, None, True)
    assert (second.damaged, second.header is None) == (False, False)


def test_bytes_that_are_none() -> None:
    """Nothing but base64 is taken for it, for a header and for a record."""
    for number in (2, 4):
        with pytest.raises(BadExport, match=f"line {number}: raw is not base64"):
            list(read_export(changed(WHOLE, number, raw="YQ==!")))


def test_the_longest_line() -> None:
    """A Mi of characters is read, one more is not."""
    begin = '{"format": "notification-ledger-export/1"'
    end = '{"end": true, "logs": 0, "records": 0}'
    longest = begin.ljust((1 << 20) - 1) + "}"
    assert list(read_export([longest, end])) == []
    with pytest.raises(BadExport, match="line 1: the line is too long"):
        list(read_export([begin.ljust(1 << 20) + "}", end]))


def test_counts_are_of_the_whole_file() -> None:
    """Of several logs the records are added up; a record less or a log more is another file."""
    lines = exported(LOG, LOG[:2])
    assert [len(log.elements) for log in read_export(lines)] == [4, 2]
    for members in ({"logs": 1}, {"logs": 3}, {"records": 3}, {"records": 5}):
        with pytest.raises(BadExport) as caught:
            list(read_export(changed(lines, len(lines), **members)))
        assert str(caught.value) == (
            f"line {len(lines)}: 2 logs with 4 records were read, which is not what the file announces"
        )
    for end in (False, 1, "true"):
        with pytest.raises(BadExport):
            list(read_export(changed(lines, len(lines), end=end)))


def test_a_damaged_text_still_says_its_chain() -> None:
    """Blanks in a body are no part of what stands before it."""
    log = elements(PLAN, opened(A1), failed(A1), opened(A2))
    broken = (*log[:3], log[3].replace(b"slack said no", b"slack said on"), log[4])
    assert broken != log
    lines = exported(broken)
    assert ["raw" in json.loads(line) for line in lines[1:-1]] == [False, False, False, True, False]
    (found,) = read_export(lines)
    assert (found.elements, found.damaged) == (broken, True)
