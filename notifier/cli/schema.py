"""`notifier schema`: the JSON schema of a file, as this version reads it."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.exits import OK

HELP: Final = (
    "print the JSON schema of the settings, the routing or the gateway's file, for editors"
)

FILES: Final = ("settings", "routing", "gateway")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", choices=FILES)


def run(options: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    import json

    from notifier.cli.schemas import gateway_schema, routing_schema, settings_schema

    made = {"settings": settings_schema, "routing": routing_schema, "gateway": gateway_schema}
    schema = made[options.file]()
    sys.stdout.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    return OK
