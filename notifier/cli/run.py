"""`notifier run`: the controller, until SIGTERM."""

from __future__ import annotations

import argparse
import os

from notifier.cli import program


def run(options: argparse.Namespace) -> int:
    """Run the controller; returns the exit code, or exits with it if a thread hangs."""

    def prepare() -> program.Program:
        from notifier.process.production import run as start
        from notifier.settings import load

        loaded = load(program.named(options.config), os.environ, grace=options.grace)
        return program.Program(
            loaded.settings.logging, loaded.warnings, lambda watch: start(loaded, watch)
        )

    return program.run(prepare)
