"""
`notifier gateway`: takes webhooks of other programs; `notifier gateway test`: shows what one would become.

The test reads a payload on standard input and prints the objects that the gateway would create, and with a
routing file who would get them. It asks no server and checks no signature.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from syncer.cli.exits import DIFFERENT, OK

HELP: Final = "take webhooks of other programs, or show what one would become"
_CONFIG: Final = "/etc/notification-gateway/gateway.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options of the command."""
    parser.add_argument(
        "--config", metavar="FILE", default=_CONFIG, help="the gateway's file (default %(default)s)"
    )
    parser.epilog = (
        "exit codes: 0 ended as asked; 1 the configuration cannot be used, or the payload becomes no"
        " notification; 2 wrong usage"
    )
    actions = parser.add_subparsers(dest="action", metavar="test")
    test = actions.add_parser("test", help="show what the payload on standard input would become")
    test.add_argument("--source", required=True, metavar="NAME", help="of the gateway's file")
    test.add_argument(
        "--routes", metavar="FILE", help="a routing file: also show who would get the notification"
    )
    test.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'",
        help="a header of the request; may be given several times",
    )  # fmt: skip
    test.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help="as for the gateway itself"
    )


def run(options: argparse.Namespace) -> int:
    """Run the gateway, or the test; returns the exit code."""
    if options.action == "test":
        return _test(options)
    from notifier.cli import controller

    def prepare() -> controller.Program:
        from notifier.gateway.process import run as start
        from notifier.gateway.settings import load

        loaded = load(options.config)
        return controller.Program(
            loaded.settings.logging, loaded.warnings, lambda watch: start(loaded, watch)
        )

    return controller.run(prepare)


def _test(options: argparse.Namespace) -> int:
    import time

    from notifier.gateway.draft import Refused
    from notifier.gateway.settings import load
    from notifier.gateway.trial import shown
    from syncer.model.errors import ConfigError

    try:
        loaded = load(options.config)
        for warning in loaded.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        routes = Path(options.routes).read_text(encoding="utf-8") if options.routes else None
        text = shown(
            loaded,
            options.source,
            sys.stdin.buffer.read(),
            headers=options.header,
            routes=routes,
            now=time.time(),
        )
    except Refused as error:
        sys.stderr.write(
            f"notifier: the payload becomes no notification: {error} (HTTP {error.status})\n"
        )
        return DIFFERENT
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"notifier: {error}\n")
        return DIFFERENT
    sys.stdout.write(text)
    return OK
