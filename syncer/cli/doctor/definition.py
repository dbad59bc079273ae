"""Checks of the CRD of NotificationRequests that the API server has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.cli.doctor.result import Result, fail, ok, unknown, warn
from syncer.kube.client import Json, KubeClient
from syncer.kube.crd import CRD_PATH, missing_fields, missing_rules, refused_values
from syncer.model.errors import Gone, PortError

_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class DefinitionFacts:
    """What was read of the CRD: what is served, that there is none, or why it could not be read."""

    served: Json | None = None
    absent: bool = False
    problem: str = ""


async def read_definition(kube: KubeClient) -> DefinitionFacts:
    """Read the CRD; never raises for what the API server answers."""
    try:
        return DefinitionFacts(await kube.request("GET", CRD_PATH, timeout=_TIMEOUT))
    except Gone:
        return DefinitionFacts(absent=True)
    except (PortError, TimeoutError) as error:
        return DefinitionFacts(problem=str(error))


def check_definition(facts: DefinitionFacts) -> list[Result]:
    """Check whether the CRD is the one of this version."""
    apply = "apply the CRD of this version (`notifier crd | kubectl apply --server-side -f -`)"
    if facts.absent:
        return [fail("crd-served", "the CRD is not installed", apply)]
    if facts.served is None:
        fix = "grant get on it; the first status write shows what it lacks"
        return [unknown("crd-served", f"the CRD cannot be read: {facts.problem}", fix)]
    lost = missing_fields(facts.served) + refused_values(facts.served)
    rules = missing_rules(facts.served)
    return [
        ok("crd-served", "the CRD is installed"),
        fail("crd-members", f"it drops or refuses {len(lost)} member(s): {', '.join(lost[:5])}", apply)
        if lost
        else ok("crd-members", "it keeps every field"),
        warn("crd-rules", f"{len(rules)} server-side rule(s) are missing",
              apply + ", or remove them on purpose with the chart's value")
        if rules
        else ok("crd-rules", "it has every server-side rule"),
    ]  # fmt: skip
