"""`syncer tail`: attempts as they happen."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from syncer.cli.arguments import OBJECT, STATES, add_attempts, add_namespaces, count
from syncer.cli.exits import NOT_COMPARED, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from syncer.cli.attempts import Event
    from syncer.cli.following import Follower, WakeUps

HELP: Final = "show attempts as they happen: their results, and why one was not made"

#: Seconds between sweeps, unless they take long.
_PERIOD: Final = 1.0
#: Between tries while Redis does not answer.
_AWAY: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "object", nargs="*", metavar=OBJECT, help="only these notifications (default: all)"
    )
    add_namespaces(parser)
    add_attempts(parser)
    parser.add_argument(
        "--state", action="append", choices=STATES,
        help="only this state; may be given again; `intent` is the beginning of an attempt, `skip` the"
        " reason why none was made (default: all but intent)",
    )  # fmt: skip
    parser.add_argument(
        "-f", "--follow", action="store_true", help="then follow new attempts, until interrupted"
    )
    parser.add_argument(
        "--since", default="10m", metavar="TIME",
        help="start this long ago (`1h`, `3d`), or at a time such as the one in the last line of an earlier"
        " run (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=count, default=1000, metavar="N",
        help="show at most the newest N past attempts, 0 for all (default %(default)s)",
    )  # fmt: skip


async def run(options: argparse.Namespace) -> int:
    """Show what has happened, and what happens; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.attempts import COLOURS, FLEXIBLE, HEAD, Wanted
    from syncer.cli.following import Follower, WakeUps
    from syncer.cli.lookup import read_request
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.output import Columns, write_page, write_remark
    from syncer.cli.screen import screen_of
    from syncer.cli.store import StoreState, trusted_store
    from syncer.cli.times import moment_of
    from syncer.model.times import format_time

    wake_ups = WakeUps()
    async with access(where_of(options), on_wake_up=wake_ups.put if options.follow else None) as at:
        now = await at.now()
        wanted = Wanted(
            states=tuple(options.state or (s for s in STATES if s != "intent")),
            namespaces=await namespaces_of(at, options) if not options.object else (),
            channel=options.channel or "",
            receiver=options.receiver or "",
            error=options.error or "",
            since=moment_of(options.since, "--since", now),
        )
        store = await trusted_store(at, options, new=True)
        uids = [(await read_request(at, key)).uid for key in options.object]
        follower = Follower(at, wanted, uids)
        columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE, colours=COLOURS)
        dated = now - wanted.since > 86_400_000
        show = partial(
            write_page, columns, json=options.json, cells=lambda event: event.cells(dated=dated)
        )
        try:
            show(await follower.past(options.limit))
            if follower.passed_over:
                write_remark(
                    f"{follower.passed_over} earlier ones are not shown; --limit 0 shows all of them"
                )
            if options.follow:
                await _follow(follower, wake_ups, show)
        finally:
            columns.report_cut()
            write_remark(f"to continue from here: --since {format_time(follower.resume)}")
    return NOT_COMPARED if store.state is StoreState.NEW else OK


async def _follow(
    follower: Follower, wake_ups: WakeUps, show: Callable[[Sequence[Event]], None]
) -> None:
    """Show what is appended, until cancelled."""
    import asyncio
    from contextlib import aclosing

    from syncer.cli.output import write_remark
    from syncer.model.errors import Ambiguous, Unavailable

    # The next sweep has its time, however many wake-ups come before it.
    clock = asyncio.get_running_loop().time
    away, due = False, clock() + follower.pause(_PERIOD)
    while True:
        try:
            if uids := await wake_ups.wait(max(0.0, due - clock())):
                show(await follower.look(uids))
            if clock() >= due:
                async with aclosing(follower.sweep()) as pages:
                    async for events in pages:
                        show(events)
                due = clock() + follower.pause(_PERIOD)
                if away:
                    write_remark("Redis answers again; nothing was missed")
                away = False
        except (Unavailable, Ambiguous, TimeoutError) as error:
            if not away:
                write_remark(f"Redis does not answer, retrying: {error}")
            away, due = True, clock() + _AWAY
