"""
An operator's mistake: the wrong secret of a receiver, under load, mended after a while.

The receiver answers 403 to everything, as Slack does to a URL that it does not know.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.harness import CHANNEL, OK, Stage, Step, until

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

MANY = 40
AT_ONCE = 4
WRONG = Step(403, "invalid_token")


async def many(here: Stage) -> list[str]:
    """Create the notifications."""
    return [await here.create(f"n-{n}") for n in range(MANY)]


@pytest.mark.stage(sampled=True)
async def test_all_wait_for_one_call_and_go_once_mended(here: Stage) -> None:
    """None fails, the receiver is asked by one call at a time, and each arrives once."""
    here.receiver.default = (WRONG,)
    process = (
        await here.notifier(delivery={"onOperatorError": "hold", "perReceiver": AT_ONCE})
        .start()
        .wait_ready()
    )
    uids = await many(here)
    await asyncio.sleep(12)
    refused = len(here.receiver.book)
    # Those that were under way when the first was refused, then one after 5 s and one after 10 s.
    assert 1 <= refused <= AT_ONCE + 3
    assert not any(v.phase == "Failed" for u in uids if (v := here.watcher.last(u)))
    code, text = await process.ask("/readyz")
    assert code == 200
    assert f"[!] receivers: notifications wait: {CHANNEL} refuse" in text
    here.receiver.default = (OK,)
    for uid in uids:
        await here.wait_phase(uid, within=40)
    assert len(here.receiver.book) == refused + MANY
    _, text = await process.ask("/readyz")
    assert "[!] receivers" not in text
    shown = [e for u in uids if (v := here.watcher.last(u)) for e in v.attempts]
    assert [e["status"] for e in shown].count("success") == MANY
    assert len(shown) == refused + MANY
    await here.wait_acked(uids)
    await here.sound()


@pytest.mark.stage(sampled=True)
async def test_by_default_it_fails_as_upstream(here: Stage) -> None:
    """One attempt, final."""
    here.script("n", WRONG)
    process = here.notifier().start()
    uid = await here.create("n")
    await here.wait_phase(uid, "Failed")
    assert len(here.receiver.calls("n")) == 1
    await until(lambda: bool(here.watcher.last(uid)), process.tail, within=5)
    await here.wait_acked([uid])
