"""
The scripts, on real servers; and in memory, where the simulation runs them.

A table names every guard in its order. Replies, lists and times to live are equal on every back end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from syncer.ledger.codec import encode_channel, encode_record
from syncer.ledger.lua import Script
from syncer.ledger.reading import snapshot_of
from syncer.ledger.replies import classify_reply
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.errors import ContractError, LedgerError, Rejected, Unavailable
from syncer.model.record import (
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    skip_record,
)
from tests.fakes.memorylog import BY_NAME, Argument, ServerTwin

Call = tuple[str, list[Argument]]

INTENT, UNKNOWN, FAILED, SUCCESS = AttemptState
OLD, NOW, LATER = "0.9", "0.10", "1.1"
NAME = "ns/n"
A1, A2, A3 = f"{OLD}-1", f"{NOW}-1", f"{NOW}-2"
CHANNEL, OTHER = "slack:on call", "console"
ROOT = b"00000000"
#: Stands for the stamp of the back end that runs a call.
STAMP = b"the stamp of this server"


# -- calls -----------------------------------------------------------------------------------------


def intent_bytes(identity: str, channel: str = CHANNEL) -> bytes:
    """An encoded intent."""
    return encode_record(intent_record(AttemptId(identity), channel, at=1, by="p"))


def result_record(identity: str, state: AttemptState, channel: str, *, seed: bool) -> Record:
    """An attempt's state as a record."""
    failure = FailureClass.TRANSIENT if state is FAILED else None
    return attempt_record(
        Attempt(AttemptId(identity), channel, state, 1, 2, failure=failure), seed=seed
    )


def claim(epoch: str, *seeds: Record) -> Call:
    """CLAIM."""
    return "claim", [epoch, Header(NAME).encode().replace(b"0.0", epoch.encode()),
                     *(encode_record(s) for s in seeds)]  # fmt: skip


def intent(
    epoch: str,
    identity: str,
    channel: str = CHANNEL,
    most: int = 5,
    *,
    at: tuple[int, bytes] = (0, ROOT),
    stamp: bytes = STAMP,
) -> Call:
    """INTENT, decided on the record of a position and a chain."""
    record = intent_bytes(identity, channel)
    return "intent", [epoch, identity, encode_channel(channel), record, most, *at, stamp]


def outcome(
    identity: str,
    state: AttemptState = SUCCESS,
    channel: str = CHANNEL,
    *,
    lost: bool = True,
    header: bytes = Header(NAME).encode(),
) -> Call:
    """OUTCOME; with `lost` it can restore the intent, with a header the log."""
    record = encode_record(result_record(identity, state, channel, seed=False))
    return "outcome", [
        identity, encode_channel(channel), int(state), record,
        intent_bytes(identity, channel) if lost else b"", header,
    ]  # fmt: skip


def recover(epoch: str, identity: str, channel: str = CHANNEL) -> Call:
    """RECOVER."""
    record = encode_record(result_record(identity, UNKNOWN, channel, seed=False))
    return "recover", [epoch, identity, record]


def note(record: Record, *read: int | bytes) -> Call:
    """NOTE, perhaps with the position and the chain that it is based on."""
    return "note", [record.id, encode_record(record), *read]


def ack(position: int, chain: bytes, ttl: int = 0, marks: str = "acked audited") -> Call:
    """ACK."""
    return "ack", [position, chain, ttl, marks]


def retire(epoch: str, ttl: int = 60, *, audited: bool = False) -> Call:
    """RETIRE."""
    return "retire", [epoch, ttl, int(audited)]


def keep(elements: Sequence[bytes], ttl: int = 600) -> Call:
    """KEEP."""
    return "keep", [ttl, *elements]


def rebuild(seen: Sequence[bytes], elements: Sequence[bytes]) -> Call:
    """REBUILD."""
    return "rebuild", [len(seen), seen[-1] if seen else b"", *elements]


def seed(identity: str, state: AttemptState, channel: str = CHANNEL) -> Record:
    """A seed."""
    return result_record(identity, state, channel, seed=True)


def verdict(identity: str, kind: Kind = Kind.RESOLVE_SUCCESS, channel: str = CHANNEL) -> Record:
    """An operator's verdict."""
    return Record(kind, f"resolve:{identity}:{kind.rpartition('.')[2]}", channel, {"at": 3})


PLAN = plan_record(Plan((CHANNEL, OTHER), "RoutingRuleMatched", "m", 1, "ff"))
SKIP = skip_record("skip:1:1", CHANNEL, at=1, why="circuit open")
ORDER = Record(Kind.ORDER, "order:1", CHANNEL, {"at": 1})


# -- back ends -------------------------------------------------------------------------------------


class Backend:
    """A server, or what stands for one; error replies come back as the ledger's errors."""

    stamp = b"master:" + b"0" * 40

    def run(self, key: str, call: Call) -> list[Any] | LedgerError:
        """Run a script."""
        args = [self.stamp if a is STAMP else a for a in call[1]]
        try:
            return self._run(BY_NAME[call[0]], key, args)
        except ResponseError as error:
            return classify_reply(error)

    def _run(self, script: Script, key: str, args: Sequence[Argument]) -> list[Any]:
        raise NotImplementedError

    def log(self, key: str) -> list[bytes]:
        """The whole list."""
        raise NotImplementedError

    def ttl(self, key: str) -> int:
        """Seconds to live, -1 for ever, -2 no key."""
        raise NotImplementedError


class Twin(Backend):
    """The server in memory."""

    def __init__(self) -> None:
        self.twin = ServerTwin(self.stamp)

    def _run(self, script: Script, key: str, args: Sequence[Argument]) -> list[Any]:
        return self.twin.run(script.name, key, args, round(time.time() * 1000))

    def log(self, key: str) -> list[bytes]:
        return list(self.twin.logs.get(key, []))

    def ttl(self, key: str) -> int:
        if key not in self.twin.logs:
            return -2
        at = self.twin.expires.get(key)
        return -1 if at is None else round(at / 1000 - time.time())


class Served(Backend):
    """A real server."""

    def __init__(self, client: Any) -> None:
        self.client = client
        info = client.info("replication")
        self.stamp = f"{info['role']}:{info['master_replid']}".encode()

    def _run(self, script: Script, key: str, args: Sequence[Argument]) -> list[Any]:
        reply: list[Any] = self.client.eval(script.source, 1, key, *args)
        return reply

    def log(self, key: str) -> list[bytes]:
        elements: list[bytes] = self.client.lrange(key, 0, -1)
        return elements

    def ttl(self, key: str) -> int:
        return int(self.client.ttl(key))

    def drop(self, key: str, n: int) -> None:
        if n:
            self.client.rpop(key, n)

    def push(self, key: str, element: bytes) -> None:
        self.client.rpush(key, element)

    def put(self, key: str, index: int, element: bytes) -> None:
        self.client.lset(key, index, element)


@pytest.fixture
def real(redis_url: str) -> Iterator[Served]:
    """A real server."""
    client = redis.Redis.from_url(redis_url, socket_timeout=5)
    yield Served(client)
    client.close()


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Calls that lead to a state, one more call, and how its reply begins."""

    before: list[Call]
    call: Call
    reply: list[Any]
    log: list[str] = field(default_factory=list)


CLAIMED = [claim(NOW)]
OPENED = [claim(NOW), intent(NOW, A2)]
DONE = [*OPENED, outcome(A2)]


def past(n: int) -> list[Call]:
    """So many elements more, of other attempts; the last of them may be open."""
    ids = [f"{NOW}-{100 + k // 2}" for k in range(n)]
    return [
        outcome(i, FAILED, OTHER) if k % 2 else intent(NOW, i, OTHER, 99) for k, i in enumerate(ids)
    ]


def past_log(n: int) -> list[str]:
    """What those leave in a log."""
    return ["failed" if k % 2 else "intent" for k in range(n)]


CASES: dict[str, Case] = {
    # INTENT: success, same id, epoch, open, budget.
    "INTENT on a missing key is refused": Case([], intent(NOW, A2), [b"RECLAIM"], []),
    "INTENT under the claim is accepted": Case(
        CLAIMED, intent(NOW, A2), [b"OK", 1, ROOT], ["intent"]
    ),
    "INTENT of the same id is an echo": Case(OPENED, intent(NOW, A2), [b"DUP", 0], ["intent"]),
    "INTENT of a settled id tells its state": Case(
        [*OPENED, outcome(A2, FAILED)], intent(NOW, A2), [b"DUP", 2], ["intent", "failed"]
    ),
    "INTENT of an earlier owner is refused": Case(
        [claim(LATER)], intent(NOW, A2), [b"RECLAIM", LATER.encode()], []
    ),
    "INTENT of a later owner that has not claimed is refused": Case(
        CLAIMED, intent(LATER, f"{LATER}-1"), [b"RECLAIM", NOW.encode()], []
    ),
    "INTENT on a log of nobody is refused": Case(
        [outcome(A1, FAILED)], intent(NOW, A2), [b"RECLAIM", b"0.0"], ["intent", "failed"]
    ),
    "INTENT while another is open is refused": Case(
        OPENED, intent(NOW, A3), [b"OPEN", A2.encode()], ["intent"]
    ),
    "INTENT looks at its own channel only": Case(
        OPENED, intent(NOW, A3, OTHER), [b"OK", 2], ["intent", "intent"]
    ),
    "INTENT after a success is refused": Case(
        DONE, intent(NOW, A3), [b"DONE"], ["intent", "success"]
    ),
    "INTENT beyond the budget is refused": Case(
        [*OPENED, outcome(A2, FAILED)], intent(NOW, A3, most=1), [b"EXHAUSTED", 1],
        ["intent", "failed"],
    ),
    "INTENT within the budget is accepted": Case(
        [*OPENED, outcome(A2, FAILED)], intent(NOW, A3, most=2), [b"OK", 3],
        ["intent", "failed", "intent"],
    ),
    "INTENT counts restored attempts": Case(
        [claim(NOW, seed(A1, FAILED))], intent(NOW, A2, most=1), [b"EXHAUSTED", 1],
        ["seed.failed"],
    ),
    "INTENT is stopped by a restored success": Case(
        [claim(NOW, seed(A1, SUCCESS))], intent(NOW, A2), [b"DONE"], ["seed.success"]
    ),
    "INTENT is stopped by a restored open attempt": Case(
        [claim(NOW, seed(A1, INTENT))], intent(NOW, A2), [b"OPEN", A1.encode()], ["seed.intent"]
    ),
    "INTENT is stopped by an operator's success": Case(
        [*OPENED, note(verdict(A2))], intent(NOW, A3), [b"DONE"], ["intent", "resolve.success"]
    ),
    "INTENT is not stopped by what an operator declared failed": Case(
        [*OPENED, note(verdict(A2, Kind.RESOLVE_FAILED))], intent(NOW, A3), [b"OK", 3],
        ["intent", "resolve.failed", "intent"],
    ),
    "INTENT does not count notes": Case(
        [*CLAIMED, note(PLAN), note(SKIP), note(ORDER)], intent(NOW, A2, most=1), [b"OK", 4],
        ["plan", "skip", "order", "intent"],
    ),
    "INTENT: DONE before DUP (H8)": Case(
        [claim(OLD), intent(OLD, A1), claim(NOW), recover(NOW, A1), intent(NOW, A2), outcome(A1)],
        intent(NOW, A2), [b"DONE"], ["intent", "unknown", "intent", "success"],
    ),
    "INTENT: DONE before RECLAIM": Case(
        [*DONE, claim(LATER)], intent(NOW, A3), [b"DONE"], ["intent", "success"]
    ),
    "INTENT: DUP before RECLAIM": Case(
        [*OPENED, claim(LATER)], intent(NOW, A2), [b"DUP", 0], ["intent"]
    ),
    "INTENT: RECLAIM before OPEN": Case(
        [*OPENED, claim(LATER)], intent(NOW, A3), [b"RECLAIM", LATER.encode()], ["intent"]
    ),
    # INTENT: the state of the server, and the history of the log.
    **{
        f"INTENT under {what} is refused": Case(
            CLAIMED, intent(NOW, A2, stamp=stamp), [b"RECLAIM", b"server"], []
        )
        for what, stamp in {
            "the stamp of another state": b"master:" + b"f" * 40,
            "the stamp of a replica": b"slave:" + b"0" * 40,
            "an empty stamp": b"",
        }.items()
    },
    **{
        f"INTENT decided on {what} is refused": Case(
            [*CLAIMED, note(PLAN)], intent(NOW, A2, at=at), [b"RECLAIM", b"history"], ["plan"]
        )
        for what, at in {
            "a record that is lost": (2, ROOT),
            "a record of another history": (1, b"00000001"),
            "a beginning with a chain": (0, b"00000001"),
        }.items()
    },
    "INTENT: DONE before the stamp": Case(
        DONE, intent(NOW, A3, stamp=b""), [b"DONE"], ["intent", "success"]
    ),
    "INTENT: DUP before the stamp": Case(
        OPENED, intent(NOW, A2, stamp=b""), [b"DUP", 0], ["intent"]
    ),
    "INTENT: the epoch before the stamp": Case(
        [claim(LATER)], intent(NOW, A2, stamp=b""), [b"RECLAIM", LATER.encode()], []
    ),
    "INTENT: the stamp before the history": Case(
        CLAIMED, intent(NOW, A2, at=(7, ROOT), stamp=b""), [b"RECLAIM", b"server"], []
    ),
    "INTENT: the history before OPEN": Case(
        OPENED, intent(NOW, A3, at=(7, ROOT)), [b"RECLAIM", b"history"], ["intent"]
    ),
    "INTENT: OPEN before EXHAUSTED": Case(
        OPENED, intent(NOW, A3, most=1), [b"OPEN", A2.encode()], ["intent"]
    ),
    # OUTCOME: only a higher rank; never fenced.
    "OUTCOME of an open attempt is taken": Case(
        OPENED, outcome(A2), [b"OK", 2], ["intent", "success"]
    ),
    "OUTCOME again changes nothing": Case(DONE, outcome(A2), [b"NOOP", 3], ["intent", "success"]),
    "OUTCOME of a lower rank changes nothing": Case(
        DONE, outcome(A2, UNKNOWN), [b"NOOP", 3], ["intent", "success"]
    ),
    "OUTCOME of a higher rank is taken": Case(
        [*OPENED, recover(NOW, A2)], outcome(A2, FAILED), [b"OK", 3],
        ["intent", "unknown", "failed"],
    ),
    "OUTCOME of an earlier owner is taken": Case(
        [*OPENED, claim(LATER)], outcome(A2), [b"OK", 2], ["intent", "success"]
    ),
    "OUTCOME restores a lost intent": Case(
        CLAIMED, outcome(A2), [b"OK", 2, ROOT], ["intent", "success"]
    ),
    "OUTCOME without its intent is taken alone": Case(
        CLAIMED, outcome(A2, lost=False), [b"OK", 1, ROOT], ["success"]
    ),
    "OUTCOME creates a lost log, for nobody": Case(
        [], outcome(A2), [b"OK", 2, ROOT], ["intent", "success"]
    ),
    "OUTCOME leaves a lost log to a claim": Case([], outcome(A2, header=b""), [b"RECLAIM"], []),
    "OUTCOME without a header ends an open attempt": Case(
        OPENED, outcome(A2, header=b""), [b"OK", 2], ["intent", "success"]
    ),
    "OUTCOME knows what a verdict said": Case(
        [*OPENED, note(verdict(A2))], outcome(A2), [b"NOOP", 3], ["intent", "resolve.success"]
    ),
    **{
        f"OUTCOME {state.word} {what} after a verdict of failure, {n} elements ago": Case(
            [*OPENED, note(verdict(A2, Kind.RESOLVE_FAILED)), *past(n)], outcome(A2, state), reply(n),
            ["intent", "resolve.failed", *past_log(n), *more],
        )
        for n in (0, 2, 9)
        for state, what, reply, more in (
            (UNKNOWN, "says less", lambda _: [b"NOOP", 2], ()),
            (FAILED, "says more", lambda n: [b"OK", n + 3], ("failed",)),
            (SUCCESS, "says more", lambda n: [b"OK", n + 3], ("success",)),
        )
    },
    "OUTCOME failed is taken once beside a verdict of failure": Case(
        [*OPENED, note(verdict(A2, Kind.RESOLVE_FAILED)), outcome(A2, FAILED)], outcome(A2, FAILED),
        [b"NOOP", 2], ["intent", "resolve.failed", "failed"],
    ),
    "OUTCOME failed says less than a verdict of delivery": Case(
        [*OPENED, note(verdict(A2))], outcome(A2, FAILED), [b"NOOP", 3],
        ["intent", "resolve.success"],
    ),
    "OUTCOME restores no intent before a verdict": Case(
        [*CLAIMED, note(verdict(A2, Kind.RESOLVE_FAILED))], outcome(A2, FAILED), [b"OK", 2],
        ["resolve.failed", "failed"],
    ),
    # A log that is longer than what OUTCOME looks at first; its intent there, before it, nowhere.
    **{
        f"OUTCOME ends an attempt that was opened {n} elements ago": Case(
            [*OPENED, *past(n)], outcome(A2, FAILED), [b"OK", n + 2],
            ["intent", *past_log(n), "failed"],
        )
        for n in (3, 4, 5, 6, 13)
    },
    **{
        f"OUTCOME finds what ended {n} elements ago": Case(
            [*DONE, *past(n)], outcome(A2, FAILED), [b"NOOP", 3],
            ["intent", "success", *past_log(n)],
        )
        for n in (3, 4, 5, 6, 13)
    },
    **{
        f"OUTCOME finds the verdict of {n} elements ago": Case(
            [*OPENED, *past(n), note(verdict(A2))], outcome(A2, FAILED), [b"NOOP", 3],
            ["intent", *past_log(n), "resolve.success"],
        )
        for n in (3, 4, 13)
    },
    "OUTCOME finds a success far back, behind a verdict": Case(
        [*OPENED, note(verdict(A2, Kind.RESOLVE_FAILED)), outcome(A2), *past(7)], outcome(A2),
        [b"NOOP", 3], ["intent", "resolve.failed", "success", *past_log(7)],
    ),
    "OUTCOME knows more than a seed of what is unknown": Case(
        [claim(NOW, seed(A1, UNKNOWN))], outcome(A1, FAILED), [b"OK", 2], ["seed.unknown", "failed"],
    ),
    "OUTCOME finds a seed far back": Case(
        [claim(NOW, seed(A1, SUCCESS)), *past(9)], outcome(A1, FAILED), [b"NOOP", 3],
        ["seed.success", *past_log(9)],
    ),
    "OUTCOME restores an intent that a long log has lost": Case(
        [*CLAIMED, *past(13)], outcome(A2), [b"OK", 15], [*past_log(13), "intent", "success"]
    ),
    # RECOVER: the owner's, for open attempts.
    "RECOVER on a missing key is refused": Case([], recover(NOW, A2), [b"RECLAIM"], []),
    "RECOVER of another owner is refused": Case(
        [*OPENED, claim(LATER)], recover(NOW, A2), [b"RECLAIM", LATER.encode()], ["intent"]
    ),
    "RECOVER marks an open attempt": Case(
        OPENED, recover(NOW, A2), [b"OK", 2], ["intent", "unknown"]
    ),
    "RECOVER asks nothing about other attempts": Case(
        [*OPENED, intent(NOW, A3, OTHER), outcome(A3, SUCCESS, OTHER)], recover(NOW, A2), [b"OK", 4],
        ["intent", "intent", "success", "unknown"],
    ),
    "RECOVER of a settled attempt changes nothing": Case(
        DONE, recover(NOW, A2), [b"NOOP", 3], ["intent", "success"]
    ),
    "RECOVER of an attempt that is not there changes nothing": Case(
        CLAIMED, recover(NOW, A2), [b"NOOP", -1], []
    ),
    # NOTE: once per id, on a log that exists.
    "NOTE on a missing key changes nothing": Case([], note(PLAN), [b"NOOP", -1], []),
    "NOTE is appended": Case(CLAIMED, note(PLAN), [b"OK", 1, ROOT], ["plan"]),
    **{
        f"NOTE on {what} changes nothing": Case(
            [*CLAIMED, note(PLAN)], note(ORDER, *read), [b"NOOP", -1], ["plan"]
        )
        for what, read in {
            "a log shorter than the one that was read": (2, ROOT),
            "another log than the one that was read": (1, ROOT),
        }.items()
    },
    "NOTE on the log that was read, or on what has come behind it, is appended": Case(
        [*CLAIMED, note(PLAN)], note(ORDER, 0, ROOT), [b"OK", 2], ["plan", "order"]
    ),
    "NOTE keeps a log that was to go": Case(
        [*DONE, retire(NOW)], note(PLAN), [b"OK", 3], ["intent", "success", "plan"]
    ),
    "NOTE of the same id tells where it is": Case(
        [*OPENED, note(PLAN)], note(PLAN), [b"NOOP", 2], ["intent", "plan"]
    ),
    "NOTE of a verdict of failure after a success changes nothing": Case(
        DONE, note(verdict(A2, Kind.RESOLVE_FAILED)), [b"DUP", 3], ["intent", "success"]
    ),
    "NOTE of a verdict that says what is recorded changes nothing": Case(
        [*OPENED, outcome(A2, FAILED)], note(verdict(A2, Kind.RESOLVE_FAILED)), [b"DUP", 2],
        ["intent", "failed"],
    ),
    "NOTE of a verdict after a restored result changes nothing": Case(
        [claim(NOW, seed(A1, SUCCESS))], note(verdict(A1)), [b"DUP", 3], ["seed.success"]
    ),
    "NOTE of a verdict that says more is appended": Case(
        [*OPENED, outcome(A2, FAILED)], note(verdict(A2)), [b"OK", 3],
        ["intent", "failed", "resolve.success"],
    ),
    "NOTE of another verdict is no repetition": Case(
        [*OPENED, note(verdict(A2, Kind.RESOLVE_FAILED))], note(verdict(A2)), [b"OK", 3],
        ["intent", "resolve.failed", "resolve.success"],
    ),
    "NOTE of a lower verdict after a higher one changes nothing": Case(
        [*OPENED, note(verdict(A2))], note(verdict(A2, Kind.RESOLVE_FAILED)), [b"DUP", 3],
        ["intent", "resolve.success"],
    ),
    "NOTE of a verdict again tells where it is": Case(
        [*OPENED, note(verdict(A2))], note(verdict(A2)), [b"NOOP", 2], ["intent", "resolve.success"]
    ),
    "NOTE of a verdict looks at its own attempt only": Case(
        [*DONE], note(verdict(A3)), [b"OK", 3], ["intent", "success", "resolve.success"]
    ),
    "NOTE needs no claim": Case(
        [claim(LATER)], note(verdict(A2)), [b"OK", 1], ["resolve.success"]
    ),
    # RETIRE: the owner's, with nothing open.
    "RETIRE of a missing key has nothing to do": Case([], retire(NOW), [b"OK", 0], []),
    "RETIRE of another owner is refused": Case(
        [claim(LATER)], retire(NOW), [b"RECLAIM", LATER.encode()], []
    ),
    "RETIRE with an open attempt is refused": Case(
        OPENED, retire(NOW), [b"RECLAIM", NOW.encode()], ["intent"]
    ),
    "RETIRE with a restored open attempt is refused": Case(
        [claim(NOW, seed(A1, INTENT))], retire(NOW), [b"RECLAIM", NOW.encode()], ["seed.intent"]
    ),
    "RETIRE of a settled log is taken": Case(DONE, retire(NOW), [b"OK", 1], ["intent", "success"]),
    "RETIRE of a log that is not audited is refused where that is asked": Case(
        DONE, retire(NOW, audited=True), [b"STALE", NOW.encode()], ["intent", "success"]
    ),
    "RETIRE of an empty log asks for no audit": Case(
        [claim(NOW)], retire(NOW, audited=True), [b"OK", 1], []
    ),
    # CLAIM: fence, join, read.
    "CLAIM creates a log": Case([], claim(NOW), [b"OK"], []),
    "CLAIM of an earlier owner is fenced": Case(
        [claim(LATER)], claim(NOW), [b"FENCED", LATER.encode()], []
    ),
    "CLAIM compares lengths first": Case(CLAIMED, claim(OLD), [b"FENCED", NOW.encode()], []),
    "CLAIM of the same owner is taken": Case(OPENED, claim(NOW), [b"OK"], ["intent"]),
    "CLAIM joins what the log lacks": Case(
        OPENED, claim(NOW, PLAN, seed(A1, FAILED)), [b"OK"], ["intent", "plan", "seed.failed"]
    ),
    "CLAIM joins what the log knows less of": Case(
        OPENED, claim(NOW, seed(A2, SUCCESS)), [b"OK"], ["intent", "seed.success"]
    ),
    "CLAIM joins nothing that the log knows": Case(
        [*DONE, note(PLAN)], claim(NOW, PLAN, seed(A2, UNKNOWN), seed(A2, SUCCESS)), [b"OK"],
        ["intent", "success", "plan"],
    ),
    "CLAIM joins no seed of an attempt that the log has open": Case(
        OPENED, claim(NOW, seed(A2, INTENT)), [b"OK"], ["intent"]
    ),
    "CLAIM joins a seed once": Case(
        CLAIMED, claim(NOW, seed(A1, FAILED), seed(A1, FAILED)), [b"OK"], ["seed.failed"]
    ),
}  # fmt: skip


def check(backend: Backend, case: Case, key: str = "nl:{table}") -> None:
    """Run a case and look at reply and list."""
    for call in case.before:
        reply = backend.run(key, call)
        assert isinstance(reply, list), reply
    found = backend.run(key, case.call)
    assert isinstance(found, list), found
    assert found[: len(case.reply)] == case.reply
    elements = backend.log(key)
    if not elements:
        assert case.log == []
        return
    records = snapshot_of(elements).records
    assert [r.kind for r in records] == case.log
    if found[0] == b"OK" and case.call[0] in ("intent", "outcome", "recover", "note"):
        _, position, before, chain, count = found
        assert position == len(records)
        assert chain == records[-1].chain.encode()
        assert before == ([ROOT, *(r.chain.encode() for r in records)])[position - count]
    if found[0] == b"OK" and case.call[0] == "claim":
        assert found[1] == elements
        assert abs(int(found[2][0]) - time.time()) < 60
        assert found[3] == backend.stamp


@pytest.mark.parametrize("case", CASES)
def test_guards(real: Served, case: str) -> None:
    """Each guard answers in its order, the list holds what was accepted, and so it is in memory."""
    twin, key = Twin(), "nl:{table}"
    for backend in (real, twin):
        check(backend, CASES[case], key)
    assert twin.log(key) == real.log(key)
    assert abs(twin.ttl(key) - real.ttl(key)) <= 2


@pytest.mark.parametrize("case", CASES)
def test_every_call_may_be_repeated(real: Served, case: str) -> None:
    """After a lost reply the same call again appends nothing."""
    key = "nl:{again}"
    for call in [*CASES[case].before, CASES[case].call]:
        real.run(key, call)
    once, header = real.log(key)[1:], real.log(key)[:1]
    real.run(key, CASES[case].call)
    assert (real.log(key)[1:], real.log(key)[:1]) == (once, header)


# -- acknowledging and expiry ----------------------------------------------------------------------


def built(backend: Backend, *calls: Call, key: str = "nl:{k}") -> list[bytes]:
    """Run calls that must all be taken; the list afterwards."""
    for call in calls:
        reply = backend.run(key, call)
        assert isinstance(reply, list), (call, reply)
        assert reply[0] == b"OK", (call, reply)
    return backend.log(key)


def chain_of(element: bytes) -> bytes:
    """The chain of an element."""
    return element.split(b" ", 5)[4]


KEY = "nl:{k}"


def test_ack_moves_its_marks(real: Served) -> None:
    """An ACK moves the marks it names, and never back."""
    log = built(real, *DONE)
    one, two = chain_of(log[1]), chain_of(log[2])
    assert real.run(KEY, ack(2, two, marks="acked")) == [b"OK", 0]
    assert real.log(KEY)[0] == Header(NAME).encode().replace(
        b"epoch=0.0 acked=0", b"epoch=0.10 acked=2"
    )
    assert real.run(KEY, ack(1, one)) == [b"OK", 0]
    header = snapshot_of(real.log(KEY)).header
    assert (header.acked, header.audited) == (2, 1)
    assert real.log(KEY)[1:] == log[1:]


STALE: dict[str, Callable[[list[bytes]], Call]] = {
    "another chain": lambda log: ack(2, chain_of(log[1])),
    "a position beyond the end": lambda log: ack(3, chain_of(log[2])),
    "the header's position": lambda _: ack(0, ROOT),
    "a negative position": lambda log: ack(-1, chain_of(log[2])),
}


@pytest.mark.parametrize("case", STALE)
def test_ack_of_another_history(real: Served, case: str) -> None:
    """An ACK that does not name a record of this history is stale and moves nothing."""
    log = built(real, *DONE)
    assert real.run(KEY, STALE[case](log)) == [b"STALE"]
    assert real.run("nl:{none}", ack(1, ROOT)) == [b"STALE"]
    assert real.log(KEY) == log


#: An ACK that lets no log expire, and one behind it that does.
EXPIRIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a call without a time": ({"ttl": 0}, {"ttl": 60}),
    "an audit feed that lags": ({"ttl": 60, "marks": "acked"}, {"ttl": 60, "marks": "audited"}),
}


@pytest.mark.parametrize("case", EXPIRIES)
def test_expiry(real: Served, case: str) -> None:
    """A log may expire when both marks and this very call stand at its last record."""
    early, late = EXPIRIES[case]
    last = chain_of(built(real, *DONE)[2])
    assert real.run(KEY, ack(2, last, **early)) == [b"OK", 0]
    assert real.ttl(KEY) == -1
    assert real.run(KEY, ack(2, last, **late)) == [b"OK", 1]
    assert 55 <= real.ttl(KEY) <= 60


def test_no_expiry_with_an_open_intent(real: Served) -> None:
    """
    H1: a fold that is final, with an attempt still open, does not let its log expire.

    The open attempt keeps everything from it on out of the acknowledged part, so the ACK of the
    zombie that saw the whole log speaks of an earlier position.
    """
    log = built(
        real, claim(OLD), intent(OLD, A1), claim(NOW), recover(NOW, A1), intent(NOW, A2),
        outcome(A1),
    )  # fmt: skip
    view = snapshot_of(log).view
    position, chain = view.publishable
    assert (view.position, position) == (4, 2)
    assert view.attempts[AttemptId(A1)].state is SUCCESS
    assert real.run(KEY, ack(position, chain.encode(), ttl=60)) == [b"OK", 0]
    assert real.ttl(KEY) == -1
    # H2: marks that somebody else moved to the end do not make that ACK final.
    assert real.run(KEY, ack(4, chain_of(log[4]))) == [b"OK", 0]
    assert real.run(KEY, ack(2, chain_of(log[2]), ttl=60)) == [b"OK", 0]
    assert real.ttl(KEY) == -1


def test_ack_of_a_rebuilt_log(real: Served) -> None:
    """H5: the same record at the same position after another history is not acknowledged."""
    log = built(
        real, claim(OLD), intent(OLD, A1), recover(OLD, A1), intent(OLD, f"{OLD}-2"),
        outcome(f"{OLD}-2", FAILED),
    )  # fmt: skip
    real.drop(KEY, 5)
    again = built(real, outcome(A1, FAILED), outcome(f"{OLD}-2", FAILED))
    assert again[4].split(b" ")[:4] == log[4].split(b" ")[:4]
    assert real.run(KEY, ack(4, chain_of(log[4]), ttl=60)) == [b"STALE"]
    assert real.ttl(KEY) == -1
    assert real.run(KEY, ack(4, chain_of(again[4]))) == [b"OK", 0]


APPENDS = {
    "an intent": (intent(NOW, A3, OTHER), 1),
    "an outcome": (outcome(A3, SUCCESS, OTHER), 2),
    "a note": (note(ORDER), 1),
    "a seed": (claim(NOW, seed(A1, FAILED)), 1),
}


@pytest.mark.parametrize("case", APPENDS)
def test_every_append_persists(real: Served, case: str) -> None:
    """Whatever is appended to a log that was to expire, the log stays."""
    last = chain_of(built(real, *DONE)[2])
    assert real.run(KEY, ack(2, last, ttl=60)) == [b"OK", 1]
    call, count = APPENDS[case]
    assert len(built(real, call)) == 3 + count
    assert real.ttl(KEY) == -1


def test_recovery_persists(real: Served) -> None:
    """An attempt that is marked unknown keeps its log, too."""
    built(real, *OPENED)
    real.client.expire(KEY, 60)
    built(real, recover(NOW, A2))
    assert real.ttl(KEY) == -1


def test_what_appends_nothing_leaves_the_expiry(real: Served) -> None:
    """A refusal, an echo or a claim that adds nothing does not bring a finished log back."""
    last = chain_of(built(real, *DONE)[2])
    assert real.run(KEY, ack(2, last, ttl=60)) == [b"OK", 1]
    for call in (intent(NOW, A3), outcome(A2), claim(NOW), recover(NOW, A2)):
        real.run(KEY, call)
    assert 55 <= real.ttl(KEY) <= 60


def test_retire_expires(real: Served) -> None:
    """An orphan that is retired expires."""
    built(real, *DONE, retire(NOW, 60))
    assert 55 <= real.ttl(KEY) <= 60


# -- what operators' commands run --------------------------------------------------------------------


@pytest.mark.parametrize("log", [[b"no header", b"\x00\xff", b""], [b"one"]], ids=["three", "one"])
def test_keep_makes_a_copy_that_goes(real: Served, log: list[bytes]) -> None:
    """The copy has its time to live from its first moment, and making it again changes nothing."""
    assert real.run(KEY, keep(log)) == [b"OK", len(log)]
    assert real.log(KEY) == log
    assert 595 <= real.ttl(KEY) <= 600
    assert real.run(KEY, keep(log, ttl=9000)) == [b"NOOP", len(log)]
    assert 595 <= real.ttl(KEY) <= 600


@pytest.mark.parametrize(
    ("other", "where"),
    [([b"c", b"b"], 0), ([b"a", b"c"], 1), ([b"a"], 1), ([b"a", b"b", b"c"], 2)],
    ids=["another header", "another record", "a shorter log", "a longer log"],
)
def test_keep_never_replaces_another_copy(real: Served, other: list[bytes], where: int) -> None:
    """Where another log is kept already it stays, and that is said."""
    real.run(KEY, keep([b"a", b"b"]))
    assert real.run(KEY, keep(other)) == [b"APART", where]
    assert real.log(KEY) == [b"a", b"b"]


def test_rebuild_replaces_the_log_that_was_seen(real: Served) -> None:
    """That and no other one, by what is a log, and whole."""
    seen, log = built(real, *OPENED), built(real, *DONE, key="nl:{other}")
    for other in ([*seen, seen[-1]], [*seen[:-1], b"x"]):
        assert real.run(KEY, rebuild(other, log)) == [b"STALE"]
    assert isinstance(real.run(KEY, rebuild(seen, [b"x"])), ContractError)
    assert real.log(KEY) == seen
    assert real.run(KEY, rebuild(seen, log)) == [b"OK", 2]
    assert real.log(KEY) == log


def test_keep_leaves_nothing_at_maxmemory(real: Served) -> None:
    """A copy for which there is no memory is not made, not even in part."""
    real.client.config_set("maxmemory", "1")
    try:
        assert isinstance(real.run(KEY, keep([b"a", b"b"])), Unavailable)
        assert real.ttl(KEY) == -2
    finally:
        real.client.config_set("maxmemory", "0")


# -- broken and foreign keys -----------------------------------------------------------------------

ALL = [
    claim(NOW), intent(NOW, A2), outcome(A2), recover(NOW, A2), note(PLAN), ack(1, ROOT),
    retire(NOW),
]  # fmt: skip
FOREIGN = {
    "another program's list": b"job:1",
    "a later format": b"nl2 object=ns/n epoch=0.10 acked=0 audited=0",
    "an epoch that is none": b"nl1 object=ns/n epoch=ten acked=0 audited=0",
    "a header cut short": b"nl1 object=ns/n epoch=0.10 ",
    "a header without its marks": b"nl1 object=ns/n epoch=0.10 x=1",
}


@pytest.mark.parametrize("call", ALL, ids=[c[0] for c in ALL])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_header(real: Served, case: str, call: Call) -> None:
    """A list that is not a log of this format is left alone by every script."""
    real.push(KEY, FOREIGN[case])
    real.push(KEY, b"anything")
    found = real.run(KEY, call)
    assert isinstance(found, ContractError), found
    assert real.log(KEY) == [FOREIGN[case], b"anything"]
    assert real.ttl(KEY) == -1


HEADER = Header(NAME).encode()
EVERY = [*ALL, keep([HEADER]), rebuild([HEADER], [HEADER])]


@pytest.mark.parametrize("call", EVERY, ids=[c[0] for c in EVERY])
def test_wrong_type(real: Served, call: Call) -> None:
    """A key of another type is refused for good by every script."""
    real.client.set(KEY, "x")
    found = real.run(KEY, call)
    assert isinstance(found, Rejected), found
    assert real.client.get(KEY) == b"x"


def test_a_claim_on_a_broken_log_adds_nothing(real: Served) -> None:
    """A log that cannot be read is claimed and shown, and does not grow with every claim."""
    built(real, *DONE)
    real.put(KEY, 1, b"garbage")
    before = real.log(KEY)
    for _ in range(2):
        found = real.run(KEY, claim(NOW, PLAN, seed(A1, FAILED)))
        assert isinstance(found, list)
        assert found[1] == before
    assert real.log(KEY) == before


def test_append_after_a_broken_record(real: Served) -> None:
    """Nothing is chained to a record that cannot be read."""
    built(real, *CLAIMED)
    real.push(KEY, b"garbage")
    for call in (intent(NOW, A2), outcome(A2), note(PLAN)):
        assert isinstance(real.run(KEY, call), ContractError)
    assert len(real.log(KEY)) == 2


# -- servers in trouble ----------------------------------------------------------------------------


def test_full_memory(real: Served) -> None:
    """At maxmemory no attempt is opened, but what became known is still taken."""
    built(real, *OPENED)
    real.client.config_set("maxmemory", "1")
    try:
        refused = real.run(KEY, intent(NOW, A3, OTHER))
        assert isinstance(refused, Unavailable)
        assert str(refused) == "Redis answers OOM: it is full (maxmemory)"
        log = built(real, note(PLAN), recover(NOW, A2), outcome(A2))
        assert [e.split(b" ")[0] for e in log[1:]] == [b"intent", b"plan", b"unknown", b"success"]
        assert real.run(KEY, ack(4, chain_of(log[4]), ttl=60)) == [b"OK", 1]
        assert real.run("nl:{gone}", outcome(A1)) == [
            b"OK", 2, ROOT, chain_of(real.log("nl:{gone}")[2]), 2,
        ]  # fmt: skip
    finally:
        real.client.config_set("maxmemory", "0")
    built(real, intent(NOW, A3, OTHER))


def test_lua_of_the_server_can_print_every_body(real: Served) -> None:
    """Each record's map is within what the server's own Lua decodes and prints exactly."""
    built(real, claim(NOW, PLAN, seed(A1, FAILED)), intent(NOW, A2), outcome(A2), note(SKIP))
    text = """
        local out = {}
        for i, e in ipairs(redis.call('LRANGE', KEYS[1], 1, -1)) do
          local _, stop = string.find(e, '^%S+ %S+ %S+ %x+ %x+ ')
          out[i] = cjson.encode(cmsgpack.unpack(string.sub(e, stop + 1)))
        end
        return out
    """
    printed = [json.loads(line) for line in real.client.eval(text, 1, KEY)]
    records = snapshot_of(real.log(KEY)).records
    assert printed == [{"v": 1, **r.body} for r in records]
