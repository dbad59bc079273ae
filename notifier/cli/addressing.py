"""
Finds attributes with which a notification reaches one receiver, and nobody else.

A notification names no receiver: routing decides. So this module looks for a path through the tree that
ends at the receiver, makes up a notification that takes it, and evaluates the controller's own rules for
that notification. It uses the result only if it is this receiver alone; otherwise it says why not.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from notifier.routing.attributes import ALWAYS, SOMETIMES
from notifier.routing.config import Pattern, Route, RoutingConfig, found, quoted
from notifier.routing.tree import resolve
from syncer.cli.exits import Refused

#: Reasons that are named.
_NAMED: Final = 3
#: Types and priorities in the order in which they are tried: what disturbs least comes first.
_TYPES: Final = ("Simple", *(kind for kind in ALWAYS["type"] if kind != "Simple"))
_PRIORITIES: Final = tuple(reversed(ALWAYS["priority"]))


class _Path(NamedTuple):
    """The conditions from the root to a route that names the receiver."""

    route: Route
    exact: dict[str, str]
    patterns: tuple[Pattern, ...]
    clash: str = ""


def attributes_for(
    config: RoutingConfig, receiver: str, given: Mapping[str, str]
) -> dict[str, str]:
    """
    Find attributes with which a notification reaches a receiver, and no other.

    Args:
        config: The routing.
        receiver: Its name.
        given: Attributes that are wanted; they are kept.

    Raises:
        Refused: there are none, or none were found; the text says why.
    """
    if config.receiver(receiver) is None:
        names = ", ".join(sorted({r.name for r in config.receivers}))
        raise Refused(f"there is no receiver {quoted(receiver)}; the receivers are {names}")
    ways, reasons = list(_ways(config.route, receiver)), list[str]()
    if not ways:
        raise Refused(
            f"no notification reaches receiver {quoted(receiver)}: no route names it; add one, such as"
            f" {{match: {{notification-target: {receiver}}}, receiver: {receiver}}}"
        )
    for way in ways:
        try:
            tried = list(_tried(config, receiver, way, given))
        except Refused as refused:
            reasons.append(str(refused))
            continue
        for attributes in tried:
            reached = resolve(config, attributes).receivers
            others = ", ".join(quoted(name) for name in reached if name != receiver)
            also = "also reaches" if receiver in reached else "reaches"
            wrong = f"a notification that takes {way.route.path} {also} {others}"
            if reached == (receiver,):
                wrong = _denied(config, attributes)
                if not wrong:
                    return attributes
            reasons.append(wrong)
    named = "; ".join(list(dict.fromkeys(reasons))[:_NAMED])
    raise Refused(
        f"no notification was found that reaches receiver {quoted(receiver)} alone: {named}"
    )


def _ways(root: Route, receiver: str) -> Iterator[_Path]:
    waiting = deque([_Path(root, {}, ())])
    while waiting:
        way = waiting.popleft()
        if way.route.receiver == receiver:
            yield way
        for child in way.route.routes:
            clash = way.clash or _clash(child, way.exact)
            waiting.append(
                _Path(
                    child, {**way.exact, **dict(child.match)}, way.patterns + child.match_re, clash
                )
            )


def _clash(route: Route, above: Mapping[str, str]) -> str:
    """Say which condition of a route contradicts one above it, empty if none does."""
    for key, value in route.match:
        outer = above.get(key, value)
        if outer != value:
            return f"{route.path} wants {key} to be {quoted(value)}, a route above {quoted(outer)}"
    return ""


def _tried(
    config: RoutingConfig, receiver: str, way: _Path, given: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Yield attributes that lead along a path, the least disturbing first; Refused if there are none."""
    if way.clash:
        raise Refused(way.clash)
    attributes = dict(given)
    for key, value in way.exact.items():
        if attributes.get(key, value) != value:
            raise Refused(f"{way.route.path} wants {key} to be {quoted(value)}")
        attributes |= {key: value} if value else {}
    for pattern in way.patterns:
        sample = attributes.get(pattern.key) or _sample(pattern)
        if sample is None:
            raise Refused(
                f"{way.route.path} wants {pattern.key} to match {quoted(pattern.text)}; give a value with"
                f" --attributes {pattern.key}=VALUE"
            )
        attributes[pattern.key] = sample
    if "namespace" not in attributes and (home := _home(config, receiver)):
        attributes["namespace"] = home
    for kind in (attributes["type"],) if "type" in attributes else _TYPES:
        for priority in (attributes["priority"],) if "priority" in attributes else _PRIORITIES:
            yield {**attributes, "type": kind, "priority": priority}


def _home(config: RoutingConfig, receiver: str) -> str:
    """Return a namespace whose notifications a receiver accepts; empty if it accepts all namespaces."""
    target = config.receiver(receiver)
    names = target.namespaces if target else ()
    return next((name for name in names if not set(name) & {"*", "?"}), "")


def _denied(config: RoutingConfig, attributes: Mapping[str, str]) -> str:
    found_out = resolve(config, attributes)
    namespace = attributes.get("namespace", "")
    denials = (config.denial(channel, namespace) for channel in found_out.channels)
    denial = next((text for text in denials if text), "")
    if not denial or namespace:
        return denial
    target = config.receiver(found_out.receivers[0])
    patterns = ", ".join(target.namespaces) if target else ""
    return f"it takes only notifications of namespaces {patterns}; name one with -n"


def _sample(pattern: Pattern) -> str | None:
    """Return a text that a pattern matches, None if none can be made."""
    known = ALWAYS.get(pattern.key) or SOMETIMES.get(pattern.key) or ()
    return next((text for text in (*known, *_guesses(pattern.text)) if found(pattern, text)), None)


def _guesses(text: str) -> Iterator[str]:
    text = re.sub(r"\(\?[a-z]+\)", "", text)
    # Of each group the first of its alternatives, innermost first.
    for _ in range(text.count("(")):
        text = re.sub(r"\((?:\?:)?([^()|]*)(?:\|[^()]*)?\)", r"\1", text)
    for branch in text.split("|"):
        plain = branch.strip("^$")
        plain = re.sub(r"\[([^\]^])[^\]]*\]", r"\1", plain)
        plain = re.sub(r"\\d", "0", re.sub(r"\\w", "a", plain))
        plain = re.sub(r"\.[*+?]", "x", plain)
        yield re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)[*+?]", "", plain))
