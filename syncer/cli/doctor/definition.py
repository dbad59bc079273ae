"""Whether the API server serves NotificationRequests, which every account may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.cli.doctor.result import Result, fail, ok, unknown
from syncer.kube.client import KubeClient
from syncer.model.errors import Gone, PortError
from syncer.model.resource import GROUP, PLURAL, VERSION

_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class DefinitionFacts:
    """That the CRD is served, that there is none, or why it could not be asked for."""

    absent: bool = False
    problem: str = ""


async def read_definition(kube: KubeClient) -> DefinitionFacts:
    """Ask for the CRD; never raises for what the API server answers."""
    try:
        found = await kube.request("GET", f"/apis/{GROUP}/{VERSION}", timeout=_TIMEOUT)
    except Gone:
        return DefinitionFacts(absent=True)
    except (PortError, TimeoutError) as error:
        return DefinitionFacts(problem=str(error))
    return DefinitionFacts(
        absent=PLURAL not in [r.get("name") for r in found.get("resources") or ()]
    )


def check_definition(facts: DefinitionFacts) -> list[Result]:
    """Check that there is one: Kubernaut's and that of this project are equally good."""
    if facts.problem:
        fix = "see why the API server does not answer"
        return [unknown("crd-served", f"the CRD cannot be asked for: {facts.problem}", fix)]
    if facts.absent:
        fix = (
            "install Kubernaut, or apply that of this version (`notifier show crd | kubectl apply"
            " --server-side -f -`)"
        )
        return [fail("crd-served", "the CRD is not installed", fix)]
    return [ok("crd-served", "the CRD is installed")]
