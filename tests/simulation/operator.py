"""
An operator in a simulated world, who says things at moments of his own.

What he says is made by the code that `syncer resend` and `syncer resolve` run: he looks at a log and
its object, and what follows from that reaches Redis later, whatever has happened in between (a
takeover, a loss, a late result), sometimes twice, as after a lost reply. He wakes the owner, and
not always.

He looks into the receivers' books before he says what became of an attempt, so he lies only where a
request arrives after that; `Checks` no longer holds such an attempt against the books.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from syncer.cli.exits import Refused
from syncer.cli.resend import ManualRecord, resend_requests, resolutions
from syncer.ledger.codec import encode_record
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptState
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ReadLog

if TYPE_CHECKING:
    from tests.fakes.memorylog import Argument
    from tests.simulation.world import World

_BY: Final = "operator@simulated"


class Operator:
    """One of them; every chance is drawn from the world's dice."""

    def __init__(self, world: World) -> None:
        self._world = world

    def act(self) -> None:
        """Look at some notification, and say what there is to say."""
        world = self._world
        found = world.some_object()
        if found is None:
            return
        request = parse_object(found)
        log = read_log(world.log_of(request.uid))
        if world.dice.chance(0.7):
            self._say(request.uid, lambda: self._orders(request, log))
        # Both at once: two operators, or one who changes his mind.
        if world.dice.chance(0.5):
            self._say(request.uid, lambda: self._verdicts(log))

    def _say(self, uid: str, think: Callable[[], tuple[ManualRecord, ...]]) -> None:
        world = self._world
        try:
            said = think()
        except Refused:
            return
        pause = world.dice.exponential(world.dice.choose((0.01, 0.5, 4.0)))
        for one in said:
            self._send(uid, one, pause)
            if world.dice.chance(0.25):
                self._send(uid, one, pause + world.dice.exponential(2.0))

    def _orders(self, request: NotificationRequest, log: ReadLog) -> tuple[ManualRecord, ...]:
        world = self._world
        at = world.redis_ms()
        return resend_requests(
            request, log, channels=(), at_most_once=world.profile.at_most_once, at=at, by=_BY,
            reason="it was mended",
        )  # fmt: skip

    def _verdicts(self, log: ReadLog) -> tuple[ManualRecord, ...]:
        world = self._world
        unknown = [a for a in log.view.attempts.values() if a.state is AttemptState.UNKNOWN]
        if not unknown:
            raise Refused("nothing is unknown")
        one = world.dice.choose(unknown)
        arrived = any(c.attempt == one.id and c.processed for c in world.receivers.books)
        return resolutions(
            log, attempt=one.id, channel="", delivered=arrived, even_open=False,
            at=world.redis_ms(), by=_BY, reason="the receiver says so",
        )  # fmt: skip

    def _send(self, uid: str, said: ManualRecord, after: float) -> None:
        world = self._world

        def arrive() -> None:
            if world.redis.down:
                return
            args: list[Argument] = [said.record.id, encode_record(said.record), *(said.read or ())]
            try:
                world.run_script(None, "note", world.key_of(uid), args)
            except ResponseError:
                # A log that cannot be appended to: the command says so.
                return
            if world.dice.chance(0.6):
                world.wake_owner(uid)

        world.loop.world_call(after, arrive)
