"""From a real Alertmanager to a page; two that are a cluster are in `test_alertmanager_pair.py`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from syncer.model.resource import Json
from tests.e2e.alertmanagers import (
    WRONG_KEY,
    Paging,
    alert,
    grouped,
    paging,
    to_gateway,
    webhook,
)
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.new_processes("one test of gateway and controller"),
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]


async def test_an_incident_of_alertmanagers_own_integration_is_joined(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """With `dedupKey: alertmanager` both open one and the same, and close it."""

    def both(made: Paging, _n: int) -> Json:
        url = f"http://127.0.0.1:{made.outside.port}/v2/enqueue"
        receiver = webhook("both", made.gateway.url("am"))
        receiver["pagerduty_configs"] = [{"routing_key": "R" * 32, "url": url}]
        return {"route": grouped("both"), "receivers": [receiver]}

    async with paging(control_plane, redis_url, tmp_path, both, dedupKey="alertmanager") as made:
        outside, began = made.outside, time.time()
        await made.post(alert("Disk", "a", began))
        await made.wait(lambda: len(outside.calls) == 2)
        assert list(outside.opened.values()) == [1], "the second trigger opens nothing"
        await made.post(alert("Disk", "a", began, time.time()))
        await made.wait(lambda: len(outside.calls) == 4)
        assert (outside.open, list(outside.opened.values())) == (set(), [1])


async def test_every_incident_that_ends_is_closed_where_it_was_opened(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Labels drift within a group, and a receiver refuses while an alert fires, ends, and fires again.

    What pages is critical alone, so the end of the group, a warning by then, has no route to the pager.
    """
    critical = {"receiver": "pager", "match": {"priority": "Critical"}}
    now = time.time()

    def warning(name: str, ends: float | None = None) -> Json:
        one = alert(name, "w", now, ends)
        return one | {"labels": one["labels"] | {"severity": "warning"}}

    async with paging(
        control_plane, redis_url, tmp_path, to_gateway,
        sources={"am": {"attempts": 10, "seconds": 2}},
        route={"receiver": "console", "routes": [critical]},
    ) as made:  # fmt: skip
        outside = made.outside

        # It fires, a lesser one joins, it ends, and the lesser one ends.
        await made.post(alert("Drift", "c", now))
        await made.wait(lambda: len(outside.open) == 1)
        await made.post(warning("Drift"))
        await made.wait_objects(2)
        await made.post(alert("Drift", "c", now, time.time()))
        await made.wait_objects(3)
        await made.post(warning("Drift", time.time()))
        await made.wait(lambda: not outside.open)
        assert list(outside.opened.values()) == [1]

        # The receiver refuses; meanwhile it fires, ends, fires again, and ends.
        outside.refusing = 503
        for n in (0, 1):
            began = time.time()
            await made.post(alert("Flap", "f", began))
            await made.wait_objects(5 + 2 * n)
            if n == 0:
                await made.wait(lambda: any("Flap" in c[0] for c in outside.calls))
            await made.post(alert("Flap", "f", began, time.time()))
            await made.wait_objects(6 + 2 * n)
        refused = len(outside.calls)
        outside.refusing = 0
        await made.wait(lambda: any("[RESOLVED:1] Flap" in c[0] for c in outside.calls[refused:]))
        await made.wait(made.over)
        assert [c for c in outside.calls[refused:] if c[0].startswith("[FIRING")] == []
        assert outside.open == set()

        # The critical one ends while the receiver refuses; the lesser one, which goes on, goes elsewhere.
        outside.refusing = 503
        began = time.time()
        await made.post(alert("Left", "c", began), warning("Left"))
        await made.wait_objects(9)
        await made.wait(lambda: any("Left" in c[0] for c in outside.calls))
        await made.post(alert("Left", "c", began, time.time()))
        await made.wait_objects(10)
        outside.refusing = 0
        await made.wait(lambda: len(outside.open) == 1)
        await made.post(warning("Left", time.time()))
        await made.wait(lambda: not outside.open)

        # It goes on: what fires now is an incident again.
        await made.post(alert("Flap", "f", time.time()))
        await made.wait(lambda: len(outside.open) == 1)


async def test_a_wrong_key_that_is_mended_tells_what_is_true_by_then(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Groups fire, end, and fire again while PagerDuty refuses the key; the replica is killed meanwhile.

    Each is told once, in its last state, and nothing that was superseded holds that up.
    """
    names = [f"G{n}" for n in range(8)]
    async with paging(
        control_plane, redis_url, tmp_path, to_gateway,
        settings={"delivery": {"onOperatorError": "hold"}},
    ) as made:  # fmt: skip
        outside, began = made.outside, time.time()
        await made.post(*(alert(name, "a", began) for name in names[:2]))
        await made.wait(lambda: len(outside.open) == 2)
        outside.refusing = WRONG_KEY
        told = 2
        for n in range(7):
            firing = n % 2 == 0
            # Every second one goes on at the end.
            changed = names[:: 2 if n == 6 else 1]
            began = time.time() if firing else began
            await made.post(
                *(alert(name, "a", began, None if firing else time.time()) for name in changed)
            )
            # The first two fire already.
            told += len(changed) if n else len(names) - 2
            await made.wait_objects(told)
            if n == 3:
                await asyncio.to_thread(made.notifier.kill)
                made.notifier.start()
                await made.notifier.wait_ready()
        refused = len(outside.calls)
        outside.refusing = 0
        await made.wait(lambda: {outside.groups[k] for k in outside.open} == set(names[::2]))

        await made.wait(made.over)
        counted = Counter(summary for summary, _ in outside.calls[refused:])
        assert set(counted.values()) == {1}, counted
        assert set(outside.opened.values()) == {1}


async def test_what_a_group_has_too_many_of_neither_closes_nor_opens_wrongly(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    A payload cut by `max_alerts` ends nothing, and 101 alerts are 101 incidents, the last one the group's.

    Alertmanager cuts before it computes the status: it calls a group resolved whose second alert fires.
    """

    def config(made: Paging, _n: int) -> Json:
        each = {"receiver": "each", "matchers": ["alertname = Many"]}
        cut = webhook("cut", made.gateway.url("cut"))
        cut["webhook_configs"][0]["max_alerts"] = 1
        receivers = [cut, webhook("each", made.gateway.url("each"))]
        return {"route": grouped("cut", routes=[each]), "receivers": receivers}

    async with paging(
        control_plane, redis_url, tmp_path, config, sources={"cut": {}, "each": {"per": "alert"}}
    ) as made:
        outside, now = made.outside, time.time()

        async def opened(count: int, calls: int) -> None:
            await made.wait(lambda: (len(outside.open), len(outside.calls)) == (count, calls))

        # Alertmanager flushes whom it has so far: the oldest keep their places in the flush with all.
        began = [now - 1 + n / 1000 for n in range(101)]
        many = [alert("Many", f"i{n:03}", at) for n, at in enumerate(began)]
        await made.post(alert("Cut", "a", now), alert("Cut", "b", now))
        await opened(1, 1)
        await made.post(alert("Cut", "a", now, time.time()))
        await opened(1, 2)
        assert outside.calls[1][0].startswith("[FIRING] Cut"), "it is not said how many"
        await made.post(alert("Cut", "b", now, time.time()))
        await opened(0, 3)

        await made.post(*many)
        await opened(101, 104)
        # Who was the rest of the group becomes an incident of its own, and the rest is over.
        first = alert("Many", "i000", began[0], time.time())
        await made.post(first)
        await opened(100, 107)
        # What has ended is repeated, as Prometheus does, and makes the group as large as it was.
        over = (alert("Many", f"i{n:03}", began[n], time.time()) for n in range(1, 101))
        await made.post(first, *over)
        await made.wait(lambda: not outside.open)
        assert set(outside.opened.values()) == {1}, "none was opened twice"
