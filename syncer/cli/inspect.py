"""`syncer inspect`: log, fold and status of one notification, side by side."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.arguments import add_object
from syncer.cli.exits import ABSENT, DIFFERENT, NOT_COMPARED, OK

HELP: Final = "show log, fold and status of one notification"

#: Seconds to wait for the object, which the command can do without.
_OBJECT_TIMEOUT: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_object(parser)
    parser.add_argument(
        "--uid", default="", help="read the log of this uid, whatever object has the name now"
    )
    parser.add_argument("--log-only", action="store_true", help="do not ask the API server")


async def run(options: argparse.Namespace) -> int:
    """Show one notification; returns the exit code."""
    from syncer.cli.lookup import namespace_and_name

    namespace, name = namespace_and_name(options.object)
    from syncer.cli.access import access, where_of
    from syncer.cli.inspection import as_json, as_text, inspect, inspect_object
    from syncer.cli.outage import now_here, store_or_silence
    from syncer.cli.output import write_json, write_lines, write_remark
    from syncer.cli.screen import screen_of
    from syncer.cli.store import StoreState
    from syncer.kube.notification_requests import NotificationRequestClient

    async with access(where_of(options), cluster=not options.log_only) as at:
        metadata, _, silent = await store_or_silence(at, needed=at.kube is None)
        objects = (
            NotificationRequestClient(at.kube, timeout=_OBJECT_TIMEOUT)
            if at.kube is not None
            else None
        )
        if objects is None and not options.log_only:
            write_remark(f"the API server is not used: {at.problem}")
        if silent and objects is not None:
            found = await inspect_object(objects, namespace=namespace, name=name, reason=silent)
        else:
            found = await inspect(at.log, objects, namespace=namespace, name=name, uid=options.uid)
    if metadata.state is not StoreState.OURS:
        write_remark(metadata.remark)
    if found is None:
        if objects is not None:
            write_remark(f"there is neither an object nor a log {namespace}/{name}")
        else:
            write_remark(f"no log (objects were not asked) {namespace}/{name}")
        return ABSENT if objects is not None or options.log_only else NOT_COMPARED
    now = now_here()
    if options.json:
        write_json(as_json(found, now=now))
    else:
        write_lines(as_text(found, now=now, width=screen_of(sys.stdout).width))
    if metadata.state is StoreState.NEW:
        return NOT_COMPARED
    if found.differences:
        return DIFFERENT
    return OK if found.compared else NOT_COMPARED
