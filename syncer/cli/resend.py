"""
`syncer resend`: request one more attempt of channels that ended without success.

Of one notification; or, after an incident, of all that failed on a receiver since a time, at a rate that
spares the receiver. All are found first, and each is read again when its turn comes: that may be hours
later, and no list of the API server lasts as long.
"""

from __future__ import annotations

import argparse
import asyncio

from syncer.cli.access import access, operator_name, where_of
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent, Misused, Refused
from syncer.cli.lookup import read_request
from syncer.cli.manual_records import Stamp, parse_reason, record, resend_requests, write_records
from syncer.cli.namespaces import namespaces_of
from syncer.cli.output import Progress, write_answer, write_lines, write_remark
from syncer.cli.scan import walk
from syncer.cli.store import trusted_store
from syncer.cli.times import moment_of, rate_of
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.reading import read_log
from syncer.model.resource import NotificationRequest
from syncer.rules.channel_state import State
from syncer.rules.holds import on_channel


async def run(options: argparse.Namespace) -> int:
    """Record resend requests; returns the exit code."""
    if options.object and options.failed:
        raise Misused("name a notification, or --failed")
    if not (options.object or options.receiver or options.failed):
        raise Misused("name a notification; or, after an incident, --receiver PATTERN or --failed")
    if not options.object:
        return await _many(options)
    return await record(
        options,
        lambda at, request, log, stamp: resend_requests(
            request, log, channels=tuple(options.receiver or ()),
            at_most_once=at.settings.delivery.at_most_once, **stamp,
        ),
    )  # fmt: skip


async def _many(options: argparse.Namespace) -> int:
    """Request one more attempt of each channel that failed; what was delivered is refused by the rule."""
    pause, by = 1 / rate_of(options.rate), operator_name(options.by)
    where = f"receiver {', '.join(options.receiver)}" if options.receiver else "every receiver"
    reason = parse_reason(options.reason or f"after an incident of {where}")
    requested, unread, chosen = 0, 0, []
    async with access(where_of(options)) as at:
        await trusted_store(at, writes=not options.dry_run)
        since = moment_of(options.since, "--since", await at.now()) if options.since else 0
        async for one in walk(at, await namespaces_of(at, options)):
            if isinstance(one, Unreadable):
                unread += 1
            elif _failed(one, options, since):
                chosen.append((one.key, one.uid))
        with Progress("resent", total=len(chosen)) as progress:
            for key, uid in chosen:
                progress.step()
                try:
                    request = await read_request(at, key)
                    channels = _failed(request, options, since) if request.uid == uid else ()
                    if not channels:
                        continue
                    stamp: Stamp = {"at": await at.now(), "by": by, "reason": reason}
                    records = resend_requests(
                        request, read_log(await at.log.elements(uid)), channels=channels,
                        at_most_once=at.settings.delivery.at_most_once, **stamp,
                    )  # fmt: skip
                except (Absent, Refused) as error:
                    write_remark(f"{key}: {error}")
                    continue
                if requested and not options.dry_run:
                    await asyncio.sleep(pause)
                if not options.json:
                    write_lines([key])
                await write_records(at, request, records, options, by=by)
                requested += 1
    summary = {"requested": requested, "unread": unread, "dryRun": options.dry_run}
    verb = "would be requested" if options.dry_run else "requested"
    line = f"one more attempt {verb} for {requested} notification(s)"
    write_answer({"summary": summary}, [line], as_json=options.json)
    if not chosen:
        write_remark("nothing that matches has failed, or what has is being tried again")
    return NOT_COMPARED if unread else OK if requested else DIFFERENT


def _failed(
    request: NotificationRequest, options: argparse.Namespace, since: int
) -> tuple[str, ...]:
    """Return the channels that failed for good, as the status shows it, and that were asked for."""
    last = {a.channel: a.ended or a.started for a in request.status.attempts}
    return tuple(
        c.name
        for c in request.status.channels
        if c.state in {State.FAILED, State.EXHAUSTED, State.UNCERTAIN}
        and on_channel(c.name, options.receiver or ())
        and last.get(c.name, 0) >= since
    )
