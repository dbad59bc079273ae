"""`notifier routes`: the routing tree, and who would get a notification, by the controller's own rules."""

from __future__ import annotations

import argparse

from notifier.cli.files import files_of, load, native_kinds, routing_of
from notifier.cli.pictures import document_of_all, document_of_one, of_all, of_one
from notifier.cli.rendering import pages, rendered
from notifier.cli.sample import (
    attributes_of_manifest,
    doubtful,
    left_out,
    manifest_at,
    parse_attributes,
)
from notifier.routing.config import RoutingConfig
from notifier.routing.tree import resolve, trace
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.output import write_json, write_lines, write_remark
from syncer.model.errors import ContractError
from syncer.model.resource import Json
from syncer.rules.text import plain


def run(options: argparse.Namespace) -> int:
    """Show or test; returns the exit code."""
    loaded = load(files_of(options))
    config = routing_of(loaded)
    kinds = {kind for receiver in config.receivers for kind, _ in receiver.entries}
    if loaded.settings is None and kinds & native_kinds(None):
        write_remark(
            "e-mail and webhooks are assumed to be enabled; name the settings file with --config to"
            " use its switches", "notifier",
        )  # fmt: skip
    return _show(options, config) if options.action == "show" else _test(options, config)


def _show(options: argparse.Namespace, config: RoutingConfig) -> int:
    if options.output == "json":
        write_json(document_of_all(config))
    else:
        write_lines(map(plain, of_all(config)))
    return OK


def _test(options: argparse.Namespace, config: RoutingConfig) -> int:
    attributes: dict[str, str] = {}
    manifest: Json = {}
    if options.notification:
        manifest = manifest_at(options.notification)
        attributes = attributes_of_manifest(manifest)
    elif options.render:
        raise ContractError("--render needs --notification")
    attributes |= parse_attributes(options.attributes)
    for doubt in (*doubtful(attributes), *left_out(config.route, attributes)):
        write_remark(doubt, "notifier")
    found, seen = resolve(config, attributes), trace(config, attributes)
    namespace = attributes.get("namespace")
    denials = [
        f"{channel}: {why}"
        for channel in found.channels
        if namespace is not None and (why := config.denial(channel, namespace))
    ]
    shown = {c: rendered(config, manifest, c) for c in found.channels} if options.render else {}
    unfit = [f"{channel}: {each['problem']}" for channel, each in shown.items() if each["problem"]]
    if options.output == "json":
        document = document_of_one(config, seen, found)
        more = {"rendered": shown} if options.render else {}
        write_json({"attributes": attributes, **document, "refused": denials, **more})
    else:
        lines = [
            *of_one(config, seen),
            "",
            f"receivers: {', '.join(found.receivers)}",
            f"channels:  {', '.join(found.channels)}",
            *(
                f"fallback:  {each.channel}, for {', '.join(each.of)}, after {each.after // 1000} s"
                " at the latest"
                for each in found.fallbacks
            ),
            *(f"refused:   {denial}" for denial in denials),
            *(f"doubt:     {doubt}" for doubt in found.doubts),
            *(f"unfit:     {problem}" for problem in unfit),
            *(line for channel, each in shown.items() for line in pages(channel, each)),
        ]
        write_lines(map(plain, lines))
    wrong = bool(unfit or denials)
    if options.expect is not None:
        wanted = {name.strip() for name in options.expect.split(",") if name.strip()}
        if wanted != set(found.receivers):
            wrong = True
            write_remark(f"expected {', '.join(sorted(wanted)) or 'nobody'}", "notifier")
    return DIFFERENT if wrong else OK
