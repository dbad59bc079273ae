"""
The other notifications of an incident: where it is open, and which of them is the newest.

A resolved notification goes to the channels of its own routes and to every channel where its incident is
open according to the record, since the labels that routes match may have changed meanwhile. Where a
receiver keeps state, an older notification must not arrive after a newer one: PagerDuty ignores the end of
an incident that it does not know, and a late trigger then opens it. So the other notifications are looked
up for each attempt on such a channel (`syncer.rules.incident_order`).

They are listed from the API server by a label, since other replicas may own them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.contract import Channel, Outcome, may_be_gone
from notifier.router import Router
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.log import RedisLog
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.conditions import MESSAGE_BYTES, bounded
from syncer.model.errors import ContractError, Expired, PortError, Unavailable
from syncer.model.incident import FIRING, INCIDENT, RESOLVED, incident_label
from syncer.model.record import Plan, Record
from syncer.model.resource import NO_STATUS, NotificationRequest
from syncer.rules.channel_state import State
from syncer.rules.fold import LogView
from syncer.rules.incident_order import Mate, superseded_by, waits_for
from syncer.rules.merge import Facts, channel_states_of

#: Kinds of channels whose receivers keep the state of an incident.
_KEEP_STATE: Final = frozenset({"pagerduty"})
#: Older notifications of an incident whose logs are read, the newest first.
_READ: Final = 16
#: Most pages of a list that are read, and most look-ups at once.
_PAGES: Final = 20
_TOGETHER: Final = 4
#: Longest time in seconds of the look-up between an intent and its send. A newer notification relies on it
#: when it waits until the send must be over.
_LOOK: Final = 5.0


@dataclass(eq=False)
class Incidents:
    """
    Looks up the other notifications of an incident.

    Attributes:
        objects: Lists notifications.
        log: Reads their logs.
        router: Gives the channels of a notification whose log does not name them.
        now: Returns the time of Redis in Unix milliseconds.
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
        Return the plan of a notification; if it is resolved, with the channels where its incident is open.

        Raises:
            PortError: the others cannot be listed now; look again later.
        """
        if request.state != RESOLVED:
            return plan
        found: list[str] = []
        for mate in (await self._older(request))[:_READ]:
            channels, over = await self._open_at(mate)
            found += channels
            if over:
                break
        more = tuple(dict.fromkeys(c for c in found if c not in plan.first))
        if not more:
            return plan
        text = f"{plan.message}; and where its incident is open: {', '.join(more)}"
        fallbacks = tuple(each for each in plan.fallbacks if each.channel not in more)
        standing_by = dict.fromkeys(each.channel for each in fallbacks)
        return replace(
            plan,
            channels=(*plan.first, *more, *standing_by),
            message=bounded(text, MESSAGE_BYTES),
            fallbacks=fallbacks,
        )

    def may_be_late(
        self, request: NotificationRequest, channel: str, via: Channel | None, *, first: bool
    ) -> bool:
        """
        Whether to look up the others before an intent is recorded, too.

        Most first attempts begin an incident: for them the look-up after the intent is enough.
        """
        return _in_order(request, channel, via) and not (first and request.state == FIRING)

    async def before_send(
        self,
        request: NotificationRequest,
        intent: Record,
        via: Channel | None,
        tried: Sequence[Attempt],
        *,
        journaled: bool = False,
    ) -> Outcome | str:
        """
        Look up, between an intent and its send, the facts that the send needs; takes 5 s at most.

        Returns:
            The outcome of an attempt that must not be sent, although its intent is recorded; otherwise the
            id of the receiver's object for the incident, empty if there is none or while `journaled`.
        """
        if not _in_order(request, intent.channel, via):
            return ""
        try:
            async with asyncio.timeout(_LOOK):
                if not intent.body.get("order"):
                    newer, waits = await self.look(
                        request, intent.channel, via, journaled=journaled
                    )
                    if newer:
                        return Outcome.superseded(newer)
                    if waits:
                        return Outcome.not_sent(waits)
                if via is None or not via.keeps_state or journaled:
                    return ""
                return await self._answer(request, intent.channel, via.keeps_state, tried)
        except (PortError, TimeoutError) as error:
            why = str(error) or f"no answer within {_LOOK:.0f} s"
            return Outcome.not_sent(f"what else is about its incident is not known: {why}")

    async def look(
        self,
        request: NotificationRequest,
        channel: str,
        via: Channel | None,
        *,
        journaled: bool = False,
    ) -> tuple[str, str]:
        """
        Return which notification supersedes this one on a channel, and what this one waits for, in words.

        Each is empty if there is none.

        Args:
            request: The notification, with an attempt that is due or whose intent is recorded.
            channel: Full channel name.
            via: The channel as configured now, None if there is none.
            journaled: Attempts are recorded in statuses, which take the place of logs that cannot be read.

        Raises:
            PortError: the others cannot be read now; look again later.
        """
        timeout, now = round(1000 * (_LOOK + via.timeout_s)) if via else 0, self.now()
        mates = await self._mates(request)
        newer = superseded_by(request.order, (_mate(m) for m in mates))
        if newer and not await self._elsewhere(request, channel, mates, journaled=journaled):
            return newer, ""
        matter = [
            m
            for m in mates
            if request.state == RESOLVED
            or not m.status.terminal
            or m.status.completed_at > now - timeout
        ]
        matter.sort(key=lambda mate: mate.order, reverse=True)
        for mate in matter[:_READ]:
            made = {a.id: a for a in mate.status.attempts if a.channel == channel}
            try:
                view = await self._view(mate)
            except PortError:
                if not journaled:
                    raise
            else:
                # A journaled attempt may still be on the wire once Redis is back, and its log may lack it.
                kept = made if mate.status.journal is not None else {}
                made = kept | {a.id: a for a in (view.of_channel(channel) if view else ())}
            known = [_mate(mate, [*made.values()])]
            born = request.created if mate.status.journal is not None else 0
            if why := waits_for(request.state, known, now, timeout, born):
                return "", why
        return "", ""

    async def _elsewhere(
        self,
        request: NotificationRequest,
        channel: str,
        mates: Sequence[NotificationRequest],
        *,
        journaled: bool,
    ) -> bool:
        """
        Whether this notification and all newer ones are firing, and no newer one goes to this channel.

        The labels that routes match may change within an incident: the receiver of this notification would
        get none. If this one or a newer one is resolved, this one is superseded in any case, since two
        channels may be the same integration of a receiver.
        """
        newer = [m for m in mates if m.order > request.order]
        if RESOLVED in {request.state, *(m.state for m in newer)} or len(newer) > _READ:
            return False
        for mate in newer:
            view = await self._view(mate, lenient=journaled)
            if view is None or view.plan is None:
                first = (await self.router.plan(mate, 0)).plan.first
            else:
                first = view.plan.first
            if channel in first or (view is not None and view.of_channel(channel)):
                return False
        return True

    async def _answer(
        self, request: NotificationRequest, channel: str, keeper: str, tried: Sequence[Attempt]
    ) -> str:
        """
        Return the id that a receiver gave to its object for the incident, empty if none is on record.

        The id of another service (`keeper`) that had the channel's name does not count, nor does an id that
        was gone when one of the attempts `tried` used it.
        """
        if any(may_be_gone(a.code) and a.failure is FailureClass.TRANSIENT for a in tried):
            return ""
        for mate in (await self._older(request))[:_READ]:
            if mate.state == RESOLVED:
                break
            view = await self._view(mate)
            for made in reversed(view.of_channel(channel) if view else []):
                origin, _, found = made.answer.partition("/")
                if found and origin == keeper:
                    return found
        return ""

    async def _open_at(self, mate: NotificationRequest) -> tuple[list[str], bool]:
        """
        Return the channels where one notification leaves its incident open, and whether to stop there.

        If so, older notifications do not matter.
        """
        view = await self._view(mate, lenient=True)
        if view is None or view.plan is None:
            return list((await self.router.plan(mate, 0)).plan.first), False
        facts = Facts(mate.generation, mate.policy, self.at_most_once)
        # Its status is not used, because only its owner can judge it.
        states = channel_states_of(view, NO_STATUS, facts)
        # A fallback on standby may be used as soon as a channel has failed.
        unused = {State.NOT_NEEDED, State.STANDBY}
        if any(s.state is State.RETRYING for s in states):
            unused = {State.NOT_NEEDED}
        states = tuple(s for s in states if s.state not in unused)
        if mate.state == RESOLVED:
            # A resolved notification goes wherever the incident was open before.
            return [s.channel for s in states if s.state is not State.DELIVERED], True
        return [
            s.channel
            for s in states
            if s.state is State.DELIVERED
            or not s.state.finished
            or any(a.state is AttemptState.UNKNOWN for a in view.of_channel(s.channel))
        ], False

    async def _view(self, mate: NotificationRequest, *, lenient: bool = False) -> LogView | None:
        """Return the fold of a log, None if there is no legible one; if `lenient`, also if it is away."""
        try:
            snapshot = await self.log.read(mate.uid)
        except (ContractError, PortError) as error:
            if isinstance(error, PortError) and not lenient:
                raise
            return None
        return snapshot.view if snapshot is not None else None

    async def _older(self, request: NotificationRequest) -> list[NotificationRequest]:
        """Return the older notifications of an incident, the newest first."""
        mates = [m for m in await self._mates(request) if m.order <= request.order]
        return sorted(mates, key=lambda mate: mate.order, reverse=True)

    async def _mates(self, request: NotificationRequest) -> Sequence[NotificationRequest]:
        """Return the other notifications of an incident, in no particular order."""
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


def _mate(request: NotificationRequest, attempts: Sequence[Attempt] = ()) -> Mate:
    return Mate(request.name, request.order, request.state, attempts)


def _in_order(request: NotificationRequest, channel: str, via: Channel | None) -> bool:
    """Whether an attempt on a channel has to keep the order of its incident."""
    keeps = channel.partition(":")[0] in _KEEP_STATE or (via is not None and bool(via.keeps_state))
    return bool(request.incident) and keeps
