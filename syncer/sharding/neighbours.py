"""
Other installations that work on the same notifications: each of them would send every message.

Nobody can forbid that, since a controller with another Lease name or namespace is as legitimate. So it is
reported and never refuses a start. There are two signs:

- A session of another installation in our namespace that was renewed lately, and that watches a namespace
  which we watch too. Leases of other namespaces are not ours to read.
- The status of a notification that was created while this process ran, and that names another store. Who
  replaces Redis leaves older notifications with the store of before, so these prove nothing.

Both are believed for a while only: what has ended is not reported for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from syncer.kube.client import KubeClient
from syncer.kube.leases import LeaseRecord, lease_path
from syncer.model.errors import ContractError, PortError
from syncer.model.resource import NotificationRequest
from syncer.model.times import time_of
from syncer.sharding.view import LABEL, NAMESPACES

#: Seconds for which a sign is believed: two rounds, and what they are late.
_BELIEVED: Final = 1500.0
_TIMEOUT: Final = 10.0
#: Leases that are looked at: those of some twenty installations.
_MOST: Final = "500"
#: All namespaces; and the longest list of them that a Lease shows.
_ALL: Final = "*"
_LONGEST: Final = 4096
_SESSION: Final = "-session-"

logger = logging.getLogger("ledger.shards")


def namespaces_shown(namespaces: Sequence[str] | None) -> str:
    """What a session's Lease says of the namespaces that it watches; empty if they are too many."""
    text = _ALL if namespaces is None else ",".join(sorted(namespaces))
    return text if len(text) <= _LONGEST else ""


def living(leases: Iterable[LeaseRecord], now: int, namespaces: str) -> list[str]:
    """
    Return the names of the installations that have a living session and watch what we watch.

    Args:
        leases: Of other installations.
        now: Unix milliseconds, by the API server.
        namespaces: As shown, that are watched here.
    """
    found = set()
    for lease in leases:
        name, session, _ = lease.name.rpartition(_SESSION)
        silent = now - time_of(lease.renew_time)
        if session and silent <= lease.duration * 1000 and _meet(lease, namespaces):
            found.add(name)
    return sorted(found)


def _meet(lease: LeaseRecord, namespaces: str) -> bool:
    theirs = lease.annotation(NAMESPACES)
    # What is not known may be the same.
    if {_ALL, ""} & {theirs, namespaces}:
        return True
    return bool(set(theirs.split(",")) & set(namespaces.split(",")))


async def read_sessions(
    client: KubeClient, namespace: str, *, but: str = ""
) -> list[tuple[str, LeaseRecord]]:
    """
    Read the Leases of installations, each with its namespace.

    Args:
        client: Where to ask.
        namespace: Of the Leases; empty for all.
        but: Name of an installation that is left out.

    Raises:
        PortError: they could not be read.
    """
    path = lease_path(namespace) if namespace else "/apis/coordination.k8s.io/v1/leases"
    labels = f"{LABEL},{LABEL}!={but}" if but else LABEL
    params = {"labelSelector": labels, "limit": _MOST}
    answer = await client.request("GET", path, params=params, timeout=_TIMEOUT)
    found = []
    for item in answer.get("items") or ():
        with suppress(ContractError):
            lease = LeaseRecord.of(item)
            if _SESSION in lease.name:
                found.append((str(item["metadata"].get("namespace", "")), lease))
    return found


class Neighbours:
    """What one replica knows of other installations."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        *,
        namespaces: Sequence[str] | None,
        api_time: Callable[[], int | None],
        clock: Callable[[], float],
    ) -> None:
        """
        Prepare; no request is sent yet.

        The client is the one for Leases, of which `name` is the first part in `namespace`. `namespaces` are
        those that are watched, `api_time` is that of the API server, `clock` gives monotonic seconds.
        """
        self._client = client
        self._namespace = namespace
        self._name = name
        self._watched = namespaces_shown(namespaces)
        self._api_time = api_time
        self._clock = clock
        #: Unix milliseconds, by the API server, since which this process knows of the store.
        self._since = 0
        #: What was seen, in words, and when.
        self._signs: dict[str, float] = {}

    @property
    def seen(self) -> list[str]:
        """The signs, in words."""
        now = self._clock()
        self._signs = {sign: at for sign, at in self._signs.items() if now - at <= _BELIEVED}
        return sorted(self._signs)

    @property
    def problem(self) -> str | None:
        """What readiness mentions; None if there is no sign."""
        if seen := self.seen:
            return f"another installation sends the same notifications: {'; '.join(seen)}"
        return None

    async def round(self) -> None:
        """Look for the Leases of other installations."""
        with suppress(PortError):
            leases = await read_sessions(self._client, self._namespace, but=self._name)
            now = self._api_time()
            if now is None:
                return
            self._since = self._since or now
            for name in living([lease for _, lease in leases], now, self._watched):
                self._see(f"the Lease {name}-map in {self._namespace} is of one that runs")

    def compare(self, request: NotificationRequest, store: str) -> None:
        """Compare the store that a status names with ours; empty if that is not known now."""
        mark = request.status.log
        if mark is None or not (mark.store and store) or mark.store == store:
            return
        if self._since and request.created > self._since:
            self._see(f"statuses name the store {mark.store}, not {store}")

    def _see(self, sign: str) -> None:
        if sign not in self.seen:
            logger.warning(
                "another installation sends the same notifications", extra={"sign": sign}
            )
        self._signs[sign] = self._clock()
