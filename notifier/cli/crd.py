"""`notifier crd`: the CustomResourceDefinition of this project, which shows more than Kubernaut's."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.exits import OK

HELP: Final = "print the CustomResourceDefinition"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(_options: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    from syncer.kube.crd import render_crd

    sys.stdout.write(render_crd())
    return OK
