"""Ten thousand wait at once: what is equal in them is held once, and what is empty takes no space."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from types import FunctionType
from typing import Any

from syncer.ledger.codec import encode_element, stored
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import (
    NO_IDS,
    Attempt,
    AttemptState,
    Epoch,
    FailureClass,
    drop,
    make_attempt_id,
    without,
)
from syncer.model.record import Header, Plan, attempt_record, intent_record, plan_record
from syncer.model.rendering import render_status
from syncer.model.resource import LogMark, RetryPolicy, Status, parse_object
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, merge
from syncer.sync.cache import Entry

EPOCH = Epoch("0.7")
NOW = 1_767_225_600_000
CHANNEL = "slack:ops"
POLICY = {
    "maxAttempts": 7, "initialBackoffSeconds": 11, "backoffMultiplier": 3, "maxBackoffSeconds": 99,
}  # fmt: skip


def waiting(n: int) -> Entry:
    """The n-th notification, held after its first attempt has failed: nothing of it is a literal."""
    uid, identity = f"uid-{n}", make_attempt_id(EPOCH, n)
    object_: dict[str, Any] = {
        "metadata": {"uid": uid, "namespace": "n", "name": f"w-{n}", "resourceVersion": f"10{n}"},
        "spec": {"type": "Simple", "priority": "High", "subject": f"s {n}", "retryPolicy": POLICY},
    }
    entry = Entry(parse_object(object_))
    hash_ = entry.request.content_hash()
    plan = Plan((CHANNEL,), "RoutingRuleMatched", "Matched rules [ops] → slack:ops", NOW, hash_)
    entry.executing[identity] = CHANNEL
    entry.never_sent |= {identity}
    failed = Attempt(
        identity, CHANNEL, AttemptState.FAILED, NOW, NOW + n, NOW + 9000 + n, n,
        FailureClass.TRANSIENT, "slack answered 503", 503,
    )  # fmt: skip
    view, elements = LogView(), [Header(entry.request.key, EPOCH).encode()]
    for record in (
        plan_record(plan), intent_record(identity, CHANNEL, at=NOW, by="r"), attempt_record(failed),
    ):  # fmt: skip
        elements.append(encode_element(record, view.chain))
        view.apply(stored(record, view.chain, view.position + 1))
    for record in snapshot_of(elements).records:
        entry.view.apply(record)
    drop(entry.executing, identity)
    entry.never_sent = without(entry.never_sent, identity)
    mark = LogMark(entry.view.position, EPOCH, "store")
    status = merge(
        Status(), entry.view, Facts(1, RetryPolicy(7, 11, 3, 99)), now=NOW, mark=mark
    ).status
    # As the API server sends it: none of its texts is one that this process has made.
    entry.observe(
        parse_object(json.loads(json.dumps({**object_, "status": render_status(status)})))
    )
    return entry


def held(thing: object) -> Iterator[object]:
    """What a value holds, down to its texts and numbers."""
    if isinstance(thing, type | FunctionType | Enum) or thing is None:
        return
    yield thing
    if isinstance(thing, dict):
        inner: list[object] = [*thing.keys(), *thing.values()]
    elif isinstance(thing, tuple | list | set | frozenset):
        inner = list(thing)
    else:
        inner = [
            getattr(thing, n) for n in getattr(type(thing), "__slots__", ()) if hasattr(thing, n)
        ]
    for value in inner:
        yield from held(value)


def test_what_is_equal_is_held_once() -> None:
    """Texts, policies and sets that are equal in two notifications are the same objects."""
    first, second = (
        {
            thing: thing
            for thing in held(waiting(n))
            if isinstance(thing, str | frozenset | RetryPolicy)
        }
        for n in (1, 2)
    )
    equal = [(thing, second[thing]) for thing in first if thing in second]
    assert len(equal) > 15
    assert [mine for mine, other in equal if mine is not other] == []


def test_what_is_empty_takes_no_space() -> None:
    """Nothing is left of the table of a dictionary, or of a set, through which an attempt has gone."""
    empty = [t for t in held(waiting(3)) if isinstance(t, dict | set | frozenset) and not t]
    assert len(empty) > 8
    for thing in empty:
        assert thing is NO_IDS or sys.getsizeof(thing) == sys.getsizeof({}), thing
