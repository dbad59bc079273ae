"""`syncer resend`: request one more attempt of a channel that ended without success."""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import add_by, add_dry_run, add_object, add_reason

HELP: Final = "request one more attempt of a channel that ended without success"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_object(parser)
    add_reason(parser, "the reason")
    parser.add_argument(
        "--channel", action="append", metavar="CHANNEL",
        help="only this channel; may be given again (default: all that ended without success)",
    )  # fmt: skip
    add_dry_run(parser, "what would be recorded")
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Record a resend request; returns the exit code."""
    from syncer.cli.manual_records import record, resend_requests

    return await record(
        options,
        lambda at, request, log, stamp: resend_requests(
            request, log, channels=tuple(options.channel or ()),
            at_most_once=at.settings.delivery.at_most_once, **stamp,
        ),
    )  # fmt: skip
