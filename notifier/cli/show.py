"""`notifier show`: what this version brings: its CustomResourceDefinition, and the schemas of its files."""

from __future__ import annotations

import argparse
import json
import sys

from notifier.cli.schemas import gateway_schema, routing_schema, settings_schema
from syncer.cli.exits import OK
from syncer.kube.crd import render_crd


def run(options: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    if options.what == "crd":
        sys.stdout.write(render_crd())
    else:
        made = {"settings": settings_schema, "routing": routing_schema, "gateway": gateway_schema}
        sys.stdout.write(json.dumps(made[options.what](), indent=2, ensure_ascii=False) + "\n")
    return OK
