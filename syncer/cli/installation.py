"""
Which installation a store belongs to: checked before a command believes it or writes to it.

The store metadata under `<prefix>:meta` names format and installation, and an installation is the uid of a
Lease. So a store of this cluster names a Lease that exists, with that uid. Without this check, the address
of another cluster's Redis, or of an empty one, would show a thousand lost logs, or have them restored.

A store without metadata has not been used by a controller under this prefix. The controller would take it;
a command has nothing there to read, and only `verify --repair --moved` something to write. Where the Lease
may not be read, the store is unchecked, and the command says so.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.cli.access import Access
from syncer.cli.exits import Refused
from syncer.cli.output import write_remark
from syncer.cli.scan import Scan, walk
from syncer.cli.times import now_here
from syncer.kube.client import KubeClient
from syncer.kube.delivery_holds import DeliveryHolds
from syncer.kube.leases import LeaseRecord, Leases
from syncer.ledger.replies import parse_meta
from syncer.ledger.store import store_of
from syncer.model.errors import ConfigError, Gone, LedgerError, PortError
from syncer.model.hold import Hold
from syncer.rules.holds import unmatched
from syncer.rules.recurrence import currently
from syncer.settings import own_namespace
from syncer.sharding.view import LABEL
from syncer.yamlfile import read_file

#: Seconds for whose a store is: a hung API server is not to keep back what Redis says.
_ANSWER: Final = 2.0


class StoreState(StrEnum):
    """The result of the check; a store of another installation is an error instead."""

    OURS = "ours"
    NEW = "new"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Store:
    """
    A store, checked.

    Attributes:
        text: What that means, empty for `OURS`.
        home: Namespace of the installation that the store names, empty without one.
        lease: Name of the installation, likewise.
        map: The Lease of the installation, None if it was not read.
        error: Why it could not be read, None if it was not asked for.
    """

    state: StoreState
    text: str = ""
    home: str = ""
    lease: str = ""
    map: LeaseRecord | None = None
    error: PortError | None = None

    @property
    def remark(self) -> str:
        """A remark that limits the meaning of the answer, empty if there is none."""
        unchecked = "the owner of the store was not checked: "
        return f"{unchecked if self.state is StoreState.UNCHECKED else ''}{self.text}"


def home_from_environment() -> str:
    """Return the controller's namespace from this process's environment, empty if it is not set."""
    return os.environ.get("KUBERNAUT_CONTROLLER_NAMESPACE", "").strip()


async def check_store(at: Access, *, home: str = "") -> Store:
    """
    Determine the installation of a store; `home` is the controller's namespace if that is known.

    Raises:
        ConfigError: it belongs to an installation that is not this cluster's, or not the configured one,
            or has another format.
        PortError: Redis does not answer.
    """
    client = at.client
    meta: bytes | None = await client.command("GET", client.meta_key)
    # Format first: what another version has written cannot be compared.
    store_of(meta, prefix=client.prefix, installation="")
    named = parse_meta(meta).get("installation", "")
    if not named:
        return Store(
            StoreState.NEW,
            f"no controller has used this store under the prefix {client.prefix!r} yet; compare redis.url"
            " and redis.keyPrefix with the controller's own",
        )
    place, _, uid = named.partition("@")
    namespace, _, name = place.partition("/")
    if not (namespace and name and uid):
        return Store(StoreState.UNCHECKED, f"installation {named!r} names no Lease")
    expected = at.settings.sharding.lease_name if at.configured else name
    wanted = f"{home or namespace}/{expected}"
    if place != wanted:
        # As the controller of that name would find it.
        store_of(meta, prefix=client.prefix, installation=wanted)
    if at.kube is None:
        return Store(
            StoreState.UNCHECKED, f"the API server is not used: {at.problem}", namespace, name
        )
    try:
        found = await read_map(at.kube, namespace, name, timeout=_ANSWER)
    except PortError as error:
        text = f"the Lease {namespace}/{name}-map could not be read: {error}"
        return Store(StoreState.UNCHECKED, text, namespace, name, error=error)
    if found is None or found.uid != uid:
        raise ConfigError(
            f"keys with prefix {client.prefix!r} belong to installation {named!r}, and this cluster has no"
            f" such Lease ({namespace}/{name}-map): the Redis or the kubeconfig belongs to another cluster",
            path="redis.url",
        )
    return Store(StoreState.OURS, "", namespace, name, found)


async def trusted_store(at: Access, *, writes: bool = False, new: bool = False) -> Store:
    """
    Check a store before anything in it is believed or written, and report what limits the answer.

    Args:
        at: Open connections.
        writes: Something is to be written: then the store must be checked.
        new: A store that no controller has used is good enough.

    Raises:
        ConfigError: it belongs to another installation, or is not known well enough for the command.
        PortError: Redis does not answer; or the API server does not, and something is to be written.
    """
    found = await check_store(at, home=home_from_environment())
    if found.state is StoreState.NEW and not new:
        raise ConfigError(found.text)
    if found.state is StoreState.UNCHECKED and writes:
        write_remark(f"{found.remark}; nothing is written")
        raise found.error or ConfigError(f"this needs the API server: {at.problem}")
    write_remark(found.remark)
    return found


async def read_map(
    kube: KubeClient, namespace: str, name: str, *, timeout: float = 5.0
) -> LeaseRecord | None:
    """
    Read the Lease of an installation, None if there is none.

    Args:
        kube: The API server.
        namespace: Of the Lease.
        name: Of the installation.
        timeout: Seconds.

    Raises:
        PortError: it could not be read.
    """
    try:
        return await Leases(kube, namespace, (LABEL, name)).get(f"{name}-map", timeout=timeout)
    except Gone:
        return None


def controller_namespace() -> str:
    """Return the controller's own namespace, as its pod has it; empty elsewhere."""
    return home_from_environment() or own_namespace()


def watched(at: Access) -> tuple[str, ...]:
    """Return the namespaces that the settings file has the controller watch; empty for all."""
    named = at.settings.controller.namespaces
    if named == "*" or not at.configured:
        return ()
    home = "" if named else controller_namespace()
    return tuple(named) or ((home,) if home else ())


def routed() -> set[str]:
    """Return the channels that the routing file has, where this runs in a pod that has it."""
    path = os.environ.get("ROUTING_CONFIG_PATH", "")
    try:
        receivers = read_file(path).values.get("receivers") if path else None
    except (ConfigError, OSError):
        return set()
    return {
        f"{key.removesuffix('Configs').lower()}:{receiver.get('name')}"
        for receiver in (receivers if isinstance(receivers, list) else ())
        if isinstance(receiver, dict)
        for key in receiver
        if isinstance(key, str) and key.endswith("Configs")
    }


def namespaces_of(at: Access, options: argparse.Namespace) -> tuple[str, ...]:
    """
    Return the namespaces to look at; empty for all.

    Those that were named, else those that the settings file has the controller watch: an account that
    may see these often may see no others.
    """
    named = getattr(options, "namespace", None) or ()
    return tuple(named) if named or getattr(options, "all_namespaces", False) else watched(at)


async def check_names(at: Access, options: argparse.Namespace, scan: Scan) -> None:
    """
    Refuse patterns of receivers that nothing known matches, as `hold` does; remark on such a namespace.

    Args:
        at: Open connections.
        options: Of the command: `receiver`, `namespace`.
        scan: What was seen. Unless that was everything, the rest is looked at before anything is refused.

    Raises:
        Refused: no receiver is named so.
    """
    asked = Hold(
        "", "", 0, 0, "", "", receivers=tuple(options.receiver or ()),
        namespaces=tuple(options.namespace or ()),
    )  # fmt: skip
    strange = unmatched(asked, scan.channels | routed(), scan.namespaces.union(watched(at)))
    if strange and not (scan.objects and namespaces_of(at, options) == watched(at)):
        # What may not be looked at may be there.
        strange = ()
        with suppress(LedgerError, TimeoutError):
            async for _ in walk(at, watched(at), scan):
                pass
            strange = unmatched(asked, scan.channels | routed(), scan.namespaces.union(watched(at)))
    if strange and options.receiver:
        raise Refused("; ".join(strange))
    write_remark("; ".join(strange))


async def holds_at(at: Access) -> DeliveryHolds:
    """Return the calls on the holds; ConfigError if it is not known where they are."""
    if at.kube is None:
        raise ConfigError(f"this needs the API server: {at.problem}")
    home = home_from_environment()
    if not home:
        try:
            meta = parse_meta(await at.client.command("GET", at.client.meta_key))
        except (LedgerError, TimeoutError):
            meta = {}
        home = meta.get("installation", "").partition("/")[0] or own_namespace()
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
