"""
An operator's mistake: the wrong secret of a receiver, under load, mended after a while.

The receiver answers 403 to everything, as Slack does to a URL that it does not know. That takes seconds, or
with `REFUSED_MINUTES=10` as long as somebody needs to notice.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

import pytest

from tests.e2e.harness import CHANNEL, OK, Stage, Step, until

#: Seconds for which the secret is wrong, and within which what waits is tried once it is mended.
REFUSED: Final = 60 * float(os.environ.get("REFUSED_MINUTES", "0.2"))
WITHIN: Final = 40 if REFUSED < 60 else 340

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120 + REFUSED + WITHIN),
]

MANY = 40
AT_ONCE = 4
WRONG = Step(403, "invalid_token")


async def many(here: Stage) -> list[str]:
    """Create many notifications at once, and one a second for as long as the secret is wrong."""
    uids = [await here.create(f"n-{n}") for n in range(MANY)]
    began = time.monotonic()
    while (left := REFUSED - (time.monotonic() - began)) > 0:
        await asyncio.sleep(min(1.0, left))
        uids.append(await here.create(f"n-{len(uids)}"))
    return uids


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
    # Those that were under way when the first was refused, then one each five seconds.
    since = time.monotonic() - here.receiver.book[0].at
    assert 1 <= len(here.receiver.book) <= AT_ONCE + 1 + since / 5
    assert "Failed" not in map(here.watcher.phase, uids)
    code, text = await process.ask("/readyz")
    assert code == 200
    assert f"[!] receivers: notifications wait: {CHANNEL} reject" in text
    here.receiver.default = (OK,)
    await here.wait_sent(uids, within=WITHIN)
    assert sum(call.processed for call in here.receiver.book) == len(uids)

    async def over() -> bool:
        return "[!] receivers" not in (await process.ask("/readyz"))[1]

    await until(over, process.tail)
    shown = [e for u in uids for e in here.watcher.last(u).attempts]
    assert [e["status"] for e in shown].count("success") == len(uids)
    assert len(shown) == len(here.receiver.book)
    await here.sound(uids)
