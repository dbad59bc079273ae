"""Following the operators' holds: what is believed, for how long, and why nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import pytest

from syncer.kube.client import KubeClient
from syncer.kube.delivery_holds import BELIEVED, DeliveryHolds, HoldWatch
from syncer.model.errors import KindMissing, Unauthorised, Unavailable
from syncer.model.hold import GROUP, PLURAL, Hold
from tests.beside import beside

SERVED: Final = {"resources": [{"name": "other"}, {"name": PLURAL}]}
#: An event of a watch, whatever it says.
EVENT: Final = [b"{}"]


def listed(*names: str) -> dict[str, Any]:
    """A list of holds."""
    spec = {"receivers": ["ops"], "until": "2027-01-15T09:00:00Z", "author": "a", "reason": "r"}
    created = "2027-01-15T07:00:00Z"
    return {
        "metadata": {"resourceVersion": "9"},
        "items": [
            {
                "metadata": {"name": n, "resourceVersion": "7", "creationTimestamp": created},
                "spec": spec,
            }
            for n in names
        ],
    }


class Server:
    """Answers as it is told, in order, then never; a watch is an answer as well."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.known: list[tuple[str, ...]] = []
        self.now = 0.0
        self.over = asyncio.Event()
        holds = DeliveryHolds(cast("KubeClient", self), "ns")
        self.watch = HoldWatch(holds, self._take, lambda: self.now)

    def _take(self, holds: tuple[Hold, ...]) -> None:
        self.known.append(tuple(h.name for h in holds))

    async def _next(self, what: str) -> Any:
        self.asked.append(what)
        if not self.answers:
            self.over.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        self.now += 30.0
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def request(self, _method: str, path: str, **_: Any) -> Any:
        return await self._next("list" if path.endswith(f"/namespaces/ns/{PLURAL}") else "kind")

    @asynccontextmanager
    async def stream(
        self, _path: str, query: dict[str, str], **_: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        lines = await self._next(f"watch {query['resourceVersion']}")

        async def said() -> AsyncIterator[bytes]:
            for line in lines:
                yield line

        yield said()

    async def run(self) -> None:
        """Follow until there is no answer left."""
        async with beside(self.watch.run()):
            async with asyncio.timeout(20):
                await self.over.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take no time."""
    monkeypatch.setattr("syncer.kube.delivery_holds.equal_jitter", lambda *_: 0.0)


FORBIDDEN: Final = Unauthorised("403", reason="Forbidden")
#: Answers, what was asked, which holds were handed on, the problem, and the remark.
CASES: Final[dict[str, tuple[list[Any], list[str], list[tuple[str, ...]], str, str]]] = {
    "nothing is known before the first list": ([], ["kind"], [], "not read yet", ""),
    "what changes is listed again": (
        [SERVED, listed(), EVENT, SERVED, listed("a")],
        ["kind", "list", "watch 9", "kind", "list", "watch 9"], [(), ("a",)], "", "",
    ),
    "a watch that ends is opened again, and confirms": (
        [SERVED, listed("a"), [], [], []],
        ["kind", "list", *["watch 9"] * 4], [("a",)], "", "",
    ),
    "a kind that is absent holds nothing": (
        [KindMissing("404"), {"resources": [{"name": "other"}]}], ["kind"] * 3, [(), ()], "",
        "the kind DeliveryHold is not installed",
    ),
    "a kind that comes is followed": (
        [KindMissing("404"), SERVED, listed("a")],
        ["kind", "kind", "list", "watch 9"], [(), ("a",)], "", "",
    ),
    "a kind that goes takes its holds along": (
        [SERVED, listed("a"), EVENT, KindMissing("404"), KindMissing("404")],
        ["kind", "list", "watch 9", *["kind"] * 3], [("a",), ()], "",
        "the kind DeliveryHold is not installed",
    ),
    "one answer without the kind lets nothing go": (
        [SERVED, listed("a"), EVENT, KindMissing("404"), SERVED, listed("a")],
        ["kind", "list", "watch 9", "kind", "kind", "list", "watch 9"], [("a",), ("a",)], "", "",
    ),
    "a right that is missing stops at once": (
        [SERVED, listed("a"), FORBIDDEN], ["kind", "list", "watch 9", "kind"], [("a",)],
        f"the right to list and watch {PLURAL}.{GROUP} in the namespace ns is missing (403)", "",
    ),
    "a server that is silent is believed for a minute": (
        [SERVED, listed("a"), Unavailable("x"), Unavailable("x")],
        ["kind", "list", "watch 9", "kind", "kind"], [("a",)], "", "",
    ),
    "and no longer": (
        [SERVED, listed("a"), Unavailable("x"), Unavailable("x"), Unavailable("away")],
        ["kind", "list", "watch 9", *["kind"] * 3], [("a",)], "cannot be read (away)", "",
    ),
    "a hold that cannot be read is told": (
        [SERVED, {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "h"}}]}],
        ["kind", "list", "kind"], [], "the answer is no list of holds", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_what_is_known_of_holds(case: str) -> None:
    """Each answer takes half a minute; nothing is sent where there is a problem."""
    answers, asked, known, problem, remark = CASES[case]
    server = Server(*answers)
    await server.run()
    assert (server.asked, server.known) == (asked, known)
    found = server.watch.problem or ""
    assert (problem in found, bool(problem)) == (True, bool(found)), found
    shown = server.watch.remark or ""
    assert (shown.startswith(remark), bool(remark)) == (True, bool(shown))
    server.now += BELIEVED + 1
    assert server.watch.problem is not None
