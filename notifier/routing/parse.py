"""
The routing file: text in, `RoutingConfig` out.

The format is the replaced controller's, and so are its errors: each text begins exactly as it does there,
then names the place.

Some things do not work as they look, and stay so for compatibility: `enabled: false`, a receiver that
configures nothing (it delivers to the console), a matching route without a receiver, patterns that match
anywhere in a value. They are accepted with a warning that names path and line. Unknown keys are warnings
too. A key that nothing reads may be a typo that sends notifications to the wrong place (`discordConfigs`,
`match: {prioritty: ...}`). Such warnings are doubts: they are counted, and routes and receivers keep theirs
for the notifications concerned.

The texts quote no values except receiver names, keys, patterns and the values that routes match, because
the file may hold tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import re2

from notifier.routing.attributes import SOMETIMES, likely_meant, odd_value, unseen
from notifier.routing.config import Pattern, Route, RoutingConfig, quoted, routes_of
from notifier.routing.document import MAX_DEPTH, MAX_NAME, Reader, bounded, many, too_much
from notifier.routing.entries import fallback_of, receivers_of, warn_about_names
from notifier.routing.models import File, RouteSection
from notifier.routing.reach import unreachable
from syncer.configfile import nearest
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity

_MAX_PATTERN: Final = 4096
#: Bytes that one compiled pattern and its caches may take.
_PATTERN_MEMORY: Final = 2 << 20
#: Most errors that the refusal of a file names.
_NAMED: Final = 9
_SEEN: Final = "match an attribute that routing sees; docs/routing.md lists them"


def parse(text: str, *, native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Read a routing file; `native` are the kinds among `email` and `webhook` that are delivered here.

    Raises:
        ConfigError: with upstream's text as prefix, and the line where there is one; further errors follow.
    """
    reader = Reader()
    config = _read(reader, text, native)
    if config is None or reader.refusals:
        raise ConfigError("; ".join(reader.refusals[:_NAMED]), line=reader.errors[0].line)
    return config


def usable(text: str, *, native: frozenset[str] = frozenset()) -> RoutingConfig:
    """Read a routing file as the controller does, which also refuses entries that lack their credential."""
    config = parse(text, native=native)
    missing = [
        f"receiver {name}" + (f" (line {line})" if line else "")
        for name, _, line in config.without_credential()
    ]
    if missing:
        raise ConfigError(f"credentialRef is required: {'; '.join(missing[:_NAMED])}")
    return config


def examine(
    text: str, *, native: frozenset[str] = frozenset()
) -> tuple[RoutingConfig | None, tuple[Finding, ...]]:
    """
    Read a routing file as far as possible, and return all that is wrong with it, errors first.

    A part with an error is left out, and the rest is read without it. `native` is as for `parse`.
    """
    reader = Reader()
    config: RoutingConfig | None = None
    try:
        config = _read(reader, text, native)
    except ConfigError as error:
        fix = "correct the line" if error.line else "see docs/routing.md for the form of the file"
        reader.errors.append(Finding(Severity.ERROR, "", str(error), fix, error.line))
    return config, (*bounded(reader.errors), *bounded(reader.warnings))


def _read(reader: Reader, text: str, native: frozenset[str]) -> RoutingConfig | None:
    if not text.strip():
        raise ConfigError("empty configuration")
    root = reader.compose(text)
    file = reader.fill(File, reader.read(root, "", File) if root is not None else {})
    if file is None:
        return None
    if file.route is None:
        reader.refuse("route is required", "route", "add it: route: {receiver: NAME}")
    receivers = tuple(receivers_of(reader, file.receivers, native))
    if not receivers:
        reader.refuse(
            "at least one receiver is required", "receivers",
            "add it: receivers: [{name: NAME, consoleConfigs: [{enabled: true}]}]",
        )  # fmt: skip
    names = {receiver.name: receiver.name for receiver in receivers}
    tree = _route(reader, file.route or RouteSection(), "route", names, console=True)
    for receiver in receivers:
        if receiver.fallback:
            _known(reader, receiver.fallback.receiver, f"{receiver.path}.fallback", names)
    warn_about_names(reader, receivers, native)
    for route, key, why, fix in unreachable(tree):
        reader.warn(f"{route.path}.{key}" if key else route.path, why, fix)
    lines = {path: line for path, line in reader.lines.items() if path.startswith("receivers[")}
    lines |= {route.path: reader.line(route.path) for route in routes_of(tree)}
    doubts = sum(finding.doubt for finding in reader.warnings)
    return RoutingConfig(
        tree, receivers, native, bounded(reader.warnings), doubts, MappingProxyType(lines)
    )


def _route(
    reader: Reader,
    given: RouteSection,
    path: str,
    names: Mapping[str, str],
    *,
    depth: int = 0,
    console: bool,
) -> Route:
    """
    Create a node of the tree.

    `console` applies to a notification that ends in this node, if the node has no receiver. If true, the
    notification goes to the console fallback, because no route above except the root has a receiver.
    """
    if depth > MAX_DEPTH:
        raise too_much("routes are nested too deeply", reader.line(path))
    _known(reader, given.receiver, f"{path}.receiver", names)
    fallback = fallback_of(reader, given, path, given.receiver)
    if fallback:
        _known(reader, fallback.receiver, f"{path}.fallback", names)
    if fallback and not given.receiver:
        fix = "add receiver: NAME"
        reader.warn(f"{path}.fallback", "has no effect: the route has no receiver", fix)
    patterns = [_pattern(reader, key, text, path) for key, text in given.match_re.items()]
    routes = []
    for n, child in enumerate(given.routes):
        at = f"{path}.routes[{n}]"
        if child is None:
            reader.refuse("route has an empty child route", at, "remove the dash")
            continue
        beyond = console and (depth == 0 or not given.receiver)
        routes.append(_route(reader, child, at, names, depth=depth + 1, console=beyond))
    meant: dict[str, str] = {}
    if depth == 0:
        for name, key in (("match", "match"), ("match_re", "matchRe"), ("goes_on", "continue")):
            if name in given.model_fields_set:
                fix = "put it into a route below routes"
                reader.warn(f"{path}.{key}", "has no effect on the root route", fix)
    else:
        if not given.receiver:
            end = "the console fallback" if console else "a route above"
            reader.warn(
                path,
                "names no receiver: it adds none of its own"
                if given.goes_on
                else f"names no receiver: a notification that ends here goes to {end}",
                "add receiver: NAME",
            )
        meant = _meant(reader, given, path)
    return Route(
        given.receiver,
        tuple(given.match.items()),
        tuple(patterns),
        given.goes_on,
        tuple(routes),
        reader.unknown.get(path, ()),
        tuple(meant.items()),
        path,
        fallback,
    )


def _known(reader: Reader, receiver: str, path: str, names: Mapping[str, str]) -> None:
    """Refuse a receiver that is not in the list."""
    if receiver and receiver not in names:
        near = "" if many(reader.errors) else nearest(receiver[:MAX_NAME], names)
        reader.refuse(
            f"receiver '{receiver}' not found in receivers list",
            path,
            f"write {near} instead, or add a receiver of this name"
            if near
            else "add a receiver of this name, or name one that is there",
        )


def _meant(reader: Reader, given: RouteSection, path: str) -> dict[str, str]:
    """Return keys that look like a typo of a known attribute, each with that attribute; add warnings."""
    found: dict[str, str] = {}
    written = [("match", key) for key in given.match] + [("matchRe", key) for key in given.match_re]
    for member, key in written:
        at = f"{path}.{member}.{key}"
        if likely := likely_meant(key):
            found[key] = likely
            message = f"is not a known attribute: did you mean {likely}?"
            reader.warn(at, message, f"write {likely} instead", doubt=True)
        elif why := unseen(key):
            reader.warn(at, f"is not an attribute: {why}", _SEEN)
    for key, value in given.match.items():
        if key in SOMETIMES and (odd := odd_value(key, value)):
            reader.warn(f"{path}.match.{key}", *odd)
    return found


def _pattern(reader: Reader, key: str, text: str, path: str) -> Pattern:
    options = re2.Options()
    # Otherwise the library prints patterns to standard error.
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    path = f"{path}.matchRe.{key}"
    shown = text if len(text) <= _MAX_PATTERN else text[:64] + "…"
    reason = f"longer than {_MAX_PATTERN} characters"
    fix = "cut it into several routes"
    if shown is text:
        try:
            regex = re2.compile(text, options)
        except re2.error as error:
            reason = error.args[0].decode("utf-8", "replace")
            fix = "write a pattern of RE2 (no backreferences, no look-around)"
        else:
            if not re.search(r"[$^]|\\[Az]", text):
                reader.warn(
                    path,
                    "is not anchored: it is found anywhere in the value",
                    "write ^ before it and $ behind it, or .* where anything may stand",
                )
            return Pattern(key, text, regex)
    reader.refuse(
        f"invalid matchRe pattern for key {quoted(key)}: {quoted(shown)}: error parsing regexp: {reason}",
        path,
        fix,
    )
    return Pattern(key, text, None)
