"""
`syncer web`: the explorer, read-only pages about all notifications.

It uses the code of the other commands, so a page and a command never disagree. It runs in a process of
its own, so the number of viewers does not affect the controller. The list is an index in memory
(`index`), kept by a watch (`follow`); everything else is read when a page asks for it (`source`), and
`pages` turns it into HTML.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.arguments import add_home, add_namespaces, address, count
from syncer.cli.exits import OK

HELP: Final = "serve the explorer's pages, on loopback only"
_PORT: Final = 8088


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--port", type=count, default=_PORT, metavar="PORT",
        help="port on 127.0.0.1, 0 for any free one (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--health-address", type=address, metavar="HOST:PORT",
        help="serve only /healthz on this address, for probes (default: none)",
    )  # fmt: skip
    add_home(parser)


async def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    import asyncio
    import signal

    from syncer.cli.access import access, where_of
    from syncer.cli.namespaces import controller_namespace, namespaces_of
    from syncer.cli.output import write_lines
    from syncer.cli.web.follow import Follower
    from syncer.cli.web.index import Index
    from syncer.cli.web.server import ADDRESS, Explorer
    from syncer.cli.web.source import Source
    from syncer.model.errors import ConfigError

    home = options.controller_namespace or await controller_namespace()
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with access(where_of(options)) as at:
        namespaces, index = await namespaces_of(at, options), Index()
        follower = Follower(at, index, namespaces)
        source = Source(at, index, namespaces=namespaces, home=home)
        explorer = Explorer(source, index, follower)
        following = asyncio.create_task(follower.run())
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
            following.cancel()
            await explorer.close()
            await asyncio.gather(following, return_exceptions=True)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    return OK
