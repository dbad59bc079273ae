"""
Run the controller and the gateway, check their files, and send test notifications.

Each command is one module: its options (`add_arguments`) beside what runs it (`run`). Only parsers are
made when these are imported: what a command needs is imported when it runs, so that `--help` is quick and
`run` handles signals from its first moment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from notifier.cli import check, gateway, routes, run, send, show
from syncer.cli import completion
from syncer.cli.arguments import Parser
from syncer.cli.exits import OK, USAGE
from syncer.cli.process import begin, finish


class Command(Protocol):
    """The module of a command."""

    @property
    def HELP(self) -> str:  # noqa: N802 - a constant of the module
        """One line on what it does."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""

    def run(self, options: argparse.Namespace) -> int:
        """Run the command; returns the exit code."""


COMMANDS: Final[dict[str, Command]] = {
    "run": run,
    "gateway": gateway,
    "check": check,
    "routes": routes,
    "send": send,
    "show": show,
    "completion": completion,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, or exits with it if a thread of the controller hangs."""
    lasting: list[argparse.Namespace] = []
    code = finish("notifier", lambda: _begun(arguments, lasting))
    return COMMANDS[lasting[0].command].run(lasting[0]) if lasting else code


def _begun(arguments: Sequence[str] | None, lasting: list[argparse.Namespace]) -> int:
    """Run a command that is over soon, and return its exit code; of another one, add the options."""
    parser = _parser()
    typed = completion.typed_after(sys.argv[1:] if arguments is None else arguments)
    if typed is not None:
        sys.stdout.writelines(f"{word}\n" for word in completion.candidates(parser, typed))
        return OK
    options = parser.parse_args(arguments)
    if options.replacing and options.command is not None:
        parser.error("give --config after the command")
    if options.replacing:
        # As the replaced controller is started.
        options = parser.parse_args(["run", "--config", options.replacing])
        options.grace = run.THEIR_GRACE
    if options.version:
        from notifier.version import __version__

        sys.stdout.write(f"notification-ledger {__version__} (Python {sys.version.split()[0]})\n")
        return OK
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    if options.command == "run" or (options.command == "gateway" and options.action is None):
        # It ends in its own way.
        lasting.append(options)
        return OK
    if arguments is None:
        # Of a process of its own.
        begin()
    return COMMANDS[options.command].run(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="notifier", description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument(
        "-config", "--config", metavar="FILE", dest="replacing",
        help="without a command: run the controller as in place of Kubernaut's, whose arguments these are",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
    return parser
