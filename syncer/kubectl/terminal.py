"""
What a pod prints, made harmless for a terminal.

Whoever may run a pod with the release's labels would else command the terminal of an operator: its
title, its clipboard, what it types. Colours pass, nothing else that begins with an escape does. The
table is that of `syncer.rules.text`, which this package cannot import; a test compares them.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0001]"
)
_COLOUR: Final = re.compile("\x1b\\[[0-9;]{0,30}m")
#: What may become a colour with what comes next.
_BEGUN: Final = re.compile("\x1b(?:\\[[0-9;]{0,30})?\\Z")
_TOKEN: Final = re.compile(f"{_COLOUR.pattern}|{UNSAFE.pattern}")


class Harmless:
    """Reads a stream of bytes as text that only colours a terminal."""

    def __init__(self) -> None:
        """Begin a stream."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def text(self, chunk: bytes, *, final: bool = False) -> str:
        """Return what a chunk adds; with `final` nothing is held back."""
        text = self._rest + self._decoder.decode(chunk, final)
        begun = None if final else _BEGUN.search(text)
        end = begun.start() if begun else len(text)
        self._rest = text[end:]
        return _TOKEN.sub(lambda m: m.group() if len(m.group()) > 1 else "\ufffd", text[:end])
