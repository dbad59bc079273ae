"""
From attributes to channels: the walk through the routing tree, and what the record says about it.

The walk is upstream's, quirks included. Children are tried in order, depth first; a matching child
contributes what its own children contribute, or else its receiver; the first matching child that
does not continue ends the walk. A node at which nothing was contributed, and which was not ended,
contributes its own receiver. A walk that was ended with nothing does *not* fall back to the root's
receiver: it yields the built-in console receiver, and only that counts as a fallback.

Ours: channels are de-duplicated by name (upstream counts a shared console twice and then misses a
delivery), and the message is sorted and bounded, so that it is stable and never refused. What is
cut first are the attributes; which rules matched and which channels follow stays readable.
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

#: Bytes for the rules, and as many for the channels; the attributes get what is left.
_LIST_BYTES: Final = 320
#: Pairs that are looked at, and characters of all of them together that are cleaned.
_PAIRS: Final = MESSAGE_BYTES // 4
_CLEAN_CHARS: Final = 64 * 1024
#: Bytes of one `key=value`, from generous to terse; the first that fits is taken.
_PAIR_BYTES: Final = (256, 128, 64, 48, 32)
#: Doubts that are reported for one notification.
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
        doubts: Why this may not be what the file means; empty as a rule.
        fallbacks: Further channels, for what those cannot be told.
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
    Tell whether a child route matches.

    An exact match takes an absent attribute for the empty text; a pattern wants it to be there.
    """
    return next(_unmet(route, attributes), None) is None


@dataclass(slots=True)
class Trace:
    """
    What happened to the routes of a tree, by path; a route that is in neither was not tried.

    Attributes:
        matched: Those that matched; the root always does.
        passed: Those that did not, with the reason.
        gave: Those whose receiver gets the notification.
    """

    matched: set[str] = field(default_factory=set)
    passed: dict[str, str] = field(default_factory=dict)
    gave: dict[str, str] = field(default_factory=dict)


def trace(config: RoutingConfig, attributes: Mapping[str, str]) -> Trace:
    """Walk as `resolve` does, and remember the way."""
    seen = Trace(matched={config.route.path})
    _walk(config.route, attributes, seen)
    return seen


def _unmet(route: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield the attributes that are not as a route wants them."""
    for key, wanted in route.match:
        if attributes.get(key, "") != wanted:
            yield key
    for pattern in route.match_re:
        if pattern.key not in attributes or not found(pattern, attributes[pattern.key]):
            yield pattern.key


def leads_to(config: RoutingConfig) -> dict[str, tuple[str, ...]]:
    """Return the receivers that routes, or others as fallback, name, each with the paths of those."""
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
    """A text with the attributes in its midst, as far as they fit."""
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
        # The first way to a receiver counts.
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
    """Slips of the file that concern this notification: in its receivers, or on its way."""
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
    """Slips in routes that match, or would match if their keys were what they look like."""
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
    """Names joined by commas, as far as they fit."""
    # More would not fit, however short they are.
    parts = [bounded(name, _LIST_BYTES // 2) for name in islice(names, _LIST_BYTES // 3)]
    return _fitting(parts, len(names), _LIST_BYTES)


def _fitting(parts: Sequence[str], count: int, budget: int) -> str:
    """As many parts as fit, joined by commas; then how many of all are left out."""
    for kept in range(len(parts), -1, -1):
        text = ", ".join([*parts[:kept], *([f"… (+{count - kept})"] if kept < count else [])])
        if len(text.encode()) <= budget:
            return text
    return f"… (+{count})"


def _shown(attributes: Mapping[str, str], budget: int, clean: Callable[[str], str]) -> str:
    known = attributes.keys() - set(RESERVED)
    if not known:
        return "(no attributes)"
    # More could not be shown, however short they are. What the object is called says its metadata.
    names = heapq.nsmallest(_PAIRS, known)
    # Cleaned far beyond what is shown: a secret of which only the head is shown must be recognised too.
    chars = _CLEAN_CHARS // len(names)
    # The condition ends up on terminals.
    pairs = [escaped(clean(f"{key[:chars]}={attributes[key][:chars]}")) for key in names]
    budget -= len("(attributes: )")
    parts = pairs
    for limit in _PAIR_BYTES:
        parts = [bounded(pair, limit) for pair in pairs]
        if len(", ".join(parts).encode()) <= budget:
            break
    return f"(attributes: {_fitting(parts, len(known), budget)})"
