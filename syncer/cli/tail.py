"""`syncer tail`: attempts as they happen."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from syncer.cli.access import access, where_of
from syncer.cli.arguments import STATES
from syncer.cli.attempts import COLOURS, FLEXIBLE, HEAD, Event, Wanted
from syncer.cli.exits import NOT_COMPARED, OK
from syncer.cli.following import Follower, WakeUps
from syncer.cli.lookup import read_request
from syncer.cli.namespaces import namespaces_of
from syncer.cli.output import Columns, write_page, write_remark
from syncer.cli.screen import screen_of
from syncer.cli.store import StoreState, trusted_store
from syncer.cli.times import moment_of
from syncer.model.errors import Ambiguous, Unavailable
from syncer.model.times import format_time

#: Seconds between sweeps, unless they take long.
_PERIOD: Final = 1.0
#: Between tries while Redis does not answer.
_AWAY: Final = 5.0
#: Past attempts that are shown at most.
MOST: Final = 1000


async def run(options: argparse.Namespace) -> int:
    """Show what has happened, and what happens; returns the exit code."""
    wake_ups = WakeUps()
    async with access(where_of(options), on_wake_up=wake_ups.put if options.follow else None) as at:
        now = await at.now()
        wanted = Wanted(
            states=tuple(options.state or (s for s in STATES if s != "intent")),
            namespaces=await namespaces_of(at, options) if not options.object else (),
            receivers=tuple(options.receiver or ()),
            since=moment_of(options.since, "--since", now),
        )
        store = await trusted_store(at, new=True)
        uids = [(await read_request(at, key)).uid for key in options.object]
        follower = Follower(at, wanted, uids)
        columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE, colours=COLOURS)
        dated = now - wanted.since > 86_400_000
        show = partial(
            write_page, columns, json=options.json, cells=lambda event: event.cells(dated=dated)
        )
        try:
            show(await follower.past(MOST))
            if follower.passed_over:
                write_remark(
                    f"{follower.passed_over} earlier ones are not shown; a shorter --since shows less,"
                    " `explain --records` all of one"
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
