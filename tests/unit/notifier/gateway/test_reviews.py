"""Who sends, asked of the API server: what those who make up tokens take from those who are let in."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.reviews import _KEPT, _PENDING, ALLOWED, TOKENS, Reviews
from notifier.gateway.translation import Source
from syncer.kube.client import KubeClient
from syncer.model.errors import Unavailable
from syncer.model.resource import Json
from tests.virtual import on_virtual_time

SOURCE = cast("Source", SimpleNamespace(name="am", namespaces=("default",)))
OTHER = cast("Source", SimpleNamespace(name="other", namespaces=("default",)))
AUDIENCES = ("gateway",)


class Server:
    """Knows one token; answers while `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reviewed: list[str] = []
        self.asked: list[Json] = []
        self.known = "good"
        self.audiences = ["gateway"]
        self.allowed = True
        self.user: Json = {"username": "sender"}
        self.fails = False

    async def request(self, _method: str, path: str, *, body: Json, **_: Any) -> Json:
        await self.open.wait()
        if path != TOKENS:
            self.asked.append(body["spec"])
            return {"status": {"allowed": self.allowed}}
        token = body["spec"]["token"]
        self.reviewed.append(token)
        if token != self.known:
            return {"status": {"authenticated": False, "audiences": self.audiences}}
        if self.fails:
            raise Unavailable("away")
        status = {"authenticated": True, "audiences": self.audiences, "user": self.user}
        return {"status": status}


class World:
    """Reviews, their server and their clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.server = Server()
        self.reviews = Reviews(cast("KubeClient", self.server), lambda: self.now)

    async def check(self, token: str, source: Source = SOURCE) -> str:
        try:
            headers = {"authorization": f"Bearer {token}"}
            await self.reviews.check(Incoming(headers, b""), source, AUDIENCES)
        except Refused as refused:
            return str(refused.status)
        except Unavailable:
            return "later"
        return "in"


@pytest.fixture
def world() -> World:
    """Nothing is known yet."""
    return World()


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer  ", "Basic good", "good", f"Bearer {'x' * 100_000}"]
)
async def test_what_is_no_token_is_not_asked_about(header: str, world: World) -> None:
    """It is refused at once: the API server has nothing to say of it."""
    with pytest.raises(Refused, match="a Kubernetes token is required") as caught:
        await world.reviews.check(Incoming({"authorization": header}, b""), SOURCE, AUDIENCES)
    assert caught.value.status == 401
    assert world.server.reviewed == []


async def test_whether_the_owner_may_is_asked_by_what_is_known_of_him(world: World) -> None:
    """As the API server told it, since webhooks decide by the groups, too; about the source's object."""
    known: Json = {"user": "sender", "uid": "7", "groups": ["a"], "extra": {"scopes": ["b"]}}
    assert await world.check("good") == "in"
    world.server.user |= {key: value for key, value in known.items() if key != "user"}
    assert await world.check("good", OTHER) == "in"
    less, more = world.server.asked
    assert (sorted(less), less["user"]) == (["resourceAttributes", "user"], "sender")
    assert more == known | {"resourceAttributes": more["resourceAttributes"]}
    assert more["resourceAttributes"].items() >= {
        "verb": "create", "namespace": "default", "name": "other",
    }.items()  # fmt: skip


async def test_made_up_tokens_push_out_no_answer(world: World) -> None:
    """However many are refused, who was let in is not asked about again before his time."""
    assert await world.check("good") == "in"
    for n in range(_KEPT + 1):
        assert await world.check(f"made-up-{n}") == "401"
    assert await world.check("good") == "in"
    assert world.server.reviewed.count("good") == 1


async def test_made_up_tokens_take_no_place_from_who_was_admitted(world: World) -> None:
    """While as many reviews wait as may, only who was let in before may have another one."""
    assert await world.check("good") == "in"
    world.now += ALLOWED
    world.server.open.clear()
    made_up = [asyncio.create_task(world.check(f"made-up-{n}")) for n in range(_PENDING)]
    await asyncio.sleep(0)
    assert await world.check("one-more") == "later"
    good = asyncio.create_task(world.check("good"))
    await asyncio.sleep(0)
    world.server.open.set()
    assert await good == "in"
    assert set(await asyncio.gather(*made_up)) == {"401"}


async def test_who_is_refused_by_now_has_no_place(world: World) -> None:
    """That a token was let in once is forgotten with the next refusal."""
    assert await world.check("good") == "in"
    world.now += ALLOWED
    key = next(iter(world.reviews._admitted))
    world.server.known = ""
    assert await world.check("good") == "401"
    assert key not in world.reviews._admitted


async def test_an_answer_holds_for_its_source_alone(world: World) -> None:
    """Who is let in at one source is asked about at another, and refused if he may not send there."""
    assert await world.check("good") == "in"
    world.server.allowed = False
    assert await world.check("good", OTHER) == "403"
    assert [a["resourceAttributes"]["name"] for a in world.server.asked] == ["am", "other"]
    assert await world.check("good") == "in"


@pytest.mark.parametrize("audiences", [[], ["another"], None])
async def test_a_token_for_somebody_else_is_no_proof(
    audiences: list[str] | None, world: World
) -> None:
    """Nor is one of which the API server does not say for whom it is."""
    world.server.audiences = cast("list[str]", audiences)
    assert await world.check("good") == "401"
    assert world.server.asked == []


async def test_who_may_not_send_is_asked_about_again_soon(world: World) -> None:
    """A refusal holds for ten seconds, a permission for a minute."""
    for now, allowed, answer in (
        (0.0, False, "403"), (9.9, True, "403"), (10.0, True, "in"), (69.9, False, "in"),
        (70.0, False, "403"),
    ):  # fmt: skip
        world.now, world.server.allowed = now, allowed
        assert await world.check("good") == answer, now


async def test_an_api_server_that_fails_refuses_nobody(world: World) -> None:
    """The sender tries again, and nothing is remembered of it."""
    world.server.fails = True
    assert await world.check("good") == "later"
    world.server.fails = False
    assert await world.check("good") == "in"


async def test_reviews_end_with_the_gateway(world: World) -> None:
    """None is left under way, and whoever waits for one is told."""
    world.server.open.clear()
    waiting = asyncio.create_task(world.check("good"))
    await asyncio.sleep(0)
    (task,) = world.reviews._pending.values()
    await world.reviews.close()
    assert task.cancelled()
    assert await waiting == "later"
    assert world.reviews._pending == {}


@on_virtual_time
async def test_who_waits_for_a_review_is_answered_before_a_sender_gives_up() -> None:
    """Alertmanager and others wait for ten seconds; the review itself goes on for those that follow."""
    loop = asyncio.get_running_loop()
    world, began = World(), loop.time()
    world.server.open.clear()
    assert await world.check("good") == "later"
    assert loop.time() < began + 10
    again = asyncio.create_task(world.check("good"))
    await asyncio.sleep(1)
    world.server.open.set()
    assert await again == "in"
    assert world.server.reviewed == ["good"]
    await world.reviews.close()


async def test_the_newest_answers_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind as many as may be; the oldest is asked for again."""
    monkeypatch.setattr("notifier.gateway.reviews._KEPT", 2)
    for token in ("a", "b", "c", "b", "c", "a"):
        assert await world.check(token) == "401"
    assert world.server.reviewed == ["a", "b", "c", "a"]
