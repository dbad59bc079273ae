"""The operators' holds, for the commands that place and end them, and for those that look."""

from __future__ import annotations

from syncer.cli.access import Access
from syncer.cli.namespaces import controller_namespace
from syncer.cli.outage import now_here
from syncer.cli.store import home_from_environment
from syncer.kube.delivery_holds import DeliveryHolds
from syncer.ledger.replies import parse_meta
from syncer.model.errors import ConfigError, LedgerError
from syncer.model.hold import Hold
from syncer.rules.recurrence import currently


async def home_of(at: Access) -> str:
    """Return the controller's namespace: as the environment says, the store, or this pod; else empty."""
    home = home_from_environment()
    if not home:
        try:
            meta = parse_meta(await at.client.command("GET", at.client.meta_key))
        except (LedgerError, TimeoutError):
            meta = {}
        home = meta.get("installation", "").partition("/")[0]
    return home or await controller_namespace()


async def holds_at(at: Access) -> DeliveryHolds:
    """Return the calls on the holds; ConfigError if it is not known where they are."""
    if at.kube is None:
        raise ConfigError(f"this needs the API server: {at.problem}")
    home = await home_of(at)
    if not home:
        raise ConfigError(
            "the controller's namespace, which has the holds, is not known:"
            " set $KUBERNAUT_CONTROLLER_NAMESPACE"
        )
    return DeliveryHolds(at.kube, home)


async def read_holds(at: Access) -> tuple[tuple[Hold, ...], str]:
    """Read the holds, none where the kind is absent; and why they cannot be read."""
    try:
        holds = await holds_at(at)
        if not await holds.served():
            return (), ""
        found, _ = await holds.list()
    except (LedgerError, TimeoutError) as error:
        return (), str(error) or "the API server does not answer in time"
    return currently(found, now_here()), ""
