"""`notifier show`: what this version brings: its CustomResourceDefinition, and the schemas of its files."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.exits import OK

HELP: Final = "print the CRD, or for editors the JSON schema of a file: settings, routing, gateway"

WHAT: Final = ("crd", "settings", "routing", "gateway")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("what", choices=WHAT)


def run(options: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    if options.what == "crd":
        from syncer.kube.crd import render_crd

        sys.stdout.write(render_crd())
        return OK
    import json

    from notifier.cli.schemas import gateway_schema, routing_schema, settings_schema

    made = {"settings": settings_schema, "routing": routing_schema, "gateway": gateway_schema}
    sys.stdout.write(json.dumps(made[options.what](), indent=2, ensure_ascii=False) + "\n")
    return OK
