"""What the operators' command sees in its tests: a Redis in memory and objects in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest

from syncer.cli.access import Access
from syncer.cli.installation import Store, StoreState
from syncer.cli.scan import Scan
from syncer.kube.notification_requests import ObjectPage, Page, Unreadable
from syncer.ledger.reading import read_log
from syncer.model.attempt import Epoch
from syncer.model.errors import Gone, Unauthorised
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from syncer.rules.merge import Facts, merge
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.unit.syncer.cli.samples import NOW, PLAN, elements, request

LOG: Final = elements(PLAN)


def named(uid: str, namespace: str = "ns") -> NotificationRequest:
    """An object without attempts that agrees with `LOG`."""
    found = request()
    facts = Facts(found.generation, found.policy)
    status = merge(found.status, read_log(LOG).view, facts, now=NOW).status
    return replace(found, uid=uid, namespace=namespace, name=f"n{uid}", status=status)


def logged(uid: str, namespace: str = "ns") -> tuple[bytes, ...]:
    """The log of such an object."""
    return elements(PLAN, header=Header(f"{namespace}/n{uid}", Epoch("0.7")))


class Objects:
    """The API server: pages by namespace, None for all; what is no page is raised, once."""

    def __init__(self, *pages: ObjectPage | Exception, namespace: str | None = None) -> None:
        self.pages: dict[str | None, list[ObjectPage | Exception]] = {namespace: list(pages)}
        self.asked: list[tuple[str | None, int, str]] = []
        self.kept: dict[str, NotificationRequest | Exception] = {}

    async def list_page(
        self,
        namespace: str | None,
        *,
        limit: int,
        continue_token: str = "",
    ) -> ObjectPage:
        self.asked.append((namespace, limit, continue_token))
        found = self.pages[namespace].pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        found = self.kept.get(f"{namespace}/{name}", Gone(name))
        if isinstance(found, Exception):
            raise found
        return found


class Held(Objects):
    """The API server with these objects, as often as it is asked; what may not be seen is an error."""

    def __init__(self, *objects: NotificationRequest, sees: str | None = None) -> None:
        super().__init__()
        self.kept = {one.key: one for one in objects}
        self.sees = sees

    async def list_page(
        self, namespace: str | None, *, limit: int, continue_token: str = ""
    ) -> ObjectPage:
        self.asked.append((namespace, limit, continue_token))
        if self.sees not in {None, namespace}:
            raise Unauthorised("not you")
        found = (one for one in self.kept.values() if isinstance(one, NotificationRequest))
        return page(*(one for one in found if namespace in {None, one.namespace}))


class World:
    """What `Access` gives a scan."""

    def __init__(self, objects: Objects) -> None:
        self.redis = MemoryRedis(lambda: NOW)
        self.objects = objects
        self.log: Any = MemoryLog(self.redis)
        self.client: Any = self.log.client
        self.settings = SimpleNamespace(
            sharding=SimpleNamespace(incarnation=3, lease_name="nl"),
            delivery=SimpleNamespace(at_most_once=True, paused=False, max_age=0.0),
            sync=SimpleNamespace(max_status_bytes=4_000),
            controller=SimpleNamespace(namespaces="*"),
        )
        self.configured = True
        self.kube: Any = None
        self.problem = "not asked"
        self.warnings: tuple[str, ...] = ()
        self.scan = Scan()

    async def now(self) -> int:
        return NOW

    def give(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        """Have commands find it, with a store that is theirs."""

        @asynccontextmanager
        async def access(_where: object) -> AsyncIterator[World]:
            yield self

        trusted = Store(StoreState.OURS)
        for module in modules:
            monkeypatch.setattr(module, "access", access)
            monkeypatch.setattr(module, "trusted_store", AsyncMock(return_value=trusted))

    @property
    def at(self) -> Access:
        return cast("Access", self)

    def put(self, uid: str, log: Sequence[bytes] = LOG, *, ttl: float = -1) -> None:
        """Store a log, which expires after so many seconds."""
        self.redis.twin.logs[f"nl:{{{uid}}}"] = list(log)
        if ttl >= 0:
            self.redis.twin.expires[f"nl:{{{uid}}}"] = NOW + round(ttl * 1000)


def page(
    *objects: NotificationRequest | Unreadable, token: str = "", version: str = "77"
) -> ObjectPage:
    """A page of a list."""
    return Page(objects, 0, token, version)
