"""
An object as the bytes that are kept of it, and a spec as the digits that stand for it.

Both bear any text that the API server lets through: what orjson does not write, lone surrogates above
all, the standard library does. The digits are in logs, so they do not change with the library that writes
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json

import orjson


def packed(document: object) -> bytes:
    """A document as JSON, in bytes of just its size: what orjson returns has kilobytes to spare."""
    try:
        return bytes(memoryview(orjson.dumps(document)))
    except TypeError:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def hash_of(spec: object) -> str:
    """SHA-256 of a spec, in whatever order its members are."""
    return hashlib.sha256(_canonical(spec)).hexdigest()


def _canonical(value: object) -> bytes:
    """JSON in ASCII with sorted members, as the library writes it; orjson is several times as fast."""
    with contextlib.suppress(TypeError):
        found = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if found.isascii() and b"\x7f" not in found and b"." not in found:
            return found
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
