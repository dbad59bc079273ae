"""
Two versions of the product side by side, the newer of which writes records that the older cannot read.

That is the hard case of an upgrade that is rolled back. The older one must neither lose nor repeat
what the newer one recorded: it leaves those notifications alone, says so, and serves all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import pytest

from syncer.ledger import codec
from syncer.model.conditions import QUARANTINED
from tests.e2e import newer
from tests.e2e.harness import BUSY, OK, NotifierProcess, Stage, until

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

#: So long that the second attempt falls to whoever is there by then.
SLOW_RETRY: Final = {
    "maxAttempts": 3, "initialBackoffSeconds": 15, "backoffMultiplier": 1, "maxBackoffSeconds": 60,
}  # fmt: skip


def of_version(here: Stage, module: str) -> NotifierProcess:
    """A replica of one version; the shards are shared by two."""
    timings = {"renewDeadline": "2s", "retryPeriod": "400ms", "margin": "500ms"}
    process = here.notifier(sharding={"shards": 2, **timings})
    process.module = module
    return process


def quarantined(here: Stage, uid: str) -> bool:
    """Whether the object says that its log cannot be read."""
    return here.watcher.last(uid).condition(QUARANTINED).get("status") == "True"


async def versions(here: Stage, uids: Sequence[str]) -> set[int]:
    """Versions of the records in some logs, as the bytes say: `v` comes first in each map."""
    found: set[int] = set()
    for uid in uids:
        elements = await here.redis.lrange(f"{here.prefix}:{{{uid}}}", 1, -1)
        for element in cast("list[bytes]", elements):
            found.add(element.split(b" ", 5)[5].partition(b"\xa1v")[2][0])
    return found


@pytest.mark.stage(sampled=True)
async def test_an_older_version_leaves_alone_what_it_cannot_read(
    here: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or repeated: not beside each other, not after a rollback, not afterwards."""
    # The auditor's eyes, which read both; the two programs are processes of their own.
    monkeypatch.setattr(codec, "READABLE_VERSIONS", newer.READS)
    old, new = of_version(here, "notifier"), of_version(here, "tests.e2e.newer")
    await old.start().wait_ready()
    await new.start().wait_ready()
    await until(lambda: bool(new.lines("shard acquired")), "the newer one works, too")
    beside = [await here.create(f"beside-{n}") for n in range(24)]
    await here.wait_sent(beside)
    assert await versions(here, beside) == {1, 2}, "both have recorded something"

    # Only the newer one is there now, and leaves a first attempt behind each time.
    old.sigterm()
    assert await old.wait_exit() == 0
    await new.wait_metric("shards_owned", 2)
    names = [f"behind-{n}" for n in range(4)]
    for name in names:
        here.script(name, BUSY, OK)
    behind = [await here.create(name, retryPolicy=SLOW_RETRY) for name in names]
    await until(
        lambda: all(len(here.receiver.calls(n)) == 1 for n in names), "one call each", within=20
    )
    await here.wait_acked(behind)

    # The rollback: the older one finds records that it does not know.
    new.sigterm()
    assert await new.wait_exit() == 0
    await old.start().wait_ready()
    other = await here.create("other")
    await here.wait_phase(other)
    await until(
        lambda: all(quarantined(here, uid) for uid in behind), "the objects say so", within=20
    )
    assert all(len(here.receiver.calls(n)) == 1 for n in names), "nothing is sent for them"

    # And the next upgrade: what was held goes on where it was.
    old.sigterm()
    assert await old.wait_exit() == 0
    new.start()
    await here.wait_sent(behind)
    await until(
        lambda: not any(quarantined(here, uid) for uid in behind), "they are free", within=20
    )
    await here.sound([*beside, *behind, other])
    assert [len(here.receiver.calls(n)) for n in names] == [2] * len(names)
