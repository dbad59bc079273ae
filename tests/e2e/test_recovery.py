"""
A start among many: what is finished stays untouched, what is due is sent, what waits goes on waiting.

The notifications are those of the benchmark `recovery`, only fewer: they were never seen by this
controller, so all that it knows of them is what a start reads.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.benchmarks.recovery import due_at_start, fill, put_in
from tests.e2e.harness import Stage, until
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.new_processes("about a start"),
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

N: Final = 200


async def test_start_sends_what_is_due_and_touches_nothing_else(here: Stage) -> None:
    """Each due attempt is made once, the tenth; every other object and log stays as it was."""
    await fill(here, N, together=1)
    await until(lambda: put_in(here, N), "the API server has taken them in")
    await until(lambda: len(here.watcher.versions) == N, "the watch has them")
    before = {u: v[-1] for u, v in here.watcher.versions.items()}
    waits = {u for u, v in before.items() if v.phase != "Sent"}
    assert len(waits) == 2 * due_at_start(N)
    logs = await _raw(here, list(before))
    process = here.notifier().start()
    await until(
        lambda: bool(process.lines("start-up reconciliation done")),
        lambda: f"all is looked at; {process.tail()}",
        within=40,
    )  # fmt: skip
    (line,) = process.lines("start-up reconciliation done")
    assert (line["logs"], line["seconds"] > 0) == (N, True)
    # A due one may be finished before the sweep of the finished ones begins.
    assert N - len(waits) <= line["finished"] <= N - len(waits) + due_at_start(N)

    def sent() -> set[str]:
        return {u for u in waits if here.watcher.phase(u) == "Sent"}

    await until(lambda: len(sent()) == due_at_start(N), "the due ones are sent")
    await here.wait_acked(sorted(sent()))
    assert len(here.receiver.book) == due_at_start(N)
    after = await _raw(here, list(before))
    for uid, version in before.items():
        if uid in sent():
            # Plan, nine failures, one success, each attempt two records; and the header.
            assert len(after[uid]) == len(logs[uid]) + 2
            continue
        assert here.watcher.versions[uid] == [version], f"{version.name} was written"
        # The claim of an unfinished one raises the fence in its header, and no more.
        assert after[uid][1:] == logs[uid][1:]
        assert (after[uid][0] == logs[uid][0]) == (uid not in waits)
    assert await process.metric("notification_ledger_claims_total", row="agree") == len(waits)
    verified = await run_beside(
        ("syncer", "verify", "-n", here.namespace, "--config", str(process._config),
         "--kubeconfig", str(here.plane.controller_kubeconfig)),
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout


async def _raw(here: Stage, uids: list[str]) -> dict[str, list[bytes]]:
    pipeline = here.redis.pipeline(transaction=False)
    for uid in uids:
        pipeline.lrange(f"{here.prefix}:{{{uid}}}", 0, -1)
    found: list[Any] = await pipeline.execute()
    return dict(zip(uids, found, strict=True))
