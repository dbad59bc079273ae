"""
The other notifications of an incident: where it is open, and which of them is the newest.

A resolved notification goes by its own routes and to every channel where its incident is open by the
record, since the labels by which routes choose may have changed meanwhile. And where a receiver keeps
state, an older notification must not arrive after a newer one: PagerDuty ignores the end of what it does
not know, and a late trigger opens it. So before an attempt on such a channel the others are looked up: what
is newer supersedes it, and what is on the wire is waited for. What may still be there, since its result is
unknown, the end of an incident gives as long as a send may take.

They are found by a label at the API server, since another replica may have them. What is tried for the
first time right after its creation is not late, and asks nothing. A look and the send after it are two
steps: what is created between them is not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.router import Router
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.log import RedisLog
from syncer.model.attempt import AttemptState
from syncer.model.conditions import MESSAGE_BYTES, bounded
from syncer.model.errors import ContractError, Expired, PortError, Unavailable
from syncer.model.incident import FIRING, INCIDENT, RESOLVED, incident_label
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.rules.channel_state import State
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, channel_states_of

#: Kinds of channels whose receivers keep the state of an incident.
_KEEP_STATE: Final = frozenset({"pagerduty"})
#: Milliseconds after its creation within which a first attempt is not late.
_YOUNG: Final = 5000
#: Milliseconds by which two replicas may take it for younger or older.
_SKEW: Final = 1500
#: Older notifications of an incident whose logs are read, the newest first.
_READ: Final = 16
#: Pages of a list that are read, and look-ups at once.
_PAGES: Final = 20
_TOGETHER: Final = 4


@dataclass(eq=False)
class Incidents:
    """
    Looks up what else is about an incident.

    Attributes:
        objects: Lists notifications.
        log: Has their attempts.
        router: Says where one goes whose log does not.
        now: Returns the API server's time in Unix milliseconds, as far as it is certain.
        at_most_once: Whether an attempt whose result is unknown is the last one.
    """

    objects: NotificationRequestClient
    log: RedisLog
    router: Router
    now: Callable[[], int]
    at_most_once: bool
    _gate: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_TOGETHER), init=False
    )

    async def routed(self, request: NotificationRequest, plan: Plan) -> Plan:
        """
        Return the plan of a notification, with where its incident is open if that is resolved.

        Raises:
            PortError: the others cannot be listed now; look again later.
        """
        if request.state != RESOLVED:
            return plan
        found = list(plan.channels)
        for mate in (await self._older(request))[:_READ]:
            channels, over = await self._open_at(mate)
            found += channels
            if over:
                break
        more = tuple(dict.fromkeys(c for c in found if c not in plan.channels))
        if not more:
            return plan
        text = f"{plan.message}; and where its incident is open: {', '.join(more)}"
        return replace(plan, channels=(*plan.channels, *more), message=bounded(text, MESSAGE_BYTES))

    async def late(
        self, request: NotificationRequest, channel: str, *, first: bool, timeout: float
    ) -> tuple[str, bool]:
        """
        Return the name of what supersedes a notification on a channel, and whether another is on the wire.

        An attempt whose result is unknown may still be, for as long as a send may take.

        Args:
            request: Has an attempt that is due.
            channel: Full channel name.
            first: It would be its first attempt on it.
            timeout: Seconds that a send may take.

        Raises:
            PortError: it cannot be found out now; look again later.
        """
        if channel.partition(":")[0] not in _KEEP_STATE:
            return "", False
        if first and request.state == FIRING and 0 <= self.now() - request.created < _YOUNG:
            return "", False  # an end that comes meanwhile waits for it (`_may_ask_nothing`)
        mates = await self._mates(request)
        newest = max(mates, key=lambda mate: mate.order, default=request)
        if newest.order > request.order:
            return newest.name, False
        since = self.now() - timeout * 1000
        ends = request.state == RESOLVED
        before = sorted(mates, key=lambda mate: mate.order, reverse=True)
        for mate in [m for m in before if ends or not m.status.terminal][:_READ]:
            view = await self._view(mate)
            made = view.of_channel(channel) if view is not None else ()
            if ends and not made and self._may_ask_nothing(mate, view, channel):
                return "", True
            for attempt in made:
                unknown = attempt.state is AttemptState.UNKNOWN and attempt.ended > since
                if attempt.open or (unknown and ends):
                    return "", True
        return "", False

    def _may_ask_nothing(
        self, mate: NotificationRequest, view: LogView | None, channel: str
    ) -> bool:
        """Whether the first attempt of another one may still be made without a look, by any replica."""
        if mate.state != FIRING or mate.status.terminal:
            return False
        planned = view is None or view.plan is None or channel in view.plan.channels
        return planned and self.now() - mate.created < _YOUNG + _SKEW

    async def _open_at(self, mate: NotificationRequest) -> tuple[list[str], bool]:
        """Channels where an incident is open by one notification of it, and whether none before matters."""
        try:
            view = await self._view(mate)
        except PortError:
            view = None
        if view is None or view.plan is None:
            return list((await self.router.plan(mate, 0)).plan.channels), False
        facts = Facts(mate.generation, mate.policy, self.at_most_once)
        states = channel_states_of(view, mate.status, facts)
        if mate.state == RESOLVED:
            # It goes wherever the incident was open before.
            return [s.channel for s in states if s.state is not State.DELIVERED], True
        return [
            s.channel
            for s in states
            if s.state is State.DELIVERED
            or not s.state.finished
            or any(a.state is AttemptState.UNKNOWN for a in view.of_channel(s.channel))
        ], False

    async def _view(self, mate: NotificationRequest) -> LogView | None:
        try:
            snapshot = await self.log.read(mate.uid)
        except ContractError:
            return None
        return snapshot.view if snapshot is not None else None

    async def _older(self, request: NotificationRequest) -> list[NotificationRequest]:
        """The older ones of an incident, the newest first."""
        mates = [m for m in await self._mates(request) if m.order <= request.order]
        return sorted(mates, key=lambda mate: mate.order, reverse=True)

    async def _mates(self, request: NotificationRequest) -> Sequence[NotificationRequest]:
        """The other notifications of an incident, in no order."""
        label, token = f"{INCIDENT}={incident_label(request.incident)}", ""
        found: list[NotificationRequest] = []
        async with self._gate:
            for _ in range(_PAGES):
                try:
                    page = await self.objects.list_page(
                        request.namespace, continue_token=token, labels=label
                    )
                except Expired as error:
                    raise Unavailable(str(error)) from error
                found += (
                    each
                    for each in page.objects
                    if isinstance(each, NotificationRequest)
                    and each.incident == request.incident
                    and each.uid != request.uid
                )
                token = page.continue_token
                if not token:
                    break
        return found
