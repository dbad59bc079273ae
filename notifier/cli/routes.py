"""
`notifier routes`: the routing tree, and who would get a notification, by the controller's own rules.

Each route is a line with its conditions, its receiver and a remark. The messages that the receivers would
get are made by the channels' own code, without credentials.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from notifier.channels.pagerduty import pagerduty_payload
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_payload
from notifier.channels.webhook import webhook_payload
from notifier.cli.files import files_of, load, native_kinds, routing_of
from notifier.cli.sample import (
    attributes_of_manifest,
    doubtful,
    left_out,
    manifest_at,
    parse_attributes,
)
from notifier.content.message import compose
from notifier.content.wording import worded
from notifier.contract import Message
from notifier.routing.config import Receiver, Route, RoutingConfig, quoted
from notifier.routing.reach import unreachable
from notifier.routing.tree import Resolution, Trace, leads_to, resolve, trace
from notifier.templates.expressions import Unfit
from notifier.templates.request import Made
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.output import table, write_answer, write_json, write_lines, write_remark
from syncer.model.errors import ContractError
from syncer.model.resource import Json
from syncer.rules.text import plain

#: Stands for a credential.
_SECRET: Final = "(a credential)"  # noqa: S105 (a placeholder)


def rendered(config: RoutingConfig, document: Json, channel: str) -> Json:
    """
    Return the payload that a channel's receiver would get for a notification.

    `problem` says why its templates do not fit, so that the notification's own text is sent; empty if they
    fit, or there are none.

    Raises:
        ValueError: the notification is not of the schema's shape.
    """
    target = config.targets[channel]
    message = compose(document, channel, "preview", live=False)
    digest = problem = ""
    if target.wording is not None:
        digest = target.wording.digest
        try:
            message = worded(message, target.wording)
        except Unfit as unfit:
            problem = str(unfit)
    return {"templates": digest, "problem": problem, "payload": _payload(target.kind, message)}


def _payload(kind: str, message: Message) -> Any:
    page = message.words.payload if message.words else None
    match kind:
        case "slack":
            return slack_payload(message)
        case "teams":
            return teams_payload(message)
        case "pagerduty":
            return pagerduty_payload(message, _SECRET)
        case "webhook" if not isinstance(page, Made):
            return webhook_payload(message)
    if isinstance(page, Made):
        body = webhook_payload(message) if page.body is None else page.body
        return {"method": page.method, "path": page.path, "query": page.query, "body": body}
    found = {"subject": message.spec.subject, "body": message.spec.body, "html": page}
    return {key: value for key, value in found.items() if value is not None}


def drawing(config: RoutingConfig, remark: Callable[[Route], str]) -> list[str]:
    """Draw the tree; `remark` returns the text at the end of a route's line."""
    rows = [
        (f"{branch}{conditions(route)} → {route.receiver or 'nobody'}", remark(route))
        for branch, route in _branches(config.route, "", "")
    ]
    width = max(len(text) for text, _ in rows)
    return [f"{text.ljust(width)}  {said}".rstrip() for text, said in rows]


def conditions(route: Route) -> str:
    """Return what a route matches, on one line."""
    parts = [f"{key}={value}" if value else f"no {key}" for key, value in route.match]
    parts += [f"{pattern.key}=~{quoted(pattern.text)}" for pattern in route.match_re]
    if route.goes_on:
        parts.append("(continue)")
    return " ".join(parts) or "everything"


def _branches(route: Route, own: str, below: str) -> Iterator[tuple[str, Route]]:
    yield own, route
    for n, child in enumerate(route.routes):
        last = n == len(route.routes) - 1
        yield from _branches(
            child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}"
        )


def never_matching(config: RoutingConfig) -> dict[str, str]:
    """Return why routes never match, by path; includes the routes below one that never matches."""
    found = {
        each.route.path: f"{each.key} {each.why}" if each.key else each.why
        for each in unreachable(config.route)
    }

    def below(route: Route, dead: str) -> Iterator[tuple[str, str]]:
        for child in route.routes:
            why = found.get(child.path) or (f"never reached: {dead} never matches" if dead else "")
            if why:
                yield child.path, why
            yield from below(child, child.path if why else dead)

    return dict(below(config.route, ""))


def of_all(config: RoutingConfig) -> list[str]:
    """Draw the tree, marking routes that never match, then list the receivers."""
    never = never_matching(config)

    def remark(route: Route) -> str:
        line = config.lines.get(route.path)
        place = f"line {line}" if line else ""
        return f"{place}  {never[route.path]}" if route.path in never else place

    rows = [("RECEIVER", "CHANNELS", "CREDENTIALS", "NAMESPACES", "ROUTES")]
    for receiver in _used(config):
        facts = _facts(config, receiver, never)
        routes = str(len(facts["routes"])) if facts["routes"] else "none: it gets nothing"
        rows.append((
            receiver.name, ", ".join(facts["channels"]), ", ".join(facts["credentials"]) or "-",
            ", ".join(facts["namespaces"]) or "all", routes,
        ))  # fmt: skip
    return [*drawing(config, remark), "", *table(rows)]


def of_one(config: RoutingConfig, seen: Trace) -> list[str]:
    """Draw the tree with the result of each route for one notification."""

    def remark(route: Route) -> str:
        if route.path in seen.gave:
            return "yes, gets it"
        if route.path in seen.matched:
            return "yes"
        if route.path in seen.passed:
            return f"no: {seen.passed[route.path]}"
        return "not tried"

    return drawing(config, remark)


def document_of_all(config: RoutingConfig) -> dict[str, Any]:
    """Return routes and receivers, as JSON."""
    never = never_matching(config)
    return {
        "routes": [
            {
                "path": route.path, "line": config.lines.get(route.path),
                "receiver": route.receiver, "match": dict(route.match),
                "matchRe": {p.key: p.text for p in route.match_re}, "continue": route.goes_on,
                "neverMatches": never.get(route.path),
            }
            for _, route in _branches(config.route, "", "")
        ],
        "receivers": [
            {"name": receiver.name, **_facts(config, receiver, never)} for receiver in _used(config)
        ],
    }  # fmt: skip


def document_of_one(config: RoutingConfig, seen: Trace, found: Resolution) -> dict[str, Any]:
    """Return how one notification is routed, as JSON."""
    return {
        "receivers": list(found.receivers),
        "channels": list(found.channels),
        "fallbacks": [
            {"channel": each.channel, "of": list(each.of), "afterSeconds": each.after / 1000}
            for each in found.fallbacks
        ],
        "reason": found.reason,
        "doubts": list(found.doubts),
        "routes": [
            {
                "path": route.path, "line": config.lines.get(route.path),
                "tried": route.path in seen.matched or route.path in seen.passed,
                "matched": route.path in seen.matched, "why": seen.passed.get(route.path),
                "gets": seen.gave.get(route.path),
            }
            for _, route in _branches(config.route, "", "")
        ],
    }  # fmt: skip


def _used(config: RoutingConfig) -> list[Receiver]:
    """Return the receivers; of several with one name, only the one that is used."""
    return list({receiver.name: receiver for receiver in config.receivers}.values())


def _facts(
    config: RoutingConfig, receiver: Receiver, never: dict[str, str]
) -> dict[str, list[str]]:
    channels = receiver.channels(config.native)
    refs = dict.fromkeys(ref for _, target in channels for ref in target.credential_refs)
    routes = leads_to(config).get(receiver.name, ())
    return {
        "channels": [name for name, _ in channels],
        "credentials": list(refs),
        "namespaces": list(receiver.namespaces),
        "routes": [path for path in routes if path not in never],
    }


def run(options: argparse.Namespace) -> int:
    """Show or test; returns the exit code."""
    loaded = load(files_of(options))
    config = routing_of(loaded)
    kinds = {kind for receiver in config.receivers for kind, _ in receiver.entries}
    if loaded[0] is None and kinds & native_kinds(None):
        write_remark(
            "e-mail and webhooks are assumed to be enabled; name the settings file with --config to"
            " use its switches", "notifier",
        )  # fmt: skip
    if options.action == "test":
        return _test(options, config)
    write_answer(
        document_of_all(config), map(plain, of_all(config)), as_json=options.output == "json"
    )
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
            *(
                line
                for channel, each in shown.items()
                for line in (
                    "",
                    f"{channel}:",
                    *orjson.dumps(each["payload"], option=orjson.OPT_INDENT_2).decode().split("\n"),
                )
            ),
        ]
        write_lines(map(plain, lines))
    wrong = bool(unfit or denials)
    if options.expect is not None:
        wanted = {name.strip() for name in options.expect.split(",") if name.strip()}
        if wanted != set(found.receivers):
            wrong = True
            write_remark(f"expected {', '.join(sorted(wanted)) or 'nobody'}", "notifier")
    return DIFFERENT if wrong else OK
