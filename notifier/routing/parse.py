"""
The routing file: text in, `RoutingConfig` out.

The format is the replaced controller's, and so are its errors: each text begins exactly as it was
worded there, then says where.

Some things that look as if they worked do not, and stay so for compatibility: `enabled: false`, a
receiver that configures nothing (it delivers to the console), a matching route without a receiver,
patterns that match anywhere in a value. They are accepted with a warning that names path and line.
Unknown keys are warnings too. A key that nothing reads may be a slip that sends notifications elsewhere
than meant (`discordConfigs`, `match: {prioritty: ...}`): such warnings are doubts, which are counted, and
routes and receivers remember theirs for the notifications concerned.

No text made here quotes a value other than receiver names, keys, patterns and what routes match: the
file may hold tokens.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

import re2
import yaml

from notifier.routing.attributes import SOMETIMES, likely_meant, odd_value, unseen
from notifier.routing.config import Pattern, Route, RoutingConfig, quoted, routes_of
from notifier.routing.document import MAX_DEPTH, MAX_NAME, Reader, Table, too_much
from notifier.routing.entries import read_fallback, read_receivers, warn_about_names
from notifier.routing.keys import MAPPINGS
from notifier.routing.reach import unreachable
from syncer.configfile import nearest
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity

_MAX_PATTERN: Final = 4096
#: Bytes that one compiled pattern and its caches may take.
_PATTERN_MEMORY: Final = 2 << 20
_SEEN: Final = "match an attribute that routing sees; docs/routing.md lists them"


def parse(text: str, *, native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Read a routing file; `native` are the kinds among `email` and `webhook` that are delivered here.

    Raises:
        ConfigError: with upstream's text as prefix, and the line where there is one.
    """
    return _parse(Reader(), text, native)


def examine(
    text: str, *, native: frozenset[str] = frozenset()
) -> tuple[RoutingConfig | None, tuple[Finding, ...]]:
    """
    Read a routing file, if anything can be made of it, and say all that is wrong with it, errors first.

    What is read after an error is read with nothing in its place. `native` is as for `parse`.
    """
    reader = Reader(collect=True)
    config: RoutingConfig | None = None
    try:
        config = _parse(reader, text, native)
    except ConfigError as error:
        fix = "correct the line" if error.line else "see docs/routing.md for the form of the file"
        reader.collect(Finding(Severity.ERROR, "", str(error), fix, error.line))
    return config, (*reader.errors(), *(config.findings if config else reader.findings()))


def _parse(reader: Reader, text: str, native: frozenset[str]) -> RoutingConfig:
    if not text.strip():
        raise ConfigError("empty configuration")
    root = reader.compose(text)
    top = reader.table(root, "", MAPPINGS["file"])
    if top is None:
        raise ConfigError("route is required")
    route_node = top.node("route")
    if route_node is None:
        reader.refuse(
            "route is required", None, path="route", fix="add it: route: {receiver: NAME}"
        )
    receivers = tuple(read_receivers(top, native))
    top.close()
    if not receivers:
        reader.refuse(
            "at least one receiver is required", None, path="receivers",
            fix="add it: receivers: [{name: NAME, consoleConfigs: [{enabled: true}]}]",
        )  # fmt: skip
    names = frozenset(receiver.name for receiver in receivers)
    tree = Route()
    if route_node is not None:
        tree = _route(reader, route_node, "route", names, depth=0, console=True) or tree
    for receiver in receivers:
        if receiver.fallback:
            _known(reader, receiver.fallback.receiver, names, f"{receiver.path}.fallback")
    warn_about_names(reader, receivers, native)
    for route, key, why, fix in unreachable(tree):
        reader.warn(f"{route.path}.{key}" if key else route.path, why, fix)
    lines = {path: line for path, line in reader.lines.items() if path.startswith("receivers[")}
    lines |= {route.path: reader.lines[route.path] for route in routes_of(tree)}
    return RoutingConfig(
        tree, receivers, native, reader.findings(), reader.doubts, MappingProxyType(lines)
    )


def _route(
    reader: Reader,
    node: yaml.Node,
    path: str,
    names: frozenset[str],
    *,
    depth: int,
    console: bool,
) -> Route | None:
    """
    Read a node of the tree; None if it is null.

    `console` tells where a notification goes that ends in a child without a receiver: to the
    console fallback, because no route above it, except the root, has a receiver.
    """
    if depth > MAX_DEPTH:
        raise too_much("routes are nested too deeply", node)
    table = reader.table(node, path, MAPPINGS["route"])
    if table is None:
        return None
    receiver = table.text("receiver")
    _known(reader, receiver, names, f"{path}.receiver")
    fallback = read_fallback(table, receiver)
    if fallback:
        _known(reader, fallback.receiver, names, f"{path}.fallback")
    if fallback and not receiver:
        table.warn("has no effect: the route has no receiver", "add receiver: NAME", "fallback")
    match = tuple(table.pairs("match"))
    match_re = tuple(_pattern(table, key, text, at) for key, text, at in table.marked("matchRe"))
    goes_on = table.flag("continue")
    table.idle()
    routes = []
    for child, where in table.items("routes"):
        inner = _route(
            reader,
            child,
            where,
            names,
            depth=depth + 1,
            console=console and (depth == 0 or not receiver),
        )
        if inner is None:
            reader.refuse(
                "route has an empty child route", child, path=where, fix="remove the dash"
            )
            continue
        routes.append(inner)
    unknown = table.close()
    meant: tuple[tuple[str, str], ...] = ()
    if depth == 0:
        _warn_about_root(table)
    else:
        if not receiver:
            _warn_about_no_receiver(table, goes_on=goes_on, console=console)
        meant = _meant(table, match, match_re)
    return Route(
        receiver, match, match_re, goes_on, tuple(routes), unknown=unknown, meant=meant, path=path,
        fallback=fallback,
    )  # fmt: skip


def _known(reader: Reader, receiver: str, names: frozenset[str], path: str) -> None:
    """Refuse a receiver that is not in the list."""
    if receiver and receiver not in names:
        near = ""
        if not reader.many_errors:
            near = nearest(receiver[:MAX_NAME], {name: name for name in names})
        reader.refuse(
            f"receiver '{receiver}' not found in receivers list", None, path=path,
            fix=f"write {near} instead, or add a receiver of this name"
            if near
            else "add a receiver of this name, or name one that is there",
        )  # fmt: skip


def _warn_about_root(table: Table) -> None:
    for key in ("match", "matchRe", "continue"):
        if table.node(key) is not None:
            table.warn("has no effect on the root route", "put it into a route below routes", key)


def _warn_about_no_receiver(table: Table, *, goes_on: bool, console: bool) -> None:
    end = "the console fallback" if console else "a route above"
    table.warn(
        f"names no receiver: a notification that ends here goes to {end}"
        if not goes_on
        else "names no receiver: it adds none of its own",
        "add receiver: NAME",
    )


def _meant(
    table: Table, match: tuple[tuple[str, str], ...], match_re: tuple[Pattern, ...]
) -> tuple[tuple[str, str], ...]:
    """Keys that look like a known attribute without being it, and that attribute."""
    found: dict[str, str] = {}
    written = [("match", key) for key, _ in match] + [("matchRe", p.key) for p in match_re]
    for member, key in written:
        if likely := likely_meant(key):
            found[key] = likely
            table.doubt(
                f"is not a known attribute: did you mean {likely}?",
                f"write {likely} instead",
                f"{member}.{key}",
                table.reader.lines[f"{table.path}.{member}.{key}"],
            )
        elif why := unseen(key):
            table.warn(f"is not an attribute: {why}", _SEEN, f"{member}.{key}")
    for key, value in match:
        if key in SOMETIMES and (odd := odd_value(key, value)):
            table.warn(*odd, f"match.{key}")
    return tuple(found.items())


def _pattern(table: Table, key: str, text: str, node: yaml.Node) -> Pattern:
    options = re2.Options()
    # Else the library prints patterns to standard error.
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    where = f"invalid matchRe pattern for key {quoted(key)}: {quoted(text)}"
    path = f"{table.path}.matchRe.{key}"
    if len(text) > _MAX_PATTERN:
        table.reader.refuse(
            f"invalid matchRe pattern for key {quoted(key)}: {quoted(text[:64] + '…')}: "
            f"error parsing regexp: longer than {_MAX_PATTERN} characters",
            node, path=path, fix="cut it into several routes",
        )  # fmt: skip
        return Pattern(key, text, None)
    try:
        regex = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a pattern"
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        table.reader.refuse(
            f"{where}: error parsing regexp: {reason}", node, path=path,
            fix="write a pattern of RE2 (no references to groups, no looking around)",
        )  # fmt: skip
        return Pattern(key, text, None)
    if not re.search(r"[$^]|\\[Az]", text):
        table.warn(
            "is not anchored: it is found anywhere in the value",
            "write ^ before it and $ behind it, or .* where anything may stand",
            f"matchRe.{key}",
        )
    return Pattern(key, text, regex)
