"""
The rate of a source, which keeps a storm of events from becoming a storm of pages.

A source may create a limited number of notifications a minute in one namespace; each replica counts by
itself. Events beyond the limit are refused for now, or become part of a digest: one notification that
lists the events of a few seconds and is routed by the attributes that they have in common. A request with
an event in a digest waits for the digest, as it would for the API server, and is answered when the digest's
object exists: nothing is confirmed before it is stored. An event that already has an object is not part of
a digest, and does not count against the rate.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from notifier.gateway.draft import Refused
from notifier.gateway.identity import hashed
from notifier.gateway.manifest import PRIORITIES, line
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.submit import Submitted, Submitter
from notifier.gateway.translation import Conditional, Desired, Source, own_notice
from syncer.model.errors import Unavailable
from syncer.model.incident import OWN, RESOLVED
from syncer.model.resource import Json
from syncer.rules.bucket import TokenBucket
from syncer.rules.text import cut
from syncer.runtime.offload import offload
from syncer.runtime.supervise import elapse, end

logger = logging.getLogger("ledger.gateway")

#: Assumed bytes of an end that is not made yet.
_LARGE: Final = 4096
#: Share of a source's patience for which a digest is open.
_SHARE: Final = 0.4
#: Most members of a digest; further events begin another one.
MEMBERS: Final = 500
#: Most characters of a digest's body.
_BODY: Final = 30_000


class OverRateError(Unavailable):
    """The source exceeds its rate; `status` is an HTTP status after which its program retries."""

    def __init__(self, status: int) -> None:
        super().__init__("this source exceeds its rate")
        self.status = status


class _Digest:
    """A digest that is open, or whose object is being created."""

    def __init__(self, make: Callable[[_Digest], Coroutine[Any, Any, Submitted]]) -> None:
        self.members: dict[str, Desired] = {}
        self.full = asyncio.Event()
        # A task that does not end with the first request: all requests of the digest wait for it.
        self.made = asyncio.create_task(make(self))


class Rating:
    """Keeps one source within its rate."""

    def __init__(
        self,
        source: Source,
        submitter: Submitter,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
    ) -> None:
        """Begin with full buckets; `clock` gives monotonic seconds."""
        self._source = source
        self._submitter = submitter
        self._metrics = metrics
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._open: dict[str, _Digest] = {}
        self._tasks: set[asyncio.Task[Submitted]] = set()

    async def submit(self, desired: Desired, until: float) -> Submitted:
        """
        Make an object exist, or add it to a digest; `until` is when to give up, by the loop's clock.

        Raises:
            OverRateError: it is above the rate, and the source wants no digests.
            Unavailable: the API server did not accept it in time.
            Refused: the API server will never accept it.
        """
        return await self._within(desired, until) or await self._digested(desired, until)

    async def submit_all(
        self, wanted: Iterable[Desired], ends: Sequence[Conditional], until: float
    ) -> list[Submitted | Refused | Unavailable]:
        """Make objects exist, and the ends of open incidents; the objects do not wait for that look-up."""

        async def one(desired: Desired) -> Submitted | Refused | Unavailable:
            try:
                return await self.submit(desired, until)
            except (Refused, Unavailable) as error:
                return error

        async def of_open() -> list[Submitted | Refused | Unavailable]:
            try:
                found = await self._submitter.wanted(ends, until)
                made = await offload(
                    lambda: [end_.make() for end_ in found],
                    size=len(found) * _LARGE,
                    seconds=max(0.0, until - asyncio.get_running_loop().time()),
                    author=self._source.name,
                )
            except (Refused, Unavailable) as error:
                return [error]
            except TimeoutError:
                return [Unavailable("earlier large requests are still being processed")]
            return await asyncio.gather(*map(one, made))

        now, later = await asyncio.gather(asyncio.gather(*map(one, wanted)), of_open())
        return [*now, *later]

    async def _within(self, desired: Desired, until: float) -> Submitted | None:
        """Create or find an object; None if it must be part of a digest."""
        rate = self._source.rate
        if rate is None:
            return await self._submitter.submit(desired, until)
        bucket = self._buckets.setdefault(
            desired.namespace, TokenBucket(rate.per_minute / 60, rate.burst, self._clock())
        )
        if bucket.take(self._clock()):
            created = False
            try:
                made = await self._submitter.submit(desired, until)
                created = not made.duplicate
            finally:
                if not created:
                    bucket.give_back()
            return made
        there = await self._submitter.find(desired, until)
        if there is not None:
            return there
        if rate.digest and desired.incident[1] == RESOLVED:
            # As part of a digest, the end would not close its incident.
            return await self._submitter.submit(desired, until)
        if not rate.digest:
            self._metrics.over_rate.labels(self._source.name, "refused").inc()
            raise OverRateError(self._source.kind.too_many)
        self._metrics.over_rate.labels(self._source.name, "digest").inc()
        return None

    async def close(self) -> None:
        """End all open digests; the requests that wait for them get 503."""
        await end(*self._tasks)

    async def _digested(self, desired: Desired, until: float) -> Submitted:
        digest = self._open.get(desired.namespace)
        if digest is None:
            digest = _Digest(partial(self._make, desired.namespace))
            self._open[desired.namespace] = digest
            self._tasks.add(digest.made)
            digest.made.add_done_callback(self._ended)
        digest.members[desired.identity.name] = desired
        if len(digest.members) >= MEMBERS:
            digest.full.set()
            del self._open[desired.namespace]
        done, _ = await asyncio.wait(
            {digest.made}, timeout=max(0.0, until - asyncio.get_running_loop().time())
        )
        if not done:
            raise Unavailable("the digest was not created in time")
        if digest.made.cancelled():
            raise Unavailable("the gateway is shutting down")
        made = digest.made.result()
        return made if made.taken else replace(made, result="digested")

    def _ended(self, task: asyncio.Task[Submitted]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Retrieve the error here, too: all waiting requests may have gone.
            task.exception()

    async def _make(self, namespace: str, digest: _Digest) -> Submitted:
        """Collect members for a share of the patience, then create the object within the rest."""
        patience = self._source.patience
        until = asyncio.get_running_loop().time() + patience * 0.95
        await elapse(patience * _SHARE, digest.full)
        if self._open.get(namespace) is digest:
            del self._open[namespace]
        members = list(digest.members.values())
        logger.warning(
            "a source exceeds its rate, the excess becomes one notification",
            extra={"source": self._source.name, "namespace": namespace, "members": len(members)},
        )
        # A single member needs no list.
        desired = members[0] if len(members) == 1 else digest_of(self._source, members)
        return await self._submitter.submit(desired, until)


def digest_of(source: Source, members: Sequence[Desired]) -> Desired:
    """
    Return one notification that stands for several (at least one, all of one namespace).

    The same members make the same digest, in whatever order they came.
    """
    ordered = sorted(members, key=lambda desired: desired.identity.digest)
    identity = hashed("dg", source.name, "digest", *(desired.identity.name for desired in ordered))
    specs = [desired.manifest["spec"] for desired in ordered]
    worst = min(specs, key=lambda spec: PRIORITIES.index(spec["priority"]))
    spec: Json = {
        "type": worst["type"],
        "priority": worst["priority"],
        "subject": line(f"[DIGEST:{len(specs)}] {source.name}: {worst['subject']} and others"),
        "body": _body(specs),
        "extensions": {**_common(specs), "digest": str(len(specs))},
    }
    for key in ("severity", "retentionDays", "clusterID"):
        if key in worst:
            spec[key] = worst[key]
    return own_notice(identity, source, members[0].namespace, f"digest of {len(specs)}", spec)


def _common(specs: Sequence[Json]) -> dict[str, str]:
    """Return the attributes that all members share; a digest is about no incident."""
    first, *others = (spec["extensions"] for spec in specs)
    return {
        key: value
        for key, value in first.items()
        if not key.startswith(OWN) and all(extensions.get(key) == value for extensions in others)
    }


def _body(specs: Sequence[Json]) -> str:
    """Return the subjects, the most urgent and frequent first, within the bound of a body."""
    counts = Counter((spec["priority"], spec["subject"]) for spec in specs)
    ordered = sorted(counts.items(), key=lambda item: (PRIORITIES.index(item[0][0]), -item[1]))
    lines = [f"{len(specs)} notifications came faster than this source's rate allows:"]
    size, left_out = len(lines[0]), 0
    for (priority, subject), count in ordered:
        text = f"- {priority}: {cut(subject, 200)}" + (f" ({count} times)" if count > 1 else "")
        if size + len(text) > _BODY:
            left_out += count
            continue
        size += len(text) + 1
        lines.append(text)
    if left_out:
        lines.append(f"… and {left_out} more.")
    return "\n".join(lines)
