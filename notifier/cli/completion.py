"""`notifier completion`: the completion script of a shell, which asks `notifier complete`."""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli import completion

HELP: Final = completion.HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    completion.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Write the script of a shell; returns the exit code."""
    return completion.write_script(options.shell, "notifier")
