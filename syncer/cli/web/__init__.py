"""
`syncer web`: the explorer, read-only pages about all notifications.

It uses the queries of the other commands, so a page and a command never disagree. It runs in a process of
its own, so the number of viewers does not affect the controller. The list is an index in memory, kept up
to date by a watch (`index`); everything else is read when a page needs it (`server`), and `pages` renders
HTML from templates.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from syncer.cli.access import access
from syncer.cli.exits import OK
from syncer.cli.installation import controller_namespace, namespaces_of
from syncer.cli.output import write_lines
from syncer.cli.web.index import Follower, Index
from syncer.cli.web.server import ADDRESS, Explorer
from syncer.model.errors import ConfigError
from syncer.runtime.supervise import beside


async def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    home = controller_namespace()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with access(options) as at:
        namespaces, index = namespaces_of(at, options), Index()
        follower = Follower(at, index, namespaces)
        explorer = Explorer(at, index, follower, namespaces=namespaces, home=home)
        async with beside(follower.run()) as following:
            following.add_done_callback(lambda _task: stopped.set())
            try:
                try:
                    if options.health_address:
                        await explorer.listen_for_probes(*options.health_address)
                    port = await explorer.listen(options.port)
                except (OSError, OverflowError) as error:
                    raise ConfigError(f"the port cannot be opened: {error}") from None
                write_lines([f"http://{ADDRESS}:{port}/"])
                sys.stdout.flush()
                await stopped.wait()
                if following.done():
                    following.result()
            finally:
                await explorer.close()
    return OK
