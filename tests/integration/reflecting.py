"""A reflector and the stand-in that it follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from syncer.kube.client import KubeClient
from syncer.kube.reflector import Reflector, ReflectorTimings
from syncer.model.resource import NotificationRequest
from syncer.rules.shards import Sharding
from syncer.runtime.clock import monotonic_clock
from tests.beside import beside
from tests.integration.scripted import (
    ScriptedServer,
    send_lines,
    write_kubeconfig,
)

QUICK = ReflectorTimings(
    request_timeout=5, watch_timeout=30, idle_timeout=20, pause_min=0.05, pause_max=0.4, settled=0.3
)


class Everything:
    """One shard that is always owned, so that all objects are followed."""

    sharding = Sharding(1)
    owned: ClassVar = {0: "for good"}

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None


def obj(name: str, version: int, uid: str = "", namespace: str = "ns") -> dict[str, Any]:
    """Return an object as the API server sends it."""
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
        },
        "spec": {"type": "Simple", "priority": "Medium", "subject": "s", "body": "b"},
    }


def event(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return an event of a watch."""
    return {"type": kind, "object": document}


#: What the reflector has logged in this test.
LOGGED: list[str] = []


class _Logged(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    """Note what is logged."""
    logger, handler = logging.getLogger("ledger.kube"), _Logged()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    LOGGED.clear()
    yield
    logger.removeHandler(handler)
    logger.setLevel(before)


def lists() -> int:
    """How many lists were complete."""
    return LOGGED.count("objects are listed")


def failures() -> int:
    """How many lists and watches failed."""
    return sum(" interrupted: " in line or "are not listed" in line for line in LOGGED)


class Mirror:
    """A sink that keeps what it was told, and how."""

    def __init__(self) -> None:
        """Begin empty."""
        self.objects: dict[str, NotificationRequest] = {}
        self.calls: list[str] = []
        #: Versions known before the watch tells of them.
        self.own: set[tuple[str, str]] = set()
        #: Uids of which something is kept when they are let go of.
        self.kept: set[str] = set()

    def has(self, uid: str, resource_version: str) -> bool:
        """Whether that version is one of `own`."""
        return (uid, resource_version) in self.own

    def upsert(self, obj: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        """Keep the object by uid."""
        self.objects[obj.uid] = obj
        how = "first" if first_seen_by_watch else "upsert"
        self.calls.append(f"{how} {obj.uid} {obj.resource_version}")

    def delete(self, uid: str, namespace: str, name: str, last: object = None) -> None:
        """Forget the object."""
        self.objects.pop(uid, None)
        self.calls.append(f"delete {uid} {namespace}/{name}")

    def release(self, uid: str) -> bool:
        """Let go of the object, unless it is one of `kept`."""
        self.calls.append(f"release {uid}")
        if uid in self.kept:
            return False
        self.objects.pop(uid, None)
        return True

    def names(self) -> list[str]:
        """Return the names of what is there."""
        return sorted(o.name for o in self.objects.values())


class Api:
    """Lists what `objects` holds at `version`; watches follow the script, then stay silent."""

    def __init__(self, *objects: dict[str, Any], version: int = 100) -> None:
        """Begin with some objects."""
        self.objects = list(objects)
        self.version = version
        self.lists: list[Any] = []
        self.watches: list[Any] = []
        self.resumed: list[str] = []
        self.listed = 0
        #: Where each page that was asked for begins, and how many objects it may have.
        self.pages: list[tuple[int, int]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a list or a watch."""
        if "watch" in request.query:
            self.resumed.append(request.query["resourceVersion"])
            answer = self.watches.pop(0) if self.watches else stay()
        else:
            self.listed += 1
            answer = self.lists.pop(0) if self.lists else self.list
        result: web.StreamResponse = await answer(request)
        return result

    def page(self, request: web.Request) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Return what is asked for: the metadata of a page, and its objects."""
        begin, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
        self.pages.append((begin, limit))
        end = begin + limit
        more = {"continue": str(end)} if end < len(self.objects) else {}
        return {"resourceVersion": str(self.version)} | more, self.objects[begin:end]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page."""
        meta, objects = self.page(request)
        return web.json_response({"metadata": meta, "items": objects})


def stay(*lines: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a watch that sends lines and then stays open in silence."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await send_lines(request, lines)
        await asyncio.sleep(60)
        return web.Response()

    return answer


@asynccontextmanager
async def following(
    client: KubeClient, namespaces: list[str] | None, sink: Mirror | None = None, **more: Any
) -> AsyncIterator[tuple[Reflector, Mirror]]:
    """Run a reflector of some namespaces, or of all; when it has ended, none of its tasks is left."""
    mirror = sink or Mirror()
    parts: dict[str, Any] = {
        "clock": monotonic_clock,
        "timings": QUICK,
        "owned": Everything(),
    } | more
    reflector = Reflector(client, namespaces, mirror, **parts)
    async with beside(reflector.run()):
        yield reflector, mirror
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("reflector")]


@asynccontextmanager
async def mirroring(
    api: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tmp_path: Path,
    namespaces: list[str] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Reflector, Mirror, ScriptedServer]]:
    """Run a reflector against a scripted server."""
    async with (
        ScriptedServer(api) as server,
        await KubeClient.connect(
            write_kubeconfig(tmp_path / "k", server.url), user_agent="t", watches=30
        ) as client,
        following(client, namespaces, **more) as (reflector, mirror),
    ):
        yield reflector, mirror, server
