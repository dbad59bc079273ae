"""`syncer release`: release a hold."""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import HOLD, add_by, add_dry_run
from syncer.cli.exits import OK, Refused

HELP: Final = "release a hold"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("hold", nargs="+", metavar=HOLD, help="id of a hold, from `syncer holds`")
    add_dry_run(parser, "which holds would be released")
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Release holds; returns the exit code."""
    from syncer.cli.access import access, operator_name, where_of
    from syncer.cli.output import write_json, write_lines
    from syncer.cli.store import trusted_store
    from syncer.ledger.holds import HoldStore
    from syncer.rules.holds import release, selector_of
    from syncer.rules.text import plain

    by = plain(operator_name(options.by))
    wanted = dict.fromkeys(options.hold)
    async with access(where_of(options)) as at:
        await trusted_store(at, options, writes=not options.dry_run)
        now = await at.now()
        store = HoldStore(at.client)
        before = (await store.read()).holds
        try:
            if options.dry_run:
                release(before, wanted, now=now, by=by)
            else:
                await store.change(lambda holds: release(holds, wanted, now=now, by=by))
                await store.announce()
        except ValueError as error:
            raise Refused(str(error)) from None
    known = {h.id: h for h in before}
    for id_ in wanted:
        hold = known[id_]
        acted = hold.in_force(now)
        if options.json:
            write_json(
                {
                    "id": id_, "letGo": acted and not options.dry_run, "by": by,
                    "selector": selector_of(hold), "reason": hold.reason, "dryRun": options.dry_run,
                }
            )  # fmt: skip
        else:
            done = "would release" if options.dry_run else "released"
            what = done if acted else "has already ended"
            write_lines([f"{what}: {id_} {selector_of(hold)} ({hold.reason})"])
    return OK
