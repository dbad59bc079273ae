"""Leases as the API server, or what answers in its place, lists them."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.kube.client import KubeClient
from syncer.kube.leases import LeaseRecord, Leases, LeaseSink, LeaseWatch
from syncer.model.errors import ContractError, Unavailable

LEASE: Final[dict[str, Any]] = {
    "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"},
    "spec": {"holderIdentity": "me", "leaseTransitions": 2},
}


def leases(*pages: Any) -> Leases:
    """Leases of a server that answers with these pages in turn."""
    left = list(pages)

    async def request(*_: object, **__: object) -> Any:
        return left.pop(0)

    client = cast("KubeClient", SimpleNamespace(request=request))
    return Leases(client, "ns", ("key", "value"))


async def test_an_outage_is_told_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried again, until something else is the matter."""
    caplog.set_level(logging.INFO, "ledger.kube")
    reasons = ["away"] * 5 + ["broken"] * 5
    left = list(reasons)
    ended = asyncio.Event()

    async def request(*_: object, **__: object) -> Any:
        if not left:
            ended.set()
            await asyncio.sleep(3600)
        raise Unavailable(left.pop(0))

    unanswered = Leases(cast("KubeClient", SimpleNamespace(request=request)), "ns", ("k", "v"))
    sink = cast("LeaseSink", None)
    watch = LeaseWatch(unanswered, sink, lagging=lambda: False, patience=0.01)
    task = asyncio.create_task(watch.run())
    await ended.wait()
    task.cancel()
    assert caplog.messages == [f"watch of leases interrupted: {r}" for r in ("away", "broken")]


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
