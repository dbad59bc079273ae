"""
`syncer hold`: send nothing to a receiver, or of a kind, until a given time; `hold list`, `hold end`.

A hold is an object in the controller's namespace (`DeliveryHold`); `kubectl` does the same. What this
command adds is what nobody sees there: whether a pattern names anything, and how many notifications wait,
by the rule that the controller obeys.
"""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import add_by

HELP: Final = "send nothing to a receiver, or of a kind, until a given time; list holds, end them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "act", nargs="?", choices=("list", "end"),
        help="list the holds, or end those that are named; without it, one is placed",
    )  # fmt: skip
    parser.add_argument("hold", nargs="*", metavar="NAME", help="of `hold end`: names of holds")
    what = parser.add_argument_group(
        "what to hold",
        "Patterns, with `*` and `?`. Repeat an option, or separate patterns by commas, to match any of"
        " them; different options must all match.",
    )
    what.add_argument(
        "--receiver", action="append", metavar="PATTERN",
        help="a channel as listed (`slack:ops`, `slack:*`), or any channel of a receiver (`ops`)",
    )  # fmt: skip
    what.add_argument(
        "-n", "--namespace", action="append", metavar="NAMESPACE",
        help="notifications in this namespace",
    )  # fmt: skip
    for name in ("type", "severity"):
        what.add_argument(
            f"--{name}", action="append", metavar=name.upper(),
            help=f"notifications with this spec.{name}, ignoring case",
        )  # fmt: skip
    parser.add_argument(
        "--until", metavar="TIME",
        help="when the hold ends by itself: a duration from now (`2h`, `3d`), or a time",
    )  # fmt: skip
    parser.add_argument("--reason", help="the reason (recorded)")
    parser.add_argument(
        "--anyway", action="store_true", help="even if a pattern matches nothing that is known"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only show what would be held, or ended"
    )
    parser.add_argument("--over", action="store_true", help="of `hold list`: also those that ended")
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--rate", metavar="RATE",
        help="of `hold end`: let go so many a second (`5/s`), or a minute (`30/m`), oldest first",
    )  # fmt: skip
    end.add_argument(
        "--drop", action="store_true",
        help="of `hold end`: give up what waits; it fails, on record, and younger notifications go on",
    )  # fmt: skip
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Place, list or end holds; returns the exit code."""
    from syncer.cli.holds import run

    return await run(options)
