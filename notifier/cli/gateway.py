"""
`notifier gateway`: accepts webhooks of other programs; `notifier gateway test`: shows what one becomes.

The test reads a payload on standard input and prints the objects that the gateway would create and,
given a routing file, who would receive them. It contacts no server and checks no signature.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from syncer.cli.exits import DIFFERENT, OK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifier.gateway.settings import Loaded
    from notifier.gateway.translation import Source
    from notifier.routing.config import RoutingConfig

HELP: Final = "receive webhooks from other programs, or show what a payload would become"
_CONFIG: Final = "/etc/notification-gateway/gateway.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--config", metavar="FILE", default=_CONFIG,
        help="the configuration file (default %(default)s)",
    )  # fmt: skip
    parser.epilog = (
        "exit codes: 0 stopped by a signal, or tested; 1 the configuration cannot be used, or the payload"
        " becomes no notification; 2 wrong usage"
    )
    actions = parser.add_subparsers(dest="action", metavar="test")
    test = actions.add_parser("test", help="show what the payload on standard input would become")
    test.add_argument(
        "--source", required=True, metavar="NAME", help="a source of the configuration file"
    )
    test.add_argument(
        "--routing", metavar="FILE", help="a routing file: also show who would get the notification"
    )
    test.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'",
        help="a header of the request; may be given several times",
    )  # fmt: skip
    test.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS,
        help="the gateway's configuration file",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run the gateway, or the test; returns the exit code."""
    if options.action == "test":
        return _test(options)
    from notifier.cli import program

    def prepare() -> program.Program:
        from notifier.gateway.process import run as start
        from notifier.gateway.settings import load

        loaded = load(program.named(options.config), os.environ)
        return program.Program(
            loaded.settings.logging, loaded.warnings, lambda watch: start(loaded, watch)
        )

    return program.run(prepare)


def _test(options: argparse.Namespace) -> int:
    import time

    from notifier.cli.files import Files, load, routing_of
    from notifier.gateway import settings
    from notifier.gateway.draft import Incoming, Refused
    from notifier.gateway.translation import translate
    from syncer.cli.output import write_remark
    from syncer.model.errors import ConfigError

    try:
        loaded = settings.load(options.config, os.environ)
        for warning in loaded.warnings:
            write_remark(warning, "notifier")
        source = _source(loaded, options.source)
        routing = None
        if options.routing:
            routing = routing_of(load(Files(None, Path(options.routing))))
        pairs = (header.partition(":") for header in options.header)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        made = translate(source, Incoming(headers, _body(source.kind.max_body)), time.time())
    except (ConfigError, Refused) as error:
        text = str(error)
        if isinstance(error, Refused):
            text = f"the payload becomes no notification: {text} (HTTP {error.status})"
        write_remark(text, "notifier")
        return DIFFERENT
    if not made:
        write_remark("such a request is accepted and creates no notification", "notifier")
    sys.stdout.write("---\n".join(_shown(desired.manifest, routing) for desired in made))
    return OK


def _body(most: int) -> bytes:
    """Read the payload, within the bound of the server."""
    from notifier.gateway.draft import Refused

    body = sys.stdin.buffer.read(most + 1)
    if len(body) > most:
        raise Refused(f"the body is larger than {most} bytes", status=413)
    return body


def _source(loaded: Loaded, name: str) -> Source:
    from syncer.model.errors import ConfigError

    if name not in loaded.sources:
        names = ", ".join(sorted(loaded.sources))
        raise ConfigError(f"there is no source {name}; the file has {names}")
    return loaded.sources[name][0]


def _shown(manifest: Mapping[str, Any], routing: RoutingConfig | None) -> str:
    """Return an object as YAML, followed by who would get it."""
    import yaml

    from notifier.cli.sample import attributes_of_manifest
    from notifier.routing.tree import resolve
    from syncer.rules.text import plain

    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=100)
    if routing is None:
        return text
    found = resolve(routing, attributes_of_manifest(manifest))
    lines = [
        f"# receivers: {', '.join(found.receivers)}",
        f"# channels: {', '.join(found.channels)}",
        *(f"# doubt: {doubt}" for doubt in found.doubts),
    ]
    return text + "".join(f"{plain(line)}\n" for line in lines)
