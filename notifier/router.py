"""
Where notifications go: their channels under the routing in force, and the channel behind a name.

The reconciler uses an injected `Router`. In a real process it is a `LiveRouter`: the routing files, which
may change at any time, and the channels made from them. Each call is answered from the routing in force at
that moment; the plan freezes the channels of a notification.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from notifier.channels.registry import ChannelRegistry
from notifier.content.sanitise import sanitise
from notifier.contract import Channel
from notifier.routing.attributes import attributes_of
from notifier.routing.reload import Routing
from notifier.routing.tree import resolve
from syncer.model.errors import Unavailable
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.runtime.offload import offload

#: Seconds within which a large notification must be routed, including the wait for earlier ones.
_PLAN: Final = 30.0


class Routed(NamedTuple):
    """Where a notification goes, and why the routing file may have intended something else."""

    plan: Plan
    doubts: tuple[str, ...] = ()


class Router(Protocol):
    """Chooses channels, knows each of them, and follows its files while the process runs."""

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """
        Resolve and freeze the channels of a notification; `now` is ledger time in milliseconds.

        Raises:
            PortError: the notification cannot be routed now; try again later.
        """

    def channel(self, name: str) -> Channel | None:
        """Return the channel of that name as configured now, None if there is none."""

    def denial(self, name: str, namespace: str) -> str | None:
        """Why a channel accepts no notifications from a namespace, None if it does."""

    def not_ready(self, name: str) -> str | None:
        """Why a channel cannot send now, for example for a missing credential; None if it can."""

    @property
    def problem(self) -> str | None:
        """Why the routing in force differs from the files, None if it does not."""

    @property
    def in_force(self) -> str:
        """A description of the routing in force, equal for equal files."""

    @property
    def doubts(self) -> int:
        """Number of keys of the routing in force that look like typos."""

    @property
    def channels(self) -> Iterable[str]:
        """Full names of all channels of the routing in force."""

    async def run(self) -> None:
        """Follow the files until cancelled."""


class LiveRouter:
    """The router of a process: routing files and the channels made from them."""

    def __init__(self, routing: Routing, channels: ChannelRegistry) -> None:
        """`channels` must be made from the routing in force of `routing`."""
        self._routing = routing
        self.channel, self.not_ready = channels.channel, channels.not_ready
        self.run = routing.run

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """
        See `Router.plan`.

        Raises:
            Unavailable: the notification is large and was not routed in time.
        """
        try:
            return await offload(
                lambda: self._plan(request, now),
                size=len(request.raw),
                seconds=_PLAN,
                author=request.namespace,
            )
        except TimeoutError as error:
            raise Unavailable("earlier large notifications are still being routed") from error

    def _plan(self, request: NotificationRequest, now: int) -> Routed:
        spec, body_hash = request.content()
        attributes = attributes_of(spec, namespace=request.namespace, name=request.name)
        resolution = resolve(self._routing.current.config, attributes, clean=sanitise)
        targets = self._routing.current.config.targets
        standing_by = dict.fromkeys(each.channel for each in resolution.fallbacks)
        channels = (*resolution.channels, *standing_by)
        plan = Plan(
            channels=channels,
            reason=resolution.reason,
            message=resolution.message,
            at=now,
            body_hash=body_hash,
            templates="\n".join(
                f"{target.wording.digest} {channel}"
                for channel in channels
                if (target := targets.get(channel)) and target.wording
            ),
            fallbacks=resolution.fallbacks,
        )
        return Routed(plan, resolution.doubts)

    def denial(self, name: str, namespace: str) -> str | None:
        """See `Router.denial`."""
        return self._routing.current.config.denial(name, namespace)

    @property
    def problem(self) -> str | None:
        """See `Router.problem`."""
        return self._routing.problem

    @property
    def in_force(self) -> str:
        """See `Router.in_force`."""
        return self._routing.in_force

    @property
    def doubts(self) -> int:
        """See `Router.doubts`."""
        return self._routing.current.config.doubts

    @property
    def channels(self) -> Iterable[str]:
        """See `Router.channels`."""
        return self._routing.current.config.targets.keys()
