"""
The scripts as they go over the wire: nine of the controller, three of the operators' command.

One file each under `scripts/`, with the shared prelude in front. The first line carries the flags
that Redis 7 checks before it runs anything: facts may be recorded at maxmemory, a new intent may
not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

# Not by `importlib.resources`, whose import takes longer than all of this.
_FOLDER: Final = Path(__file__).with_name("scripts")
_PRELUDE: Final = (_FOLDER / "prelude.lua").read_text()


class Script:
    """A Lua script, its text with the shared prelude in front, and its digest."""

    def __init__(self, name: str, *, allow_oom: bool) -> None:
        body = "\n".join((_PRELUDE, (_FOLDER / f"{name}.lua").read_text()))
        flags = " flags=allow-oom" if allow_oom else ""
        self.name = name
        #: Without the first line, for servers that know no script flags.
        self.plain = body
        self.source = f"#!lua{flags}\n{body}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


CLAIM: Final = Script("claim", allow_oom=True)
INTENT: Final = Script("intent", allow_oom=False)
OUTCOME: Final = Script("outcome", allow_oom=True)
RECOVER: Final = Script("recover", allow_oom=True)
NOTE: Final = Script("note", allow_oom=True)
ACK: Final = Script("ack", allow_oom=True)
RETIRE: Final = Script("retire", allow_oom=True)
#: Whether writes are executed; refused where an INTENT is.
PROBE: Final = Script("probe", allow_oom=False)
#: A copy is not a fact: at maxmemory it is refused, and with it the replacement that needs it.
KEEP: Final = Script("keep", allow_oom=False)
REBUILD: Final = Script("rebuild", allow_oom=True)
