"""`syncer resolve`: record the result of an attempt that ended as unknown."""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import add_by, add_dry_run, add_object, add_reason

HELP: Final = "record the result of an attempt that ended as unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_object(parser)
    parser.add_argument(
        "--as", dest="result", required=True, choices=("delivered", "failed"),
        help="the result to record",
    )  # fmt: skip
    add_reason(parser, "how you know the result")
    parser.add_argument(
        "--attempt",
        metavar="ID",
        help="its id, or `all` (default: the only one whose result is unknown)",
    )
    parser.add_argument("--channel", metavar="CHANNEL", help="only attempts on this channel")
    parser.add_argument(
        "--even-open", action="store_true", help="also attempts that may still be under way"
    )
    add_dry_run(parser, "what would be recorded")
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Record a manual resolution; returns the exit code."""
    from syncer.cli.manual_records import record, resolutions

    return await record(
        options,
        lambda _at, _request, log, stamp: resolutions(
            log, attempt=options.attempt or "", channel=options.channel or "",
            delivered=options.result == "delivered", even_open=options.even_open, **stamp,
        ),
    )  # fmt: skip
