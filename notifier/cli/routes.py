"""`notifier routes`: the routing tree, and who would get a notification, by the controller's own rules."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from notifier.cli.arguments import add_attributes, add_files, add_output
from syncer.cli.exits import DIFFERENT, OK, USAGE

if TYPE_CHECKING:
    from notifier.routing.config import RoutingConfig
    from syncer.model.resource import Json

HELP: Final = "show the routing tree, and which receivers would get a notification"

_FORMS: Final = ("tree", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    commands = parser.add_subparsers(dest="routes", metavar="show|test", required=True)
    shown = "show the tree, its receivers, and which routes never match"
    show = commands.add_parser("show", help=shown, description=shown)
    add_files(show)
    add_output(show, _FORMS)
    tried = "show which receivers a notification would go to, and why"
    test = commands.add_parser("test", help=tried, description=tried)
    add_files(test)
    add_attributes(test)
    test.add_argument(
        "--notification", metavar="FILE",
        help="manifest of a NotificationRequest (`-`: standard input); --attributes override it",
    )  # fmt: skip
    test.add_argument(
        "--render", action="store_true",
        help="show what they would get of the --notification, in the words of their templates; exit with 1"
        " if these do not fit",
    )  # fmt: skip
    test.add_argument(
        "--expect", metavar="RECEIVER,...",
        help="exit with 1 unless exactly these receivers get it",
    )  # fmt: skip
    add_output(test, _FORMS)
    epilog = (
        "exit codes: 0 done, and as expected; 1 other receivers than expected, some that refuse it, or"
        " templates that do not fit; 2 wrong usage, or files that the controller refuses"
    )
    parser.epilog = show.epilog = test.epilog = epilog


def run(options: argparse.Namespace) -> int:
    """Show or test; returns the exit code."""
    from notifier.cli.files import files_of, load, native_kinds, routing_of
    from syncer.cli.output import write_remark
    from syncer.model.errors import ConfigError, ContractError

    try:
        loaded = load(files_of(options))
        config = routing_of(loaded)
        kinds = {kind for receiver in config.receivers for kind, _ in receiver.entries}
        if loaded.settings is None and kinds & native_kinds(None):
            write_remark(
                "e-mail and webhooks are assumed to be enabled; name the settings file with --config to"
                " use its switches", "notifier",
            )  # fmt: skip
        return _show(options, config) if options.routes == "show" else _test(options, config)
    except (ConfigError, ContractError) as error:
        write_remark(str(error), "notifier")
        return USAGE


def _show(options: argparse.Namespace, config: RoutingConfig) -> int:
    from notifier.cli.pictures import document_of_all, of_all
    from syncer.cli.output import write_json, write_lines
    from syncer.rules.text import plain

    if options.output == "json":
        write_json(document_of_all(config))
    else:
        write_lines(map(plain, of_all(config)))
    return OK


def _test(options: argparse.Namespace, config: RoutingConfig) -> int:
    from notifier.cli.pictures import document_of_one, of_one
    from notifier.cli.rendering import pages, rendered
    from notifier.cli.sample import (
        attributes_of_manifest,
        doubtful,
        left_out,
        manifest_at,
        parse_attributes,
    )
    from notifier.routing.tree import resolve, trace
    from syncer.cli.output import write_json, write_lines, write_remark
    from syncer.model.errors import ContractError
    from syncer.rules.text import plain

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
