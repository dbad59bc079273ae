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


REFUSED = "Redis refuses WAIT to the user; give it the rights of docs/install.md"
#: A replica's line of a later server, and one that tells no offset.
ODD = {"slave0": "ip=10.0.0.1,port=6379,state=online,offset=5,lag=0,label=a=b,odd"}
MUTE = {"slave0": "ip=10.0.0.1,port=6379,state=online"}
#: What INFO tells in turn, or that a write was not confirmed (None), and what is wrong from then on.
COURSES: dict[str, list[tuple[dict[str, str] | None, str | None]]] = {
    "where there never was any there is nothing to lose": [(info(), None)],
    "one that was seen is missed, until it is back": [
        (info("online@100"), None), (info(), LONELY), (info("online@100"), None),
    ],
    "whatever process answers by then": [(info("online@100"), None), (info(run="b"), LONELY)],
    "one that the server demands is missed from the start": [
        (info(min_slaves_good_slaves="0"), LONELY),
    ],
    "one that is only loading has not the stream yet": [(info("wait_bgsave@0"), LONELY)],
    "one that lags holds until it has the offset that is first told afterwards": [
        (info("online@100"), None), (None, BEHIND), (info("online@120", offset=150), BEHIND),
        (info("online@140", offset=900), BEHIND),
        (info("online@110", "online@150", offset=990), None),
        (info("online@150", offset=2000), None),
    ],
    "one that keeps up does not help who may not ask": [
        (info("online@100", wait_refused="1"), REFUSED), (None, REFUSED),
        (info("online@900", offset=900, wait_refused="1"), REFUSED),
        (info(wait_refused="1"), LONELY), (info("online@900"), None),
    ],
    "an offset that is not told is less than any": [
        (info("online@1"), None), (None, BEHIND), (info(offset=1) | MUTE, BEHIND),
    ],
    "a line is read as far as it is understood": [(info(offset=1) | ODD, None)],
    "without a replica not even the first byte is confirmed": [
        (info("online@0", offset=0), None), (None, BEHIND), (info(offset=1), LONELY),
        (info("online@0", offset=1), BEHIND), (info("online@1", offset=1), None),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", COURSES)
def test_a_course_of_things(case: str) -> None:
    """A replica is expected once it was seen or is demanded, and has to have what was written."""
    replicas = Replicas()
    for told, problem in COURSES[case]:
        if told is None:
            replicas.unconfirmed("a")
        else:
            replicas.observe(told)
        assert replicas.problem([told["run_id"] if told else "a"]) == problem
    assert replicas.expected is (case != "where there never was any there is nothing to lose")


def test_one_primary_without_a_replica_is_named_among_several() -> None:
    """It does not lower what is asked of the others, and one that left the store does not count."""
    replicas = Replicas()
    for told in (info("online@1", run="a"), info(run="b"), info("online@1", run="c")):
        replicas.observe(told)
    text = replicas.problem(["a", "b", "c"])
    assert text == "1 of 3 primaries have no replica to confirm an attempt; bring one back"
    assert replicas.problem(["a", "c"]) is None
