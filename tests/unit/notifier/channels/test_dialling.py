"""Names of receivers and mail servers: which addresses come of them, and what a dead name server costs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from notifier.channels.dialling import Names
from notifier.channels.egress import EgressDenied, EgressGuard, EgressMode


def _found(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 25)) for address in addresses]


async def test_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them come, for the family that is asked for."""
    asked: list[Any] = []

    def answer(*given: object, **more: object) -> list[Any]:
        asked.append((given, more))
        return _found("192.0.2.1", "192.0.2.2")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    names = Names(EgressGuard(), "test")
    assert await names.look_up("mail.example", 25) == _found("192.0.2.1", "192.0.2.2")
    await names.look_up("mail.example", 25, family=socket.AF_INET6)
    names.close()
    kind = {"type": socket.SOCK_STREAM}
    assert asked == [
        (("mail.example", 25), {"family": socket.AF_UNSPEC, **kind}),
        (("mail.example", 25), {"family": socket.AF_INET6, **kind}),
    ]


async def test_one_address_that_is_refused_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that leads to a metadata address as well leads nowhere; listed, or a proxy, it may be private."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: _found("8.8.8.8", "10.0.0.1"))
    names = Names(EgressGuard(EgressMode.STRICT, ["listed.example"]), "test")
    with pytest.raises(EgressDenied, match="private address"):
        await names.look_up("mail.example", 25)
    assert len(await names.look_up("listed.example", 25)) == 2
    assert len(await names.look_up("proxy.example", 25, proxy=True)) == 2
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: _found("8.8.8.8", "169.254.1.1"))
    with pytest.raises(EgressDenied, match="link-local"):
        await names.look_up("listed.example", 25, proxy=True)
    names.close()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "no-such-host.invalid"])
async def test_what_is_no_name(host: str) -> None:
    """A text that can be no name fails as one that nobody knows."""
    names = Names(EgressGuard(), "test")
    with pytest.raises(socket.gaierror):
        await names.look_up(host, 25)
    names.close()


async def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer is none."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    names = Names(EgressGuard(), "test")
    with pytest.raises(socket.gaierror, match="no addresses"):
        await names.look_up("mail.example", 25)
    names.close()


async def test_lookups_have_a_bound_and_none_is_waited_for_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dead name server holds sixteen threads; at the end they are left, and who waits is dropped."""
    begun: list[str] = []
    answered = threading.Event()

    def hang(host: str, *_: object, **__: object) -> list[Any]:
        begun.append(host)
        answered.wait(20)
        return _found("192.0.2.1")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    names = Names(EgressGuard(), "test")
    lookups = [asyncio.create_task(names.look_up(f"h{n}", 25)) for n in range(20)]
    deadline = time.monotonic() + 10
    while len(begun) < 16 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    names.close()
    assert not answered.is_set()
    answered.set()
    found = await asyncio.gather(*lookups, return_exceptions=True)
    assert len(begun) == 16
    assert found[:16] == [_found("192.0.2.1")] * 16
    assert [type(each) for each in found[16:]] == [asyncio.CancelledError] * 4


async def test_who_asks_for_one_name_waits_for_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead name server of one receiver leaves threads for the others, also once its callers have gone."""
    asked: list[str] = []
    answered = threading.Event()

    def answer(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        if host == "dead.example":
            answered.wait(20)
        return _found("192.0.2.1")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    names = Names(EgressGuard(), "test")
    for _ in range(2):
        crowd = [asyncio.create_task(names.look_up("dead.example", 25)) for _ in range(32)]
        assert await asyncio.wait_for(names.look_up("live.example", 25), 10) == _found("192.0.2.1")
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)
    assert asked == ["dead.example", "live.example", "live.example"]
    crowd = [asyncio.create_task(names.look_up("dead.example", 25)) for _ in range(2)]
    await asyncio.sleep(0)
    answered.set()
    assert await asyncio.gather(*crowd) == [_found("192.0.2.1")] * 2
    await names.look_up("dead.example", 25)
    assert asked.count("dead.example") == 2
    names.close()
