"""`syncer explain`: why a notification was sent, why not, what comes next and when."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.access import access, where_of
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent
from syncer.cli.known import Asker, Known, know
from syncer.cli.lookup import find_event, find_key, is_key
from syncer.cli.namespaces import namespaces_of
from syncer.cli.output import write_answer, write_remark
from syncer.cli.records import as_json as records_as_json
from syncer.cli.records import as_text as records_as_text
from syncer.cli.screen import screen_of
from syncer.cli.store import StoreState
from syncer.cli.telling import as_json, as_text
from syncer.model.errors import ConfigError, LedgerError, Unauthorised, Unavailable
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
        if is_key(key):
            found = await know(at, key, asker)
        if found is None:
            # A part of a name may be meant; Absent says what there is.
            key = await find_key(at, key, namespaces)
            found = await know(at, key, asker)
    if found is not None and found.refused is not None and not options.records:
        raise found.refused if found.uid else _unknown(key, found)
    if found is None or not (found.uid or isinstance(found.refused, ConfigError)):
        raise _unknown(key, found)
    if options.records or found.explanation is None:
        return _show_records(options, found)
    explained = found.explanation
    lines = as_text(explained, screen_of(sys.stdout).width)
    write_answer(as_json(explained), lines, as_json=options.json)
    if found.unread:
        return NOT_COMPARED
    if explained.log.problem or explained.blocked:
        return DIFFERENT
    # What has ended needs no owner.
    needed = not isinstance(explained.decision, Finish)
    return NOT_COMPARED if needed and explained.owner.holder is None else OK


def _show_records(options: argparse.Namespace, found: Known) -> int:
    """Show every record of a log, and compare it with its status; returns the exit code."""
    if isinstance(found.refused, ConfigError):
        # There is no way to the API server.
        write_remark(f"objects were not asked: {found.refused}")
        if not found.uid:
            write_remark(f"there is no log {found.key}")
            return NOT_COMPARED
    if found.store.remark and not found.unread:
        write_remark(found.store.remark)
    if not options.records:
        gone = f"there is no object {found.key} any more" if found.gone else found.missing[0]
        write_remark(f"{gone}; this is its log")
    lines = records_as_text(found, screen_of(sys.stdout).width)
    write_answer(records_as_json(found), lines, as_json=options.json)
    if found.store.state is StoreState.NEW:
        return NOT_COMPARED
    if found.differences:
        return DIFFERENT
    return OK if found.compared else NOT_COMPARED


def _unknown(key: str, found: Known | None) -> LedgerError:
    """Neither an object nor a log can be shown: there is none, or that is not known."""
    if found is None:
        return Absent(f"there is no object {key}")
    text = f"no log has the name {key}, or none is read; {'; '.join(found.missing)}"
    refused = found.refused
    if isinstance(refused, ConfigError):
        return refused
    error = Unauthorised(text, reason=refused.reason) if isinstance(refused, Unauthorised) else None
    return error or Unavailable(text)
