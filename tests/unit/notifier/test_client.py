"""The client: what it sends again, what its errors say, and what it imports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from notifier.client import gateway
from notifier.client.base import Made
from notifier.client.gateway import Gateway
from syncer.model.errors import Ambiguous, Gone, PortError, Rejected, Unauthorised, Unavailable
from tests.servers.listening import listening

TOKEN: Final = "client-canary"
MADE: Final = {"name": "nt-1", "namespace": "ns", "uid": "u", "duplicate": False}
DONE: Final = {
    "name": "nt-1", "namespace": "ns", "uid": "u", "phase": "Failed", "finished": True,
    "outcome": "unknown",
    "channels": [{
        "name": "slack:ops", "outcome": "unknown", "attempts": 2, "unknown": 1, "code": None, "at": None,
        "next": None,
    }],
}  # fmt: skip
CUT: Final = "cut"
#: A status and an answer, or a connection that ends without one.
Step = tuple[int, Any] | str


@contextlib.asynccontextmanager
async def answering(*steps: Step) -> AsyncIterator[tuple[str, list[web.Request], list[Any]]]:
    """A gateway that answers as it is told, the last step for ever; its requests and their bodies."""
    seen: list[web.Request] = []
    bodies: list[Any] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        step = steps[min(len(seen), len(steps) - 1)]
        seen.append(request)
        bodies.append(await request.text())
        if isinstance(step, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, content = step
        headers = {"Retry-After": "0", "Location": "http://127.0.0.1:1/elsewhere"}
        text = content if isinstance(content, str) else json.dumps(content)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        for part in (text[:5], text[5:]):
            # It arrives in pieces, as a large one does.
            await response.write(part.encode())
            await asyncio.sleep(0.01)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1/jobs")), seen, bodies


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503, an answer that is none and a cut connection: the notification is made, and named once."""
    monkeypatch.setattr(gateway, "_PAUSE", 0.01)
    good = (200, {"notifications": [MADE | {"duplicate": True}]})
    steps: tuple[Step, ...] = (
        (503, {"error": "full"}),
        (502, "<html>"),
        (200, "<html>"),
        CUT,
        good,
    )
    async with (
        answering(*steps) as (url, seen, bodies),
        Gateway(url, lambda: f"{TOKEN}\n") as ledger,
    ):
        made = await ledger.notify(
            "s", "b", key="k", links=[("ci", "https://x", "Run")], traceparent="t"
        )
        assert made == Made("nt-1", "ns", "u", duplicate=True)
    assert len(set(bodies)) == 1
    assert json.loads(bodies[0]) == {
        "key": "k", "subject": "s", "body": "b", "type": "Simple", "priority": "Medium",
        "links": [{"service": "ci", "url": "https://x", "label": "Run"}],
    }  # fmt: skip
    assert {r.headers["Authorization"] for r in seen} == {f"Bearer {TOKEN}"}
    assert {r.headers["traceparent"] for r in seen} == {"t"}
    assert len(seen) == 5


ERRORS: Final[dict[str, tuple[Step, type[PortError], str]]] = {
    "a member is wrong": ((422, {"error": "must be text", "path": "body"}), Rejected, "body: must be text"),
    "the token is wrong": ((401, {"error": "a token"}), Unauthorised, "a token"),
    "the right is missing": ((403, {"error": "not yours"}), Unauthorised, "not yours"),
    "there is no such source": ((404, {"error": "no source"}), Rejected, "no source"),
    "it leads elsewhere": ((307, ""), Rejected, "the gateway answered 307"),
    "it is full for too long": ((503, {"error": "full"}), Unavailable, "full"),
    "a proxy answers": ((502, "<html>"), Unavailable, "the gateway answered 502"),
    "connections are cut": (CUT, Ambiguous, "the gateway did not answer"),
    "its name is taken": (
        (200, {"notifications": [MADE | {"taken": True}]}), Rejected, "key: an object that is not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
async def test_errors_say_whether_to_call_again(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """By their type, and without the token; a redirect, which would take the token along, is refused."""
    monkeypatch.setattr(gateway, "_PAUSE", 120.0)  # no time is left for a second call
    step, kind, text = ERRORS[case]
    async with answering(step) as (url, _, _), Gateway(url, TOKEN) as ledger:
        with pytest.raises(PortError, match=text) as error:
            await ledger.notify("s", "b", key="k", timeout=60)
    assert type(error.value) is kind
    assert TOKEN not in repr(error.value) + repr(ledger)


async def test_nobody_listens_or_answers() -> None:
    """It ends in time: not made where nobody listens, perhaps made where nobody answers."""
    async with Gateway("http://127.0.0.1:1/v1/jobs", TOKEN) as ledger:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await ledger.notify("s", "b", key="k", timeout=0.5)
        with pytest.raises(Rejected, match="key: is required"):
            await ledger.notify("s", "b", key="")
    async with (
        listening(lambda *_: asyncio.sleep(60)) as port,
        Gateway(f"http://127.0.0.1:{port}/v1/jobs", TOKEN) as ledger,
    ):
        with pytest.raises(Ambiguous, match="call again with the same key"):
            await ledger.notify("s", "b", key="k", timeout=0.5)


async def test_the_end_is_waited_for() -> None:
    """Over an outage of the gateway, until it is finished; unknown stays unknown."""
    pending = {**DONE, "finished": False, "outcome": "pending", "phase": "Sending", "channels": []}
    made = Made("nt-1", "ns", "u", duplicate=False)
    steps: tuple[Step, ...] = ((200, pending), CUT, (503, {"error": "full"}), (200, DONE))
    async with answering(*steps) as (url, seen, _), Gateway(url, TOKEN) as ledger:
        result = await ledger.wait(made, timeout=30)
        assert (result.finished, result.outcome) == (True, "unknown")
        assert (result.channels[0].attempts, result.channels[0].unknown) == (2, 1)
    waits = [int(r.path_qs.removeprefix("/v1/jobs/ns/nt-1?wait=")) for r in seen]
    assert len(waits) == 4
    assert waits == sorted(waits, reverse=True)
    assert waits[0] <= 30
    async with answering((200, pending)) as (url, _, _), Gateway(url, TOKEN) as ledger:
        assert (await ledger.wait(made, timeout=0.3)).outcome == "pending"
    async with answering((404, {"error": "none"})) as (url, _, _), Gateway(url, TOKEN) as ledger:
        with pytest.raises(Gone, match="none"):
            await ledger.wait(made)


def test_a_program_that_sends_does_not_carry_the_controller() -> None:
    """Importing the client imports no Redis, no settings, no metrics, and no Kubernetes client."""
    heavy = ("redis", "pydantic", "prometheus_client", "kubernetes_asyncio", "jmespath", "yaml")
    code = f"import sys, notifier.client.gateway; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"
