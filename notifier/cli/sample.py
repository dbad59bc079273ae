"""
A notification that does not exist yet: from attributes typed on the command line, or from a manifest.

Typed input may contain mistakes, as a file may. A name or a value that no notification has gives a
warning and not an error, because an extension may have any name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

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
from notifier.routing.config import Route, routes_of
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
    """Say which attributes no notification has, or never with this value."""
    for key, value in attributes.items():
        if likely := likely_meant(key):
            yield f"{key} is not a known attribute: did you mean {likely}?"
        elif why := unseen(key):
            yield f"{key} is not an attribute: {why}"
        elif odd := odd_value(key, value):
            yield f"{key}={value} is not possible: it {odd[0]}"


def left_out(root: Route, attributes: Mapping[str, str]) -> Iterator[str]:
    """Say which attributes that every notification has are not given, although routes match them."""
    wanted: set[str] = set()
    for route in routes_of(root):
        wanted |= {key for key, _ in route.match} | {pattern.key for pattern in route.match_re}
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
    # Without a namespace it is that of whoever creates it, which is not known here.
    return {
        key: value for key, value in attributes.items() if value or key not in {"namespace", "name"}
    }


#: On what this command creates; by it such objects can be found, and deleted.
TEST_LABEL: Final = "notification-ledger/test"


def manifest_of(
    attributes: Mapping[str, str], *, name: str, subject: str, body: str
) -> dict[str, Any]:
    """
    Return the manifest of a test notification.

    What is neither the object's own nor a field of the spec becomes an extension, under which routing sees
    it by the same name.

    Args:
        attributes: What routing is to see.
        name: Of the object, unless the attributes say it.
        subject: Of the notification.
        body: Of the notification.
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
    # It is of no interest tomorrow.
    spec["retentionDays"] = 1
    meta: dict[str, Any] = {"name": attributes.get("name", name)}
    if "namespace" in attributes:
        meta["namespace"] = attributes["namespace"]
    meta["labels"] = {TEST_LABEL: "true"}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": meta, "spec": spec}
