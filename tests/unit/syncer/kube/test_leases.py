"""Leases as the API server, or what answers in its place, lists them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final
from unittest.mock import AsyncMock, Mock, call

import orjson
import pytest

from syncer.kube.leases import LeaseRecord, Leases, LeaseWatch
from syncer.model.errors import ContractError, Expired, Unavailable

LEASE: Final[dict[str, Any]] = {
    "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"},
    "spec": {"holderIdentity": "me", "leaseTransitions": 2},
}


def leases(*answers: Any, **more: Any) -> Leases:
    """Leases of a server that answers so in turn; one more question ends who asks it."""
    request = AsyncMock(side_effect=answers)
    return Leases(Mock(request=request, **more), "ns", ("key", "value"))


async def test_an_outage_is_told_once_for_each_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is tried again; the server is asked less and less, by the failures in a row."""
    caplog.set_level(logging.INFO, "ledger.kube")
    answers = [Unavailable("away")] * 5 + [Unavailable("broken")] * 5
    pause = Mock(return_value=0.0)
    monkeypatch.setattr("syncer.kube.leases.exponential", pause)
    watch = LeaseWatch(leases(*answers), Mock(), lagging=lambda: False, patience=5.0)
    async with asyncio.timeout(30):
        with pytest.raises(StopAsyncIteration):
            await watch.run()
    assert caplog.messages == [f"watch of leases interrupted: {r}" for r in ("away", "broken")]
    assert pause.call_args_list == [call(0.1, 5.0, n) for n in range(1, 11)]


async def test_a_watch_that_shows_nothing_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It opens and ends, as while nobody can write a Lease, until it has shown something between."""
    caplog.set_level(logging.INFO, "ledger.kube")
    empty = {"metadata": {"resourceVersion": "7"}, "items": []}
    error, change = b'{"type":"ERROR"}', orjson.dumps({"type": "MODIFIED", "object": LEASE})
    watches = [[error]] * 5 + [[change, error]] + [[error]] * 5

    @contextlib.asynccontextmanager
    async def stream(*_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        async def lines() -> AsyncIterator[bytes]:
            for line in watches.pop(0):
                yield line

        yield lines()

    known = leases(*[empty] * len(watches), stream=stream)
    watch = LeaseWatch(known, Mock(), lagging=lambda: False, patience=0.01)
    async with asyncio.timeout(30):
        with pytest.raises(StopAsyncIteration):
            await watch.run()
    assert (
        caplog.messages == ["watch of leases interrupted: a line of the watch is not an event"] * 2
    )


async def test_all_pages_are_read() -> None:
    """The resourceVersion is that of the last one."""
    first = {"metadata": {"continue": "t", "resourceVersion": "8"}, "items": [LEASE]}
    found, version = await leases(first, {"metadata": {"resourceVersion": "9"}}).list(timeout=1)
    assert ([lease.name for lease in found], version) == (["a"], "9")


@pytest.mark.parametrize(
    "page",
    [
        {"items": 7}, {"items": [None]}, {"items": [7]}, {"metadata": 7}, {"metadata": ["x"]},
        {"items": [{"metadata": {"name": "a"}}]}, [], "x",
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_list_is_an_outage(page: Any) -> None:
    """Whoever follows the Leases tries again; any other error would end the process."""
    with pytest.raises(Unavailable):
        await leases(page).list(timeout=1)


@pytest.mark.parametrize("value", ["x", [], {}, float("inf"), float("nan")], ids=str)
def test_a_member_of_another_type_is_an_error_of_ours(value: Any) -> None:
    """So is a number that no integer holds."""
    with pytest.raises(ContractError):
        LeaseRecord.of({**LEASE, "spec": {"leaseTransitions": value or ["x"]}})


async def test_an_older_list_takes_nothing_back() -> None:
    """As of a server that is behind the others: it is asked again."""
    sink = Mock()
    newer, older = ({"metadata": {"resourceVersion": v}, "items": [LEASE]} for v in ("9", "8"))
    watch = LeaseWatch(leases(newer, older), sink, lagging=lambda: False, patience=1)
    await watch._list()
    with pytest.raises(Unavailable, match="an older state than it has shown before"):
        await watch._list()
    sink.replace.assert_called_once_with([LeaseRecord.of(LEASE)], "9")


#: A line of a watch, and why it ends the watch.
LINES: Final = {
    "half a line": (b'{"type":"ADD', "a line of the watch is not an event"),
    "another document": (b"[]", "a line of the watch is not an event"),
    "no lease": (b'{"type":"ADDED","object":{"metadata":7}}', "a lease cannot be read"),
    "an error": (b'{"type":"ERROR","object":{"code":410}}', "ERROR 410 in the watch"),
    "an error without a document": (b'{"type":"ERROR","object":"x"}', "ERROR None in the watch"),
    "an unknown kind": (b'{"type":"NEW","object":{}}', "NEW None in the watch"),
    "a bookmark, for which nobody asks": (
        b'{"type":"BOOKMARK","object":{}}',
        "a lease cannot be read",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_is_no_change_of_a_lease_ends_the_watch(case: str) -> None:
    """What follows it could be understood wrongly; a new list cannot."""
    line, why = LINES[case]
    sink = Mock()
    watch = LeaseWatch(leases(), sink, lagging=lambda: False, patience=1)
    with pytest.raises(Expired) as caught:
        watch._event(line)
    assert str(caught.value) == why
    assert sink.mock_calls == []
