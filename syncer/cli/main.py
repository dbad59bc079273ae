"""
Show what was sent, why not, and what comes next; hold, resend, repair. It never sends by itself.

It reads, appends facts to logs and wakes their owners; it never claims a log.

The first of these that exists says where to look: `--config` (the controller's own settings file),
`--redis-url`, the settings file of the pod that the command runs in, `$REDIS_URL`. The exit codes are in
`syncer.cli.exits`.

Each command is a module, which is imported only when the command runs; this keeps `--help` fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from syncer.cli.arguments import COMMANDS, EVERYWHERE, SETTINGS_FILES, Version, add_options
from syncer.cli.exits import EPILOG, failed, finish
from syncer.model.errors import ConfigError, LedgerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return finish("syncer", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    import asyncio
    import logging

    if options.command != "web":
        # The commands report what their readers need to know, so log lines are discarded.
        logging.getLogger("ledger").addHandler(logging.NullHandler())
    return asyncio.run(_run(options))


async def execute(arguments: Sequence[str]) -> int:  # noqa: V103 (for tests, on their loop)
    """
    Run a command that connects, on the running loop; returns the exit code.

    Raises:
        SystemExit: the usage is wrong (code 2), or help was asked for (code 0).
    """
    return await _run(_parser().parse_args(arguments))


async def _run(options: argparse.Namespace) -> int:
    from syncer.cli.stdin import until_stdin_closes

    try:
        _locate(options)
        work = import_module(f"syncer.cli.{COMMANDS[options.command].module}").run(options)
        return int(await (until_stdin_closes(work) if options.until_stdin_closes else work))
    except (LedgerError, TimeoutError) as error:
        if options.redis_url and isinstance(error, ConfigError) and error.path == "redis.url":
            error = ConfigError(options.redis_from + str(error).removeprefix(error.path))
        return failed(error)


def _locate(options: argparse.Namespace) -> None:
    """Set the options that locate Redis and the settings file."""
    options.redis_from = "--redis-url"
    if options.redis_url:
        from syncer.ledger.url import holds_password

        if holds_password(options.redis_url):
            sys.stderr.write(
                "syncer: any user who can list processes here can read the password in --redis-url; use"
                " $REDIS_URL\n"
            )
    elif not options.config:
        options.config = next(filter(os.path.isfile, SETTINGS_FILES), None)
    if not (options.config or options.redis_url) and os.environ.get("REDIS_URL"):
        options.redis_url, options.redis_from = os.environ["REDIS_URL"], "$REDIS_URL"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncer", description=(__doc__ or "").strip().partition("\n")[0], epilog=EPILOG
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        made = commands.add_parser(name, help=command.help, description=command.help, epilog=EPILOG)
        add_options(made, {**command.options, **EVERYWHERE})
    return parser
