"""
The log of each notification: its scripts and a few reads, as typed calls.

Every method is one call to Redis and returns the answer; others decide what follows from it. Calls
are retried here, and only here, because each script may be run again after a lost reply without harm: a
retry carries the same id and the same bytes. It stops when its deadline has passed, and for an INTENT
also as soon as its guard finds that the lease term has ended or the claim is another one, or the script
that the claim is of another state of the server: the caller then decides again, with a new id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from syncer.ledger import lua
from syncer.ledger.answers import (
    BOTH_MARKS,
    Answer,
    Appended,
    Claimed,
    LogHead,
    Mark,
    Proof,
    Snapshot,
    StoredLog,
    Tries,
)
from syncer.ledger.client import LedgerClient
from syncer.ledger.codec import encode_channel, encode_record
from syncer.ledger.reading import snapshot_of
from syncer.ledger.replies import of_one_log, read_apart, text_of
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.errors import Ambiguous, ContractError, Rejected, Unauthorised, Unavailable
from syncer.model.record import Header, Record
from syncer.rules.backoff import equal_jitter, exponential
from syncer.rules.fold import History

#: What a call is repeated after.
_LATER: Final = (Unavailable, Ambiguous, TimeoutError)
#: Seconds between repeats, at first and at most.
_RETRY_FIRST: Final = 0.05
_RETRY_MOST: Final = 1.0
#: Milliseconds for replicas to confirm intents.
_WAIT_MS: Final = 1000
#: Times that a scan is restarted where logs move between servers.
_WALKS: Final = 3
#: Looked up for each append, so not made from text each time.
_ANSWERS: Final = {answer.encode(): answer for answer in Answer}


class RedisLog:
    """The attempt logs of one installation."""

    def __init__(self, client: LedgerClient, *, patience: float = 15.0) -> None:
        """A call is repeated for `patience` seconds, unless it has a limit of its own."""
        self.client = client
        self._patience = patience

    def key(self, uid: str) -> str:
        """Key of a notification's log."""
        return f"{self.client.prefix}:{{{uid}}}"

    @property
    def available(self) -> bool:
        """Whether Redis answers, what is written too; it may refuse it."""
        return self.client.problem is None and self.client.writes.silence is None

    @property
    def lineage(self) -> str:
        """Names the store and its history, empty while unknown; another one may have lost something."""
        server = self.client.server
        if server is None or not server.store:
            return ""
        return f"{server.store} {server.replid or server.run_id}"

    @property
    def store(self) -> str:
        """Random id of the store, empty while unknown."""
        return self.client.server.store if self.client.server else ""

    # -- the scripts --------------------------------------------------------------------------

    async def claim(
        self, uid: str, epoch: Epoch, *, name: str, seeds: Sequence[Record] = ()
    ) -> Claimed:
        """
        Raise the fence to `epoch`, join `seeds`, and read the log.

        Args:
            uid: Of the notification.
            epoch: Of the lease term.
            name: `namespace/name`, for a log that is created.
            seeds: Facts that the log may lack.
        """
        args = [epoch, Header(name, epoch).encode(), *(encode_record(s) for s in seeds)]
        now = 0
        try:
            reply = await self._repeat(lua.CLAIM, uid, args)
            answer = Answer(text_of(reply[0]))
            if answer is not Answer.OK:
                return Claimed(answer)
            seconds, micros = (int(part) for part in reply[2])
            now = seconds * 1000 + micros // 1000
            return Claimed(answer, snapshot_of(reply[1]), now=now, stamp=text_of(reply[3]))
        except ContractError as error:
            # The script could not read the header, or this process what follows it.
            return Claimed(Answer.OK, error=error, now=now)

    async def intent(
        self,
        uid: str,
        proof: Proof,
        record: Record,
        *,
        limit: int,
        guard: Callable[[], bool],
        patience: float | None = None,
        tries: Tries | None = None,
    ) -> Appended:
        """
        Open an attempt.

        A `DUP` is only ever the echo of an earlier try of this very call: ids are never reused.

        Args:
            uid: Of the notification.
            proof: What allows it; a repetition brings the same.
            record: The intent.
            limit: Attempts that the log may hold for the channel.
            guard: Whether the claim still holds as far as the caller knows, asked before each try is
                submitted.
            patience: Seconds for which the call is repeated.
            tries: Filled with whether the intent may be recorded although the call failed.

        Raises:
            Unavailable: given up, nothing recorded by the last try.
            Ambiguous: given up, and the intent may be recorded.
        """
        return await self._append(
            lua.INTENT,
            uid,
            [
                proof.epoch, record.id, encode_channel(record.channel), encode_record(record), limit,
                proof.position, proof.chain, proof.stamp,
            ],
            guard=guard,
            patience=patience,
            replicas=self.client.replicas_wanted,
            tries=tries,
        )  # fmt: skip

    async def outcome(
        self,
        uid: str,
        record: Record,
        intent: Record | None,
        *,
        name: str | None,
        patience: float | None = None,
    ) -> Appended:
        """
        Record what became known of an attempt; restores a lost intent, or a lost log.

        Args:
            uid: Of the notification.
            record: The outcome.
            intent: The attempt's, None if it is not restored.
            name: Of the notification, for a log that is made anew; None if it is not, as somebody has to
                give it the earlier attempts first. The answer is then RECLAIM.
            patience: Seconds for which the call is repeated.

        Refused credentials are retried like a server that is away: no other process knows the result.
        """
        state = record.kind.state
        if state is None or state is AttemptState.INTENT:
            raise ValueError(f"a {record.kind} record is not an outcome")
        return await self._append(
            lua.OUTCOME,
            uid,
            [
                record.attempt_id,
                encode_channel(record.channel),
                int(state),
                encode_record(record),
                encode_record(intent) if intent else b"",
                b"" if name is None else Header(name).encode(),
            ],
            patience=patience,
            again=(*_LATER, Unauthorised),
        )

    async def recover(self, uid: str, epoch: Epoch, record: Record) -> Appended:
        """Mark an open attempt that no process executes as unknown."""
        return await self._append(lua.RECOVER, uid, [epoch, record.id, encode_record(record)])

    async def note(self, uid: str, record: Record, *, read: History | None = None) -> Appended:
        """
        Append a plan, a skip, a manual resolution or a resend request, once per id.

        `DUP` with the rank answers a manual resolution that adds nothing to what is recorded, and `NOOP`
        with -1 a log that is gone, or does not begin with the history that was `read`.
        """
        return await self._append(lua.NOTE, uid, [record.id, encode_record(record), *(read or ())])

    async def ack(
        self, uid: str, position: int, chain: str, *, ttl: int, marks: str = BOTH_MARKS
    ) -> Mark:
        """
        Mark everything up to a position as published.

        Args:
            uid: Of the notification.
            position: Of the last record that was published.
            chain: Of that record: the history that was published.
            ttl: Seconds to keep a finished log, 0 to leave it without an expiry.
            marks: Which marks to move: `acked`, `audited`, or both.

        Returns:
            Whether the marks were moved, and whether the log now expires; never the latter with a
            `ttl` of 0.
        """
        reply = await self._repeat(lua.ACK, uid, [position, chain, ttl, marks])
        if Answer(text_of(reply[0])) is not Answer.OK:
            return Mark.STALE
        return Mark.EXPIRING if int(reply[1]) else Mark.MOVED

    async def retire(self, uid: str, epoch: Epoch, *, ttl: int, audited: bool = False) -> Answer:
        """
        Let the log of a deleted object expire.

        Args:
            uid: Of the notification.
            epoch: Of the claim.
            ttl: Seconds until it is gone.
            audited: Only if the audit feed has finished with it.

        Returns:
            RECLAIM if it is not ours or has open intents, STALE if it is not audited to its end.
        """
        reply = await self._repeat(lua.RETIRE, uid, [epoch, ttl, int(audited)])
        return Answer(text_of(reply[0]))

    # -- for operators ------------------------------------------------------------------------

    async def rebuild(self, uid: str, seen: Sequence[bytes], elements: Sequence[bytes]) -> Answer:
        """
        Replace a log that cannot be read by one that can.

        Args:
            uid: Of the notification.
            seen: The log as it was read; `STALE` if it is another one by now.
            elements: What takes its place, header first.
        """
        reply = await self._repeat(lua.REBUILD, uid, [len(seen), seen[-1], *elements])
        return Answer(text_of(reply[0]))

    async def keep_aside(self, uid: str, elements: Sequence[bytes], *, mark: int, ttl: int) -> None:
        """
        Copy a log to `<prefix>:aside:{<uid>}:<mark>`, which no scan takes for a log.

        The copy is made of what was read, not by the server, so `rebuild` then replaces that very log
        or nothing.

        Args:
            uid: Of the notification.
            elements: The log as it was read.
            mark: Makes the key unique.
            ttl: Seconds to keep the copy.

        Raises:
            Unavailable: it was not kept.
        """
        aside = f"{self.client.prefix}:aside:{{{uid}}}:{mark}"
        reply = await self._insist(self.client.evaluate, lua.KEEP, aside, [ttl, *elements])
        if Answer(text_of(reply[0])) is Answer.APART:
            raise Unavailable(f"{aside} holds another log")

    # -- reads --------------------------------------------------------------------------------

    async def read(self, uid: str) -> Snapshot | None:
        """Read a log, None if there is none; ContractError if it holds something undecodable."""
        elements = await of_one_log(self.elements(uid))
        return snapshot_of(elements) if elements else None

    async def elements(self, uid: str) -> list[bytes]:
        """The log as stored, undecoded; empty if there is none."""
        elements: list[bytes] | None = await self._insist(
            self.client.command, "LRANGE", self.key(uid), 0, -1
        )
        if not isinstance(elements, list) or not all(isinstance(e, bytes) for e in elements):
            raise ContractError("the server is not Redis")
        return elements

    async def read_headers(self, uids: Sequence[str]) -> list[LogHead]:
        """
        Read the heads of logs, in the order of `uids`, in one round trip.

        A key of another type belongs to another program: its header is empty, and its length 0.
        """
        return await read_apart(self._heads, uids, LogHead(b"", 0, -1))

    async def _heads(self, uids: Sequence[str]) -> list[LogHead]:
        replies = await self.ask_of_each(uids, ("LINDEX", 0), ("LLEN",), ("TTL",))
        return [LogHead(element, int(length), int(ttl)) for element, length, ttl in replies]

    async def read_logs(self, uids: Sequence[str]) -> list[StoredLog]:
        """Read whole logs, undecoded, in the order of `uids`, in one round trip."""
        replies = await self.ask_of_each(uids, ("LRANGE", 0, -1), ("TTL",))
        return [StoredLog(elements, int(ttl)) for elements, ttl in replies]

    async def ask_of_each(
        self, uids: Sequence[str], *commands: tuple[str | int, ...]
    ) -> list[tuple[Any, ...]]:
        """Run the same reads on each log, their key left out; the replies of each log, in order."""
        keys = map(self.key, uids)
        asked = [(name, key, *rest) for key in keys for name, *rest in commands]
        replies = iter(await self.gather(asked))
        return list(zip(*[replies] * len(commands), strict=True))

    async def gather(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Run many reads and return their replies in order."""
        return list(await self._insist(self.client.gather, commands))

    async def scan(self, *, page: int = 500) -> AsyncIterator[list[str]]:
        """
        Uids of all logs, page by page; one may be named twice.

        Where logs move between servers meanwhile, all are walked again, up to three times; what is
        missed even so is found by the next scan.
        """
        prefix = f"{self.client.prefix}:{{"
        for _ in range(_WALKS):
            servers = await self._insist(self.client.primaries)
            layout = self.client.layout
            for server in servers:
                cursor: Any = 0
                while True:
                    cursor, keys = await self._insist(
                        self.client.command, "SCAN", cursor, "MATCH", f"{_glob(prefix)}*}}",
                        "COUNT", page, at=server,
                    )  # fmt: skip
                    yield [text_of(k)[len(prefix) : -1] for k in keys]
                    if int(cursor) == 0:
                        break
            if self.client.layout == layout:
                return

    # -- repeating ----------------------------------------------------------------------------

    async def _append(
        self,
        script: lua.Script,
        uid: str,
        args: list[Any],
        *,
        guard: Callable[[], bool] = lambda: True,
        patience: float | None = None,
        replicas: int = 0,
        again: tuple[type[Exception], ...] = _LATER,
        tries: Tries | None = None,
    ) -> Appended:
        wait = (replicas, _WAIT_MS) if replicas else None
        reply = await of_one_log(self._insist(
            self.client.evaluate, script, self.key(uid), args, patience=patience, again=again,
            tries=tries, guard=guard, wait=wait,
        ))  # fmt: skip
        if reply is None:
            return Appended(Answer.RECLAIM, detail="stale claim")
        confirmed = True
        if wait is not None:
            reply, count = reply
            confirmed = int(count) >= replicas
        answer = _ANSWERS[reply[0]]
        if answer is Answer.OK:
            _, position, before, chain, count = reply
            return Appended(
                answer, position, before.decode(), chain.decode(), count, confirmed=confirmed
            )
        if answer in (Answer.DUP, Answer.NOOP):
            return Appended(answer, rank=int(reply[1]), confirmed=confirmed)
        return Appended(answer, detail=text_of(reply[1]) if len(reply) > 1 else "")

    async def _repeat(self, script: lua.Script, uid: str, args: list[Any]) -> Any:
        return await of_one_log(self._insist(self.client.evaluate, script, self.key(uid), args))

    async def _insist(
        self,
        call: Callable[..., Awaitable[Any]],
        *args: Any,
        patience: float | None = None,
        again: tuple[type[Exception], ...] = _LATER,
        tries: Tries | None = None,
        guard: Callable[[], bool] = lambda: True,
        **options: Any,
    ) -> Any:
        """
        Repeat a call until it is answered, for `patience` seconds, by default the log's own.

        None once the guard no longer holds.
        """
        tries = tries or Tries()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + (self._patience if patience is None else patience)
        failures = 0
        while guard():
            try:
                return await call(*args, **options)
            except asyncio.CancelledError:
                tries.uncertain = True
                raise
            except again as error:
                tries.uncertain |= not isinstance(error, Unavailable | Rejected)
                left = give_up - loop.time()
                if left <= 0:
                    if isinstance(error, TimeoutError):
                        raise Ambiguous("Redis does not answer in time") from error
                    raise
                failures += 1
                pause = exponential(_RETRY_FIRST, _RETRY_MOST, failures)
                await asyncio.sleep(min(left, equal_jitter(pause, random.random())))  # noqa: S311 - jitter
        return None


def _glob(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)
