"""The scripts as they go over the wire: their flags, and their text with and without them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pytest

from syncer.ledger import lua
from syncer.ledger.lua import Script
from syncer.ledger.pipeline import Call

#: A fact may be recorded where memory is full; what begins something, or copies, may not.
REFUSED_AT_MAXMEMORY: Final = {"intent", "keep", "probe"}

SCRIPTS: Final = [value for value in vars(lua).values() if isinstance(value, Script)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_may_run_where_memory_is_full(script: Script) -> None:
    """The first line carries the flag; servers without flags get the rest of the text."""
    first, _, rest = script.source.partition("\n")
    assert first == ("#!lua" if script.name in REFUSED_AT_MAXMEMORY else "#!lua flags=allow-oom")
    assert rest == script.plain
    assert "redis.call" in script.plain
    digest = hashlib.sha1(script.source.encode(), usedforsecurity=False)
    assert script.sha == digest.hexdigest()


def test_there_is_a_script_for_each_purpose() -> None:
    """Nine of the controller and two of the operators' command; each file is one of them."""
    assert [s.name for s in SCRIPTS] == [
        "claim", "intent", "outcome", "recover", "note", "ack", "retire", "probe",
        "keep", "rebuild",
    ]  # fmt: skip
    files = {file.stem for file in Path(lua.__file__).with_name("scripts").glob("*.lua")}
    assert files == {"prelude", *(s.name for s in SCRIPTS)}


def test_a_call_on_the_wire() -> None:
    """ASKING goes before the command, what is read with it behind it."""
    alone, asking = Call(("GET", "k")), Call(("GET", "k"), asking=True)
    assert alone.commands == [("GET", "k")]
    assert asking.commands == [("ASKING",), ("GET", "k")]
