"""
Which installation a store belongs to; checked before a command relies on the store or writes to it.

The store metadata under `<prefix>:meta` names format and installation, and the id of an installation
includes the uid of its Lease. So a store of this cluster names a Lease that exists with that uid. Without
this check, the address of another cluster's Redis, or of an empty one, would make every log appear lost, or
have it restored.

A store without metadata has not been used by a controller under this prefix. The controller would take it
over; a command has nothing to read there, and only `verify --repair --moved` may write to it. If the Lease
cannot be read, the store is unchecked, and the command says so.
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

#: Seconds to check the owner of a store: a hung API server must not hold up the answer from Redis.
_ANSWER: Final = 2.0


class StoreState(StrEnum):
    """The result of the check; a store of another installation raises an error instead."""

    OURS = "ours"
    NEW = "new"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Store:
    """
    The result of checking a store.

    Attributes:
        text: Explanation of the state, empty for `OURS`.
        home: Namespace of the installation that the store names, empty if it names none.
        lease: Name of that installation, empty if the store names none.
        map: The Lease of the installation, None if it was not read.
        error: Why the Lease could not be read, None if no read has failed.
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
    Determine the installation of a store; `home` is the controller's namespace, empty if not known.

    Raises:
        ConfigError: the store belongs to an installation that is not this cluster's or not the configured
            one, or has another format.
        PortError: Redis does not answer.
    """
    client = at.client
    meta: bytes | None = await client.command("GET", client.meta_key)
    # Check the format first: metadata that another version has written cannot be compared.
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
        # Raise the error that the controller of that name would raise.
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
    Check a store before it is relied on or written to, and remark on any limits of the answer.

    Args:
        at: Open connections.
        writes: The command writes, so that an unchecked store is refused.
        new: A store that no controller has used is accepted.

    Raises:
        ConfigError: the store belongs to another installation, or too little is known about it for the
            command.
        PortError: Redis does not answer; or the API server does not, and the command writes.
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
    Read the map Lease of an installation, None if there is none.

    Args:
        kube: The API server.
        namespace: Namespace of the Lease.
        name: Name of the installation.
        timeout: Seconds to wait for the answer.

    Raises:
        PortError: the Lease could not be read.
    """
    try:
        return await Leases(kube, namespace, (LABEL, name)).get(f"{name}-map", timeout=timeout)
    except Gone:
        return None


def controller_namespace() -> str:
    """Return the controller's own namespace as its pod knows it; empty outside of a pod."""
    return home_from_environment() or own_namespace()


def watched(at: Access) -> tuple[str, ...]:
    """Return the namespaces that the controller watches according to the settings file; empty for all."""
    named = at.settings.controller.namespaces
    if named == "*" or not at.configured:
        return ()
    home = "" if named else controller_namespace()
    return tuple(named) or ((home,) if home else ())


def routed() -> set[str]:
    """Return the channels in the routing file, if the command runs in a pod that has the file."""
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

    These are the named ones, else those that the controller watches according to the settings file: an
    account that may read those often may not read any others.
    """
    named = getattr(options, "namespace", None) or ()
    return tuple(named) if named or getattr(options, "all_namespaces", False) else watched(at)


async def check_names(at: Access, options: argparse.Namespace, scan: Scan) -> None:
    """
    Refuse receiver patterns that match nothing known, as `hold` does; only remark on unknown namespaces.

    Args:
        at: Open connections.
        options: Options of the command: `receiver`, `namespace`.
        scan: The names seen so far. Unless the scan was complete, the rest is scanned before a refusal.

    Raises:
        Refused: a pattern matches no receiver.
    """
    asked = Hold(
        "", "", 0, 0, "", "", receivers=tuple(options.receiver or ()),
        namespaces=tuple(options.namespace or ()),
    )  # fmt: skip
    strange = unmatched(asked, scan.channels | routed(), scan.namespaces.union(watched(at)))
    if strange and not (scan.objects and namespaces_of(at, options) == watched(at)):
        # If the rest cannot be scanned, the names may exist there.
        strange = ()
        with suppress(LedgerError, TimeoutError):
            async for _ in walk(at, watched(at), scan):
                pass
            strange = unmatched(asked, scan.channels | routed(), scan.namespaces.union(watched(at)))
    if strange and options.receiver:
        raise Refused("; ".join(strange))
    write_remark("; ".join(strange))


async def holds_at(at: Access) -> DeliveryHolds:
    """Return the client for the holds; ConfigError if it is not known where they are."""
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
    """Read the holds, none if the kind is not installed; and why they cannot be read, empty if they can."""
    try:
        holds = await holds_at(at)
        if not await holds.served():
            return (), ""
        found, _ = await holds.list()
    except (LedgerError, TimeoutError) as error:
        return (), str(error) or "the API server does not answer in time"
    return currently(found, now_here()), ""
