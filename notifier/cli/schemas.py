"""
JSON schemas of the files, for editors: a misspelt key is marked while it is written.

They are stricter than the programs, which ignore unknown keys and read any number as text, and they
cannot express how two keys depend on each other; `notifier check` can.
"""

from __future__ import annotations

from typing import Any, Final

from notifier.gateway.kinds import KINDS
from notifier.gateway.settings import MOST_SOURCES, GatewaySettings, SourceSettings
from notifier.routing.keys import FLAG, MAPPINGS, PAIRS, TEXT, TEXTS, TREE, Key
from notifier.settings import Address, Settings
from syncer.fields import schema_for

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: What is read where a text is wanted.
_TEXT: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
_KINDS: Final[dict[str, dict[str, Any]]] = {
    TEXT: _TEXT,
    FLAG: {"type": ["boolean", "null"]},
    TEXTS: {"type": ["array", "null"], "items": _TEXT},
    TREE: {},
    PAIRS: {"type": ["object", "null"], "additionalProperties": _TEXT},
}


def settings_schema() -> dict[str, Any]:
    """Return the schema of the settings file."""
    schema = schema_for(Settings, nullable=None, texts={Address})
    # Where Redis is may be said outside the file.
    del schema["properties"]["redis"]["required"]
    return {"$schema": _DIALECT, "title": "Settings of notification-ledger", **schema}


def routing_schema() -> dict[str, Any]:
    """Return the schema of the routing file."""
    mappings = {name: _mapping(name) for name in MAPPINGS if name != "file"}
    file = _mapping("file")
    # Anchors and whatever they hold.
    file["patternProperties"] = {"^x-": {}}
    return {
        "$schema": _DIALECT,
        "title": "Routing file of notification-ledger",
        **file,
        "type": "object",
        "$defs": mappings,
    }


def gateway_schema() -> dict[str, Any]:
    """Return the schema of the gateway's file."""
    schema = schema_for(GatewaySettings, nullable=None, texts={Address})
    source = schema_for(SourceSettings, nullable=None)
    source["required"].append("auth")
    members = source["properties"]
    members["kind"] |= {"enum": sorted(KINDS)}
    # It becomes a text: 7 is what people write.
    days = members["mapping"]["properties"]["retentionDays"]
    del days["anyOf"]
    days["type"] = ["string", "integer", "null"]
    schema["properties"]["sources"] = {
        "description": "An entry for each sender.",
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_SOURCES,
        "items": source,
    }
    return {
        "$schema": _DIALECT,
        "title": "The gateway's file of notification-ledger",
        **schema,
        "required": ["sources"],
    }


def _mapping(name: str) -> dict[str, Any]:
    keys = MAPPINGS[name]
    required = [key for key, about in keys.items() if about.required]
    nullable = name not in {"file", "route", "receiver"}
    out: dict[str, Any] = {
        "type": ["object", "null"] if nullable else "object",
        "additionalProperties": False,
        "properties": {key: _value(about) for key, about in keys.items()},
    }
    return {**out, "required": required} if required else out


def _value(key: Key) -> dict[str, Any]:
    kind = _KINDS.get(key.kind)
    if kind is None:
        kind = {"$ref": f"#/$defs/{key.kind}"}
    if key.words:
        kind = {"enum": [*key.words, None]}
    if key.listed:
        kind = {"type": ["array", "null"], "items": kind}
    about = {"description": key.text, **({"deprecated": True} if key.idle else {})}
    return {**about, **kind}
