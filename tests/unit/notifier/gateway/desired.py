"""The notification that a payload becomes."""

from __future__ import annotations

import json
from typing import Any

from notifier.gateway.draft import Incoming
from notifier.gateway.settings import of_document
from notifier.gateway.translation import Desired, translate
from syncer.model.resource import Json

NOW = 1_795_752_060.0


def desired(payload: Json, kind: str = "alertmanager", **source: Any) -> Desired:
    """What a payload becomes under a source of the gateway's file."""
    entry = {
        "name": "src", "kind": kind, "namespace": "alerts", "auth": {"insecure": True}, **source,
    }  # fmt: skip
    loaded = of_document({"sources": [entry]})
    assert loaded.warnings == ()
    ((found,), _) = translate(
        loaded.sources["src"][0], Incoming({}, json.dumps(payload).encode()), NOW
    )
    return found
