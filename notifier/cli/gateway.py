"""`notifier gateway`: accepts webhooks of other programs."""

from __future__ import annotations

import argparse
import os

from notifier.cli import program


def run(options: argparse.Namespace) -> int:
    """Run the gateway, or `notifier gateway test`; returns the exit code."""
    if options.action == "test":
        from notifier.cli import preview

        return preview.run(options)

    def prepare() -> program.Program:
        from notifier.gateway.process import run as start
        from notifier.gateway.settings import load

        loaded = load(program.named(options.config), os.environ)
        return program.Program(
            loaded.settings.logging, loaded.warnings, lambda watch: start(loaded, watch)
        )

    return program.run(prepare)
