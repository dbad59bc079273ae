"""
Run the controller and the gateway, check their files, and send test notifications.

A command is one module, which is imported when the command runs, so that `--help` is quick. The module of
`run` and `gateway` handles signals first and imports everything else afterwards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from notifier.cli.arguments import COMMANDS
from syncer.cli.arguments import Version
from syncer.cli.exits import OK, USAGE, failed, finish
from syncer.model.errors import LedgerError

#: Grace period of the replaced controller's pods; none of their arguments contains it.
THEIR_GRACE: Final = "10s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, or exits with it if a thread of the controller hangs."""
    lasting: list[argparse.Namespace] = []
    code = finish("notifier", lambda: _begun(arguments, lasting))
    return _run(lasting[0]) if lasting else code


def _begun(arguments: Sequence[str] | None, lasting: list[argparse.Namespace]) -> int:
    """Run a short command and return its exit code; of a long-running one, add the options to `lasting`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.replacing and options.command is not None:
        parser.error("give --config after the command")
    if options.replacing:
        # The replaced controller is started with these arguments.
        options = parser.parse_args(["run", "--config", options.replacing])
        options.grace = THEIR_GRACE
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    if options.command == "run" or (options.command == "gateway" and options.action is None):
        # A long-running command handles its end itself.
        lasting.append(options)
        return OK
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        module = options.command
        if module in {"run", "gateway"}:
            module = "preview" if options.action else "program"
        return int(import_module(f"notifier.cli.{module}").run(options))
    except (LedgerError, TimeoutError) as error:
        return failed(error, "notifier")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="notifier", description=(__doc__ or "").strip().partition("\n")[0]
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    parser.add_argument(
        "-config", "--config", metavar="FILE", dest="replacing",
        help="without a command: run the controller in place of Kubernaut's, which takes this argument",
    )  # fmt: skip
    parser.set_defaults(grace="", action=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_to(commands.add_parser(name, help=command.help, description=command.help))
    return parser
