"""
One attempt from beginning to end, made when the dispatcher starts it.

    deadline check, INTENT, deadline check, send, OUTCOME

While the log is away, a status write takes the place of INTENT (`syncer.sync.journal`), if enough is
known about the notification. After an accepted INTENT, every path records an outcome: answered, unclear,
or not sent after all (`syncer.sync.attempts`).

`Sender` composes and sends one attempt whose INTENT was accepted; it always ends with an outcome. A send
that is stopped before its first byte has one, too: a missing channel, a receiver that does not accept the
namespace, a message that cannot be composed, a deletion, a lease that would end too early. The lease is
checked last, right before the send, and by the channel again before the first byte: a process that is
frozen while it connects finds its connection ready before it notices that its lease has ended.

Large messages are composed off the event loop. The spec of an object never changes, so the sanitised spec
of a large one is kept for a while: its channels are tried one after the other, and sanitising costs more
than the rest of an attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from notifier.content.message import compose
from notifier.contract import GRACE, Channel, Message, Outcome
from notifier.dispatch.workqueue import WorkQueue
from notifier.reconciler.decisions import Decisions, DeliveryBounds
from notifier.reconciler.incidents import Incidents
from notifier.reporter import EventReporter
from notifier.router import Router
from syncer.model.errors import PortError
from syncer.model.ports import LeaseTerm
from syncer.model.record import Record
from syncer.model.rendering import render_status
from syncer.model.resource import Json, Spec
from syncer.rules.merge import merge
from syncer.rules.plan import Deliver
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.offload import SMALL, Breath, offload
from syncer.sync.notifications import Notification, Notifications


@dataclass(frozen=True, slots=True, eq=False)
class Ports:
    """
    The shared parts of one controller.

    Attributes:
        queue: Holds the uids to reconcile.
        notifications: Everything known about each notification, and its record.
        router: Chooses and knows channels.
        reporter: Reports steps of the delivery.
        bounds: Bounds of delivery.
        incidents: Looks up the other notifications of an incident.
        installation: Returns the installation's id, by which receivers tell incidents apart.
        explorer: Address of the explorer, empty if messages get no link to it.
    """

    queue: WorkQueue
    notifications: Notifications
    router: Router
    reporter: EventReporter
    bounds: DeliveryBounds
    incidents: Incidents
    installation: Callable[[], str] = lambda: ""
    explorer: str = ""


#: Seconds within which a large message must be composed, including the wait for others.
_SECONDS: Final = 10.0
#: Large notifications whose sanitised specs are kept.
_KEPT: Final = 16


logger = logging.getLogger("ledger.delivery")


@dataclass(eq=False)
class Sender:
    """Composes and sends the message of an attempt."""

    ports: Ports
    decisions: Decisions
    #: Sanitised specs of large notifications, by uid and generation: the spec may come after the object.
    _specs: dict[tuple[str, int], Spec] = field(default_factory=dict, init=False)

    async def compose(
        self, notification: Notification, intent: Record, *, with_status: bool
    ) -> Message:
        """
        Compose the message of one attempt.

        Args:
            notification: The notification.
            intent: The attempt's intent.
            with_status: Show the status as merged now, because the object's own lags behind.

        Raises:
            ValueError: the spec is not of the schema's shape.
            TimeoutError: the message is large, and was not composed in time.
        """
        request = notification.request
        status: Json | None = None
        if with_status:
            facts = self.decisions.facts(notification)
            now = self.ports.notifications.time.now()
            merged = merge(notification.status, notification.view, facts, now=now)
            status = render_status(merged.status)
        size = len(request.raw)
        known = (request.uid, request.generation)

        def work() -> Message:
            document = request.document()
            if status is not None:
                document["status"] = status
            message = compose(
                document,
                intent.channel,
                intent.attempt_id,
                spec=self._specs.get(known),
                live=with_status,
                installation=self.ports.installation(),
                breath=Breath() if size > SMALL else None,
            )
            if size > SMALL:
                self._specs[known] = message.spec
                while len(self._specs) > _KEPT:
                    self._specs.pop(next(iter(self._specs)))
            return message

        message = await offload(work, size=size, seconds=_SECONDS, author=request.namespace)
        if not self.ports.explorer:
            return message
        # The explorer shows the reader what `explain` prints. Its link follows those of the author.
        page = (
            f"{self.ports.explorer.rstrip('/')}/n/{quote(request.namespace)}/{quote(request.name)}"
        )
        links = (
            *message.spec.action_links,
            ("explorer", page, "What happened to this notification"),
        )
        return replace(message, spec=replace(message.spec, action_links=links))

    async def send(  # noqa: PLR0911 (one outcome for each thing that stops a send)
        self,
        notification: Notification,
        term: LeaseTerm,
        intent: Record,
        channel: Channel | None,
        *,
        answer: str = "",
    ) -> Outcome:
        """
        Send; never raises because of a receiver, a channel or a message.

        Args:
            notification: The notification.
            term: The lease term that must cover the send.
            intent: The intent that the log accepted.
            channel: The channel as configured now, None if there is none with the intent's name.
            answer: The id that the receiver gave to its object for the incident earlier, empty if none.
        """
        if channel is None:
            return Outcome.permanent(
                f"channel not registered: {intent.channel}"
                " (DD-NOT-007: use RegisterChannel() to register)"
            )
        if reason := self.ports.router.denial(intent.channel, notification.request.namespace):
            return Outcome.denied(reason)
        try:
            message = await self.compose(notification, intent, with_status=channel.shows_status)
        except ValueError as error:
            return Outcome.permanent(f"the message cannot be composed ({type(error).__name__})")
        except TimeoutError:
            return Outcome.not_sent("the message was not composed in time")
        if notification.cancelled:
            return Outcome.not_sent("the notification was deleted before it was sent")
        # Redis may have taken seconds to answer the intent, and a hold has to take effect within five.
        if self.decisions.holds.hold(notification.request, intent.channel):
            return Outcome.not_sent("an operator held it before it was sent")
        # The last check here: nothing but the send itself may follow it.
        monotonic = self.ports.notifications.cache.monotonic
        if not term.may_send(monotonic(), channel.timeout_s):
            return Outcome.not_sent("the lease would not have covered the send")
        notification.in_flight.leave(intent.attempt_id)
        message = replace(message, answer=answer, may_leave=lambda: term.may_send(monotonic(), 0.0))
        try:
            async with asyncio.timeout(channel.timeout_s + GRACE):
                return await channel.send(message)
        except TimeoutError:
            return Outcome.unknown("the channel did not end within its own deadline")
        except Exception as error:
            logger.exception(
                "a channel raised; it must answer with an outcome",
                extra={"uid": notification.uid, "channel": intent.channel, "attempt": intent.id},
            )
            return Outcome.unknown(f"the channel failed unexpectedly ({type(error).__name__})")


#: Seconds until an attempt is tried again while Redis is unfit for attempts.
_UNFIT_PAUSE: Final = 5.0
#: Seconds until an attempt that lacks its credential is tried again.
_CREDENTIAL_PAUSE: Final = 5.0
#: Seconds until an attempt is tried again if the lease does not cover it.
_LEASE_PAUSE: Final = 0.5
#: Seconds until an attempt that has to wait for another of its incident is tried again.
_ORDER_PAUSE: Final = 1.0
#: Seconds until a superseded attempt is checked again while the log is away, so that it cannot be recorded.
_SUPERSEDED_PAUSE: Final = 30.0
#: Seconds between checks whether a status write has ended, before an attempt is journaled.
_WRITE_POLL: Final = 0.05


@dataclass(eq=False)
class Attempts:
    """Makes attempts."""

    ports: Ports
    decisions: Decisions
    sender: Sender
    #: Why Redis is unfit for attempts, as last logged.
    _unfit: str | None = field(default=None, init=False)
    #: Attempts that wait for their turn to be journaled, and those that have it.
    _waiting: set[tuple[str, str]] = field(default_factory=set, init=False)
    _turns: set[tuple[str, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Cache the members that are used most."""
        self.cache, self.journal = self.ports.notifications.cache, self.ports.notifications.journal

    async def run(  # noqa: PLR0911 (one return for each thing that stops an attempt)
        self, uid: str, channel: str
    ) -> Outcome | None:
        """
        Make one attempt, if it is still due.

        Everything is checked again: since the decision, the object may have been deleted, the lease term
        may have ended, or another attempt may have been made.

        Returns:
            The outcome, None if no attempt was made.
        """
        notification = self.cache.entries.get(uid)
        term = self.ports.notifications.ownership.term_of(uid)
        has_turn = (uid, channel) in self._turns
        self._turns.discard((uid, channel))
        if notification is None or term is None or not self.ports.notifications.accepts(uid):
            return None
        if not self.still_due(notification, term, channel):
            self.ports.queue.add(uid)
            return None
        journaled = self.journal.applies(notification, term)
        if self.decisions.holds.placed.unknown() or not (journaled or self._fit()):
            # The due time is kept: an attempt that waits for the holds, or the log, still counts as due.
            self.ports.queue.add_at(uid, self.cache.monotonic() + _UNFIT_PAUSE)
            return None
        if journaled and not has_turn:
            # The attempt was submitted before the outage.
            self.ports.queue.add(uid)
            return None
        if await self._not_ready(notification, channel, noted=not journaled):
            return None
        if await self._late(notification, term, channel, journaled=journaled):
            return None
        if journaled and not await self._still_journaled(notification, term, channel):
            self.ports.queue.add(uid)
            return None
        via = self.ports.router.channel(channel)
        if not term.may_send(self.cache.monotonic(), via.timeout_s if via else 0.0):
            self.ports.queue.add_at(uid, self.cache.monotonic() + _LEASE_PAUSE)
            return None
        limit = None if journaled else self.decisions.limit(notification, channel)
        async with self.ports.notifications.attempt(
            notification, term, channel, limit=limit
        ) as permit:
            if permit.intent is not None and permit.sends:
                permit.outcome = await self._send(notification, term, permit.intent, via)
                failpoint(Failpoint.AFTER_SEND)
        return permit.outcome

    def submit_in_turn(
        self, notification: Notification, channel: str, submit: Callable[[], object]
    ) -> None:
        """
        Submit an attempt once it may be journaled.

        It does not wait in a receiver's slot: there, hundreds of earlier attempts would go before urgent
        ones.
        """
        key = (notification.uid, channel)
        if key in self._turns:
            submit()
        elif key not in self._waiting:
            self._waiting.add(key)

            def given() -> None:
                self._waiting.discard(key)
                self._turns.add(key)
                submit()

            self.journal.turn(notification, channel, given)

    def waits(self, uid: str, channel: str) -> bool:
        """Whether an attempt waits for its turn to be journaled."""
        return (uid, channel) in self._waiting

    async def _still_journaled(
        self, notification: Notification, term: LeaseTerm, channel: str
    ) -> bool:
        """Whether an attempt is still due and journaled once no write of the status is under way."""
        while notification.publication.writing and self.journal.applies(notification, term):
            await asyncio.sleep(_WRITE_POLL)
        # Meanwhile the lease term or the decision may have changed, or the log may be back.
        notifications = self.ports.notifications
        ours = notifications.ownership.term_of(notification.uid) is term and notifications.accepts(
            notification.uid
        )
        return (
            ours
            and self.journal.applies(notification, term)
            and self.still_due(notification, term, channel)
        )

    async def _send(
        self, notification: Notification, term: LeaseTerm, intent: Record, via: Channel | None
    ) -> Outcome:
        """Send an attempt whose intent is recorded, unless another one of its incident has to go first."""
        ahead = intent.attempt_id in notification.in_flight.ahead
        tried = notification.view.of_channel(intent.channel)
        known = await self.ports.incidents.before_send(
            notification.request, intent, via, tried, journaled=ahead
        )
        if isinstance(known, Outcome):
            return known
        sent = await self.sender.send(notification, term, intent, via, answer=known)
        if via is not None and sent.answer:
            sent = replace(sent, answer=f"{via.keeps_state}/{sent.answer}")
        return sent

    def still_due(self, notification: Notification, term: LeaseTerm, channel: str) -> bool:
        """Whether an attempt that was due when it was submitted is still due."""
        if notification.cancelled or notification.violation:
            return False
        if self.cache.entries.get(notification.uid) is not notification:
            # The shard was lost and acquired again meanwhile: another `Notification` replaces this one, and
            # decides.
            return False
        if not (
            self.journal.applies(notification, term)
            or self.ports.notifications.may_open(notification, term)
        ):
            return False
        decision = self.decisions.next(notification)
        return isinstance(decision, Deliver) and channel in decision.channels

    def _fit(self) -> bool:
        """Whether Redis is fit for attempts; logs each change once, not for every waiting attempt."""
        unfit = self.ports.notifications.recorder.log.client.unfit
        if unfit != self._unfit:
            self._unfit = unfit
            if unfit is not None:
                logger.error(
                    "attempts are held: Redis is not fit for them", extra={"reason": unfit}
                )
            else:
                logger.warning("Redis is fit for attempts again")
        return unfit is None

    async def _not_ready(
        self, notification: Notification, channel: str, *, noted: bool = True
    ) -> bool:
        """
        Whether a channel must wait, for example for a missing credential; if so, its due time is moved.

        If `noted`, the reason is recorded in the log, where that is possible.
        """
        problem = self.ports.router.not_ready(channel)
        if problem is None:
            return False
        notification.wait(channel, self.cache.monotonic() + _CREDENTIAL_PAUSE)
        self.ports.queue.add_at(notification.uid, notification.due[channel])
        if noted:
            await self.ports.notifications.note(notification, channel, problem)
        return True

    async def _late(
        self, notification: Notification, term: LeaseTerm, channel: str, *, journaled: bool = False
    ) -> bool:
        """
        Whether an attempt must not be made now because of another notification of its incident.

        If the other is newer, the attempt is given up. The attempt waits if that cannot be recorded, or if
        the other is on the wire.
        """
        incidents, first = self.ports.incidents, not notification.view.of_channel(channel)
        if channel in notification.view.ordered:
            return False
        via = self.ports.router.channel(channel)
        if not incidents.may_be_late(notification.request, channel, via, first=first):
            return False
        try:
            newer, waits = await incidents.look(
                notification.request, channel, via, journaled=journaled
            )
            if not self.still_due(notification, term, channel):
                # The look-up took time: meanwhile the notification was deleted, was held, or has ended.
                self.ports.queue.add(notification.uid)
                return True
            if newer and not journaled:
                limit = self.decisions.limit(notification, channel)
                superseded = Outcome.superseded(newer)
                await self.ports.notifications.give_up(
                    notification, term, channel, superseded, limit=limit
                )
                return True
            if waits and not journaled:
                await self.ports.notifications.note(notification, channel, waits)
        except PortError as error:
            wait = self.ports.queue.retry(notification.uid)
            logger.info(
                "an attempt waits: what else is about its incident is not known",
                extra={
                    "uid": notification.uid,
                    "channel": channel,
                    "error": str(error),
                    "seconds": wait,
                },
            )
            return True
        if newer or waits:
            pause = _ORDER_PAUSE if waits else _SUPERSEDED_PAUSE
            notification.wait(channel, self.cache.monotonic() + pause)
            self.ports.queue.add_at(notification.uid, notification.due[channel])
        return bool(newer or waits)
