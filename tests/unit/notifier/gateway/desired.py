"""The notifications that a payload becomes."""

from __future__ import annotations

import json
from typing import Any

from notifier.gateway.draft import Incoming
from notifier.gateway.settings import of_document
from notifier.gateway.translation import Conditional, Desired, translate
from syncer.model.resource import Json

NOW = 1_795_752_060.0


def everything(
    payload: Json, kind: str = "alertmanager", **source: Any
) -> tuple[tuple[Desired, ...], tuple[Conditional, ...]]:
    """What a payload becomes under a source of the gateway's file, and its ends of what is open."""
    entry = {
        "name": "src", "kind": kind, "namespace": "alerts", "auth": {"insecure": True}, **source,
    }  # fmt: skip
    loaded = of_document({"sources": [entry]})
    assert loaded.warnings == ()
    return translate(loaded.sources["src"][0], Incoming({}, json.dumps(payload).encode()), NOW)


def desired(payload: Json, kind: str = "alertmanager", **source: Any) -> Desired:
    """The one notification that a payload becomes."""
    (found,), ends = everything(payload, kind, **source)
    assert not ends
    return found
