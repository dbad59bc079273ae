"""
`notifier show`: prints the CustomResourceDefinition of this version, or the schema of one of its files.

With a schema, an editor marks a misspelt key while it is written. The schemas are stricter than the
programs, which ignore unknown keys and read any number as text. They cannot express how two keys depend on
each other; `notifier check` checks that as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from notifier.gateway.kinds import KINDS
from notifier.gateway.settings import MOST_SOURCES, GatewaySettings, SourceSettings
from notifier.routing.models import File, RouteSection
from notifier.settings import Address, Settings
from syncer.cli.exits import OK
from syncer.fields import schema_for
from syncer.kube.crd import render_crd

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def settings_schema() -> dict[str, Any]:
    """Return the schema of the settings file."""
    schema = schema_for(Settings, nullable=None, texts={Address})
    # The URL of Redis may be set outside the file.
    del schema["properties"]["redis"]["required"]
    return {"$schema": _DIALECT, "title": "Settings of notification-ledger", **schema}


def routing_schema() -> dict[str, Any]:
    """Return the schema of the routing file."""
    file = schema_for(File, nullable=None)
    # Keys that define anchors, with any content.
    file["patternProperties"] = {"^x-": {}}
    routes = {RouteSection.__name__: schema_for(RouteSection, nullable=None)}
    return {
        "$schema": _DIALECT, "title": "Routing file of notification-ledger", **file, "$defs": routes,
    }  # fmt: skip


def gateway_schema() -> dict[str, Any]:
    """Return the schema of the gateway's file."""
    schema = schema_for(GatewaySettings, nullable=None, texts={Address})
    source = schema_for(SourceSettings, nullable=None)
    source["required"].append("auth")
    members = source["properties"]
    members["kind"] |= {"enum": sorted(KINDS)}
    # The value is read as a text, but people write 7 without quotes.
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


def run(options: argparse.Namespace) -> int:
    """Print the document that is asked for; returns the exit code."""
    if options.what == "crd":
        sys.stdout.write(render_crd())
    else:
        made = {"settings": settings_schema, "routing": routing_schema, "gateway": gateway_schema}
        sys.stdout.write(json.dumps(made[options.what](), indent=2, ensure_ascii=False) + "\n")
    return OK
