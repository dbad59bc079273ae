"""
A notification that does not exist yet: from attributes typed on the command line, or from a manifest.

Typed input may contain mistakes, as a file may. A name or a value that no notification has gives a
warning and not an error, because an extension may have any name.

A notification names no receiver: routing decides. To reach one receiver, and nobody else, this module looks
for a path through the tree that ends at it, makes up a notification that takes the path, and evaluates the
controller's own rules for that notification. It uses the result only if it is this receiver alone.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from notifier.routing.attributes import (
    ALWAYS,
    RESERVED,
    SOMETIMES,
    SPEC_FIELDS,
    attributes_of,
    likely_meant,
    odd_value,
    unseen,
)
from notifier.routing.config import (
    Pattern,
    Receiver,
    Route,
    RoutingConfig,
    found,
    quoted,
    routes_of,
)
from notifier.routing.tree import resolve
from syncer.cli.exits import Refused
from syncer.model.errors import ConfigError
from syncer.model.resource import GROUP, KIND, VERSION, parse_spec
from syncer.yamlfile import MAX_FILE, read_document, read_file


def parse_attributes(words: Sequence[str]) -> dict[str, str]:
    """
    Read `severity=critical,team=db`; a backslash before a comma makes it part of the value.

    Raises:
        ConfigError: a part is not a pair.
    """
    found: dict[str, str] = {}
    for word in words:
        for part in re.findall(r"(?:\\.|[^,\\]|\\$)+", word) or [""]:
            key, equals, value = re.sub(r"\\(.)", r"\1", part).partition("=")
            if not equals or not key.strip():
                raise ConfigError(f"--attributes: {part!r} is not of the form KEY=VALUE")
            found[key.strip()] = value
    return found


def doubtful(attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about attributes that no notification has, or never with this value."""
    for key, value in attributes.items():
        if likely := likely_meant(key):
            yield f"{key} is not a known attribute: did you mean {likely}?"
        elif why := unseen(key):
            yield f"{key} is not an attribute: {why}"
        elif odd := odd_value(key, value):
            yield f"{key}={value} is not possible: it {odd[0]}"


def left_out(root: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about missing attributes that every notification has and that routes match."""
    matched = (
        {*dict(route.match), *(pattern.key for pattern in route.match_re)}
        for route in routes_of(root)
    )
    wanted = set[str]().union(*matched)
    for key in ("namespace", *ALWAYS):
        if key in wanted and key not in attributes:
            yield f"{key} is not given: every notification has one, and routes match it"


def manifest_at(path: str) -> dict[str, Any]:
    """Read a manifest from a file, `-` for standard input; ConfigError if it is no NotificationRequest."""
    if path == "-":
        document = read_document(sys.stdin.read(MAX_FILE)).values
    else:
        document = read_file(path).values
    if document.get("kind") != KIND or not str(document.get("apiVersion", "")).startswith(GROUP):
        raise ConfigError(f"{path} holds no {KIND} of {GROUP}")
    return document


def attributes_of_manifest(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes that the controller would see; ConfigError if the spec does not fit the CRD."""
    meta = document.get("metadata") or {}
    try:
        attributes = attributes_of(
            parse_spec(document.get("spec") or {}),
            namespace=str(meta.get("namespace") or ""),
            name=str(meta.get("name") or ""),
        )
    except (TypeError, ValueError, AttributeError):
        raise ConfigError("the manifest's spec does not fit the CustomResourceDefinition") from None
    # An object without a namespace gets the default one of its creator, which is not known here.
    return {
        key: value for key, value in attributes.items() if value or key not in {"namespace", "name"}
    }


#: Label of the objects that this command creates, by which they can be found and deleted.
TEST_LABEL: Final = "notification-ledger/test"


def manifest_of(
    attributes: Mapping[str, str], *, name: str, subject: str, body: str
) -> dict[str, Any]:
    """
    Return the manifest of a test notification.

    An attribute that is neither the object's own nor a field of the spec becomes an extension, which
    routing sees under the same name.

    Args:
        attributes: The attributes that routing must see.
        name: Name of the object, unless the attributes contain one.
        subject: Subject of the notification.
        body: Body of the notification.
    """
    spec: dict[str, Any] = {"type": "Simple", "priority": "Low", "subject": subject, "body": body}
    extensions: dict[str, str] = {}
    for key, value in attributes.items():
        field = SPEC_FIELDS.get(key)
        if key in RESERVED:
            continue
        if field and (key != "review-source" or value in SOMETIMES[key]):
            spec[field] = value
        else:
            extensions[key] = value
    if extensions:
        spec["extensions"] = extensions
    # A test notification is of no interest tomorrow.
    spec["retentionDays"] = 1
    meta: dict[str, Any] = {"name": attributes.get("name", name)}
    if "namespace" in attributes:
        meta["namespace"] = attributes["namespace"]
    meta["labels"] = {TEST_LABEL: "true"}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": meta, "spec": spec}


#: Most reasons that an error names.
_NAMED: Final = 3
#: Types and priorities in the order in which they are tried, the least disturbing first.
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
        receiver: Name of the receiver.
        given: Attributes that the notification must have.

    Raises:
        Refused: there are none, or none were found; the text says why.
    """
    target = config.receiver(receiver)
    if target is None:
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
            tried = list(_tried(target, way, given))
        except Refused as refused:
            reasons.append(str(refused))
            continue
        for attributes in tried:
            reached = resolve(config, attributes)
            others = ", ".join(quoted(name) for name in reached.receivers if name != receiver)
            also = "also reaches" if receiver in reached.receivers else "reaches"
            wrong = f"a notification that takes {way.route.path} {also} {others}"
            if reached.receivers == (receiver,):
                namespace = attributes.get("namespace", "")
                denials = (config.denial(channel, namespace) for channel in reached.channels)
                wrong = next(filter(None, denials), "")
                if wrong and not namespace:
                    named = ", ".join(target.namespaces)
                    wrong = f"it takes only notifications of namespaces {named}; name one with -n"
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
            # The first condition that contradicts one above it.
            clash = next(
                (f"{child.path} wants {key} to be {quoted(value)}, a route above {quoted(way.exact[key])}"
                 for key, value in child.match if way.exact.get(key, value) != value), "",
            )  # fmt: skip
            exact = {**way.exact, **dict(child.match)}
            patterns = way.patterns + child.match_re
            waiting.append(_Path(child, exact, patterns, way.clash or clash))


def _tried(receiver: Receiver, way: _Path, given: Mapping[str, str]) -> Iterator[dict[str, str]]:
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
    # A namespace whose notifications the receiver accepts; none if it accepts all namespaces.
    names = (name for name in receiver.namespaces if not set(name) & {"*", "?"})
    if "namespace" not in attributes and (home := next(names, "")):
        attributes["namespace"] = home
    for kind in (attributes["type"],) if "type" in attributes else _TYPES:
        for priority in (attributes["priority"],) if "priority" in attributes else _PRIORITIES:
            yield {**attributes, "type": kind, "priority": priority}


def _sample(pattern: Pattern) -> str | None:
    """Return a text that a pattern matches, None if none is found."""
    known = ALWAYS.get(pattern.key) or SOMETIMES.get(pattern.key) or ()
    return next((text for text in (*known, *_guesses(pattern.text)) if found(pattern, text)), None)


def _guesses(text: str) -> Iterator[str]:
    text = re.sub(r"\(\?[a-z]+\)", "", text)
    # Replace each group with its first alternative, innermost groups first.
    for _ in range(text.count("(")):
        text = re.sub(r"\((?:\?:)?([^()|]*)(?:\|[^()]*)?\)", r"\1", text)
    for branch in text.split("|"):
        plain = branch.strip("^$")
        plain = re.sub(r"\[([^\]^])[^\]]*\]", r"\1", plain)
        plain = re.sub(r"\\d", "0", re.sub(r"\\w", "a", plain))
        plain = re.sub(r"\.[*+?]", "x", plain)
        yield re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)[*+?]", "", plain))
