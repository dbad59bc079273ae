"""An API server to which a gateway submits."""

from __future__ import annotations

import re
from typing import Final

from notifier.gateway.manifest import IDENTITY
from notifier.gateway.submit import KubeObjects
from syncer.model.errors import (
    Conflict,
    Gone,
    PortError,
)
from syncer.model.resource import Json
from syncer.model.times import format_time

NOW: Final = 1_795_752_000.0
_SELECTOR: Final = re.compile(r"([^ =]+)(?:=| in \()([^)]*)\)?")


class Objects(KubeObjects):
    """An API server in memory; what it is told to raise it raises first."""

    def __init__(self, *errors: PortError) -> None:
        self.errors = list(errors)
        self.there: dict[str, Json] = {}
        self.created: list[str] = []
        self.listed = 0
        self.now = NOW

    def put(self, name: str, digest: str, ago: float) -> None:
        """Have an object that was created so many seconds ago."""
        stamp = format_time(round((self.now - ago) * 1000), millis=False)
        self.there[name] = {
            "metadata": {
                "name": name, "namespace": "ns", "uid": f"uid-{name}",
                "creationTimestamp": stamp, "annotations": {IDENTITY: digest},
            }
        }  # fmt: skip

    async def select(self, namespace: str, selector: str) -> list[Json]:
        """List, by one label and its value, or values; what has no labels has them all."""
        self.listed += 1
        found = _SELECTOR.fullmatch(selector)
        assert found, selector
        label, values = found.groups()
        return [
            each
            for each in self.there.values()
            if each.get("spec")
            and each["metadata"].get("labels", {}).get(label, "") in {"", *values.split(",")}
        ]

    async def create(self, namespace: str, body: Json) -> Json:
        if self.errors:
            raise self.errors.pop(0)
        name = body["metadata"]["name"]
        if name in self.there:
            raise Conflict("taken")
        self.created.append(name)
        self.put(name, body["metadata"]["annotations"][IDENTITY], 0)
        self.there[name]["spec"] = body.get("spec", {})
        self.there[name]["metadata"]["labels"] = body["metadata"].get("labels", {})
        return self.there[name]

    async def get(self, namespace: str, name: str) -> Json:
        if name not in self.there:
            raise Gone("none")
        return self.there[name]
