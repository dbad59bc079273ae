"""One owner at a time, whatever happens to server, network, clocks and the Lease itself."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.lease_term import LeaseTerm, LeaseTimings
from syncer.kube.leases import Lease
from syncer.model.attempt import epoch_key, make_epoch
from syncer.model.errors import ConfigError
from syncer.runtime.clock import monotonic_clock
from tests.integration.scripted import (
    Proxy,
    ScriptedServer,
    eventually,
    status,
    through,
    write_kubeconfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.servers.controlplane import ControlPlane

#: 2 s in all; the Lease says 2.
QUICK = LeaseTimings(renew_deadline=0.9, retry_period=0.3, margin=0.5, send_timeout=0.6)


@dataclass
class Player:
    """A lease that runs, and what its callbacks were told."""

    lease: Lease
    told: list[str] = field(default_factory=list)
    terms: list[LeaseTerm] = field(default_factory=list)
    ended_at: float = 0.0
    #: What `on_lost` waits for.
    hand_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_acquired(self, term: LeaseTerm) -> None:
        """Note a lease term."""
        self.told.append("acquired")
        self.terms.append(term)

    async def on_lost(self, term: LeaseTerm, reason: str) -> None:
        """Note why it was lost, and hand over."""
        assert term is self.terms[-1]
        self.ended_at = monotonic_clock()
        self.told.append(reason)
        await self.hand_over.wait()

    @property
    def valid(self) -> bool:
        """Whether it may work now."""
        return bool(self.terms) and self.terms[-1].valid(monotonic_clock())

    @property
    def sends(self) -> bool:
        """Whether it may begin the shortest send now."""
        return bool(self.terms) and self.terms[-1].may_send(monotonic_clock(), 0.0)


@asynccontextmanager
async def playing(
    client: KubeClient,
    namespace: str,
    identity: str,
    timings: LeaseTimings = QUICK,
    **more: Any,
) -> AsyncIterator[Player]:
    """Run a lease for the time of the context."""
    lease = Lease(
        client,
        namespace,
        "shard-0",
        identity,
        timings,
        **{"incarnation": 0, "clock": monotonic_clock, **more},
    )
    player = Player(lease)
    player.hand_over.set()
    task = asyncio.create_task(lease.run(player.on_acquired, player.on_lost))
    try:
        yield player
        if task.done():
            await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def connect(kubeconfig: str | Path) -> KubeClient:
    """Return a client for a kubeconfig."""
    return await KubeClient.connect(str(kubeconfig), user_agent="ledger-test/1")


def path(namespace: str) -> str:
    """Return the path of the Lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/shard-0"


async def read(client: KubeClient, namespace: str) -> dict[str, Any]:
    """Return the Lease."""
    return await client.request("GET", path(namespace), timeout=5)


async def edit(client: KubeClient, namespace: str, patch: dict[str, Any]) -> None:
    """Change the Lease as a human does: without asking for a version."""
    await client.request("PATCH", path(namespace), body=patch, content_type=MERGE_PATCH, timeout=5)


TIMINGS = LeaseTimings(renew_deadline=5, retry_period=2, margin=3, send_timeout=10)

#: sentence: (now, send timeout, over) -> (valid, may send); the lease term was renewed at 100
MOMENTS: dict[str, tuple[tuple[float, float, str], tuple[bool, bool]]] = {
    "right after a renewal everything may be sent": ((100.0, 10.0, ""), (True, True)),
    "at the deadline the longest send still fits": ((105.0, 10.0, ""), (True, True)),
    "past the deadline it does not": ((105.01, 10.0, ""), (False, False)),
    "past the deadline a short send would still fit": ((106.0, 9.0, ""), (False, True)),
    "nothing reaches into the margin": ((114.9, 0.2, ""), (False, False)),
    "a lease term that is over allows nothing": ((100.0, 0.0, "lost"), (False, False)),
    "a clock that went on in a suspend ends it": ((9999.0, 0.0, ""), (False, False)),
}


@pytest.mark.parametrize("sentence", MOMENTS)
async def test_term_allows_by_the_clock(sentence: str) -> None:
    """A lease term answers from its last renewal and the time that it is given, nothing else."""
    (now, send_timeout, over), expected = MOMENTS[sentence]
    term = LeaseTerm(make_epoch(0, "7"), 100.0, TIMINGS)
    if over:
        term.end(over)
        term.end("again")
        assert (term.ended, term.is_over.is_set()) == (over, True)
    assert (term.valid(now), term.may_send(now, send_timeout)) == expected


def test_duration_is_derived_and_rounded_up() -> None:
    """The Lease tells others at least the time that we count on."""
    assert (LeaseTimings().duration, LeaseTimings().duration_seconds) == (18.0, 18)
    assert LeaseTimings(margin=3.1).duration_seconds == 19
    for bad in ({"margin": 0.0}, {"retry_period": 5.0}, {"send_timeout": float("nan")}):
        with pytest.raises(ConfigError, match="of the lease must be"):
            LeaseTimings(**bad)


async def test_absent_lease_is_created_and_renewed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The first contender creates the Lease; the epoch is the version of that write."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a", incarnation=3) as a,
    ):
        await eventually(lambda: a.terms)
        term = a.terms[0]
        first = await read(client, namespace)
        renewed = term.renewed
        await eventually(lambda: term.renewed > renewed + 0.5)
        later = await read(client, namespace)
        spec = later["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a", 2)
        assert spec["leaseTransitions"] == 0
        micro = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
        assert micro.fullmatch(spec["renewTime"])
        assert micro.fullmatch(spec["acquireTime"])
        assert spec["renewTime"] > first["spec"]["renewTime"]
        incarnation, version = epoch_key(term.epoch)
        assert incarnation == (1, "3")
        assert version <= epoch_key(make_epoch(0, first["metadata"]["resourceVersion"]))[1]
        assert (a.lease.term, a.lease.holder, a.lease.problem) == (term, "a", None)
        assert a.told == ["acquired"]


async def test_lease_of_our_name_is_taken_at_once(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A Lease that a dead process of our name holds is taken at once, as a new epoch."""
    async with await connect(control_plane.kubeconfig) as client:
        async with playing(client, namespace, "a") as first:
            await eventually(lambda: first.valid)
        assert first.terms[0].ended == "the election was stopped"
        began = monotonic_clock()
        async with playing(client, namespace, "a") as second:
            await eventually(lambda: second.valid)
            assert monotonic_clock() - began < 1
            old, new = first.terms[0].epoch, second.terms[0].epoch
            assert epoch_key(new) > epoch_key(old)
            assert (await read(client, namespace))["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("hours", [-5, 5])
async def test_lease_of_another_is_taken_after_its_whole_duration(
    control_plane: ControlPlane, namespace: str, hours: int
) -> None:
    """A dead holder is waited out by the local clock; the times of day mean nothing."""

    def wrong() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    async with await connect(control_plane.kubeconfig) as client:
        async with playing(client, namespace, "a") as a:
            await eventually(lambda: a.valid)
        last_renewal = a.terms[0].renewed
        began = monotonic_clock()
        async with playing(client, namespace, "b", wall=wrong) as b:
            await eventually(lambda: b.valid)
            assert 1.9 <= monotonic_clock() - began < 3.0
            assert b.terms[0].renewed >= last_renewal + QUICK.duration
            assert epoch_key(b.terms[0].epoch) > epoch_key(a.terms[0].epoch)


async def test_duration_of_the_holder_counts_not_ours(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A holder with a longer duration is waited for that long."""
    slow = LeaseTimings(renew_deadline=2, retry_period=0.3, margin=1, send_timeout=1)
    async with await connect(control_plane.kubeconfig) as client:
        async with playing(client, namespace, "a", slow) as a:
            await eventually(lambda: a.valid)
        began = monotonic_clock()
        async with playing(client, namespace, "b") as b:
            await eventually(lambda: b.valid)
            assert monotonic_clock() - began >= 3.9
            assert (await read(client, namespace))["spec"]["leaseDurationSeconds"] == 2


async def test_living_holder_is_never_disturbed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A contender leaves a renewed Lease alone, and is told who holds it."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "b") as b:
            await asyncio.sleep(QUICK.duration * 1.6)
            assert (a.told, b.told, b.lease.holder) == (["acquired"], [], "a")
            assert a.valid


async def test_released_lease_is_taken_without_waiting(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A release ends the lease term, frees the Lease, and leaves no short duration behind."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "b") as b:
            await eventually(lambda: b.lease.holder == "a")
            began = monotonic_clock()
            assert await a.lease.release()
            assert (a.valid, a.sends, a.lease.term) == (False, False, None)
            await eventually(lambda: b.valid)
            assert monotonic_clock() - began < 1
            assert not b.sends or not a.sends
            spec = (await read(client, namespace))["spec"]
            assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("b", 2)
            assert a.told == ["acquired"]
            assert a.terms[0].ended == "released"
            assert not await a.lease.release()


async def test_release_survives_an_edit_and_yields_to_another_holder(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A release writes over a changed label, and never over a Lease that somebody else holds."""
    slow = LeaseTimings(renew_deadline=4, retry_period=3, margin=1, send_timeout=1)
    async with await connect(control_plane.kubeconfig) as client:
        async with playing(client, namespace, "a", slow) as a:
            await eventually(lambda: a.valid)
            await edit(client, namespace, {"metadata": {"labels": {"k": "v"}}})
            assert await a.lease.release()
            assert (await read(client, namespace))["spec"]["holderIdentity"] == ""
        async with playing(client, namespace, "a", slow) as a:
            await eventually(lambda: a.valid)
            await edit(client, namespace, {"spec": {"holderIdentity": "human"}})
            assert not await a.lease.release()
            assert (await read(client, namespace))["spec"]["holderIdentity"] == "human"


async def test_foreign_edit_of_metadata_does_not_end_the_term(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A conflict that comes from a label is read back and renewed over."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        for n in range(3):
            await edit(client, namespace, {"metadata": {"labels": {"k": str(n)}}})
            at = monotonic_clock()
            await eventually(lambda at=at: a.terms[0].renewed > at)  # type: ignore[misc]  # bound now
        assert a.told == ["acquired"]


async def test_lease_taken_by_a_human_is_given_up(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Another holder in the Lease ends the lease term at the next renewal, and is waited out."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        await edit(client, namespace, {"spec": {"holderIdentity": "human"}})
        began = monotonic_clock()
        await eventually(lambda: len(a.told) == 2)
        assert a.told[1] == "taken by human"
        assert monotonic_clock() - began < 1
        await eventually(lambda: len(a.terms) == 2)
        assert monotonic_clock() - began >= 2
        assert epoch_key(a.terms[1].epoch) > epoch_key(a.terms[0].epoch)


async def test_lease_taken_under_our_own_name_is_given_up(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A second process of our name ends the lease term of the first; they do not share one."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "a") as twin:
            await eventually(lambda: len(a.told) > 1 and twin.told)
            assert a.told[1] == "taken by another process of our name"


async def test_deleted_lease_starts_a_new_epoch(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The holder of a deleted Lease gives up and creates it anew, with a greater epoch."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        await control_plane.request("DELETE", path(namespace))
        await eventually(lambda: len(a.terms) == 2)
        assert a.told == ["acquired", "the lease was deleted", "acquired"]
        assert epoch_key(a.terms[1].epoch) > epoch_key(a.terms[0].epoch)


@pytest.mark.parametrize("act", ["delete", "erase"])
async def test_contender_waits_out_a_holder_whose_lease_was_removed_by_hand(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, act: str
) -> None:
    """Whoever saw a holder does not take the place at once when a human removes the Lease."""
    async with (
        Proxy(control_plane.server) as proxy,
        await connect(through(proxy, control_plane.kubeconfig, tmp_path / "k")) as apart,
        await connect(control_plane.kubeconfig) as client,
        playing(apart, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "b") as b:
            await eventually(lambda: b.lease.holder == "a")
            proxy.swallow_requests = True
            if act == "delete":
                await control_plane.request("DELETE", path(namespace))
            else:
                await edit(client, namespace, {"spec": {"holderIdentity": None}})
            while not b.valid:
                both = a.sends and b.sends
                assert not both
                await asyncio.sleep(0.005)
            assert b.terms[0].renewed >= a.terms[0].renewed + QUICK.duration - QUICK.margin


async def test_silent_server_does_not_hold_a_renewal_past_the_deadline(
    control_plane: ControlPlane, namespace: str
) -> None:
    """With a frozen API server the lease term ends at its deadline, and goes on as a new one later."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        term = a.terms[0]
        first = term.renewed
        await eventually(lambda: term.renewed > first)
        await control_plane.pause("kube-apiserver")
        try:
            await eventually(lambda: len(a.told) == 2)
            late = a.ended_at - (term.renewed + QUICK.renew_deadline)
            assert 0 <= late < 0.3
            assert a.told[1] == "not renewed for 0.9 s"
            assert not a.valid
            await eventually(lambda: a.lease.problem)
        finally:
            await control_plane.resume("kube-apiserver")
        await eventually(lambda: a.valid)
        assert epoch_key(a.terms[-1].epoch) > epoch_key(term.epoch)
        assert a.lease.problem is None


async def test_killed_server_ends_the_term_at_the_deadline(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A server that refuses connections ends the lease term neither earlier nor later."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        first = a.terms[0].renewed
        await eventually(lambda: a.terms[0].renewed > first)
        before = monotonic_clock()
        await control_plane.kill_apiserver()
        after = monotonic_clock()
        await eventually(lambda: len(a.told) == 2)
        # The last renewal began within a retry period before the server was gone.
        least = before - QUICK.retry_period - QUICK.call_timeout + QUICK.renew_deadline
        assert least <= a.ended_at < after + QUICK.renew_deadline + 0.3
        assert 0 <= a.ended_at - (a.terms[0].renewed + QUICK.renew_deadline) < 0.3


async def test_two_contenders_never_both_hold(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """While connections are cut and healed at random moments, at most one may send."""
    double: list[tuple[LeaseTerm, LeaseTerm]] = []
    holders: set[str] = set()
    async with (
        Proxy(control_plane.server) as one,
        Proxy(control_plane.server) as two,
        await connect(through(one, control_plane.kubeconfig, tmp_path / "1")) as left,
        await connect(through(two, control_plane.kubeconfig, tmp_path / "2")) as right,
        playing(left, namespace, "a") as a,
        playing(right, namespace, "b") as b,
    ):

        async def watch() -> None:
            while True:
                if a.sends and b.sends:
                    double.append((a.terms[-1], b.terms[-1]))
                holders.update(n for n, p in (("a", a), ("b", b)) if p.sends)
                await asyncio.sleep(0.002)

        watcher = asyncio.create_task(watch())
        await eventually(lambda: holders)
        for gate in ("swallow_requests", "swallow_replies", "swallow_requests"):
            proxy = one if a.valid else two
            setattr(proxy, gate, True)
            other = b if proxy is one else a
            await eventually(lambda other=other: other.sends)  # type: ignore[misc]  # bound now
            setattr(proxy, gate, False)
        watcher.cancel()
    assert double == []
    assert holders == {"a", "b"}
    epochs = sorted((t for p in (a, b) for t in p.terms), key=lambda t: t.renewed)
    keys = [epoch_key(t.epoch) for t in epochs]
    assert keys == sorted(set(keys))


class Stored:
    """A Lease in memory, behind HTTP; `lose` names how to treat the next patches."""

    def __init__(self) -> None:
        """Begin without a Lease."""
        self.document: dict[str, Any] | None = None
        self.version = 10
        self.patches = 0
        self.lose: Callable[[int], str] = lambda _: ""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer as the API server does."""
        if request.method == "GET":
            if self.document is None:
                return status(404, "NotFound", "no", name="shard-0")
            return web.json_response(self.document)
        body = await request.json()
        if request.method == "POST":
            self.document = body
            return self._written({})
        self.patches += 1
        how = self.lose(self.patches)
        if how == "drop":
            await asyncio.sleep(60)
        if self.document is None:
            return status(404, "NotFound", "no", name="shard-0")
        if body["metadata"]["resourceVersion"] != self.document["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "modified")
        answer = self._written(body["spec"])
        if how == "apply":
            await asyncio.sleep(60)
        return answer

    def _written(self, spec: dict[str, Any]) -> web.Response:
        assert self.document is not None
        self.version += 1
        self.document["spec"] = {**self.document["spec"], **spec}
        self.document["metadata"]["resourceVersion"] = str(self.version)
        return web.json_response(self.document)


async def test_renewal_whose_answer_is_lost_counts_once_it_is_confirmed(tmp_path: Path) -> None:
    """A lost answer extends nothing until our own time is read back; then its start counts."""
    timings = LeaseTimings(renew_deadline=1.2, retry_period=0.2, margin=0.5, send_timeout=0.5)
    stored = Stored()
    stored.lose = lambda n: "apply" if n == 2 else ""
    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a", timings) as a,
    ):
        await eventually(lambda: stored.patches == 2)
        before = a.terms[0].renewed
        await asyncio.sleep(0.3)
        assert a.terms[0].renewed == before
        await eventually(lambda: a.terms[0].renewed > before)
        confirmed = a.terms[0].renewed
        assert before + 0.15 < confirmed < before + 0.4
        await eventually(lambda: a.terms[0].renewed > confirmed)
        assert a.told == ["acquired"]


async def test_renewal_that_was_never_executed_does_not_count(tmp_path: Path) -> None:
    """Renewals that hang without effect end the lease term at the deadline of the last good one."""
    stored = Stored()
    stored.lose = lambda n: "drop" if n >= 2 else ""
    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a") as a,
    ):
        await eventually(lambda: len(a.told) >= 2)
        assert a.told[1] == "not renewed for 0.9 s"
        assert 0 <= a.ended_at - a.terms[0].renewed - QUICK.renew_deadline < 0.3


async def test_acquisition_whose_answer_is_lost_is_made_again(tmp_path: Path) -> None:
    """Whoever does not know whether it acquired takes the Lease anew, as the next epoch."""
    stored = Stored()
    stored.document = {"metadata": {"resourceVersion": "10"}, "spec": {}}
    stored.document["spec"] = {"holderIdentity": "a", "leaseTransitions": 4}
    stored.lose = lambda n: "apply" if n == 1 else ""
    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a") as a,
    ):
        await eventually(lambda: a.valid)
        assert (a.terms[0].epoch, len(a.terms)) == ("0.12", 1)


async def test_epoch_of_a_write_that_changed_nothing_is_refused(tmp_path: Path) -> None:
    """If the version does not move, the epoch would be the predecessor's: not acquired."""

    async def stuck(_: web.Request) -> web.StreamResponse:
        spec = {"holderIdentity": "a", "leaseTransitions": 1}
        return web.json_response({"metadata": {"resourceVersion": "10"}, "spec": spec})

    async with (
        ScriptedServer(stuck) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a") as a,
    ):
        await eventually(lambda: "did not change" in (a.lease.problem or ""))
        assert a.told == []


async def test_suspend_ends_the_term(tmp_path: Path) -> None:
    """A boot-time clock that jumps over the deadline ends the lease term before anything is sent."""
    jump = 0.0

    def clock() -> float:
        return monotonic_clock() + jump

    async with (
        ScriptedServer(Stored()) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a", clock=clock) as a,
    ):
        await eventually(lambda: a.terms)
        jump = 600.0
        assert not a.terms[0].may_send(clock(), 0.0)
        await eventually(lambda: len(a.told) >= 2)
        assert a.told[1] == "not renewed for 0.9 s"


async def test_unwilling_contender_leaves_the_lease_to_others(tmp_path: Path) -> None:
    """While it is not willing it only looks; once it is, it takes the Lease."""
    willing = False
    stored = Stored()
    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a", willing=lambda: willing) as a,
    ):
        await eventually(lambda: len(server.seen) >= 2)
        assert stored.document is None
        willing = True
        await eventually(lambda: a.valid)


async def test_hand_over_is_awaited_before_the_next_term(tmp_path: Path) -> None:
    """After a loss nothing is acquired until `on_lost` has returned."""
    stored = Stored()
    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
        playing(client, "ns", "a") as a,
    ):
        await eventually(lambda: a.valid)
        a.hand_over.clear()
        stored.document = None
        await eventually(lambda: len(a.told) == 2)
        await asyncio.sleep(1)
        assert stored.document is None
        a.hand_over.set()
        await eventually(lambda: a.valid)
        assert a.told == ["acquired", "the lease was deleted", "acquired"]


async def test_taking_up_work_is_cancelled_by_a_loss(tmp_path: Path) -> None:
    """An `on_acquired` that still runs is cancelled, and is over before `on_lost` begins."""
    told = []
    stored = Stored()

    async def on_acquired(term: LeaseTerm) -> None:
        told.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            told.append(f"cancelled {term.valid(monotonic_clock())}")

    async def on_lost(_: LeaseTerm, reason: str) -> None:
        told.append(reason)

    async with (
        ScriptedServer(stored) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        lease = Lease(client, "ns", "shard-0", "a", QUICK, incarnation=0, clock=monotonic_clock)
        task = asyncio.create_task(lease.run(on_acquired, on_lost))
        await eventually(lambda: told)
        await asyncio.sleep(0.5)
        stored.document = None
        await eventually(lambda: len(told) >= 3)
        assert told[:3] == ["began", "cancelled False", "the lease was deleted"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_failure_to_take_up_work_is_raised(tmp_path: Path) -> None:
    """An error of `on_acquired` ends the lease term, hands over, and is not swallowed."""
    told = []

    async def on_acquired(_: LeaseTerm) -> None:
        raise ZeroDivisionError

    async def on_lost(_: LeaseTerm, reason: str) -> None:
        told.append(reason)

    async with (
        ScriptedServer(Stored()) as server,
        await connect(write_kubeconfig(tmp_path / "k", server.url)) as client,
    ):
        lease = Lease(client, "ns", "shard-0", "a", QUICK, incarnation=0, clock=monotonic_clock)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(lease.run(on_acquired, on_lost), 5)
        assert told == ["taking up the work failed"]
        assert lease.term is None
