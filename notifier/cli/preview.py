"""
`notifier gateway test`: shows what a payload becomes.

It reads the payload on standard input and prints the objects that the gateway would create and, given a
routing file, who would receive them. It contacts no server and checks no signature.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from notifier.cli.files import Files, load, routing_of
from notifier.cli.sample import attributes_of_manifest
from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.settings import Loaded
from notifier.gateway.settings import load as load_gateway
from notifier.gateway.translation import Source, translate
from notifier.routing.config import RoutingConfig
from notifier.routing.tree import resolve
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.output import write_remark
from syncer.model.errors import ConfigError
from syncer.rules.text import plain


def run(options: argparse.Namespace) -> int:
    """Translate the payload on standard input; returns the exit code."""
    try:
        loaded = load_gateway(options.config, os.environ)
        for warning in loaded.warnings:
            write_remark(warning, "notifier")
        routing = None
        if options.routing:
            routing = routing_of(load(Files(None, Path(options.routing))))
        made, ends = translate(*_payload(loaded, options), time.time())
    except (ConfigError, Refused) as error:
        text = str(error)
        if isinstance(error, Refused):
            text = f"the payload becomes no notification: {text} (HTTP {error.status})"
        write_remark(text, "notifier")
        return DIFFERENT
    if ends:
        text = (
            "an end is created if its incident is open, of an alert also if nothing is known of it"
        )
        write_remark(text, "notifier")
        made += tuple(each.make() for each in ends if each.unknown)
    if not made:
        write_remark("such a request is accepted and creates no notification", "notifier")
    sys.stdout.write("---\n".join(_shown(desired.manifest, routing) for desired in made))
    return OK


def _payload(loaded: Loaded, options: argparse.Namespace) -> tuple[Source, Incoming]:
    """Read the payload for the named source, up to the size limit of the server."""
    if options.source not in loaded.sources:
        names = ", ".join(sorted(loaded.sources))
        raise ConfigError(f"there is no source {options.source}; the file has {names}")
    source, _ = loaded.sources[options.source]
    body = sys.stdin.buffer.read(source.kind.max_body + 1)
    if len(body) > source.kind.max_body:
        raise Refused(f"the body is larger than {source.kind.max_body} bytes", status=413)
    pairs = (header.partition(":") for header in options.header)
    return source, Incoming({name.strip().lower(): v.strip() for name, _, v in pairs}, body)


def _shown(manifest: Mapping[str, Any], routing: RoutingConfig | None) -> str:
    """Return an object as YAML, followed by who would get it."""
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
