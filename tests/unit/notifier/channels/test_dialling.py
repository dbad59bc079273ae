"""Names of receivers and mail servers: which addresses come of them, and what a dead name server costs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from unittest.mock import Mock, call

import pytest

from notifier.channels.base import broken_off
from notifier.channels.dialling import Names, NoThread
from notifier.channels.egress import EgressDenied, EgressGuard
from syncer.model.attempt import FailureClass
from tests.beside import eventually


def _found(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 25)) for address in addresses]


@pytest.fixture
def names() -> Iterator[Names]:
    """Names that are looked up for anybody."""
    made = Names(EgressGuard(), "test")
    yield made
    made.close()


async def test_addresses_of_a_name(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them come, for the family that is asked for."""
    answer = Mock(return_value=_found("192.0.2.1", "192.0.2.2"))
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert await names.look_up("mail.example", 25, timeout_s=9) == _found("192.0.2.1", "192.0.2.2")
    await names.look_up("mail.example", 25, family=socket.AF_INET6, timeout_s=9)
    assert answer.call_args_list == [
        call("mail.example", 25, family=family, type=socket.SOCK_STREAM)
        for family in (socket.AF_UNSPEC, socket.AF_INET6)
    ]


async def test_one_address_that_is_refused_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that leads to a metadata address as well leads nowhere; listed, or a proxy, it may be private."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: _found("8.8.8.8", "10.0.0.1"))
    guard = EgressGuard("strict", ["listed.example", "*.listed.example"])
    with closing(Names(guard, "test")) as names:
        with pytest.raises(EgressDenied, match="private address"):
            await names.look_up("mail.example", 25, timeout_s=9)
        assert len(await names.look_up("listed.example", 25, timeout_s=9)) == 2
        assert len(await names.look_up("proxy.example", 25, proxy=True, timeout_s=9)) == 2
        refused = _found("8.8.8.8", "169.254.1.1")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: refused)
        with pytest.raises(EgressDenied, match="link-local"):
            await names.look_up("a.listed.example", 25, proxy=True, timeout_s=9)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "no-such-host.invalid"])
async def test_what_is_no_name(names: Names, host: str) -> None:
    """A text that can be no name fails as one that nobody knows."""
    with pytest.raises(socket.gaierror):
        await names.look_up(host, 25, timeout_s=9)


class Resolver:
    """
    In the place of `getaddrinfo`: look-ups that hang until they are let go, and what the others come to.

    Attributes:
        asked: Hosts, in the order in which look-ups began.
        fails: Errors by host.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: dict[str, OSError] = {}
        self.let_go = threading.Event()
        self.hangs = ".dead.example"

    def __call__(self, host: str, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        if host.endswith(self.hangs):
            self.let_go.wait(20)
        if host in self.fails:
            raise self.fails[host]
        return _found("192.0.2.1")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """Names are resolved by it."""
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.let_go.set()


async def _begun(resolver: Resolver, n: int) -> None:
    await eventually(lambda: len(resolver.asked) >= n)


async def test_dead_zones_leave_threads_for_others(resolver: Resolver, names: Names) -> None:
    """One holds half of the threads, the next a third of the rest; what gets none was not sent."""
    resolver.hangs = ".example"
    crowd = [
        asyncio.create_task(names.look_up(f"h{n}.{zone}.example", 25, timeout_s=60))
        for zone in ("dead", "Dead", "gone")
        for n in range(20)
    ]
    await _begun(resolver, 16 + 8)
    assert await names.look_up("hooks.live.test", 25, timeout_s=9) == _found("192.0.2.1")
    zones = [host.lower().split(".")[1] for host in resolver.asked]
    assert (zones.count("dead"), zones.count("gone"), len(zones)) == (16, 8, 25)
    with pytest.raises(NoThread) as caught:
        await names.look_up("late.dead.example", 25, timeout_s=0.02)
    outcome = broken_off("text", [caught.value], written=False)
    assert outcome.failure is FailureClass.NOT_SENT
    resolver.let_go.set()
    # Those that waited begin as threads become free.
    assert await asyncio.gather(*crowd) == [_found("192.0.2.1")] * 60


async def test_who_asks_for_one_name_waits_for_one_answer(resolver: Resolver) -> None:
    """Also once the first ones that asked have gone; for ten seconds nobody asks for it again."""
    now = [0.0]
    names = Names(EgressGuard(), "test", clock=lambda: now[0])

    def ask() -> asyncio.Task[Any]:
        return asyncio.create_task(names.look_up("h.dead.example", 25, timeout_s=9))

    def asked() -> int:
        # A thread of another test may ask late.
        return resolver.asked.count("h.dead.example")

    first, second = [[ask() for _ in range(8)] for _ in range(2)]
    await eventually(asked)
    for task in first:
        task.cancel()
    resolver.let_go.set()
    assert await asyncio.gather(*second) == [_found("192.0.2.1")] * 8
    now[0] = 9.9
    await ask()
    assert asked() == 1
    now[0] = 10.0
    await ask()
    assert asked() == 2
    names.close()


LATER: dict[str, tuple[float, OSError | None, bool]] = {
    "the look-up hangs": (299.9, None, True),
    "the look-up hangs, and the answer is old": (300.0, None, False),
    "the server does not answer": (299.9, socket.gaierror(socket.EAI_AGAIN, ""), True),
    "there is no such name any more": (299.9, socket.gaierror(socket.EAI_NONAME, ""), False),
    "it has no addresses any more": (299.9, socket.gaierror(socket.EAI_NODATA, ""), False),
}


@pytest.mark.parametrize("case", LATER)
async def test_the_last_answer_serves_for_a_while(resolver: Resolver, case: str) -> None:
    """Where a new one does not come; the guard is asked about it again."""
    seconds, error, serves = LATER[case]
    now = [0.0]
    guard = EgressGuard()
    names = Names(guard, "test", clock=lambda: now[0])
    resolver.let_go.set()
    await names.look_up("h.dead.example", 25, timeout_s=9)
    now[0] = seconds
    if error is None:
        resolver.let_go.clear()
    else:
        resolver.fails["h.dead.example"] = error
    checked: list[str] = []
    guard.check = lambda address, **_: checked.append(address)  # type: ignore[method-assign] # counts
    again = asyncio.create_task(names.look_up("h.dead.example", 25, timeout_s=9))
    if serves:
        assert await asyncio.wait_for(again, 10) == _found("192.0.2.1")
        assert checked == ["192.0.2.1"]
    else:
        await _begun(resolver, 2)
        await asyncio.wait([again], timeout=0.3)
        assert not again.done() if error is None else again.exception() is error
    resolver.let_go.set()
    await asyncio.wait([again])
    names.close()


async def test_none_is_waited_for_at_the_end(resolver: Resolver, names: Names) -> None:
    """Look-ups that hang are left, and who waits for a thread is dropped."""
    crowd = [
        asyncio.create_task(names.look_up(f"h{n}.dead.example", 25, timeout_s=60))
        for n in range(20)
    ]
    await _begun(resolver, 16)
    names.close()
    found = await asyncio.gather(*crowd[16:], return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError] * 4
    resolver.let_go.set()
    assert await asyncio.gather(*crowd[:16]) == [_found("192.0.2.1")] * 16
    assert len(resolver.asked) == 16
