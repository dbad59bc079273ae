"""
The number of shards changes, as it must not and as it may, on real parts.

Two replicas that count shards differently would guard one notification by two Leases. So a replica
with another number than the installation's does not start; one that is running when the number is
changed under it finishes what it is sending, gives its shards up and leaves; and whoever starts with
the new number takes everything over.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.e2e.harness import BUSY, OK, QUICK, NotifierProcess, Stage, Step, until

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

NUMBER: Final = "notification-ledger/shards"
#: Long enough that a send is in flight when the number changes.
SLOW: Final = Step(delay=1.0)


def counting(here: Stage, shards: int) -> NotifierProcess:
    """A replica that believes in so many shards."""
    return here.notifier(sharding={"shards": shards, "renewDeadline": "2s"})


def refusals(process: NotifierProcess) -> list[str]:
    """Why it ended each time."""
    return [str(line["error"]) for line in process.lines("the configuration cannot be used")]


async def map_lease(here: Stage) -> dict[str, str]:
    """Annotations of the Lease on which all replicas agree."""
    answer = await here.api.ask("GET", f"{here.api.leases}/notification-ledger-map")
    assert answer.code == 200, answer.body
    return dict(answer.body["metadata"].get("annotations") or {})


async def write_map(here: Stage, value: str) -> None:
    """Write the annotation that an operator writes."""
    answer = await here.api.ask(
        "PATCH",
        f"{here.api.leases}/notification-ledger-map",
        {"metadata": {"annotations": {NUMBER: value}}},
    )
    assert answer.code == 200, answer.body


@pytest.mark.stage(sampled=True)
async def test_another_number_of_shards(here: Stage) -> None:
    """Refused while the old one holds; afterwards nothing is lost, repeated or left behind."""
    names = [f"n-{n}" for n in range(12)]
    for n, name in enumerate(names):
        # Every second one fails first, so that attempts are due after the change, too.
        here.script(name, *([BUSY, SLOW] if n % 2 else [SLOW]), OK)
    four = counting(here, 4)
    await four.start().wait_ready()
    assert (await map_lease(here))[NUMBER] == "4-fnv1a"
    uids = [await here.create(name, retryPolicy=QUICK) for name in names]
    await until(lambda: len(here.receiver.book) >= 3, "sends are in flight")

    two = counting(here, 2)
    two.start()
    assert await two.wait_exit() == 1
    assert "the Lease notification-ledger-map says 4" in refusals(two)[0]
    assert f"{NUMBER}=2-fnv1a" in refusals(two)[0], "the refusal names the command"
    assert four.running

    await write_map(here, "2-fnv1a")
    assert await four.wait_exit() == 1
    (drained,) = four.lines("drained")
    assert (drained["unrecorded"], drained["unsynced"], drained["released"]) == (0, 0, 4)
    assert "the Lease notification-ledger-map says 2-fnv1a" in refusals(four)[0]

    two.start()
    await here.wait_sent(uids)
    findings = await here.sound(uids)
    assert findings.calls == sum(2 if n % 2 else 1 for n in range(len(names)))

    four.start()
    assert await four.wait_exit() == 1
    two.sigterm()
    assert await two.wait_exit() == 0
