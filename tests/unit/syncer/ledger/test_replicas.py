"""Whether replicas can confirm a write: what INFO tells, and what it does not make forgotten."""

from __future__ import annotations

import pytest

from syncer.ledger.replicas import Replicas

LONELY = "the primary has no replica to confirm an attempt; bring one back"
BEHIND = "no replica has confirmed the newest attempts in time; look at its lag"


def info(*replicas: str, run: str = "a", offset: int = 100, **more: str) -> dict[str, str]:
    """INFO of a primary with replicas, each `<state>@<offset>`."""
    told = {"run_id": run, "master_repl_offset": str(offset), **more}
    for n, replica in enumerate(replicas):
        state, _, at = replica.partition("@")
        told[f"slave{n}"] = f"ip=10.0.0.{n},port=6379,state={state},offset={at},lag=0"
    return told


@pytest.fixture
def replicas() -> Replicas:
    """What is known of replicas: nothing yet."""
    return Replicas()


def test_none_is_asked_of_a_server_that_never_had_any(replicas: Replicas) -> None:
    """Where there is nothing to fail over to, nothing is lost by it."""
    replicas.observe(info())
    assert not replicas.expected
    assert replicas.problem(["a"]) is None


def test_one_that_was_seen_is_missed(replicas: Replicas) -> None:
    """It is not taken for one that never was, whatever process answers by then."""
    replicas.observe(info("online@100"))
    assert replicas.expected
    assert replicas.problem(["a"]) is None
    replicas.observe(info())
    assert replicas.problem(["a"]) == LONELY
    replicas.observe(info("online@100"))
    assert replicas.problem(["a"]) is None
    replicas.observe(info(run="b"))
    assert replicas.problem(["b"]) == LONELY


def test_one_that_the_server_demands_is_missed_from_the_start(replicas: Replicas) -> None:
    """A controller that starts while the replica is away knows of it by the server's own setting."""
    replicas.observe(info(min_slaves_good_slaves="0"))
    assert replicas.problem(["a"]) == LONELY


def test_one_that_is_only_loading_confirms_nothing(replicas: Replicas) -> None:
    """It is connected, and has not the stream yet."""
    replicas.observe(info("wait_bgsave@0"))
    assert replicas.problem(["a"]) == LONELY


def test_one_that_lags_holds_until_it_has_what_was_written(replicas: Replicas) -> None:
    """The offset that counts is the first that the primary tells afterwards."""
    replicas.observe(info("online@100"))
    replicas.unconfirmed("a")
    assert replicas.problem(["a"]) == BEHIND
    replicas.observe(info("online@120", offset=150))
    assert replicas.problem(["a"]) == BEHIND
    replicas.observe(info("online@140", offset=900))
    assert replicas.problem(["a"]) == BEHIND
    replicas.observe(info("online@110", "online@150", offset=990))
    assert replicas.problem(["a"]) is None
    replicas.observe(info("online@150", offset=2000))
    assert replicas.problem(["a"]) is None


def test_who_may_not_ask_for_confirmations_gets_none(replicas: Replicas) -> None:
    """A replica that keeps up does not help; that it is missing is the first thing to mend."""
    replicas.observe(info("online@100", wait_refused="1"))
    replicas.unconfirmed("a")
    refused = "Redis refuses WAIT to the user; give it the rights of docs/install.md"
    assert replicas.problem(["a"]) == refused
    replicas.observe(info("online@900", offset=900, wait_refused="1"))
    assert replicas.problem(["a"]) == refused
    replicas.observe(info(wait_refused="1"))
    assert replicas.problem(["a"]) == LONELY
    replicas.observe(info("online@900"))
    assert replicas.problem(["a"]) is None


def test_one_primary_without_a_replica_is_named_among_several(replicas: Replicas) -> None:
    """It does not lower what is asked of the others, and one that left the store does not count."""
    replicas.observe(info("online@1", run="a"))
    replicas.observe(info(run="b"))
    replicas.observe(info("online@1", run="c"))
    text = replicas.problem(["a", "b", "c"])
    assert text == "1 of 3 primaries have no replica to confirm an attempt; bring one back"
    assert replicas.problem(["a", "c"]) is None


def test_one_that_tells_no_offset_has_not_caught_up(replicas: Replicas) -> None:
    """What is not told is less than anything that was written."""
    replicas.observe(info("online@1"))
    replicas.unconfirmed("a")
    told = info(offset=1) | {"slave0": "ip=10.0.0.1,port=6379,state=online"}
    replicas.observe(told)
    assert replicas.problem(["a"]) == BEHIND


def test_a_field_may_hold_what_parts_names_from_values(replicas: Replicas) -> None:
    """A replica's line of a later server is read as far as it is understood."""
    line = "ip=10.0.0.1,port=6379,state=online,offset=5,lag=0,label=a=b,odd"
    replicas.observe(info(offset=1) | {"slave0": line})
    assert replicas.problem(["a"]) is None


def test_a_primary_without_a_replica_confirms_nothing(replicas: Replicas) -> None:
    """Not even the first byte of its stream; the replica that comes back has to have it."""
    replicas.observe(info("online@0", offset=0))
    replicas.unconfirmed("a")
    replicas.observe(info(offset=1))
    replicas.observe(info("online@0", offset=1))
    assert replicas.problem(["a"]) == BEHIND
    replicas.observe(info("online@1", offset=1))
    assert replicas.problem(["a"]) is None
