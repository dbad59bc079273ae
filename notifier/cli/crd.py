"""`notifier crd`: the CustomResourceDefinition, with or without the server-side rules."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.exits import OK

HELP: Final = "print the CustomResourceDefinition"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--without-rules", action="store_true", help="leave out the server-side rules on status"
    )


def run(options: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    from syncer.kube.crd import render_crd

    sys.stdout.write(render_crd(rules=not options.without_rules))
    return OK
