"""`notifier run`: the controller, until SIGTERM."""

from __future__ import annotations

import argparse
import os
from typing import Final

HELP: Final = "run the controller"

#: The grace period of the pods of the replaced controller, from which no argument of theirs tells.
THEIR_GRACE: Final = "10s"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--config", "-config", metavar="FILE", default="/etc/notification/config.yaml",
        help="settings file (default %(default)s)",
    )  # fmt: skip
    parser.set_defaults(grace="")
    parser.epilog = (
        "exit codes: 0 stopped by a signal; 1 the configuration cannot be used, or a background task has"
        " ended; 2 wrong usage"
    )


def run(options: argparse.Namespace) -> int:
    """Run the controller; returns the exit code, or exits with it if a thread hangs."""
    from notifier.cli import program

    def prepare() -> program.Program:
        from notifier.process.production import run as start
        from notifier.settings import load

        loaded = load(program.named(options.config), os.environ, grace=options.grace)
        return program.Program(
            loaded.settings.logging, loaded.warnings, lambda watch: start(loaded, watch)
        )

    return program.run(prepare)
