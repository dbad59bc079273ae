"""Options that several commands share; imported for `--help`, so it imports nothing that takes time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the files of settings and routing."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings file (default: the pod's own, if there is one)"
    )
    parser.add_argument(
        "--routing", metavar="FILE",
        help="routing file (default: $ROUTING_CONFIG_PATH, else the pod's own, if there is one)",
    )  # fmt: skip


def add_attributes(parser: argparse.ArgumentParser) -> None:
    """Add the option for the attributes of a notification."""
    parser.add_argument(
        "--attributes", metavar="KEY=VALUE,...", action="append", default=[],
        help="what routes match, as severity=critical,team=db; may be given again",
    )  # fmt: skip


def add_output(parser: argparse.ArgumentParser, forms: Sequence[str]) -> None:
    """Add the option for the format of the answer; the first of the forms is the default."""
    parser.add_argument(
        "-o", "--output", choices=forms, default=forms[0],
        help="output format (default %(default)s)",
    )  # fmt: skip
