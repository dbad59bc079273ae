"""
A notification that does not exist yet: its attributes as they are typed, or its manifest.

What is typed may be mistaken like a file: a name or a value that no notification has is doubted, not
refused, since an extension may have any name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from notifier.routing.attributes import ALWAYS, attributes_of, likely_meant, odd_value, unseen
from notifier.routing.config import Route
from syncer.model.errors import ConfigError
from syncer.model.resource import GROUP, KIND, parse_spec
from syncer.yamlfile import MAX_FILE, read_document, read_file


def parse_attributes(words: Sequence[str]) -> dict[str, str]:
    """
    Read `severity=critical,team=db`; a backslash before a comma makes it part of the value.

    Raises:
        ConfigError: a part is no pair.
    """
    found: dict[str, str] = {}
    for word in words:
        for pair in _parts(word):
            key, equals, value = pair.partition("=")
            if not equals or not key.strip():
                raise ConfigError(f"--attributes: {pair!r} is not of the form KEY=VALUE")
            found[key.strip()] = value
    return found


def _parts(word: str) -> Iterator[str]:
    part = ""
    rest = iter(word)
    for c in rest:
        if c == "\\":
            part += next(rest, c)
        elif c == ",":
            yield part
            part = ""
        else:
            part += c
    if part or not word:
        yield part


def doubtful(attributes: Mapping[str, str]) -> Iterator[str]:
    """Say which attributes no notification has, or never with this value."""
    for key, value in attributes.items():
        if likely := likely_meant(key):
            yield f"{key} is no attribute that is known: {likely} may be meant"
        elif why := unseen(key):
            yield f"{key} is no attribute: {why}"
        elif odd := odd_value(key, value):
            yield f"{key}={value} is not possible: it {odd[0]}"


def left_out(root: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Say which attributes that every notification has are not given, although routes match them."""
    wanted: set[str] = set()
    waiting = [root]
    while waiting:
        route = waiting.pop()
        wanted |= {key for key, _ in route.match} | {pattern.key for pattern in route.match_re}
        waiting += route.routes
    for key in ("namespace", *ALWAYS):
        if key in wanted and key not in attributes:
            yield f"{key} is not given: every notification has one, and routes match it"


def manifest_at(path: str) -> dict[str, Any]:
    """
    Read a manifest from a file, or from standard input for `-`.

    Raises:
        ConfigError: it cannot be read, or is no NotificationRequest.
    """
    if path == "-":
        document = read_document(sys.stdin.read(MAX_FILE)).values
    else:
        document = read_file(path).values
    if document.get("kind") != KIND or not str(document.get("apiVersion", "")).startswith(GROUP):
        raise ConfigError(f"{path} holds no {KIND} of {GROUP}")
    return document


def attributes_of_manifest(document: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the attributes that the controller would see.

    Raises:
        ConfigError: a member has another type than the definition says.
    """
    meta = document.get("metadata") or {}
    try:
        attributes = attributes_of(
            parse_spec(document.get("spec") or {}),
            namespace=str(meta.get("namespace") or ""),
            name=str(meta.get("name") or ""),
        )
    except (TypeError, ValueError, AttributeError):
        raise ConfigError("the spec of the manifest is not as the definition has it") from None
    # Without a namespace it is that of whoever creates it, which is not known here.
    return {
        key: value for key, value in attributes.items() if value or key not in {"namespace", "name"}
    }
