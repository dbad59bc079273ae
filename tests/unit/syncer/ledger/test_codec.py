"""The codec: elements as bytes, what they may hold, and that damage is noticed."""

from __future__ import annotations

import zlib
from typing import Any

import msgpack
import pytest

from syncer.ledger.codec import (
    decode_header,
    decode_record,
    encode_channel,
    encode_log,
    encode_record,
    next_chain,
)
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.errors import ContractError
from syncer.model.record import (
    NUMBERS,
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.rules.fold import ROOT_CHAIN

HEADER = Header("ns/n", Epoch("0.7"), acked=3, audited=2)


def element(record: Record, before: str = ROOT_CHAIN) -> bytes:
    """The record as a script would have stored it after an element with chain `before`."""
    return join_element(encode_record(record), before)


def join_element(encoded: bytes, before: str = ROOT_CHAIN) -> bytes:
    """Put the chain into an encoded record, as the scripts do."""
    parts = encoded.split(b" ", 4)
    text = b" ".join(parts[:4]) + b" "
    return text + next_chain(before, text).encode() + b" " + parts[4]


def raw(body: Any, *, kind: str = "intent", identity: str = "0.7-1") -> bytes:
    """An element around any body, sound in checksum and chain."""
    packed = body if isinstance(body, bytes) else msgpack.packb(body)
    return join_element(f"{kind} {identity} slack:ops {zlib.crc32(packed):08x} ".encode() + packed)


def test_golden_element() -> None:
    """The bytes of an intent are these, and stay these."""
    record = intent_record(AttemptId("0.7-1"), "slack:on call", at=1_700_000_000_000, by="pod-a")
    body = (
        b"\x83\xa1v\x01"
        b"\xa2at\xcf\x00\x00\x01\x8b\xcf\xe5h\x00"
        b"\xa2by\xa5pod-a"
    )  # fmt: skip
    assert element(record) == b"intent 0.7-1 slack:on%20call 157394a3 718daf53 " + body


def test_header() -> None:
    """A header is read back as it was written."""
    assert HEADER.encode() == b"nl1 object=ns/n epoch=0.7 acked=3 audited=2"
    assert decode_header(HEADER.encode()) == HEADER


@pytest.mark.parametrize(
    "text",
    [
        b"", b"nl2 object=ns/n epoch=0.7 acked=0 audited=0", b"{}",
        b"nl1 object=n epoch=0.7 acked=0 audited=0",
        b"nl1 object=ns/n epoch=0.07 acked=0 audited=0",
        b"nl1 object=ns/n epoch=0.7 acked=-1 audited=0", HEADER.encode() + b" more=1",
        b"nl1 object=\xff/n epoch=0.7 acked=0 audited=0",
        b"nl1 object=ns/n epoch=0.7 acked=" + b"9" * 5000 + b" audited=0",
    ],
)  # fmt: skip
def test_foreign_header(text: bytes) -> None:
    """Anything else at the head of a list is not a log of this format."""
    with pytest.raises(ContractError, match="header"):
        decode_header(text)


RECORDS = {
    "an intent": intent_record(AttemptId("0.7-1"), "slack:ops", at=1, by="pod-a"),
    "a channel with odd characters": intent_record(AttemptId("0.7-1"), "ä %\n/:x", at=1, by="p"),
    "a text in many scripts": attempt_record(
        Attempt(AttemptId("0.7-1"), "c", AttemptState.FAILED, error="ключ 鍵 🗝\x00\n")
    ),
    "a plan": plan_record(Plan(("a", "b c"), "r", "m", 1, "ff")),
    "the largest integers": Record(Kind.SKIP, "s", "c", {"a": 10**14 - 1, "b": 1 - 10**14}),
}


@pytest.mark.parametrize(
    ("channel", "shown"),
    [
        ("slack:sre-prod@eu/1", "slack:sre-prod@eu/1"), ("a b%", "a%20b%25"),
        ("\t \u2003", "%09%20%E2%80%83"), ("", "%"),
    ],
)  # fmt: skip
def test_prefix_stays_legible(channel: str, shown: str) -> None:
    """A channel shows as it is configured, unless a character would break the line."""
    assert encode_channel(channel) == shown


#: An id, a member of the body, and why they are not written.
DIET: dict[str, tuple[str, Any, str]] = {
    "a float": ("s", 1.5, "body member x: float is not allowed"),
    "nothing": ("s", None, "body member x: NoneType is not allowed"),
    "bytes": ("s", b"x", "body member x: bytes is not allowed"),
    "a truth value": ("s", True, "body member x: bool is not allowed"),
    "a list": ("s", [], "body member x: list is not allowed"),
    "a map": ("s", {}, "body member x: dict is not allowed"),
    "an integer that a double cannot hold": ("s", 10**14, "body member x: integer out of range"),
    "a negative one": ("s", -(10**14), "body member x: integer out of range"),
    "no id": ("", 1, "is empty or holds a blank"),
    "an id with a blank": ("a b", 1, "is empty or holds a blank"),
    "an id with a line feed": ("a\nb", 1, "is empty or holds a blank"),
    "an id with a wide blank": ("a\u2003b", 1, "is empty or holds a blank"),
}


@pytest.mark.parametrize("case", DIET)
def test_diet(case: str) -> None:
    """Refused before it is written: what Redis's own Lua could not print exactly, or breaks the prefix."""
    identity, value, why = DIET[case]
    with pytest.raises(ContractError, match=why):
        encode_record(Record(Kind.SKIP, identity, "c", {"x": value}))


def test_lone_surrogates() -> None:
    """A text without an encoding is written with a replacement, not refused: facts must be kept."""
    record = Record(Kind.FAILED, "0.7-1", "c", {"error": "a\ud800b"})
    text = decode_record(element(record), ROOT_CHAIN, 1).body["error"]
    assert isinstance(text, str)
    assert (text[0], text[-1], "\ufffd" in text) == ("a", "b", True)


DAMAGE = {
    "an unknown kind": (raw({"v": 1}, kind="sent"), "unknown kind 'sent'"),
    "a later version": (raw({"v": 2}), "body version 2 is not known"),
    "no version": (raw({"at": 1}), "body version None is not known"),
    "a list as the version": (raw({"v": [1]}), "body version .1. is not known"),
    "a truth as the version": (raw({"v": True}), "body version True is not known"),
    "an integer too large": (raw({"v": 1, "at": 10**14}), "body member at: integer out of range"),
    "an integer too small": (raw({"v": 1, "at": -(10**14)}), "body member at: integer out of"),
    "a body that is no map": (raw([1]), "body version None is not known"),
    "a body cut short": (raw(b"\x82\xa1v\x01"), "body is not a msgpack map"),
    "a body with a tail": (raw(b"\x81\xa1v\x01\xc0"), "body is not a msgpack map"),
    "an integer as a key": (raw(b"\x82\xa1v\x01\x01\x01"), "body is not a msgpack map"),
    "no prefix": (b"intent 0.7-1", "prefix is malformed"),
    "a list as a value": (raw({"v": 1, "at": [1]}), "body member at"),
    "a float as a value": (raw({"v": 1, "at": 1.5}), "body member at"),
    "an attempt id of another form": (raw({"v": 1}, identity="seven"), "not an attempt id"),
    "a class that does not exist": (
        raw({"v": 1, "class": "sometimes"}, kind="failed"), "sometimes",
    ),
    **{
        f"{member} as a text in a record {kind}": (
            raw({"v": 1, member: "9" * 30}, kind=kind), f"body member {member}: str is not allowed"
        )
        for member in sorted(NUMBERS)
        for kind in ("intent", "plan", "skip", "order")
    },
    "an id that is no text": (
        join_element(b"intent \xff c %08x " % zlib.crc32(b"\x81\xa1v\x01") + b"\x81\xa1v\x01"),
        "prefix is not text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_undecodable(case: str) -> None:
    """What cannot be read is named with its position and never skipped."""
    broken, why = DAMAGE[case]
    with pytest.raises(ContractError, match=why) as caught:
        decode_record(broken, ROOT_CHAIN, 4)
    assert str(caught.value).startswith("record 4: ")


@pytest.mark.parametrize("member", ["v", "at", "class", "x" * 10**6])
def test_damage_is_told_in_few_words(member: str) -> None:
    """What is told of it ends up in a condition and on terminals, whatever the record holds."""
    broken = raw({"v": 1, member: [1]} if len(member) > 9 else {"v": 1, member: "y" * 10**6})
    with pytest.raises(ContractError) as caught:
        decode_record(broken, ROOT_CHAIN, 4)
    assert len(str(caught.value)) < 250


STORED = encode_log(HEADER, RECORDS.values())


BROKEN = {
    "two elements changed places": (
        [STORED[0], STORED[2], STORED[1], *STORED[3:]], "record 1: chain does not follow",
    ),
    "one in the middle is missing": ([*STORED[:2], *STORED[3:]], "record 2: chain does not follow"),
    "there is no header": ([], "log is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_log(case: str) -> None:
    """What is not a whole history is noticed, with the place."""
    elements, why = BROKEN[case]
    with pytest.raises(ContractError, match=why):
        snapshot_of(elements)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 256, 1000])
def test_a_long_prefix_is_chained_like_its_parts(length: int) -> None:
    """An encoded channel may be hundreds of bytes long; a byte after the other gives the same."""
    text = bytes(n % 251 for n in range(length))
    by_byte = "1234abcd"
    for byte in text:
        by_byte = next_chain(by_byte, bytes([byte]))
    assert next_chain("1234abcd", text) == by_byte
