"""
A renewal whose answer was lost, on a real API server: what is looked at meanwhile is not forgotten.

With the default timings a renewal that is written and not answered is found only when the next one meets a
conflict and the Lease is read back. If that takes until behind the deadline, the term is not valid for a
moment, and then is again, without another one beginning.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from syncer.kube.lease_term import LeaseTerm, LeaseTimings
from syncer.runtime.clock import monotonic_clock
from tests.fakes.proxy import Delay, Fault, Proxy, SwallowReply
from tests.integration.playing import connect, playing
from tests.unit.notifier.reconciler.resyncing import World

if TYPE_CHECKING:
    from tests.servers.controlplane import ControlPlane

pytestmark = pytest.mark.timeout(300)

#: The defaults: 5 s, 2 s, 3 s, and the longest send.
TIMINGS: Final = LeaseTimings()
#: What a renewal of a session holds, and nothing else.
RENEWS: Final = f'"leaseDurationSeconds":{TIMINGS.duration_seconds},"renewTime"'.encode()
#: Turns in which the moment may come about: requests must be slow, and not too slow.
TRIES: Final = 20


class RealTime(World):
    """The parts of a controller, on the clock of the machine."""

    @property
    def now(self) -> float:
        """Seconds of the boot clock."""
        return monotonic_clock()

    @now.setter
    def now(self, _: float) -> None:
        """The machine's own."""


async def _lapse(proxy: Proxy, term: LeaseTerm) -> bool:
    """Have a renewal's answer lost, and wait for the moment at which the term is not valid."""
    proxy.faults[:] = [
        Fault(SwallowReply(), match=RENEWS),
        Fault(Delay(0.35), match=b"PATCH /apis/coordination"),
        Fault(Delay(0.35), match=b"GET /apis/coordination"),
    ]
    while not term.ended:
        if not term.valid(monotonic_clock()):
            return True
        if (
            not proxy.faults[-1].times
            and monotonic_clock() < term.session.renewed + TIMINGS.retry_period
        ):
            return False
        await asyncio.sleep(0.002)
    return False


async def test_a_look_during_the_moment_is_made_up_for(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Only the resync brings the look that fell into it; the epoch stays what it was."""
    server, certificate = urlsplit(control_plane.server), control_plane.ca_file
    assert server.port is not None
    async with Proxy(
        "127.0.0.1", server.port, certificate=certificate, key=certificate.with_suffix(".key")
    ) as proxy:
        kubeconfig = tmp_path / "kubeconfig"
        text = control_plane.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(server.netloc, f"127.0.0.1:{proxy.port}"))
        world = RealTime()
        await world.log.client.open("one")
        workers = [asyncio.create_task(world.controller.reconciler.work()) for _ in range(2)]
        try:
            async with (
                await connect(kubeconfig) as client,
                playing(client, namespace, "me", TIMINGS) as me,
            ):
                for n in range(TRIES):
                    async with asyncio.timeout(60):
                        while me.term is None:
                            await asyncio.sleep(0.01)
                    term = me.term
                    world.shards.take(0, term)
                    if not await _lapse(proxy, term):
                        continue
                    name = f"n{n}"
                    world.create(name)
                    await world.rest()
                    while not term.ended and not term.valid(monotonic_clock()):
                        await asyncio.sleep(0.002)
                    if term.ended or name in world.receiver.got:
                        continue
                    await world.resync.round()
                    await world.rest()
                    # Those of earlier turns may have been sent as well, by a look that came in time.
                    assert name in world.receiver.got
                    assert set(Counter(world.receiver.got).values()) == {1}
                    assert me.term is term
                    return
            pytest.fail(f"the moment has not come about in {TRIES} turns")
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
