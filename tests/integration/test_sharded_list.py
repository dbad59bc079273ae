"""
Lists and watches of some shards, on servers that select by shard and on servers that do not.

The stand-in and the real API server are asked the same, each with the feature gate and without it. It is
also the proof that shards are told apart as the server tells them apart.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import pytest

from syncer.model.resource import Json
from syncer.rules.shards import Sharding
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.integration.api import Api, Reply

# One process for all that need a server that selects by shard: it is a second one.
pytestmark = pytest.mark.xdist_group("selecting by shard")

FOUR: Final = Sharding(4)
TABLE: Final = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
FAR: Final = "0x1000000000000000"


@dataclass(frozen=True, slots=True)
class Place:
    """A client in a fresh namespace, and whether its server selects by shard."""

    api: Api
    sharded: bool

    def of(self, objects: dict[str, Json], *shards: int) -> list[str]:
        """Names of those that the server should send: all, if it takes no notice of shards."""
        chosen = shards if self.sharded else range(4)
        return sorted(n for n, o in objects.items() if FOUR.of(o["metadata"]["uid"]) in chosen)

    async def list(
        self, selector: str, query: str = "", *, headers: dict[str, str] | None = None
    ) -> Reply:
        """Ask for a list of some shards."""
        path = f"{self.api.requests}?shardSelector={quote(selector)}{query}"
        return await self.api.ask("GET", path, headers=headers)


@pytest.fixture(params=["real", "real without it", "standin", "standin without it"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Return a place on each of four servers."""
    kind, _, without = request.param.partition(" ")
    standin = None
    if kind == "real":
        plane = request.getfixturevalue("control_plane" if without else "sharded_control_plane")
        plane.heal()
        url, token, ca = plane.server, plane.admin_token, plane.ca_file
    else:
        standin = FakeApiServer(ApiState(sharded=not without))
        await standin.start()
        url, token, ca = standin.url, "", None
    namespace = f"test-{uuid.uuid4()}"
    async with Api(url, token, ca, namespace) as api:
        made = await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.code == 201, made.body
        yield Place(api, not without)
    if standin:
        await standin.stop()


async def crowd(api: Api) -> dict[str, Json]:
    """Create enough objects that each of four shards has some."""
    objects = {f"n{n:02}": await api.create(f"n{n:02}") for n in range(24)}
    while len({FOUR.of(o["metadata"]["uid"]) for o in objects.values()}) < 4:
        name = f"n{len(objects)}"
        objects[name] = await api.create(name)
    return objects


def names(answer: Reply) -> list[str]:
    """Names in a list."""
    return [o["metadata"]["name"] for o in answer.body["items"]]


async def test_list_holds_some_shards(place: Place) -> None:
    """One range, several, and all of them; a server without the gate sends everything."""
    objects = await crowd(place.api)
    for shards in ((0,), (3,), (1, 2), (0, 2), (1, 3), (0, 1, 2, 3)):
        answer = await place.list(FOUR.selector(shards))
        assert names(answer) == place.of(objects, *shards), shards
        # A list of custom resources does not tell whether it was narrowed.
        assert "shardInfo" not in answer.body["metadata"]


async def test_pages_hold_some_shards(place: Place) -> None:
    """Page after page by their token, beside a selector of fields, and as a table."""
    objects = await crowd(place.api)
    wanted, selector = place.of(objects, 0, 3), FOUR.selector((0, 3))
    found, token = [], ""
    while True:
        query = f"&limit=3&fieldSelector=spec.type!%3DApproval{token}"
        answer = await place.list(selector, query)
        assert len(names(answer)) <= 3
        assert "remainingItemCount" not in answer.body["metadata"]
        found += names(answer)
        if not answer.body["metadata"].get("continue"):
            break
        token = f"&continue={answer.body['metadata']['continue']}"
    assert found == wanted
    table = await place.list(selector, headers=TABLE)
    assert [r["object"]["metadata"]["name"] for r in table.body["rows"]] == wanted


async def test_watch_brings_some_shards(place: Place) -> None:
    """From a version on, its past included: creations, changes and deletions of these shards alone."""
    start = (await place.api.create("first"))["metadata"]["resourceVersion"]
    objects = await crowd(place.api)
    for name in objects:
        await place.api.ask(
            "PATCH", f"{place.api.requests}/{name}/status", {"status": {"phase": "Pending"}}
        )
        await place.api.ask("DELETE", f"{place.api.requests}/{name}")
    query = {
        "shardSelector": FOUR.selector((1, 2)),
        "resourceVersion": start,
        "timeoutSeconds": "2",
    }
    async with place.api.watch(place.api.requests, **query) as events:
        seen = [(e.type, e.object["metadata"]["name"]) async for e in events]
    wanted = place.of(objects, 1, 2)
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        assert [name for what, name in seen if what == kind] == wanted


REFUSED: Final = {
    "it is no selector": (
        "all", "unexpected expression kind 3; expected shardRange() call or || operator"
    ),
    "another field": (
        f"shardRange(object.metadata.name, '{FAR}', '0x10000000000000000')",
        (
            'unsupported field path "object.metadata.name"; supported: object.metadata.uid,'
            " object.metadata.namespace"
        ),
    ),
    "too few digits": (
        "shardRange(object.metadata.uid, '0x0', '0x1')",
        (
            'hexStart must be a 0x-prefixed 16-digit hex value, got "0x0" (did you mean'
            ' "0x0000000000000000"?)'
        ),
    ),
    "an empty range": (
        f"shardRange(object.metadata.uid, '{FAR}', '{FAR}')",
        f"shard range start {FAR} must be less than end {FAR}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_selector(place: Place, case: str) -> None:
    """A bad selector is an error of the server; without the gate nobody reads it."""
    selector, problem = REFUSED[case]
    if not place.sharded:
        assert (await place.list(selector)).code == 200
        return
    for query in ("", "&watch=1&timeoutSeconds=1"):
        answer = await place.list(selector, query)
        assert (answer.code, answer.reason) == (500, "")
        assert answer.message == f"invalid shard selector: {problem}"
