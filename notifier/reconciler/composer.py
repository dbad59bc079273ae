"""
Composes the messages of attempts, off the event loop if they are large.

The spec of an object never changes, so the sanitised spec of a large one is kept for a while: its channels
are tried one after the other, and sanitising costs more than the rest of an attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from notifier.content.message import compose
from notifier.contract import Message
from notifier.reconciler.decisions import Decisions
from syncer.model.record import Record
from syncer.model.rendering import render_status
from syncer.model.resource import Json, Spec
from syncer.rules.merge import merge
from syncer.runtime.clock import LedgerTime
from syncer.runtime.offload import SMALL, Breath, offload
from syncer.sync.notification import Notification

#: Seconds within which a large message must be composed, including the wait for others.
_SECONDS: Final = 10.0
#: Large notifications whose sanitised specs are kept.
_KEPT: Final = 16


@dataclass(eq=False)
class Composer:
    """Composes messages, and keeps the sanitised specs of large ones."""

    time: LedgerTime
    decisions: Decisions
    #: The installation's id, which incidents are told apart by.
    installation: Callable[[], str]
    #: Address of the explorer, empty if no message is to have a link there.
    explorer: str = ""
    #: By uid and generation: the spec may come after the object.
    _specs: dict[tuple[str, int], Spec] = field(default_factory=dict, init=False)

    async def compose(self, entry: Notification, intent: Record, *, with_status: bool) -> Message:
        """
        The message of one attempt.

        Args:
            entry: The notification.
            intent: The attempt's intent.
            with_status: Show the status as merged now, because the object's own lags behind.

        Raises:
            ValueError: the spec is not of the schema's shape.
            TimeoutError: the message is large, and was not composed in time.
        """
        request = entry.request
        status: Json | None = None
        if with_status:
            facts = self.decisions.facts(entry)
            merged = merge(entry.status, entry.view, facts, now=self.time.now())
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
                installation=self.installation(),
                breath=Breath() if size > SMALL else None,
            )
            if size > SMALL:
                self._specs[known] = message.spec
                while len(self._specs) > _KEPT:
                    self._specs.pop(next(iter(self._specs)))
            return message

        message = await offload(work, size=size, seconds=_SECONDS, author=request.namespace)
        if not self.explorer:
            return message
        # What `explain` says, for whoever reads the message; behind the links of its author.
        page = f"{self.explorer.rstrip('/')}/n/{quote(request.namespace)}/{quote(request.name)}"
        links = (
            *message.spec.action_links,
            ("explorer", page, "What happened to this notification"),
        )
        return replace(message, spec=replace(message.spec, action_links=links))
