"""One owner at a time, whatever happens to server, network, clocks and the Leases themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.model.attempt import epoch_key, make_epoch
from syncer.model.errors import Conflict
from syncer.runtime.clock import monotonic_clock
from syncer.sharding.view import (
    FOREVER,
    SESSION,
    session_name,
)
from tests.beside import eventually
from tests.fakes.proxy import ALWAYS, Action, BlackHole, Delay, Fault, Proxy, SwallowReply
from tests.integration.playing import QUICK, connect, playing
from tests.integration.scripted import through
from tests.servers.controlplane import ControlPlane

#: What waits for a session of these to run out waits for longer than `eventually` does.
PATIENT = LeaseTimings(renew_deadline=20.0, retry_period=0.3, margin=20.0, send_timeout=20.0)


def proxy_of(control_plane: ControlPlane, **more: Path) -> Proxy:
    """A proxy before the API server."""
    return Proxy(control_plane._recipe.api_port, **more)  # type: ignore[arg-type] # of TLS alone


def swallow(proxy: Proxy, action: Action) -> None:
    """Have each connection that is used from now on fall silent; watches that are open go on."""
    proxy.faults[:] = [Fault(action, times=ALWAYS)]


def path(namespace: str, name: str = "nl-0") -> str:
    """Return the path of a Lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"


async def read(client: KubeClient, namespace: str, name: str = "nl-0") -> dict[str, Any]:
    """Return a Lease."""
    return await client.request("GET", path(namespace, name), timeout=5)


async def edit(client: KubeClient, namespace: str, name: str, patch: dict[str, Any]) -> None:
    """Change a Lease as a human does: without asking for a version."""
    await client.request(
        "PATCH", path(namespace, name), body=patch, content_type=MERGE_PATCH, timeout=5
    )


TIMINGS = LeaseTimings(renew_deadline=5, retry_period=2, margin=3, send_timeout=10)

#: sentence: (now, send timeout, over) -> (valid, may send); the session was renewed at 100
MOMENTS: dict[str, tuple[tuple[float, float, str], tuple[bool, bool]]] = {
    "right after a renewal everything may be sent": ((100.0, 10.0, ""), (True, True)),
    "at the deadline the longest send still fits": ((105.0, 10.0, ""), (True, True)),
    "past the deadline it does not": ((105.01, 10.0, ""), (False, False)),
    "past the deadline a short send would still fit": ((106.0, 9.0, ""), (False, True)),
    "nothing reaches into the margin": ((114.9, 0.2, ""), (False, False)),
    "a lease term that is over allows nothing": ((100.0, 0.0, "term"), (False, False)),
    "nor does one whose session is over": ((100.0, 0.0, "session"), (False, False)),
    "a clock that went on in a suspend ends it": ((9999.0, 0.0, ""), (False, False)),
}


@pytest.mark.parametrize("sentence", MOMENTS)
async def test_term_allows_by_the_clock(sentence: str) -> None:
    """A lease term answers from its session's last renewal and the time that it is given."""
    (now, send_timeout, over), expected = MOMENTS[sentence]
    session = Session("s", 100.0, TIMINGS)
    term, other = (LeaseTerm(make_epoch(0, n), session) for n in ("7", "8"))
    if over:
        ends = term if over == "term" else session
        ends.end("lost")
        ends.end("again")
        assert term.ended == "lost"
        assert bool(other.ended) == session.is_over.is_set() == (over == "session")
    assert (term.valid(now), term.may_send(now, send_timeout)) == expected


def test_duration_is_derived_and_rounded_up() -> None:
    """The Lease tells others at least the time that we count on."""
    assert (LeaseTimings().duration, LeaseTimings().duration_seconds) == (18.0, 18)
    assert LeaseTimings(margin=3.1).duration_seconds == 19


async def test_a_session_is_created_and_renewed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Its Lease alone is written on; the shard's names it, and its version is the epoch."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a", incarnation=3) as a,
    ):
        await eventually(lambda: a.valid)
        (term,) = a.terms
        name = session_name("nl", "a")
        first, shard = await read(client, namespace, name), await read(client, namespace)
        renewed = term.session.renewed
        await eventually(lambda: term.session.renewed > renewed + 0.5)
        later = await read(client, namespace, name)
        spec = later["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a", 3)
        micro = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
        assert micro.fullmatch(spec["renewTime"])
        assert spec["renewTime"] > first["spec"]["renewTime"]
        assert spec["acquireTime"] == first["spec"]["acquireTime"]
        assert (await read(client, namespace))["metadata"] == shard["metadata"]
        assert shard["metadata"]["annotations"] == {SESSION: later["metadata"]["uid"]}
        assert shard["spec"]["leaseDurationSeconds"] == FOREVER
        assert term.epoch == f"3.{shard['metadata']['resourceVersion']}"
        assert (a.term, a.manager.problem) == (term, None)


@pytest.mark.parametrize("hours", [-5, 5])
async def test_session_of_another_is_ended_after_its_whole_duration(
    control_plane: ControlPlane, namespace: str, hours: int
) -> None:
    """A dead holder is waited out by the local clock; the times of day mean nothing."""

    def wrong() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    async with await connect(control_plane.kubeconfig) as client:
        async with playing(client, namespace, "a") as a:
            await eventually(lambda: a.valid)
        last_renewal = a.terms[0].session.renewed
        async with playing(client, namespace, "b", wall=wrong) as b:
            await eventually(lambda: b.valid)
            assert b.terms[0].session.renewed >= last_renewal
            assert monotonic_clock() >= last_renewal + QUICK.duration
            assert epoch_key(b.terms[0].epoch) > epoch_key(a.terms[0].epoch)
            left = await client.request("GET", path(namespace, "")[:-1], timeout=5)
            names = {lease["metadata"]["name"] for lease in left["items"]}
            assert names == {"nl-map", "nl-0", session_name("nl", "b")}


@pytest.mark.parametrize("act", ["delete", "take", "rename"])
async def test_a_session_that_is_changed_by_hand_ends(
    control_plane: ControlPlane, namespace: str, act: str
) -> None:
    """Deleted, or made somebody else's, or replaced by another Lease of the name: all of it is over."""
    name = session_name("nl", "a")
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        if act == "take":
            await edit(client, namespace, name, {"spec": {"holderIdentity": "human"}})
            reason = "its lease was taken by human"
        else:
            await control_plane.request("DELETE", path(namespace, name))
            reason = "its lease was deleted"
        if act == "rename":
            body = {
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name}, "spec": {"holderIdentity": "a"},
            }  # fmt: skip
            # Its owner may have begun its next session since; then that one is replaced.
            while not await _posted(client, namespace, body):
                await control_plane.request("DELETE", path(namespace, name))
        replaced = a.terms[0]
        await eventually(lambda: a.valid and a.terms[-1] is not replaced)
        assert replaced.ended.startswith(reason)
        assert epoch_key(a.terms[-1].epoch) > epoch_key(replaced.epoch)


async def _posted(client: KubeClient, namespace: str, body: dict[str, Any]) -> bool:
    """Create a Lease; False if there is one of its name."""
    with suppress(Conflict):
        await client.request("POST", path(namespace, "")[:-1], body=body, timeout=5)
        return True
    return False


async def test_a_second_process_of_our_name_ends_our_session(
    control_plane: ControlPlane, namespace: str
) -> None:
    """They do not share one: whoever began first learns of it with its next renewal."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "a") as twin:
            await eventually(lambda: twin.terms and a.terms[0].ended)


@pytest.mark.parametrize(("act", "what"), [("erase", "nl-0"), ("delete", "session")])
async def test_contender_waits_out_a_holder_whose_lease_was_removed_by_hand(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, act: str, what: str
) -> None:
    """Whoever saw a holder does not take the place at once when a human removes a Lease."""
    name = session_name("nl", "a") if what == "session" else what
    async with (
        proxy_of(control_plane) as proxy,
        await connect(through(proxy, control_plane.kubeconfig, tmp_path / "k")) as apart,
        await connect(control_plane.kubeconfig) as client,
        playing(apart, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        async with playing(client, namespace, "b") as b:
            await eventually(lambda: b.manager.sessions == 2)
            swallow(proxy, BlackHole())
            if act == "delete":
                await control_plane.request("DELETE", path(namespace, name))
            else:
                await edit(client, namespace, name, {"spec": {"holderIdentity": None}})
            while not b.valid:
                both = a.sends and b.sends
                assert not both
                await asyncio.sleep(0.005)
            assert not a.sends


async def test_silent_server_does_not_hold_a_renewal_past_the_deadline(
    control_plane: ControlPlane, namespace: str
) -> None:
    """With a frozen API server the session ends at its deadline, and another one begins later."""
    async with (
        await connect(control_plane.kubeconfig) as client,
        playing(client, namespace, "a") as a,
    ):
        await eventually(lambda: a.valid)
        (term,) = a.terms
        first = term.session.renewed
        await eventually(lambda: term.session.renewed > first)
        await control_plane.pause("kube-apiserver")
        try:
            await eventually(lambda: term.ended)
            deadline = term.session.renewed + QUICK.renew_deadline
            assert monotonic_clock() >= deadline
            assert not term.may_send(deadline, 0.0), "before others may take over"
            assert term.ended == "not renewed for 2 s"
            assert not a.valid
            await eventually(lambda: a.manager.problem)
        finally:
            await control_plane.resume("kube-apiserver")
        await eventually(lambda: a.valid)
        assert epoch_key(a.terms[-1].epoch) > epoch_key(term.epoch)
        await eventually(lambda: a.manager.problem is None)


async def test_two_contenders_never_both_hold(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """While connections are cut and healed at random moments, at most one may send."""
    double: list[tuple[LeaseTerm, LeaseTerm]] = []
    holders: set[str] = set()
    async with (
        proxy_of(control_plane) as one,
        proxy_of(control_plane) as two,
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
        for gate in (BlackHole(), SwallowReply(), BlackHole()):
            proxy = one if a.valid else two
            swallow(proxy, gate)
            other = b if proxy is one else a
            await eventually(lambda other=other: other.sends)  # type: ignore[misc]  # bound now
            proxy.faults.clear()
        watcher.cancel()
    assert double == []
    assert holders == {"a", "b"}
    keys = sorted(epoch_key(t.epoch) for p in (a, b) for t in p.terms)
    assert len(keys) == len(set(keys)) >= 4


@asynccontextmanager
async def faulty(
    control_plane: ControlPlane, folder: Path
) -> AsyncIterator[tuple[Proxy, KubeClient]]:
    """A client behind a proxy that understands what passes."""
    certificate = control_plane.ca_file
    async with (
        proxy_of(
            control_plane, certificate=certificate, key=certificate.with_suffix(".key")
        ) as proxy,
        await connect(through(proxy, control_plane.kubeconfig, folder / "kubeconfig")) as client,
    ):
        yield proxy, client


#: What a renewal of a session holds, and nothing else.
RENEWS = b'"leaseDurationSeconds":4,"renewTime"'


async def test_renewal_whose_answer_is_lost_counts_once_it_is_confirmed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """A lost answer extends nothing until our own time is read back; then its start counts."""
    timings = LeaseTimings(renew_deadline=3.0, retry_period=0.3, margin=0.2, send_timeout=0.3)
    async with (
        faulty(control_plane, tmp_path) as (proxy, client),
        playing(client, namespace, "a", timings) as a,
    ):
        await eventually(lambda: a.valid)
        session = a.terms[0].session
        proxy.faults[:] = [
            Fault(SwallowReply(), match=RENEWS),
            Fault(Delay(0), match=b"GET /apis/coordination"),
        ]
        await eventually(lambda: proxy.struck)
        struck, before = monotonic_clock(), session.renewed
        await eventually(lambda: session.renewed > before)
        assert proxy.struck == ["SwallowReply", "Delay"], "its Lease was read back"
        # Not before the renewal that was lost, and not after the one that found it.
        assert session.renewed <= struck
        confirmed = session.renewed
        await eventually(lambda: session.renewed > confirmed)
        assert not session.ended


async def test_answers_have_half_of_the_deadline(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """If they take longer nothing is owned, and the bound is named; a longer deadline helps."""
    slow = Fault(Delay(1.2), match=b"/apis/coordination", times=100_000)
    async with faulty(control_plane, tmp_path) as (proxy, client):
        proxy.faults[:] = [slow]
        async with playing(client, namespace, "a", PATIENT) as a:
            await eventually(lambda: a.valid)
            renewed = a.terms[0].session.renewed
            await eventually(lambda: a.terms[0].session.renewed > renewed)
        async with playing(client, namespace, "b") as b:
            await eventually(lambda: "no answer within 1 s" in (b.manager.problem or ""))
            tried = len(proxy.struck)
            await eventually(lambda: len(proxy.struck) >= tried + 2)
            assert (b.manager._session.current, b.terms) == (None, [])
            proxy.faults[:] = []
            await eventually(lambda: b.manager._session.current)
    assert proxy.struck[0] == "Delay"
