"""`syncer explain`: why a notification was sent, why not, what comes next and when."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from syncer.cli.access import access, where_of
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent
from syncer.cli.known import Asker, Known, know
from syncer.cli.lookup import find_event, find_key
from syncer.cli.namespaces import namespaces_of
from syncer.cli.output import write_json, write_lines, write_remark
from syncer.cli.records import as_json as records_as_json
from syncer.cli.records import as_text as records_as_text
from syncer.cli.screen import screen_of
from syncer.cli.store import StoreState
from syncer.cli.telling import as_json, as_text
from syncer.model.errors import LedgerError, Unavailable
from syncer.rules.plan import Finish

#: Seconds for an answer of a server.
_ANSWER: Final = 5.0


async def run(options: argparse.Namespace) -> int:
    """Explain one notification; returns the exit code."""
    async with access(where_of(options)) as at:
        asker, namespaces = Asker(_ANSWER, strict=True), await namespaces_of(at, options)
        found, key = None, options.object or ""
        if options.event:
            key = await find_event(at, options.event.strip(), namespaces)
        if "/" in key:
            found = await know(at, key, asker)
        if found is None:
            # A part of a name may be meant; Absent says what there is.
            key = await find_key(at, key, namespaces)
            found = await know(at, key, asker)
    if found is None or not found.uid:
        raise _unknown(key, found)
    if found.store.state is StoreState.UNCHECKED and not found.unread:
        write_remark(found.store.remark)
    width = screen_of(sys.stdout).width
    explained = found.explanation
    if options.records or explained is None:
        if not options.records:
            gone = f"there is no object {key} any more" if found.gone else found.missing[0]
            write_remark(f"{gone}; this is its log")
        _write(options, records_as_json(found), records_as_text(found, width))
        return _compared(found)
    _write(options, as_json(explained), as_text(explained, width))
    if found.unread:
        return NOT_COMPARED
    if explained.log.problem or explained.blocked:
        return DIFFERENT
    # What has ended needs no owner.
    needed = not isinstance(explained.decision, Finish)
    return NOT_COMPARED if needed and explained.owner.holder is None else OK


def _unknown(key: str, found: Known | None) -> LedgerError:
    """Neither an object nor a log can be shown: there is none, or that is not known."""
    if found is None:
        return Absent(f"there is no object {key}")
    return Unavailable(f"no log has the name {key}, or none is read; {'; '.join(found.missing)}")


def _write(options: argparse.Namespace, document: dict[str, Any], lines: list[str]) -> None:
    if options.json:
        write_json(document)
    else:
        write_lines(lines)


def _compared(found: Known) -> int:
    """Return the exit code of an answer that shows the records."""
    if found.store.state is StoreState.NEW:
        return NOT_COMPARED
    if found.differences:
        return DIFFERENT
    return OK if found.compared else NOT_COMPARED
