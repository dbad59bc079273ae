"""Checks of the API server: whether it answers, how quickly, and whether it lists the objects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from syncer.cli.access import Access
from syncer.cli.doctor.result import Result, fail, ok, warn
from syncer.cli.outage import reason_of
from syncer.model.errors import KindMissing, LedgerError, PortError
from syncer.model.resource import NotificationRequest

_TIMEOUT: Final = 10.0
#: Objects whose statuses are looked at.
_SOME: Final = 50
#: Milliseconds of a small read beyond which leases are at risk.
_SLOW: Final = 500.0


@dataclass(slots=True)
class ApiFacts:
    """
    What was read of the API server.

    Attributes:
        error: Why it cannot be asked.
        named: Its address is known, and does not answer as it should.
        latency: Milliseconds of a small read.
        version: resourceVersion of a list, empty if the list was refused.
        stores: Ids of the stores that the statuses of some objects name.
        listing: Why objects cannot be listed, empty if they can.
    """

    error: str = ""
    named: bool = False
    latency: float = 0.0
    version: str = ""
    stores: frozenset[str] = frozenset()
    listing: str = ""


async def read_api_server(at: Access, namespaces: Sequence[str]) -> ApiFacts:
    """Ask for the version and for some objects; never raises for what the API server answers."""
    facts = ApiFacts()
    if at.kube is None:
        facts.error = at.problem
        return facts
    try:
        began = time.perf_counter()
        await at.kube.request("GET", "/version", timeout=_TIMEOUT)
        facts.latency = (time.perf_counter() - began) * 1000
    except (PortError, TimeoutError) as error:
        facts.error, facts.named = reason_of(error), True
        return facts
    try:
        page = await at.objects.list_page(namespaces[0] if namespaces else None, limit=_SOME)
        facts.version = page.resource_version
        marks = [r.status.log for r in page.objects if isinstance(r, NotificationRequest)]
        facts.stores = frozenset(mark.store for mark in marks if mark is not None)
    except (LedgerError, TimeoutError) as error:
        facts.listing = "not served" if isinstance(error, KindMissing) else str(error)
    return facts


def check_api_server(facts: ApiFacts) -> list[Result]:
    """Check the API server; a single failure if it cannot be asked."""
    if facts.error:
        fix = "name a kubeconfig (--kubeconfig or $KUBECONFIG), or run this in a pod with a service account"
        if facts.named:
            fix = "make sure that it runs, and that nothing between here and its address closes the way"
        if facts.error.startswith("401"):
            fix = "renew the token or certificate in the kubeconfig, or name another (--kubeconfig)"
        return [fail("api-connect", facts.error, fix)]
    return [
        ok("api-connect", "answers"),
        ok("api-latency", f"{facts.latency:.0f} ms for a small read")
        if facts.latency <= _SLOW
        else warn("api-latency", f"{facts.latency:.0f} ms for a small read",
                  "check the load of the API server; leases must be renewed within seconds"),
        fail("api-objects", f"NotificationRequests cannot be listed: {facts.listing}",
             "apply the CRD (`notifier show crd | kubectl apply --server-side -f -`), and grant"
             " list; with permissions in some namespaces only, name them (-n)")
        if facts.listing
        else ok("api-objects", "NotificationRequests can be listed"),
    ]  # fmt: skip
