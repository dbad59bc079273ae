"""The mirror of the API server, while the server does what servers do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.notification_requests import UNFINISHED, list_path
from syncer.kube.reflector import Reflector
from syncer.kube.scope import Scope
from syncer.model.carried import fold
from syncer.model.resource import TERMINAL_PHASES, NotificationRequest
from syncer.runtime.clock import monotonic_clock
from tests.beside import beside, eventually
from tests.integration.reflecting import (
    LOGGED,
    QUICK,
    Api,
    Everything,
    Mirror,
    _logged,
    event,
    failures,
    following,
    lists,
    mirroring,
    obj,
    stay,
)
from tests.integration.scripted import (
    ScriptedServer,
    always,
    end,
    send_lines,
    status,
    write_kubeconfig,
)
from tests.servers.controlplane import ControlPlane

__all__ = ["_logged"]


def bookmark(version: int) -> dict[str, Any]:
    """Return a bookmark."""
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


EXPIRED = event(
    "ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old: 1 (240)"}
)


def refuse(*args: Any, **more: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return an answer that is a Status object."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return status(*args, **more)

    return answer


def expiring(
    api: Api, version: int, objects: list[Any], *lines: object
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a watch that sends lines and expires, when other objects are listed at a version."""

    async def answer(request: web.Request) -> web.StreamResponse:
        api.objects, api.version = objects, version
        return await send_lines(request, [*lines, EXPIRED])

    return answer


async def text_404(_: web.Request) -> web.StreamResponse:
    """Answer as the API server does for a type that it does not serve."""
    return web.Response(status=404, text="404 page not found\n")


async def test_events_follow_the_list(tmp_path: Path) -> None:
    """A list is complete before the watch begins at its version, and each event is told once."""
    api = Api(obj("a", 7))
    api.watches = [
        stay(
            event("ADDED", obj("b", 101)),
            event("MODIFIED", obj("b", 102)),
            event("MODIFIED", obj("a", 103)),
            event("DELETED", obj("a", 104)),
        )
    ]
    async with mirroring(api, tmp_path) as (reflector, mirror, server):
        await eventually(lambda: len(mirror.calls) == 5)
        assert mirror.calls == [
            "upsert uid-a 7",
            "first uid-b 101",
            "upsert uid-b 102",
            "upsert uid-a 103",
            "delete uid-a ns/a",
        ]
        assert (lists(), api.resumed) == (1, ["100"])
        assert (reflector.synced, reflector.problem) == (True, None)
        assert "resourceVersion" not in server.seen[0]
        assert "allowWatchBookmarks=true" in server.seen[1]


async def test_clean_ends_do_not_spin(tmp_path: Path) -> None:
    """A server that ends each watch at once is asked ever less often, and that is a problem."""
    api = Api()
    api.watches = [end() for _ in range(1000)]
    async with mirroring(api, tmp_path, jitter=lambda: 0.5) as (reflector, _, server):
        began = monotonic_clock()
        await eventually(lambda: len(api.resumed) >= 8)
        # Pauses of 0.075, 0.15, then 0.3 s; without back-off it would be none of that.
        assert monotonic_clock() - began > 1.2, server.seen
        told = "watch of notifications: the server ends each watch at once"
        await eventually(lambda: reflector.problem == told)
        assert (api.listed, set(api.resumed)) == (1, {"100"})
        api.watches = []
        await eventually(lambda: reflector.problem is None)


async def test_clean_end_goes_on_where_it_was(tmp_path: Path) -> None:
    """After an orderly end the next watch begins at the last event or bookmark, without a list."""
    api = Api()
    odd = event("BOOKMARK", {"metadata": {"resourceVersion": None}})
    api.watches = [end(event("ADDED", obj("a", 105))), end(bookmark(222)), end(odd), stay()]
    async with mirroring(api, tmp_path) as (_, mirror, _):
        await eventually(lambda: len(api.resumed) == 4)
        assert api.resumed == ["100", "105", "222", "222"]
        assert (api.listed, mirror.names()) == (1, ["a"])


async def test_expired_watch_leads_to_a_list_and_its_difference(tmp_path: Path) -> None:
    """After a 410 event the list is read again; what is missing in it was deleted meanwhile."""
    api = Api(obj("a", 1), obj("b", 2), obj("c", 3))
    later = [obj("a", 1), obj("c", 150, uid="uid-c2"), obj("d", 160)]
    api.watches = [expiring(api, 200, later), stay()]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        await eventually(lambda: lists() == 2)
        assert mirror.calls[3:] == [
            "delete uid-c ns/c",
            "upsert uid-c2 150",
            "upsert uid-d 160",
            "delete uid-b ns/b",
        ]
        await eventually(lambda: reflector.problem is None)
        assert api.resumed == ["100", "200"]


async def test_list_outlines_what_is_finished_and_parses_nothing_twice(tmp_path: Path) -> None:
    """A finished object comes whole only if it was known before; a known version not at all."""

    def ended(name: str, version: int) -> dict[str, Any]:
        document = obj(name, version)
        document["spec"]["retentionDays"] = 3
        attempt = {"channel": "c", "attempt": 1, "status": "success", "id": "0.7-1"}
        return document | {"status": fold({"phase": "Sent", "deliveryAttempts": [attempt]})}

    api = Api(obj("waits", 1), ended("ended", 2), obj("ends", 3))
    # What is known in this very version is passed over, whatever the text says now.
    known = obj("ended", 2) | {"spec": {"retentionDays": "cannot be parsed"}}
    api.watches = [expiring(api, 200, [obj("waits", 1), known, ended("ends", 9)]), stay()]
    async with mirroring(api, tmp_path) as (_, mirror, _):
        await eventually(lambda: lists() == 2)
        assert mirror.calls == [
            "upsert uid-waits 1",
            "upsert uid-ended 2",
            "upsert uid-ends 3",
            "upsert uid-ends 9",
        ]
        outline, whole = mirror.objects["uid-ended"], mirror.objects["uid-ends"]
        assert (outline.raw, outline.status.phase, outline.retention_days) == (b"", "Sent", 3)
        assert not outline.status.attempts
        assert [a.id for a in whole.status.attempts] == ["0.7-1"]
        assert whole.document()["status"]["phase"] == "Sent"
        assert mirror.objects["uid-waits"].spec().subject == "s"
        assert not any("cannot be parsed" in line for line in LOGGED)


async def test_expired_page_starts_the_list_anew(tmp_path: Path) -> None:
    """A continue token that is too old restarts the list; nothing is deleted on half a list."""
    api = Api(obj("a", 1), obj("b", 2))
    half = {"metadata": {"resourceVersion": "90", "continue": "t"}, "items": [obj("a", 1)]}

    async def first(_: web.Request) -> web.StreamResponse:
        api.version = 95
        return web.json_response(half)

    api.lists = [api.list, first, refuse(410, "Expired")]
    api.watches = [end(EXPIRED), stay()]
    api.version = 80
    async with mirroring(api, tmp_path) as (_, mirror, server):
        await eventually(lambda: api.listed == 4)
        await eventually(lambda: lists() == 2)
        assert mirror.calls == ["upsert uid-a 1", "upsert uid-b 2"]
        assert "continue=t" in server.seen[3]


async def test_pages_of_large_objects_are_smaller(tmp_path: Path) -> None:
    """A page that is too large is asked for again with fewer objects, from where it began; all are seen."""
    objects = [obj(f"n{n:02}", n + 1) for n in range(46)]
    for each in objects[20:26]:
        each["spec"]["body"] = "x" * 60_000
    api = Api(*objects)
    async with mirroring(api, tmp_path, page_size=16, page_bytes=100_000) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
        assert (len(mirror.objects), len(mirror.calls)) == (46, 46)
    # As many as may be at first; fewer where they are large; then more again.
    assert api.pages[:2] == [(0, 16), (16, 16)]
    assert {limit for begin, limit in api.pages if 16 <= begin < 26} <= {16, 4, 2, 1}
    assert api.pages[-1][1] > 2
    assert len(api.pages) < 25


async def test_object_larger_than_a_page_is_seen(tmp_path: Path) -> None:
    """A page of one object has no bound, as an event has."""
    huge = obj("huge", 7)
    huge["spec"]["body"] = "x" * (5 * 2**20)
    async with mirroring(Api(huge), tmp_path, page_size=1, page_bytes=1_000) as (_, mirror, _):
        await eventually(lambda: mirror.names() == ["huge"])


async def test_silent_watch_is_replaced(tmp_path: Path) -> None:
    """A watch without a line for the idle time is given up and resumed, without a list."""
    api = Api()
    api.watches = [stay(event("ADDED", obj("a", 101))), stay(event("ADDED", obj("b", 102)))]
    timings = replace(QUICK, idle_timeout=1.0)
    async with mirroring(api, tmp_path, timings=timings) as (_, mirror, _):
        began = monotonic_clock()
        await eventually(lambda: mirror.names() == ["a", "b"])
        assert monotonic_clock() - began > 0.9
        assert api.resumed[:2] == ["100", "101"]
        assert (api.listed, failures()) == (1, 1)


async def send_too_much(request: web.Request) -> web.StreamResponse:
    """Send an event that is longer than any is read."""
    large = obj("large", 101)
    large["spec"]["body"] = "x" * (5 * 2**20)
    return await send_lines(request, [event("ADDED", large)])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refuse(410, "Expired"), id="the version has expired"),
        pytest.param(refuse(400, "BadRequest", "invalid resource version"), id="it is refused"),
        pytest.param(send_too_much, id="an event is too long"),
        pytest.param(end(b"<html>bad gateway</html>\n"), id="a page"),
        pytest.param(end(b'{"type":"ADDED"}\n'), id="no object"),
        pytest.param(end(b"[]\n"), id="a list"),
        pytest.param(end(b'{"type":"ODD","object":{}}\n'), id="an unknown type"),
        pytest.param(end(b'{"type":"ADDED","object":{"metadata":{}}}\n'), id="no identity"),
        pytest.param(end(b'{"type":"ERROR","object":{"code":500}}\n'), id="an error"),
        pytest.param(end(b'{"type":"ERROR","object":null}\n'), id="an error without words"),
        pytest.param(end(b'{"type":"ADDED","object":null}\n'), id="null"),
        pytest.param(end(b'{"type":"DELETED","object":["a"]}\n'), id="an object that is none"),
    ],
)
async def test_a_watch_that_is_refused_or_not_understood_leads_to_a_list(
    tmp_path: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    """What a line meant cannot be known, so the list says what is there."""
    api = Api(obj("a", 1))
    api.watches = [answer]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        await eventually(lambda: lists() == 2)
        await eventually(lambda: reflector.problem is None)
    assert (mirror.calls, api.resumed, failures()) == (["upsert uid-a 1"], ["100", "100"], 1)


async def test_garbage_for_ever_does_not_spin(tmp_path: Path) -> None:
    """A server that sends garbage, even behind an event, is asked ever less often."""
    api = Api()

    async def garbage(request: web.Request) -> web.StreamResponse:
        api.version += 1
        return await send_lines(request, [event("ADDED", obj("a", api.version)), b"?\n"])

    api.watches = [garbage] * 1000
    async with mirroring(api, tmp_path, jitter=lambda: 0.5) as (reflector, _, _):
        began = monotonic_clock()
        await eventually(lambda: api.listed >= 6)
        assert monotonic_clock() - began > 0.6
        await eventually(lambda: "not an event" in (reflector.problem or ""))


async def test_type_that_is_not_served_deletes_nothing(tmp_path: Path) -> None:
    """A missing resource type holds what is known, says so, and goes on when it is back."""
    api = Api(obj("a", 1))
    api.lists = [api.list, text_404, refuse(404, "NotFound")]
    api.lists.append(refuse(429, "TooManyRequests", "storage is (re)initializing"))
    api.watches = [text_404, stay()]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        problems = set()

        def back() -> bool:
            problems.add(reflector.problem)
            return lists() == 2 and reflector.problem is None

        await eventually(back)
        missing = "the resource notificationrequests.kubernaut.ai is not served"
        assert problems == {None, f"watch of notifications: {missing}"}
        assert mirror.calls == ["upsert uid-a 1"]
        # Three of the four in a row for the same reason, which is told once.
        assert (failures(), api.listed) == (2, 5)


async def test_refused_access_holds_and_recovers(tmp_path: Path) -> None:
    """A 403 is told in readiness and deletes nothing; once it is granted all goes on."""
    api = Api(obj("a", 1))
    forbidden = refuse(403, "Forbidden", "User cannot watch")
    api.watches = [forbidden, forbidden, stay(event("ADDED", obj("b", 101)))]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        await eventually(lambda: "access is refused" in (reflector.problem or ""))
        await eventually(lambda: mirror.names() == ["a", "b"])
        assert (api.listed, api.resumed) == (1, ["100"] * 3)
        await eventually(lambda: reflector.problem is None)
        # Both refusals had the same reason.
        assert sum(" interrupted: 403 " in line for line in LOGGED) == 1


async def test_wait_that_the_server_asks_for_is_kept(tmp_path: Path) -> None:
    """Retry-After is honoured even where the own pause would be shorter; meanwhile nothing is synced."""
    api = Api()
    api.lists = [refuse(429, "TooManyRequests", "later", retryAfterSeconds=1)]
    async with mirroring(api, tmp_path) as (reflector, _, _):
        began = monotonic_clock()
        await eventually(lambda: "429" in (reflector.problem or ""))
        assert (reflector.synced, lists()) == (False, 0)
        await eventually(lambda: reflector.synced)
        assert monotonic_clock() - began > 0.9


async def test_object_that_does_not_parse_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an object is logged once without content, counted, not deleted, and ends no watch."""
    caplog.set_level(logging.WARNING)

    def odd(version: int) -> dict[str, Any]:
        document = obj("odd", version)
        document["spec"]["retentionDays"] = "secret-text"
        return document

    api = Api(obj("odd", 80), odd(90) | {"metadata": obj("odd2", 90)["metadata"]})
    lines = event("MODIFIED", odd(101)), event("ADDED", obj("b", 102))
    turn = expiring(api, 110, [odd(101), api.objects[1], obj("b", 102)], *lines)
    api.watches = [turn, stay(event("DELETED", odd(111)), event("ADDED", obj("c", 112)))]
    async with mirroring(api, tmp_path) as (_, mirror, _):
        await eventually(lambda: mirror.names() == ["b", "c"])
        assert mirror.calls == [
            "upsert uid-odd 80",
            "first uid-b 102",
            "delete uid-odd ns/odd",
            "first uid-c 112",
        ]
    warned = [r.getMessage() for r in caplog.records if "cannot be parsed" in r.getMessage()]
    assert warned == [
        "ns/odd2 cannot be parsed (ValueError) and is skipped",
        "ns/odd cannot be parsed (ValueError) and is skipped",
    ]
    assert "secret-text" not in caplog.text


async def test_entry_without_identity_stops_deletes(tmp_path: Path) -> None:
    """While a list holds an entry without uid or name, absence from it proves nothing."""
    api = Api(obj("a", 1))
    api.watches = [expiring(api, api.version, [{"metadata": {}}, None]), stay()]
    async with mirroring(api, tmp_path) as (_, mirror, _):
        await eventually(lambda: lists() == 2)
        assert mirror.names() == ["a"]


async def test_list_of_the_past_is_refused(tmp_path: Path) -> None:
    """A list older than what was shown before deletes nothing and is a problem until it is over."""
    api = Api(obj("a", 1))
    api.watches = [expiring(api, 120, [], event("ADDED", obj("b", 130))), stay()]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        await eventually(lambda: "older state" in (reflector.problem or ""))
        assert mirror.names() == ["a", "b"]
        api.objects, api.version = [obj("b", 130)], 140
        await eventually(lambda: mirror.names() == ["b"])


async def test_list_of_the_past_after_half_a_list_is_refused(tmp_path: Path) -> None:
    """What a list brought before it broke off is no more deleted by an older one than if it had not."""
    api = Api(obj("a", 1), version=100)

    async def half(_: web.Request) -> web.StreamResponse:
        meta = {"resourceVersion": "120", "continue": "more"}
        return web.json_response({"metadata": meta, "items": [obj("a", 1), obj("b", 110)]})

    api.lists = [half, refuse(500, "InternalError", "broken off")]
    async with mirroring(api, tmp_path) as (reflector, mirror, _):
        await eventually(lambda: "older state" in (reflector.problem or ""))
        assert mirror.calls == ["upsert uid-a 1", "upsert uid-b 110"]
        api.objects, api.version = [obj("a", 1), obj("b", 110)], 120
        await eventually(lambda: lists() == 1)
        assert mirror.names() == ["a", "b"]


async def test_old_list_is_renewed_when_a_watch_ends(tmp_path: Path) -> None:
    """Events that were never sent are found by the list that follows the resync period."""
    api = Api(obj("a", 1), obj("b", 2))

    async def lose(request: web.Request) -> web.StreamResponse:
        api.objects, api.version = [obj("a", 1), obj("c", 150)], 200
        await asyncio.sleep(0.4)
        return await send_lines(request, [])

    api.watches = [lose]
    async with mirroring(api, tmp_path, timings=replace(QUICK, resync=0.3)) as (_, mirror, _):
        await eventually(lambda: mirror.names() == ["a", "c"])
        assert api.resumed[0] == "100"


async def test_listed_waits_for_each_namespace(tmp_path: Path) -> None:
    """With several namespaces `listed` is told only when each of them was listed."""
    api, slow = Api(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        space = request.path.split("/")[5]
        if "watch" not in request.query and space == "two":
            await slow.wait()
        api.objects = [obj("a", 1, uid=f"uid-{space}", namespace=space)]
        return await api(request)

    spaces = ["one", "two", "one"]
    async with mirroring(handle, tmp_path, spaces) as (reflector, mirror, _):
        await eventually(lambda: lists() == 1)
        assert not reflector.synced
        slow.set()
        await eventually(lambda: reflector.synced)
        assert sorted(mirror.objects) == ["uid-one", "uid-two"]
    with pytest.raises(ValueError, match="no namespace"):
        await mirroring(handle, tmp_path, []).__aenter__()


async def test_nobody_waits_for_a_namespace_that_may_not_be_read(tmp_path: Path) -> None:
    """The others are listed and followed; of that one, nothing is taken for gone, and it may come back."""
    api = Api()
    reason = 'a is forbidden: User "u" cannot list resource "notificationrequests"'
    forbidden = refuse(403, "Forbidden", reason)
    refused, asked = {"two": forbidden}, list[str]()

    async def handle(request: web.Request) -> web.StreamResponse:
        space = request.path.split("/")[5]
        if space in refused:
            asked.append(space)
            return await refused[space](request)
        api.objects = [obj("a", 1, uid=f"uid-{space}", namespace=space)]
        return await api(request)

    async with mirroring(handle, tmp_path, ["one", "two"]) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
        assert (reflector.answered, sorted(map(str, reflector.refused))) == (True, ["two"])
        assert reflector.follows("uid-one")
        assert "namespace two: access is refused" in (reflector.problem or "")
        # Credentials that are not accepted for a moment say nothing of the right.
        refused["two"] = refuse(401, "Unauthorized", "Unauthorized")
        asked.clear()
        await eventually(lambda: len(asked) > 3)
        assert (reflector.answered, sorted(map(str, reflector.refused))) == (True, ["two"])
        refused.clear()
        await eventually(lambda: sorted(mirror.objects) == ["uid-one", "uid-two"])
        await eventually(lambda: reflector.problem is None)
        assert (reflector.refused, reflector.synced) == (frozenset(), True)
        assert not [call for call in mirror.calls if call.startswith("delete")]
    refused.update(one=forbidden, two=forbidden)
    async with mirroring(handle, tmp_path, ["one", "two"]) as (reflector, _, _):
        await eventually(lambda: reflector.refused == {"one", "two"})
        answers = (reflector.answered, reflector.synced, reflector.follows("uid-one"))
        assert answers == (False, False, False)


async def test_few_of_many_namespaces_are_listed_at_once(tmp_path: Path) -> None:
    """A page may take megabytes, and a start lists hundreds of namespaces."""
    api, under_way, most = Api(), 0, 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return await api.list(request)

    spaces = [f"n{n}" for n in range(30)]
    api.lists = [slow] * 30
    async with mirroring(api, tmp_path, spaces) as (reflector, _, _):
        await eventually(lambda: reflector.synced)
    assert 1 < most <= 8


async def test_error_of_the_sink_is_not_swallowed(tmp_path: Path) -> None:
    """A sink that fails ends the reflector, loudly."""

    class Broken(Mirror):
        def upsert(self, obj: NotificationRequest, *, first_seen_by_watch: bool) -> None:
            raise ZeroDivisionError

    async with (
        ScriptedServer(Api(obj("a", 1))) as server,
        await KubeClient.connect(
            write_kubeconfig(tmp_path / "k", server.url), user_agent="t"
        ) as client,
    ):
        reflector = Reflector(
            client, None, Broken(), clock=monotonic_clock, owned=Everything(), timings=QUICK
        )
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(reflector.run(), 60)
        assert caught.group_contains(ZeroDivisionError)


def manifest(name: str) -> dict[str, Any]:
    """Return an object as its creator writes it."""
    document = obj(name, 0)
    document["metadata"] = {"name": name}
    return document


async def test_real_server_is_mirrored_over_a_restart(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Objects of a real API server arrive, change, go, and survive its death and return."""
    path = list_path(namespace)
    async with await KubeClient.connect(str(control_plane.kubeconfig), user_agent="t") as client:

        async def create(name: str) -> None:
            await client.request("POST", path, body=manifest(name), timeout=10)

        for n in range(5):
            await create(f"n{n}")
        async with following(client, [namespace], page_size=2) as (reflector, mirror):
            await eventually(lambda: lists() == 1)
            assert mirror.names() == ["n0", "n1", "n2", "n3", "n4"]
            # A busy server may end the first watch at once; a list tells of the next object then.
            probes: list[str] = []
            while not probes or not mirror.calls[-1].startswith("first"):
                probes.append(f"p{len(probes)}")
                await create(probes[-1])
                await eventually(lambda: probes[-1] in mirror.names())
            told = len(mirror.calls)
            await create("w")
            await client.request(
                "PATCH",
                f"{path}/n0",
                body={"metadata": {"labels": {"k": "v"}}},
                content_type=MERGE_PATCH,
                timeout=5,
            )
            await control_plane.request("DELETE", f"{path}/n1")
            await control_plane.request("DELETE", f"{path}/n2")
            await create("n2")
            await eventually(lambda: len(mirror.calls) == told + 5)
            assert [c.split()[0] for c in mirror.calls[told:]] == [
                "first",
                "upsert",
                "delete",
                "delete",
                "first",
            ]
            before = lists()
            await control_plane.kill_apiserver()
            await eventually(lambda: reflector.problem)
            calls = list(mirror.calls)
            await control_plane.restart_apiserver()
            await create("after")
            await eventually(lambda: "after" in mirror.names())
            # Every older version has expired with the server's memory: this was found by a list, whose
            # pages are handed over as they come.
            await eventually(lambda: lists() > before)
            assert [c.split()[0] for c in mirror.calls[len(calls) :]] in (["upsert"], ["first"])
            await eventually(lambda: reflector.problem is None)
            await control_plane.request("DELETE", f"{path}/after")
            await eventually(lambda: mirror.names() == ["n0", "n2", "n3", "n4", *probes, "w"])


async def test_real_type_may_come_late_and_go(
    control_plane_assets: Path, request: pytest.FixtureRequest
) -> None:
    """Without its CRD the mirror holds; a CRD that comes, goes and returns is followed."""
    crd = request.config.rootpath / "charts" / "notification-ledger" / "files" / "crd.yaml"
    async with ControlPlane(control_plane_assets, bare=True) as plane:
        client = await KubeClient.connect(str(plane.kubeconfig), user_agent="t")
        async with client, following(client, None) as (reflector, mirror):
            await eventually(lambda: "is not served" in (reflector.problem or ""))
            assert not reflector.synced
            await asyncio.to_thread(plane.api.apply_crd, crd)
            await client.request("POST", list_path("default"), body=manifest("a"), timeout=10)
            await eventually(lambda: mirror.names() == ["a"])
            crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            await plane.request("DELETE", f"{crds}/notificationrequests.kubernaut.ai")
            await eventually(lambda: "is not served" in (reflector.problem or ""))
            before = lists()
            await asyncio.to_thread(plane.api.apply_crd, crd)
            await client.request("POST", list_path("default"), body=manifest("b"), timeout=10)
            await eventually(lambda: mirror.names() == ["b"])
            assert lists() > before


# -- lists in brief ------------------------------------------------------------------------------


def phased(name: str, version: int, phase: str) -> dict[str, Any]:
    """Return an object with a phase."""
    return {**obj(name, version), "status": {"phase": phase}}


class Brief(Api):
    """Tells everything in brief and what is asked for by name; `between` happens in between."""

    def __init__(self, *objects: dict[str, Any], **more: Any) -> None:
        """Begin with some objects."""
        super().__init__(*objects, **more)
        self.asked: list[str] = []
        self.between: Callable[[], None] = lambda: None
        #: Whether the definition lets the phase be selected, as Kubernaut's does not.
        self.selects = False

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer one of the lists."""
        in_brief = "as=Table" in request.headers["Accept"]
        self.asked.append("brief" if in_brief else "whole")
        if not in_brief:
            return await super().list(request)
        meta, objects = self.page(request)
        rows = [
            {"cells": [o["metadata"]["name"], o["status"]["phase"]], "object": {
                "kind": "PartialObjectMetadata", "metadata": o["metadata"],
            }}
            for o in objects
        ]  # fmt: skip
        self.between()
        columns = [{"name": "Name"}, {"name": "Phase"}]
        return web.json_response(
            {"kind": "Table", "metadata": meta, "columnDefinitions": columns, "rows": rows}
        )

    async def unfinished(self, request: web.Request) -> web.StreamResponse:
        """Answer a list of what has no final phase."""
        if not self.selects:
            return status(400, "BadRequest", "field label not supported: status.phase")
        self.asked.append("unfinished")
        all_of_them = self.objects
        self.objects = [o for o in all_of_them if o["status"]["phase"] not in TERMINAL_PHASES]
        answer = await super().list(request)
        self.objects = all_of_them
        if "continue" in request.query:
            self.between()
        return answer

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a list, a watch, or with one object."""
        if request.query.get("fieldSelector") == UNFINISHED:
            return await self.unfinished(request)
        if request.path.endswith("/notificationrequests"):
            return await super().__call__(request)
        return await self.get(request)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer with one object."""
        name = request.path.rpartition("/")[2]
        self.asked.append(name)
        for each in self.objects:
            if each["metadata"]["name"] == name:
                return web.json_response(each)
        return status(404, "NotFound", f"{name} not found", name=name, kind="notificationrequests")


async def test_what_is_finished_comes_in_brief(tmp_path: Path) -> None:
    """Finished objects come by name, version and phase, and unfinished ones are read."""
    api = Brief(phased("a", 1, "Sent"), phased("b", 2, "Sending"), phased("c", 3, "Failed"))
    async with mirroring(api, tmp_path, brief=lambda: True) as (reflector, mirror, _):
        await eventually(lambda: lists() == 1)
        assert reflector.synced
    assert api.asked == ["brief", "b"]
    assert mirror.calls == ["upsert uid-a 1", "upsert uid-c 3", "upsert uid-b 2"]
    shown = {o.name: (o.status.phase, bool(o.raw)) for o in mirror.objects.values()}
    assert shown == {"a": ("Sent", False), "b": ("Sending", True), "c": ("Failed", False)}


async def test_what_is_unfinished_comes_in_pages_where_it_can_be_selected(tmp_path: Path) -> None:
    """None of it is read by itself but what became unfinished since."""
    api = Brief(phased("a", 1, "Sent"), *(phased(f"n{n}", n + 2, "Sending") for n in range(5)))
    api.selects = True
    first, new = api.objects, phased("new", 101, "")

    def create() -> None:
        api.objects, api.version = [*first, new], 101

    api.between = create
    async with mirroring(api, tmp_path, brief=lambda: True, page_size=3) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
    assert api.asked == ["unfinished", "unfinished", "brief", "brief", "brief", "new"]
    assert {o.name for o in mirror.objects.values() if not o.raw} == {"a"}
    assert len(mirror.objects) == 7


async def test_where_much_is_unfinished_whole_objects_are_listed(tmp_path: Path) -> None:
    """A page of them is read one by one at most, or one object of eight."""
    api = Brief(*(phased(f"n{n}", n + 1, "Sending") for n in range(5)))
    async with mirroring(api, tmp_path, brief=lambda: True, page_size=4) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
        assert len(mirror.objects) == len(api.objects)
    assert sorted(set(api.asked)) == ["brief", "n0", "n1", "n2", "n3", "whole"]


async def test_a_page_in_brief_is_bounded(tmp_path: Path) -> None:
    """Large annotations make it shorter, as they do a page of whole objects."""
    api = Brief(*(phased(f"n{n}", n + 1, "Sent") for n in range(16)))
    for each in api.objects[8:]:
        each["metadata"]["annotations"] = {"notification-ledger/hold": "x" * 50_000}
    sizes: dict[str, Any] = {"page_size": 16, "page_bytes": 100_000}
    async with mirroring(api, tmp_path, brief=lambda: True, **sizes) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
        assert len(mirror.objects) == 16
    limits = [limit for _, limit in api.pages]
    assert limits[:3] == [16, 2, 4]
    assert max(limits[3:]) <= 8
    assert 1 in limits


async def test_second_list_in_brief_tells_what_is_news(tmp_path: Path) -> None:
    """What is known is passed over, what is gone is deleted, an own write is not handed over."""
    api = Brief(*(phased(n, v, p) for n, v, p in (("a", 1, "Sent"), ("b", 2, ""), ("c", 3, ""))))
    api.watches = [stay(EXPIRED)]
    async with mirroring(api, tmp_path, brief=lambda: True) as (_, mirror, _):
        await eventually(lambda: lists() == 1)
        mirror.own.add(("uid-b", "105"))
        api.objects = [phased("b", 105, "Sent"), phased("c", 106, "Failed"), phased("d", 107, "")]
        api.version = 110
        await eventually(lambda: lists() == 2)
    news = ["upsert uid-c 106", "upsert uid-d 107", "delete uid-a ns/a"]
    assert mirror.calls[3:] == news


async def test_what_changes_between_list_and_read_is_told_by_the_watch(tmp_path: Path) -> None:
    """The watch begins at the list: what is read later is newer, and what is gone was deleted after it."""
    api = Brief(
        phased("a", 1, "Sending"), phased("b", 2, "Sent"), phased("c", 3, ""), phased("d", 4, "")
    )  # fmt: skip

    def change() -> None:
        again = phased("d", 103, "")
        again["metadata"]["uid"] = "uid-e"
        api.objects = [phased("a", 101, "Sent"), phased("b", 2, "Sent"), again]
        api.version = 103

    api.between = change
    after = [
        ("MODIFIED", phased("a", 101, "Sent")), ("DELETED", phased("c", 102, "")),
        ("DELETED", phased("d", 102, "")),
    ]  # fmt: skip
    api.watches = [stay(*(event(kind, o) for kind, o in after))]
    async with mirroring(api, tmp_path, brief=lambda: True) as (_, mirror, _):
        await eventually(lambda: lists() == 1)
        api.watches = []
    assert api.resumed == ["100"]
    assert mirror.calls[:2] == ["upsert uid-b 2", "upsert uid-a 101"]
    assert {o.uid: bool(o.raw) for o in mirror.objects.values()} == {"uid-a": True, "uid-b": False}


async def test_a_read_that_fails_fails_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again, and what was taken until then is right."""
    api = Brief(phased("a", 1, "Sending"), phased("b", 2, "Sent"))
    answers = iter([refuse(503, "ServiceUnavailable", "not now"), api.get])

    async def answer(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    monkeypatch.setattr(api, "get", answer)
    async with mirroring(api, tmp_path, brief=lambda: True) as (reflector, mirror, _):
        await eventually(lambda: reflector.synced)
        assert sorted(mirror.names()) == ["a", "b"]
    assert api.asked == ["brief", "brief", "a"]


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        pytest.param(
            always(lambda: web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})),
            ["whole"], id="no table",
        ),
        pytest.param(
            always(lambda: web.json_response({"kind": "Table", "metadata": {}, "columnDefinitions": []})),
            ["whole"], id="no phase",
        ),
        # A 403 says nothing about what the server can: it is asked in brief again.
        pytest.param(refuse(403, "Forbidden", "no"), ["brief", "b"], id="no access"),
    ],
)  # fmt: skip
async def test_whole_list_where_the_other_is_not_to_be_had(
    tmp_path: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], asked: list[str]
) -> None:
    """A server that cannot list in brief is asked for everything."""
    api = Brief(phased("a", 1, "Sent"), phased("b", 2, "Sending"))
    api.lists = [answer]
    async with mirroring(api, tmp_path, brief=lambda: True) as (_, mirror, _):
        await eventually(lambda: lists() == 1)
        assert {o.name: bool(o.raw) for o in mirror.objects.values()} == {"a": False, "b": True}
    assert api.asked == asked


async def test_real_server_lists_in_brief(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The real server prints the phase, page by page, also where nothing is there."""
    control_plane.heal()
    caplog.set_level(logging.INFO)
    path = list_path(namespace)
    async with await KubeClient.connect(str(control_plane.kubeconfig), user_agent="t") as client:
        async with following(client, [namespace], brief=lambda: True):
            await eventually(lambda: lists() == 1)
        for n in range(7):
            made = await client.request("POST", path, body=manifest(f"n{n}"), timeout=10)
            if n % 3:
                patch = {
                    "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
                    "status": {"phase": "Sent" if n % 2 else "Failed"},
                }
                await client.request(
                    "PATCH", f"{path}/n{n}/status", body=patch, content_type=MERGE_PATCH, timeout=5
                )
        brief = following(client, [namespace], page_size=2, brief=lambda: True)
        async with brief as (_, mirror):
            await eventually(lambda: lists() == 2)
    shown = {o.name: (o.status.phase, bool(o.raw)) for o in mirror.objects.values()}
    assert shown == {
        "n0": ("", True), "n1": ("Sent", False), "n2": ("Failed", False), "n3": ("", True),
        "n4": ("Failed", False), "n5": ("Sent", False), "n6": ("", True),
    }  # fmt: skip
    assert "listed in full" not in caplog.text


class Losing(Reflector):
    """Loses every event about the names in `losing`."""

    losing: frozenset[str] = frozenset()
    #: Kinds and names of the events that were lost.
    lost: list[tuple[str, str]]

    def _event(self, scope: Scope, line: bytes) -> None:
        event = json.loads(line)
        name = event["object"]["metadata"].get("name")
        if name in self.losing:
            self.lost.append((event["type"], name))
        else:
            super()._event(scope, line)


@pytest.mark.parametrize("many", [False, True], ids=["a few", "many"])
async def test_what_a_watch_has_lost_is_found(
    control_plane: ControlPlane, namespace: str, many: bool
) -> None:
    """A new object and a new version are read, many are listed, and of the rest nothing is read again."""
    mirror, missed = Mirror(), list[int]()
    names = [f"lost-{n}" for n in range(33 if many else 1)]
    path = list_path(namespace)
    async with (
        await KubeClient.connect(str(control_plane.kubeconfig), user_agent="t") as author,
        # The rights of the controller that is replaced suffice.
        await KubeClient.connect(
            str(control_plane.controller_kubeconfig), user_agent="t"
        ) as client,
    ):
        reflector = Losing(
            client,
            [namespace],
            mirror,
            clock=monotonic_clock,
            owned=Everything(),
            timings=replace(QUICK, compare=1.0, lag=0.5),
            page_size=5,
            on_missed=missed.append,
        )
        reflector.lost, reflector.losing = [], frozenset()
        async with beside(reflector.run()):
            await eventually(lambda: lists() == 1)
            for name in ("kept", "changed"):
                await author.request("POST", path, body=manifest(name), timeout=10)
            await eventually(lambda: mirror.names() == ["changed", "kept"])
            assert missed == []
            reflector.losing = frozenset({*names, "changed"})
            # At once, so that few of them are found before the rest is there.
            posts = (author.request("POST", path, body=manifest(n), timeout=10) for n in names)
            await asyncio.gather(*posts)
            body = {"metadata": {"labels": {"a": "b"}}}
            changed = await author.request(
                "PATCH", f"{path}/changed", body=body, content_type=MERGE_PATCH, timeout=10
            )
            # The watch has reached what it has lost.
            await author.request("POST", path, body=manifest("late"), timeout=10)
            version = changed["metadata"]["resourceVersion"]
            await eventually(
                lambda: (
                    {*names, "late"} <= set(mirror.names())
                    and f"upsert {changed['metadata']['uid']} {version}" in mirror.calls
                )
            )
            assert {("ADDED", name) for name in names} | {("MODIFIED", "changed")} == set(
                reflector.lost
            )
            found = list(missed)
            # A list that is made for many brings what comes meanwhile, which then counts as nothing lost.
            least = min(33, len(names) + 1)
            assert least <= sum(found) <= len(names) + 1, found
            assert lists() == 1 + sum(number > 32 for number in found)
            await asyncio.sleep(2.5)  # two rounds more
            assert missed == found
