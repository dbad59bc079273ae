"""
Records as bytes, and back.

An element is a plain-text prefix, `<kind> <id> <channel> <crc32> <chain> `, followed by a msgpack
map. The prefix is what the scripts decide on and what a person reads in `redis-cli`; the map is kept
to what Redis's own Lua can decode and print: string keys, string and integer values, `v` first.
Integers stay below 1e14, where a double is exact in the server's JSON.

The checksum guards the map, the chain guards the order: a flipped byte, a lost or exchanged element
is found here and becomes a `ContractError` that names the position. Nothing is ever skipped.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import Any, Final
from urllib.parse import quote, unquote

import msgpack

from syncer.model.attempt import parse_epoch
from syncer.model.conditions import bounded
from syncer.model.errors import ContractError
from syncer.model.record import (
    BODY_VERSION,
    MAX_INT,
    NUMBERS,
    READABLE_VERSIONS,
    Body,
    Header,
    Kind,
    Record,
    read_attempt,
    read_plan,
)
from syncer.rules.fold import ROOT_CHAIN

#: Bytes of the reason why a record cannot be read.
REASON_BYTES: Final = 200
#: Characters of a channel name that need no encoding; a space or percent sign always does.
_SAFE: Final = ":@/+,=!*()'~"

_HEADER = re.compile(
    rb"nl1 object=(?P<object>[^ /]+/[^ /]+) epoch=(?P<epoch>[0-9.]+)"
    rb" acked=(?P<acked>[0-9]+) audited=(?P<audited>[0-9]+)"
)
#: One for all: to make one takes longer than to pack a map.
_PACKER: Final = msgpack.Packer()
_BLANK = re.compile(r"\s")
_PREFIX = re.compile(
    rb"(?P<text>(?P<kind>[a-z.]+) (?P<id>[^ ]+) (?P<channel>[^ ]+) (?P<crc>[0-9a-f]{8}) )"
    rb"(?P<chain>[0-9a-f]{8}) ",
)
_KINDS: Final = {kind.value.encode(): kind for kind in Kind}
_CHAIN_MODULUS: Final = 4294967291
#: Bytes that one sum of the chain takes in; a prefix is mostly shorter.
_POWERS_KEPT: Final = 128
#: Powers of the chain's factor, the highest first.
_POWERS: Final = [pow(65599, n, _CHAIN_MODULUS) for n in range(_POWERS_KEPT, -1, -1)]


def decode_header(element: bytes) -> Header:
    """Read element 0; ContractError if it is not a header of this format."""
    match = _HEADER.fullmatch(element)
    if not match:
        version = element[:12].decode("ascii", "replace")
        raise ContractError(f"header is not of format nl1 (begins {version!r})")
    try:
        return Header(
            match["object"].decode(),
            parse_epoch(match["epoch"].decode()),
            int(match["acked"]),
            int(match["audited"]),
        )
    except ValueError as error:
        # Not text, no epoch, or more digits than a number may have.
        raise ContractError(f"header: {error}") from error


@lru_cache(maxsize=1024)
def encode_channel(name: str) -> str:
    """Percent-encode a channel name, so that it holds no blank and is never empty."""
    return quote(name, safe=_SAFE) or "%"


@lru_cache(maxsize=1024)
def decode_channel(text: bytes) -> str:
    """The name that `encode_channel` has encoded, one text for all; UnicodeDecodeError if it is none."""
    return sys.intern(unquote(text.decode()))


def encode_record(record: Record) -> bytes:
    """The record as a script takes it: prefix without chain, then the map; errors as of `_parts`."""
    return b"".join(_parts(record))


def _parts(record: Record) -> tuple[bytes, bytes]:
    """
    The prefix of a record without chain, and its map.

    Raises:
        ContractError: the id holds a blank, or a value is neither text nor an exact integer.
    """
    if not record.id or _BLANK.search(record.id):
        raise ContractError(f"record id {record.id!r} is empty or holds a blank")
    body = pack_body(record.body)
    text = f"{record.kind} {record.id} {encode_channel(record.channel)} {zlib.crc32(body):08x} "
    return text.encode(), body


def pack_body(body: Body) -> bytes:
    """Pack a map; ContractError for a value that Redis's Lua could not print exactly."""
    out: dict[str, str | int] = {"v": BODY_VERSION, **body}
    for key, value in body.items():
        if isinstance(value, str):
            if not value.isascii():
                # Lone surrogates have no encoding; they can come from a receiver or a hostile object.
                out[key] = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        elif not isinstance(value, int) or isinstance(value, bool):
            raise ContractError(f"body member {key}: {type(value).__name__} is not allowed")
        elif not -MAX_INT < value < MAX_INT:
            raise ContractError(f"body member {key}: integer out of range")
    packed: bytes = _PACKER.pack(out)
    return packed


def next_chain(chain: str, text: bytes) -> str:
    """The chain after one more element whose prefix (chain excluded) is `text`; twin of the Lua."""
    value = int(chain, 16)
    for start in range(0, len(text), _POWERS_KEPT):
        part = text[start : start + _POWERS_KEPT]
        # What byte by byte is (value * 65599 + byte) % 4294967291, as one sum.
        powers = _POWERS[-1 - len(part) :]
        value = (value * powers[0] + sum(map(mul, part, powers[1:]))) % _CHAIN_MODULUS
    return f"{value:08x}"


def stored(record: Record, before: str, position: int) -> Record:
    """The record as it stands in the log once a script appended it after `before`."""
    return record.stored_at(position, chain_of(encode_element(record, before)))


def encode_element(record: Record, before: str) -> bytes:
    """The record as an element after one with the chain `before`; errors as of `_parts`."""
    text, body = _parts(record)
    return text + next_chain(before, text).encode() + b" " + body


@dataclass(frozen=True, slots=True)
class Remains:
    """
    The legible part of a damaged element.

    `bare` has what its prefix says, and no body; `record` is None if its map cannot be trusted.
    """

    bare: Record
    record: Record | None


def salvage(element: bytes) -> Remains | None:
    """Read an element without asking for its place in the chain; None if nothing is legible."""
    match = _PREFIX.match(element)
    if not match:
        return None
    try:
        kind = Kind(match["kind"].decode())
        bare = Record(kind, match["id"].decode(), unquote(match["channel"].decode()))
        if kind.state is not None:
            bare.attempt_id  # noqa: B018 - raises if it is none
    except ValueError:
        return None
    # The chain is computed here, so that only checksum and map are checked.
    chain = next_chain(ROOT_CHAIN, match["text"]).encode()
    try:
        record = decode_record(match["text"] + chain + b" " + element[match.end() :], ROOT_CHAIN, 1)
    except ContractError:
        return Remains(bare, None)
    return Remains(bare, record)


def chain_of(element: bytes) -> str:
    """Return the chain of an element, from which the next one's follows; else ContractError."""
    match = _PREFIX.match(element)
    if not match:
        raise ContractError("the record before has no legible prefix")
    return match["chain"].decode()


def encode_log(header: Header, records: Iterable[Record]) -> list[bytes]:
    """A whole log as stored: the header, then the records, each behind the one before."""
    elements, chain = [header.encode()], ROOT_CHAIN
    for record in records:
        elements.append(encode_element(record, chain))
        chain = chain_of(elements[-1])
    return elements


def decode_record(element: bytes, before: str, position: int, *, folded: bool = False) -> Record:
    """
    Read one element.

    Args:
        element: The element as stored.
        before: Chain of the element before it.
        position: Its index, for the error text.
        folded: The caller folds the record at once, and takes the ValueError of a fold for damage:
            it need not be tried here as well, which is a fifth of the work.

    Raises:
        ContractError: malformed, wrong checksum, wrong chain, unknown kind or version, or it states
            something that the fold could not read.
    """

    def bad(reason: str) -> ContractError:
        return ContractError(f"record {position}: {bounded(reason, REASON_BYTES)}")

    match = _PREFIX.match(element)
    if not match:
        raise bad("prefix is malformed")
    text, word, identity, channel, crc, stored_chain = match.groups()
    body = element[match.end() :]
    if int(crc, 16) != zlib.crc32(body):
        raise bad("checksum does not match")
    chain = stored_chain.decode()
    if next_chain(before, text) != chain:
        raise bad("chain does not follow from the record before")
    kind = _KINDS.get(word)
    if kind is None:
        raise bad(f"unknown kind {word.decode()!r}")
    try:
        content = _unpack_body(body)
    except ValueError as error:
        raise bad(str(error)) from error
    try:
        record = Record(kind, identity.decode(), decode_channel(channel), content, position, chain)
    except UnicodeDecodeError:
        raise bad("prefix is not text") from None
    if not folded:
        try:
            _fold_reads(record)
        except ValueError as error:
            raise bad(str(error)) from error
    return record


def _unpack_body(packed: bytes) -> Body:
    """The members of a map without its version; ValueError where it breaks the diet."""
    try:
        content: Any = msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"body is not a msgpack map ({type(error).__name__})") from error
    version = content.pop("v", None) if isinstance(content, dict) else None
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise ValueError(f"body version {version!r} is not known")
    for key, value in content.items():
        if type(value) is int:
            if not -MAX_INT < value < MAX_INT:
                raise ValueError(f"body member {key}: integer out of range")
        elif type(value) is not str or key in NUMBERS:
            raise ValueError(f"body member {key}: {type(value).__name__} is not allowed")
    members: Body = content
    return members


def _fold_reads(record: Record) -> None:
    """Raise ValueError for what the fold could not read: only an error here stops the sends."""
    if record.kind.state is not None:
        read_attempt(record)
    elif record.kind is Kind.PLAN:
        read_plan(record)
