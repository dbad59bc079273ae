"""`syncer explain`: why a notification was sent, why not, what comes next and when."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.arguments import OBJECT, add_event
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent

HELP: Final = "explain why it was sent or not, and what comes next and when"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("object", metavar=OBJECT, nargs="?")
    add_event(which)
    parser.add_argument(
        "--records", action="store_true",
        help="show every record of its log, and compare log and status; also of a deleted object",
    )  # fmt: skip


async def run(options: argparse.Namespace) -> int:
    """Explain one notification; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.explanation import Rules, as_json, as_text, explain
    from syncer.cli.holding import read_holds
    from syncer.cli.lookup import find_request
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.outage import log_by_status, log_of, now_here, store_or_silence
    from syncer.cli.output import write_json, write_lines, write_remark
    from syncer.cli.owner import find_owner
    from syncer.cli.screen import screen_of
    from syncer.model.errors import Ambiguous, Unavailable
    from syncer.rules.plan import Finish

    async with access(where_of(options)) as at:
        store, home, unread = await store_or_silence(at, needed=options.records and at.kube is None)
        key = options.object
        namespaces = await namespaces_of(at, options)
        if options.event:
            from syncer.cli.senders import find_event

            key = await find_event(at, options.event.strip(), namespaces)
        if options.records:
            from syncer.cli.inspection import show_records

            return await show_records(at, store, key, unread, options)
        try:
            request = await find_request(at, key, namespaces)
        except Absent:
            from syncer.cli.inspection import find_uid, show_records

            if unread or "/" not in key or await find_uid(at.log, key) is None:
                raise
            write_remark(f"there is no object {key} any more; this is its log")
            return await show_records(at, store, key, unread, options)
        except (Unavailable, Ambiguous, TimeoutError):
            if unread or "/" not in key:
                raise
            from syncer.cli.inspection import show_records

            return await show_records(at, store, key, unread, options)
        log, now = log_by_status(request), now_here()
        if not unread:
            log, now, unread = await log_of(at, request)
        owner = await find_owner(at, store, namespace=request.namespace, uid=request.uid, home=home)
        rules = Rules.of(at, *(((), unread) if unread else await read_holds(at)))
        found = explain(request, log, rules, now=now, owner=owner, unread=unread)
    if options.json:
        write_json(as_json(found))
    else:
        write_lines(as_text(found, screen_of(sys.stdout).width))
    if unread:
        return NOT_COMPARED
    if log.problem or found.blocked:
        return DIFFERENT
    # What has ended needs no owner.
    needed = not isinstance(found.decision, Finish)
    return NOT_COMPARED if needed and owner.holder is None else OK
