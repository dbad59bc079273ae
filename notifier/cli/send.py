"""`notifier send`: a test notification, created as anybody creates one, and followed to its end."""

from __future__ import annotations

import argparse
from typing import Final

from notifier.cli.arguments import add_attributes, add_files, add_output
from syncer.cli.arguments import OPTIONS

HELP: Final = "create a test notification, and follow it to its end"

#: Those of the CRD; a test compares.
TYPES: Final = ("Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion")
PRIORITIES: Final = ("Critical", "High", "Medium", "Low")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--receiver", metavar="NAME",
        help="the receiver to reach; the command chooses attributes that reach it alone",
    )  # fmt: skip
    add_attributes(parser)
    parser.add_argument(
        "-n", "--namespace", metavar="NAMESPACE",
        help="where to create it (default: what the routes ask for, else the pod's own)",
    )  # fmt: skip
    parser.add_argument("--subject", default="Test notification", help="default: %(default)r")
    parser.add_argument(
        "--body", help="text of the message (default: says who sent it, and that nothing is wrong)"
    )
    parser.add_argument(
        "--type", choices=TYPES, help="default: what the routes ask for, else Simple"
    )
    parser.add_argument(
        "--priority", choices=PRIORITIES, help="default: what the routes ask for, else Low"
    )
    add_files(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="print the manifest, and who would get it"
    )
    how.add_argument(
        "--wait", action="store_true", help="show its attempts until the notification has ended"
    )
    parser.add_argument(
        "--timeout", default="2m", metavar="TIME",
        help="give up waiting after this time (default %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("the API server")
    for name in ("kubeconfig", "context"):
        group.add_argument(f"--{name}", **OPTIONS[name])
    add_output(parser, ("text", "json"))
    parser.epilog = (
        "exit codes: 0 created, and with --wait delivered by every channel; 1 it ended otherwise, or was"
        " refused; 2 wrong usage or files; 4 the API server does not answer; 6 the API server refuses the"
        " account; 7 it has not ended within --timeout"
    )


def run(options: argparse.Namespace) -> int:
    """Send; returns the exit code."""
    import asyncio
    import logging

    from notifier.cli.sending import send

    # What matters to the reader, the command says itself.
    logging.getLogger("ledger").addHandler(logging.NullHandler())
    return asyncio.run(send(options))
