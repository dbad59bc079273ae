"""
The routing tree for people: each route as a line with its conditions, its receiver and a remark.

Pure: it turns a configuration and the path of a notification through it into lines and documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from notifier.routing.config import Route, RoutingConfig, quoted
from notifier.routing.reach import unreachable
from notifier.routing.receivers import Receiver
from notifier.routing.tree import Resolution, Trace, leads_to
from syncer.cli.output import table


def drawing(config: RoutingConfig, remark: Callable[[Route], str]) -> list[str]:
    """Draw the tree; a remark is what is said of a route, at the end of its line."""
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
    """Return why routes never match, by their paths; what is below such a route is among them."""
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
    """Draw the tree with what never matches, then list the receivers."""
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
    """Draw the tree with what happened to one notification."""

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
    """Return what happened to one notification, as JSON."""
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
    """The receivers, of two of one name the one that is used."""
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
