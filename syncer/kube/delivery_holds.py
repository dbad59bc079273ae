"""
The operators' holds in the controller's namespace: calls on them, and a replica's knowledge of them.

Discovery, which is open to every account, tells whether the kind exists; a list cannot, because it answers
403 for an absent kind as well. While the kind is absent, nothing can be held, and discovery is asked again
from time to time.

While the kind is served, the holds are listed, and watched from that version on. Any event leads to a new
list, since holds are few and seldom change. Each watch is short, so that one that hangs is noticed: the
known holds are trusted for a minute after the server last confirmed them by a list or by the orderly end of
a watch.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.model.errors import ContractError, KindMissing, PortError, Unauthorised, Unavailable
from syncer.model.hold import GROUP, KIND, PLURAL, VERSION, Hold
from syncer.rules.backoff import equal_jitter, late_jitter
from syncer.runtime.clock import MonotonicClock

#: Seconds for which known holds are trusted without an answer from the server.
BELIEVED: Final = 60.0
#: Seconds for a call, for a watch (up to a quarter more), and for its longest silence.
_TIMEOUT: Final = 10.0
_WATCH: Final = 30.0
_SILENCE: Final = 45.0
#: Seconds to pause before the list that follows a change, after a failure, and while the kind is absent.
_PAUSE: Final = 0.5
_FAILED_PAUSE: Final = 2.0
_ABSENT_PAUSE: Final = 15.0
_DISCOVERY: Final = f"/apis/{GROUP}/{VERSION}"


class DeliveryHolds:
    """Calls on the holds of one installation; each raises `PortError`s."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        """Prepare; no request is sent."""
        self._client = client
        self._path = f"{_DISCOVERY}/namespaces/{quote(namespace, safe='')}/{PLURAL}"
        #: The resource and its namespace, as named in texts about permissions.
        self.place: Final = f"{PLURAL}.{GROUP} in the namespace {namespace}"

    async def served(self) -> bool:
        """Whether the kind exists."""
        try:
            found = await self._client.request("GET", _DISCOVERY, timeout=_TIMEOUT)
        except KindMissing:
            return False
        return any(resource.get("name") == PLURAL for resource in found.get("resources") or ())

    async def list(self) -> tuple[tuple[Hold, ...], str]:
        """Return all holds, and the resourceVersion of the list; Unavailable if one cannot be read."""
        found = await self._client.request("GET", self._path, timeout=_TIMEOUT)
        try:
            holds = tuple(Hold.of(one) for one in found["items"])
            return holds, str(found["metadata"]["resourceVersion"])
        except (ContractError, KeyError, TypeError) as error:
            raise Unavailable(f"the answer is no list of holds: {error}") from error

    async def changed(self, version: str) -> bool:
        """Wait for a change after a version, for about half a minute; return whether there was one."""
        ends = late_jitter(_WATCH, random.random())  # noqa: S311 - jitter
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(round(ends))}
        async with self._client.stream(
            self._path, query, connect_timeout=_TIMEOUT, idle_timeout=_SILENCE
        ) as lines:
            async for _ in lines:
                return True
        return False

    async def create(self, name: str, spec: Json, *, dry_run: bool = False) -> Hold:
        """Place a hold; Conflict if there is one of that name."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec,
        }  # fmt: skip
        query = {"dryRun": "All"} if dry_run else {}
        return Hold.of(
            await self._client.request(
                "POST", self._path, params=query, body=body, timeout=_TIMEOUT
            )
        )

    async def patch(self, name: str, body: Json, subresource: str = "") -> None:
        """Merge members into a hold; Gone if there is none of that name."""
        path = f"{self._path}/{quote(name, safe='')}{subresource}"
        await self._client.request(
            "PATCH", path, body=body, content_type=MERGE_PATCH, timeout=_TIMEOUT
        )

    async def put_matched(self, hold: Hold, status: str, message: str, at: str) -> None:
        """Write the condition `Matched` of a hold, unless the hold has changed meanwhile (Conflict)."""
        condition = {
            "type": "Matched", "status": status, "message": message, "lastTransitionTime": at,
            "reason": "NamesKnown" if status == "True" else "NamesUnknown",
        }  # fmt: skip
        meta = {"resourceVersion": hold.resource_version}
        await self.patch(
            hold.name, {"metadata": meta, "status": {"conditions": [condition]}}, "/status"
        )


class HoldWatch:
    """
    Follows the holds, and passes them on after each change.

    Attributes:
        remark: States that the kind does not exist; None if it does, or if that is not known.
    """

    def __init__(
        self,
        holds: DeliveryHolds,
        on_change: Callable[[tuple[Hold, ...]], None],
        monotonic: MonotonicClock,
    ) -> None:
        """Nothing is known yet; `run` starts."""
        self.remark: str | None = None
        self._holds = holds
        self._on_change = on_change
        self._monotonic = monotonic
        self._confirmed_at = float("-inf")
        self._reason = "not read yet"
        # Whether any hold is known, and whether the last answer of discovery lacked their kind.
        self._some = self._missed = False

    @property
    def problem(self) -> str | None:
        """Why the holds are not known, so that nothing may be sent; None if they are known."""
        if self._monotonic() - self._confirmed_at <= BELIEVED:
            return None
        return f"nothing is sent, since the operators' holds are not known: {self._reason}"

    async def run(self) -> None:
        """Follow the holds until cancelled; no answer of the server ends this."""
        while True:
            try:
                pause = await self._round()
            except Unauthorised as error:
                # The known holds are no longer trusted: their changes would not be seen.
                self._confirmed_at = float("-inf")
                self._reason = (
                    f"the right to list and watch {self._holds.place} is missing ({error})"
                )
                pause = _FAILED_PAUSE
            except PortError as error:
                self._reason = f"{self._holds.place} cannot be read ({error})"
                pause = _FAILED_PAUSE
            await asyncio.sleep(equal_jitter(pause, random.random()))  # noqa: S311 - jitter

    async def _round(self) -> float:
        """List the holds, and watch until something changes; return the seconds to pause afterwards."""
        served = await self._holds.served()
        if not served and self._some and not self._missed:
            # A single answer does not release holds: a starting server or a proxy may give it.
            self._missed = True
            self._reason = "their kind is not served any more"
            return _FAILED_PAUSE
        self._missed = False
        self.remark = (
            None if served else "the kind DeliveryHold is not installed: nothing can be held"
        )
        found, version = await self._holds.list() if served else ((), "")
        self._confirmed_at = self._monotonic()
        self._some = bool(found)
        self._on_change(found)
        if not served:
            return _ABSENT_PAUSE
        while not await self._holds.changed(version):
            self._confirmed_at = self._monotonic()
        return _PAUSE
