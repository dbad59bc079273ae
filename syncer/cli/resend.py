"""
`syncer resend`: request one more attempt of channels that ended without success.

Of one notification; or, after an incident, of all that failed on a receiver since a time, at a rate that
spares the receiver.
"""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import OBJECT, add_by, add_dry_run, add_namespaces
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Misused, Refused

HELP: Final = "request one more attempt of channels that ended without success"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("object", metavar=OBJECT, nargs="?")
    parser.add_argument(
        "--reason", default="", help="the reason (recorded; required for one notification)"
    )
    parser.add_argument(
        "--channel", action="append", metavar="CHANNEL",
        help="only this channel; may be given again (default: all that ended without success)",
    )  # fmt: skip
    many = parser.add_argument_group("after an incident")
    many.add_argument(
        "--receiver", metavar="PATTERN", help="every notification that failed there, `ops`"
    )
    many.add_argument("--failed", action="store_true", help="of every receiver")
    many.add_argument(
        "--since",
        metavar="TIME",
        help="only if its last attempt there was since then (`2h`, or a time)",
    )
    many.add_argument("--rate", metavar="N/s", default="1/s", help="default: %(default)s")
    add_namespaces(many)
    add_dry_run(parser, "what would be recorded")
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Record resend requests; returns the exit code."""
    from syncer.cli.manual_records import record, resend_requests

    many = bool(options.receiver or options.failed)
    if many == bool(options.object):
        raise Misused("name a notification; or, after an incident, --receiver PATTERN or --failed")
    if many:
        return await _many(options)
    return await record(
        options,
        lambda at, request, log, stamp: resend_requests(
            request, log, channels=tuple(options.channel or ()),
            at_most_once=at.settings.delivery.at_most_once, **stamp,
        ),
    )  # fmt: skip


def pause_of(rate: str) -> float:
    """Return the seconds between two requests at a rate such as `5/s` or `30/m`; else Misused."""
    number, slash, unit = rate.partition("/")
    try:
        pause = {"s": 1.0, "m": 60.0}[unit or "s"] / float(number)
    except (KeyError, ValueError, ZeroDivisionError):
        pause = -1.0
    if not (slash or rate) or not 0 < pause <= 3600:
        raise Misused(f"--rate: must be a number and a unit, such as 5/s or 30/m, not {rate!r}")
    return pause


async def _many(options: argparse.Namespace) -> int:  # noqa: PLR0915 - one walk over all objects
    """Request one more attempt of each channel that failed; what was delivered is refused by the rule."""
    import asyncio
    from contextlib import aclosing

    from syncer.cli.access import access, operator_name, where_of
    from syncer.cli.attempts import on_channel
    from syncer.cli.manual_records import Stamp, parse_reason, resend_requests, write_records
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.output import Progress, write_json, write_lines, write_remark
    from syncer.cli.scan import Problem, Scan, objects
    from syncer.cli.store import trusted_store
    from syncer.cli.times import moment_of
    from syncer.ledger.reading import read_log
    from syncer.rules.channel_state import State

    ended = {State.FAILED, State.EXHAUSTED, State.UNCERTAIN}
    pause, by = pause_of(options.rate), operator_name(options.by)
    where = f"receiver {options.receiver}" if options.receiver else "every receiver"
    reason = parse_reason(options.reason or f"after an incident of {where}")
    requested, unread = 0, 0
    async with access(where_of(options)) as at:
        await trusted_store(at, options, writes=not options.dry_run)
        since = moment_of(options.since, "--since", await at.now()) if options.since else 0
        with Progress("objects") as progress:
            async with aclosing(objects(at, Scan(), await namespaces_of(at, options))) as pages:
                async for page in pages:
                    for one in page:
                        if isinstance(one, Problem):
                            unread += 1
                            continue
                        status = one.status
                        last = {a.channel: a.ended or a.started for a in status.attempts}
                        channels = tuple(
                            c.name
                            for c in status.channels
                            if c.state in ended
                            and on_channel(c.name, "", options.receiver or "")
                            and (not options.channel or c.name in options.channel)
                            and last.get(c.name, 0) >= since
                        )
                        if not channels:
                            continue
                        log = read_log(await at.log.elements(one.uid))
                        stamp: Stamp = {"at": await at.now(), "by": by, "reason": reason}
                        try:
                            records = resend_requests(
                                one, log, channels=channels,
                                at_most_once=at.settings.delivery.at_most_once, **stamp,
                            )  # fmt: skip
                        except Refused as error:
                            write_remark(f"{one.key}: {error}")
                            continue
                        if requested and not options.dry_run:
                            await asyncio.sleep(pause)
                        if not options.json:
                            write_lines([one.key])
                        await write_records(at, one, records, options, by=by)
                        requested += 1
                    progress.step(len(page))
    summary = {"requested": requested, "unread": unread, "dryRun": options.dry_run}
    if options.json:
        write_json({"summary": summary})
    else:
        verb = "would be requested" if options.dry_run else "requested"
        write_lines([f"one more attempt {verb} for {requested} notification(s)"])
    return NOT_COMPARED if unread else OK if requested else DIFFERENT
