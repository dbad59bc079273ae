"""Making objects exist: which answer ends it, which is tried again, and what a duplicate is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock, call

import pytest

from notifier.gateway.draft import Refused
from notifier.gateway.identity import Identity
from notifier.gateway.manifest import IDENTITY
from notifier.gateway.submit import KubeObjects, Submitted, Submitter
from notifier.gateway.translation import Desired
from syncer.model.errors import (
    Ambiguous,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.event import EVENT
from syncer.model.incident import AT, DATA, INCIDENT, STATE
from syncer.model.resource import Json
from tests.simulation.loop import SimLoop, simulate
from tests.unit.notifier.gateway import payloads
from tests.unit.notifier.gateway.desired import desired as translated
from tests.unit.notifier.gateway.submitting import NOW, Objects

WINDOW: Final = 1800.0


def desired(slot: int = 0, *, repeat: bool = False) -> Desired:
    """An object of an event with occurrences."""
    identity = Identity(f"am-{slot}", "d", f"am-{slot - 1}" if slot else "", WINDOW)
    manifest = {"metadata": {"name": identity.name, "annotations": {IDENTITY: "d"}}}
    return Desired("ns", identity, manifest, repeat)


async def submit(objects: Objects, wanted: Desired, *, patience: float = 5.0) -> Submitted:
    """Submit with some patience."""
    until = asyncio.get_running_loop().time() + patience
    return await Submitter(objects, lambda: objects.now).submit(wanted, until)


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("away"), Ambiguous("lost"), KindMissing("no definition"), Gone("no namespace"),
        Unauthorised("forbidden", reason="Forbidden"),
        Rejected("terminating", reason="NamespaceTerminating"),
        Rejected("302", reason="HTTP302"), Rejected("no URL", reason="BadURL"),
    ],
    ids=lambda e: f"{type(e).__name__}-{getattr(e, 'reason', '')}",
)  # fmt: skip
async def test_what_may_pass_is_tried_again(error: PortError) -> None:
    """The object exists in the end; without patience the answer is Unavailable, with the reason."""
    objects = Objects(error)
    made = await submit(objects, desired())
    assert (made.name, made.duplicate) == ("am-0", False)
    submitter = Submitter(Objects(error, error), lambda: NOW)
    now = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await submitter.submit(desired(), now + 0.01)
    assert submitter.problem == str(error)
    await submitter.submit(desired(), now + 5)
    assert submitter.problem == ""
    with pytest.raises(Unavailable, match=str(error)):
        await submit(Objects(*[error] * 99), desired(1), patience=0.3)


@pytest.mark.parametrize(
    ("reason", "status"), [("Invalid", 422), ("TooLarge", 413), ("BadRequest", 422)]
)
async def test_what_never_passes_is_refused_at_once(reason: str, status: int) -> None:
    """A refusal of the object ends it, with the server's words."""
    objects = Objects(Rejected("spec.type: no", reason=reason))
    with pytest.raises(Refused, match=r"spec\.type: no") as refused:
        await submit(objects, desired())
    assert refused.value.status == status
    assert (objects.errors, objects.created) == ([], [])


def duplicate(name: str) -> Submitted:
    """An object that was there before."""
    return Submitted(name, "ns", f"uid-{name}", duplicate=True, result="duplicate")


async def test_an_object_that_exists_is_a_duplicate() -> None:
    """Retry and twin get the object's name and uid; that one says another identity is told, not refused."""
    objects = Objects()
    objects.put("am-0", "d", ago=60)
    made = await submit(objects, desired())
    assert made == duplicate("am-0")
    objects.put("am-0", "other", ago=60)
    made = await submit(objects, desired())
    assert (made.name, made.duplicate, made.taken, made.result) == ("am-0", True, True, "taken")


@pytest.mark.parametrize(
    ("ago", "digest", "duplicate"),
    [(10, "d", True), (WINDOW - 1, "d", True), (WINDOW, "d", False), (10, "other", False)],
)
async def test_a_retry_over_the_end_of_a_slot(ago: float, digest: str, duplicate: bool) -> None:
    """The occurrence before is the event's own as long as it is younger than the window."""
    objects = Objects()
    objects.put("am-0", digest, ago=ago)
    made = await submit(objects, desired(1))
    assert (made.name, made.duplicate) == (("am-0", True) if duplicate else ("am-1", False))
    assert objects.created == ([] if duplicate else ["am-1"])


async def test_a_repeat_that_comes_too_early_is_told_apart() -> None:
    """What its source calls a repeat is thinned, not a retry."""
    objects = Objects()
    objects.put("am-0", "d", ago=60)
    for slot in (0, 1):
        assert (await submit(objects, desired(slot, repeat=True))).result == "thinned"
        assert (await submit(objects, desired(slot))).result == "duplicate"
    assert (await submit(Objects(), desired(repeat=True))).result == "created"


async def find(objects: Objects, wanted: Desired, *, patience: float = 5.0) -> Submitted | None:
    """Ask for the object of an event."""
    until = asyncio.get_running_loop().time() + patience
    return await Submitter(objects, lambda: NOW).find(wanted, until)


async def test_an_event_that_has_its_object_is_found() -> None:
    """Its own, or the occurrence before while that is young; nothing is created."""
    objects = Objects()
    assert await find(objects, desired(1)) is None
    objects.put("am-0", "d", ago=WINDOW)
    assert await find(objects, desired(1)) is None
    objects.put("am-1", "other", ago=0)
    assert await find(objects, desired(1)) is None
    objects.put("am-1", "d", ago=0)
    assert await find(objects, desired(1)) == duplicate("am-1")
    objects.put("am-0", "d", ago=WINDOW - 1)
    assert await find(objects, desired(1)) == duplicate("am-0")
    assert objects.created == []


async def test_whether_an_event_has_its_object_may_not_be_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An API server that does not answer, or refuses, is away: nothing is taken for new."""
    refused = AsyncMock(side_effect=Unauthorised("forbidden", reason="Forbidden"))
    monkeypatch.setattr(Objects, "get", refused)
    with pytest.raises(Unavailable, match="forbidden"):
        await find(Objects(), desired())
    monkeypatch.setattr(Objects, "get", lambda *_: asyncio.sleep(60))
    with pytest.raises(Unavailable, match="did not answer in time"):
        await find(Objects(), desired(), patience=0.01)
    with pytest.raises(Unavailable, match="did not answer in time"):
        await submit(Objects(), desired(1), patience=0.01)


class Slow(Objects):
    """It takes a quarter of a second for a create, however many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.under_way = self.most = self.broken_off = 0

    async def create(self, namespace: str, body: Json) -> Json:
        self.begun.append(body["metadata"]["name"])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.25)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.under_way -= 1
        return await super().create(namespace, body)


def apart(n: int) -> Desired:
    """An object of an event of its own."""
    return replace(desired(n), identity=replace(desired(n).identity, before=""))


def test_a_storm_waits_its_turn() -> None:
    """
    Few are asked about at once, the first first, and nothing that was begun is given up.

    So who comes again meets what was made for him; another namespace notices nothing.
    """

    async def storm(loop: SimLoop) -> None:
        objects = Slow()
        submitter = Submitter(objects, lambda: NOW)

        async def one(n: int) -> Submitted | None:
            await asyncio.sleep(n / 10_000)
            try:
                return await submitter.submit(apart(n), loop.time() + 1.1)
            except Unavailable:
                return None

        sending = asyncio.gather(*map(one, range(200)))
        await asyncio.sleep(0.5)
        elsewhere = replace(desired(999), namespace="other")
        began = loop.time()
        await submitter.submit(elsewhere, began + 1.0)
        assert loop.time() - began < 0.3
        assert objects.most == 17, "sixteen of one namespace, one of the other"
        answers = await sending
        assert [a is not None for a in answers] == [True] * 64 + [False] * 136
        await asyncio.sleep(0.3)
        assert len(objects.begun) == 81, "those under way, and the other namespace's"
        assert (objects.under_way, objects.broken_off) == (0, 0)
        again = await asyncio.gather(*map(one, range(64, 80)))
        assert all(made is not None and made.duplicate for made in again)
        assert [name for name in objects.begun if name != "am-999"][:80] == [
            f"am-{n}" for n in range(80)
        ]
        waiting = asyncio.create_task(one(199))
        await asyncio.sleep(0.1)
        await submitter.close()
        assert objects.broken_off == 1, "the process ends"
        waiting.cancel()

    simulate(1, storm)


def test_twins_and_retries_are_met_by_a_read() -> None:
    """A create is asked for once, unless its object has gone since."""
    objects = Slow()

    async def pairs(loop: SimLoop) -> None:
        submitter = Submitter(objects, lambda: NOW)
        events = [apart(n) for n in range(20)]
        made = await asyncio.gather(*(submitter.submit(e, loop.time() + 5) for e in events * 2))
        assert sum(each.duplicate for each in made) == 20
        assert (await submitter.submit(events[0], loop.time() + 5)).duplicate
        assert sorted(objects.begun) == sorted(objects.created)
        del objects.there["am-0"]
        assert not (await submitter.submit(events[0], loop.time() + 5)).duplicate
        await submitter.close()

    simulate(1, pairs)


def tries(retry_after: float | None, *, patience: float) -> list[float]:
    """Seconds at which an API server is asked that is away, in virtual time."""
    times: list[float] = []

    class Away(Objects):
        async def create(self, namespace: str, body: Json) -> Json:
            times.append(asyncio.get_running_loop().time())
            raise Unavailable("away", retry_after=retry_after)

    async def ask(loop: SimLoop) -> None:
        began = loop.time()
        with pytest.raises(Unavailable, match="away"):
            await submit(Away(), desired(), patience=patience)
        assert loop.time() < began + patience

    simulate(1, ask)
    return [at - times[0] for at in times]


def test_tries_are_spaced() -> None:
    """Soon at first, then at least once a second; never so often that a server is kept from its start."""
    times = tries(None, patience=20.0)
    waits = [after - before for before, after in pairwise(times)]
    for wait, most in zip(waits, (0.1, 0.2, 0.4, 0.8, *[1.0] * 99), strict=False):
        assert most / 2 <= wait <= most + 1e-9
    assert len(set(waits[4:])) > 1, "many gateways do not ask at the same moments"
    assert times[-1] > 18.9


def test_a_server_that_asks_for_time_gets_a_second() -> None:
    """No more: its words are for who sends nothing meanwhile."""
    assert tries(60.0, patience=4.5) == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])
    times = tries(0.5, patience=3.0)
    assert all(after - before >= 0.5 for before, after in pairwise(times))


def about(state: str, *, incident: str = "gw/am/1", opposite: str = "") -> Desired:
    """An event of an incident in one state, whose bytes never change."""
    manifest: Json = {
        "metadata": {
            "name": f"am-{state}", "annotations": {IDENTITY: state}, "labels": {EVENT: "e"},
        },
        "spec": {"extensions": {INCIDENT: incident, STATE: state}},
    }  # fmt: skip
    return Desired("ns", Identity(f"am-{state}", state), manifest, False, opposite)


async def test_an_alert_that_fires_again_with_its_old_start_is_an_event_of_its_own() -> None:
    """Fire, end, fire, end, with the same bytes each time: four notifications."""
    objects = Objects()
    for number, state in enumerate(("firing", "resolved") * 2):
        objects.now += 200.0
        made = [await submit(objects, about(state)) for _ in range(3)]
        assert [one.duplicate for one in made] == [False, True, True]
        assert len(set(objects.created)) == number + 1
        objects.now += 119.0
        assert (await submit(objects, about(state))).duplicate
    objects.now += 200.0
    assert (await submit(objects, about("resolved"))).name == objects.created[-1]


#: Seconds since the event's object was created, and since that of another state; whether it is one more.
LATE: Final[dict[str, tuple[float, float, str, str, bool]]] = {
    "a peer lags behind": (119.0, 60.0, "gw/am/1", "resolved", False),
    "it ended, and fires again": (121.0, 60.0, "gw/am/1", "resolved", True),
    "it ended before": (121.0, 180.0, "gw/am/1", "resolved", False),
    "another incident of the event ended": (121.0, 60.0, "gw/am/2", "resolved", False),
    "it was told of again": (121.0, 60.0, "gw/am/1", "firing", False),
}


@pytest.mark.parametrize("case", LATE)
async def test_time_tells_a_lagging_peer_from_what_fires_again(case: str) -> None:
    """Two minutes, and an end of the same incident in between."""
    ago, since, incident, state, again = LATE[case]
    objects = Objects()
    objects.put("am-firing", "firing", ago)
    objects.put("other", "x", since)
    objects.there["other"]["spec"] = about(state, incident=incident).manifest["spec"]
    assert (await find(objects, about("firing")) is None) is again
    objects.listed = 0
    made = await submit(objects, about("firing"))
    assert made.duplicate is not again
    assert objects.listed == (ago > 120)


A, B, C = ("a", "04:00"), ("b", "04:05"), ("c", "04:02")
#: What an end says is over, what was reported as firing since, and whether a second such end is one more.
ENDS: Final[dict[str, tuple[tuple[Any, ...], tuple[Any, ...], Json, bool]]] = {
    "what a peer knew before": ((A, B), (A, B), {}, True),
    "what a peer knew before, of one less": ((A, B), (B,), {}, True),
    "an alert fired anew": ((A,), (("a", "04:09"),), {}, False),
    "an alert that was silenced": ((A, B), (C,), {}, False),
    "one more alert": ((A,), (A, B), {}, False),
    "not all was reported": ((A,), (A,), {"truncatedAlerts": 1}, False),
    "somebody writes anything": ((A,), (A,), {}, False),
    "nothing": ((A,), (), {}, False),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("apart", [0.0, 3.0], ids=["same second", "seconds apart"])
async def test_an_end_is_told_again_if_it_ends_what_was_told_since(case: str, apart: float) -> None:
    """Resolved, firing, resolved, all within two minutes: a peer that lags behind reported the second."""
    over, firing, more, again = ENDS[case]

    def group(status: str, alerts: tuple[Any, ...], at: int, **more: Any) -> Desired:
        members = [
            payloads.alert(name, status, startsAt=f"2026-11-27T{starts}:00Z")
            for name, starts in alerts
        ]
        made = translated(payloads.alertmanager(*members, status=status, **more))
        made.manifest["spec"]["extensions"][AT] = str(at)
        return made

    objects = Objects()
    first = group("resolved", over, 1)
    assert not (await submit(objects, first)).duplicate
    objects.now += apart
    if firing:
        late = group("firing", firing, 2, **more)
        if case == "somebody writes anything":
            late.manifest["spec"]["extensions"][DATA] = "[]"
        assert not (await submit(objects, late)).duplicate
        assert (await submit(objects, late)).duplicate
    objects.now += apart
    told = [await submit(objects, group("resolved", over, 3)) for _ in range(2)]
    assert [one.duplicate for one in told] == [not again, True]
    assert len({first.identity.name, told[0].name, told[1].name}) == 1 + again


async def test_an_alert_whose_end_was_never_told_is_not_searched_for() -> None:
    """Flushes of each alert carry what has not changed, a hundred at a time."""
    objects = Objects()
    objects.put("am-firing", "firing", 1000.0)
    wanted = about("firing", opposite="am-resolved")
    assert (await submit(objects, wanted)).duplicate
    assert objects.listed == 0
    objects.put("am-resolved", "resolved", 500.0)
    objects.there["am-resolved"]["spec"] = about("resolved").manifest["spec"]
    assert not (await submit(objects, wanted)).duplicate
    assert objects.listed == 1


async def test_objects_are_those_of_the_api_server() -> None:
    """Created and read in the namespace, each within a few seconds; listed page by page."""
    pages: list[Json] = [
        {"items": [{"n": 3}], "metadata": {"continue": "next"}},
        {"items": [{"n": 4}]},
    ]
    asked: list[Json] = []

    async def page(*_: str, params: Json, **__: float) -> Json:
        asked.append(dict(params))
        return pages.pop(0)

    request = AsyncMock(side_effect=[{"n": 1}, {"n": 2}])
    client = cast("Any", SimpleNamespace(request=request))
    objects = KubeObjects(client)
    assert await objects.create("ns", {"a": 1}) == {"n": 1}
    assert await objects.get("ns", "n") == {"n": 2}
    path = "/apis/kubernaut.ai/v1alpha1/namespaces/ns/notificationrequests"
    assert request.await_args_list == [
        call("POST", path, body={"a": 1}, timeout=3.0), call("GET", f"{path}/n", timeout=3.0),
    ]  # fmt: skip
    client.request = page
    selected = {"labelSelector": "notification-ledger/event=e", "limit": "500"}
    assert await objects.select("ns", "notification-ledger/event=e") == [{"n": 3}, {"n": 4}]
    assert asked == [selected, selected | {"continue": "next"}]


def test_what_passes_soon_is_tried_again_soon() -> None:
    """A namespace that ends, or a proxy in between, asks for no pause."""

    async def main(loop: SimLoop) -> None:
        for error in (
            Rejected("terminating", reason="NamespaceTerminating"), PortError("something else"),
        ):  # fmt: skip
            began = loop.time()
            await submit(Objects(error), desired())
            assert 0.05 <= loop.time() - began <= 0.1

    simulate(1, main)
