"""
From attributes to channels: the walk through the routing tree, and its text for the record.

The walk is upstream's, quirks included. Children are tried in order, depth first. A matching child
contributes the receivers of its own children, or else its own receiver; the first matching child that does
not continue ends the walk. If no child has contributed a receiver or ended the walk, the node contributes
its own. A walk that ended without any receiver does *not* fall back to the root's receiver: it yields the
built-in console receiver, and only that counts as a fallback.

Unlike upstream, channels are de-duplicated by name (upstream counts a shared console twice and then misses
a delivery), and the message is sorted and bounded, so that it is stable and never refused. The attributes
are cut first; the matched rules and the channels stay readable.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from notifier.routing.attributes import RESERVED
from notifier.routing.config import (
    DEFAULT_CONSOLE_FALLBACK,
    Receiver,
    Route,
    RoutingConfig,
    found,
    quoted,
    routes_of,
)
from notifier.routing.config import Fallback as Named
from syncer.model.conditions import MESSAGE_BYTES, bounded
from syncer.model.record import Fallback
from syncer.rules.text import escaped

RULE_MATCHED: Final = "RoutingRuleMatched"
FALLBACK: Final = "RoutingFallback"

#: Bytes for the rules, and as many for the channels; the attributes get the rest.
_LIST_BYTES: Final = 320
#: Most attributes that the message considers, and most characters of them all that are cleaned.
_PAIRS: Final = MESSAGE_BYTES // 4
_CLEAN_CHARS: Final = 64 * 1024
#: Most bytes of one `key=value`, from generous to terse; the first limit with which all fit is used.
_PAIR_BYTES: Final = (256, 128, 64, 48, 32)
#: Most doubts that are reported for one notification.
_DOUBTS: Final = 3


@dataclass(frozen=True, slots=True)
class Resolution:
    """
    Where a notification goes, and why.

    Attributes:
        receivers: Names in order, each once.
        channels: Names in order, each once; never empty.
        reason: `RoutingRuleMatched` or `RoutingFallback`.
        message: Text of the condition, at most 1,024 bytes.
        doubts: Why the file may have intended something else; usually empty.
        fallbacks: Further channels, used once a channel of their receiver has ended without success.
    """

    receivers: tuple[str, ...]
    channels: tuple[str, ...]
    reason: str
    message: str
    doubts: tuple[str, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()


def resolve(
    config: RoutingConfig,
    attributes: Mapping[str, str],
    *,
    clean: Callable[[str], str] = str,
) -> Resolution:
    """
    Decide where a notification goes.

    Args:
        config: The routing in force.
        attributes: From `routing.attributes`; matched as they are.
        clean: Removes secrets from each `key=value` of the message. By default they are shown raw.
    """
    ways = _walk(config.route, attributes)
    receivers = [r for r in map(config.receiver, ways) if r is not None]
    if not receivers:
        return Resolution(
            receivers=(DEFAULT_CONSOLE_FALLBACK,),
            channels=("console",),
            reason=FALLBACK,
            message=fallback_message(attributes, clean),
            doubts=("no rule with a receiver matched", *_doubts(config, attributes, receivers)),
        )
    rules = tuple(receiver.name for receiver in receivers)
    channels = tuple(
        dict.fromkeys(name for r in receivers for name, _ in r.channels(config.native))
    )
    fallbacks = tuple(
        Fallback(name, tuple(channel for channel, _ in r.channels(config.native)), after)
        for r in receivers
        for name, after in _fallback(config, ways[r.name].fallback or r.fallback)
        if name not in channels
    )
    return Resolution(
        receivers=rules,
        channels=channels,
        reason=RULE_MATCHED,
        message=matched_message(
            rules, channels, attributes, clean, dict.fromkeys(f.channel for f in fallbacks)
        ),
        doubts=_doubts(config, attributes, receivers),
        fallbacks=fallbacks,
    )


def _fallback(config: RoutingConfig, named: Named | None) -> Iterator[tuple[str, int]]:
    """Yield the channels of a fallback, with the milliseconds after which they are used in any case."""
    receiver = config.receiver(named.receiver) if named else None
    if named and receiver:
        for name, _ in receiver.channels(config.native):
            yield name, round(1000 * named.after)


def matches(route: Route, attributes: Mapping[str, str]) -> bool:
    """
    Return whether a child route matches.

    An exact match treats an absent attribute as the empty text; a pattern needs the attribute to exist.
    """
    return next(_unmet(route, attributes), None) is None


@dataclass(slots=True)
class Trace:
    """
    The result for each route of a tree, by path; a route that neither matched nor passed was not tried.

    Attributes:
        matched: Routes that matched; the root always does.
        passed: Routes that did not match, each with the reason.
        gave: Routes whose receiver gets the notification, each with the receiver.
    """

    matched: set[str] = field(default_factory=set)
    passed: dict[str, str] = field(default_factory=dict)
    gave: dict[str, str] = field(default_factory=dict)


def trace(config: RoutingConfig, attributes: Mapping[str, str]) -> Trace:
    """Walk the tree as `resolve` does, and record the result for each route."""
    seen = Trace(matched={config.route.path})
    _walk(config.route, attributes, seen)
    return seen


def _unmet(route: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield the attributes that do not meet a route's conditions."""
    for key, wanted in route.match:
        if attributes.get(key, "") != wanted:
            yield key
    for pattern in route.match_re:
        if pattern.key not in attributes or not found(pattern, attributes[pattern.key]):
            yield pattern.key


def leads_to(config: RoutingConfig) -> dict[str, tuple[str, ...]]:
    """Return the receivers that are named, each with the paths of the routes and fallbacks that name it."""
    leading: dict[str, list[str]] = {}
    routes = list(routes_of(config.route))
    falling: list[Route | Receiver] = [*routes, *config.receivers]
    named = [(route.receiver, route.path) for route in routes if route.receiver]
    named += [(e.fallback.receiver, f"{e.path}.fallback") for e in falling if e.fallback]
    for name, path in named:
        leading.setdefault(name, []).append(path)
    return {name: tuple(paths) for name, paths in leading.items()}


def matched_message(
    rules: Collection[str],
    channels: Collection[str],
    attributes: Mapping[str, str],
    clean: Callable[[str], str],
    fallbacks: Collection[str],
) -> str:
    """Text of the condition RoutingResolved where a rule matched."""
    tail = f" → channels: {_listed(channels)}"
    if fallbacks:
        tail += f"; fallback: {_listed(fallbacks)}"
    return _message(f"Matched rules [{_listed(rules)}] ", tail, attributes, clean)


def fallback_message(attributes: Mapping[str, str], clean: Callable[[str], str]) -> str:
    """Text of the condition RoutingResolved where no rule matched."""
    return _message("No routing rules matched ", ", using console fallback", attributes, clean)


def _message(
    head: str, tail: str, attributes: Mapping[str, str], clean: Callable[[str], str]
) -> str:
    """Return a text with as many attributes between head and tail as fit."""
    budget = MESSAGE_BYTES - len((head + tail).encode("utf-8", "replace"))
    return bounded(head + _shown(attributes, budget, clean) + tail, MESSAGE_BYTES)


def _walk(
    route: Route, attributes: Mapping[str, str], seen: Trace | None = None
) -> dict[str, Route]:
    """Return the receivers by name, each with the first route that contributes it."""
    collected: dict[str, Route] = {}
    for child in route.routes:
        if not matches(child, attributes):
            if seen is not None:
                key = next(_unmet(child, attributes))
                known = f"{key} is {quoted(value)}" if (value := attributes.get(key)) else ""
                absent = (
                    f"{key} is present, and empty" if key in attributes else f"there is no {key}"
                )
                seen.passed[child.path] = known or absent
            continue
        ways = _walk(child, attributes, seen) if child.routes else {}
        if not ways and child.receiver:
            ways = {child.receiver: child}
            if seen is not None:
                seen.gave[child.path] = child.receiver
        # The first route that leads to a receiver counts.
        collected |= ways | collected
        if seen is not None:
            seen.matched.add(child.path)
        if not child.goes_on:
            return collected
    if not collected and route.receiver:
        if seen is not None:
            seen.gave[route.path] = route.receiver
        return {route.receiver: route}
    return collected


def _doubts(
    config: RoutingConfig, attributes: Mapping[str, str], receivers: Iterable[Receiver]
) -> tuple[str, ...]:
    """Return typos in the file that may concern this notification: in its receivers, or on its path."""
    if not config.doubts:
        return ()
    doubts = [
        f"{path} is unknown and ignored"
        + ("" if receiver.entries else f", so receiver {quoted(receiver.name)} is the console")
        for receiver in receivers
        for path in receiver.unknown
    ]
    doubts += islice(_slips(config.route, attributes), _DOUBTS)
    return tuple(bounded(doubt, _LIST_BYTES) for doubt in doubts[:_DOUBTS])


def _slips(route: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield typos in routes that match, or that would match if their keys were spelt as meant."""
    yield from (f"{path} is unknown and ignored" for path in route.unknown)
    for child in route.routes:
        if matches(child, attributes):
            yield from _slips(child, attributes)
            if not child.goes_on:
                return
            continue
        as_meant = dict(attributes)
        for key, meant in child.meant:
            if key not in attributes and meant in attributes:
                as_meant[key] = attributes[meant]
        if matches(child, as_meant):
            for key, meant in child.meant:
                yield f"{child.path} matches {quoted(key)}, where {meant} may be meant"


def _listed(names: Collection[str]) -> str:
    """Join names by commas, as far as they fit."""
    # More names would not fit, however short they are.
    parts = [bounded(name, _LIST_BYTES // 2) for name in islice(names, _LIST_BYTES // 3)]
    return _fitting(parts, len(names), _LIST_BYTES)


def _fitting(parts: Sequence[str], count: int, budget: int) -> str:
    """Join as many parts as fit by commas, and append how many of `count` are left out."""
    for kept in range(len(parts), -1, -1):
        text = ", ".join([*parts[:kept], *([f"… (+{count - kept})"] if kept < count else [])])
        if len(text.encode()) <= budget:
            return text
    return f"… (+{count})"


def _shown(attributes: Mapping[str, str], budget: int, clean: Callable[[str], str]) -> str:
    known = attributes.keys() - set(RESERVED)
    if not known:
        return "(no attributes)"
    # More would not fit, however short they are. Namespace and name are in the object's metadata.
    names = heapq.nsmallest(_PAIRS, known)
    # Clean far more than is shown: a secret of which only the start is shown must be recognised too.
    chars = _CLEAN_CHARS // len(names)
    # The condition is shown on terminals, so control characters are escaped.
    pairs = [escaped(clean(f"{key[:chars]}={attributes[key][:chars]}")) for key in names]
    budget -= len("(attributes: )")
    parts = pairs
    for limit in _PAIR_BYTES:
        parts = [bounded(pair, limit) for pair in pairs]
        if len(", ".join(parts).encode()) <= budget:
            break
    return f"(attributes: {_fitting(parts, len(known), budget)})"
