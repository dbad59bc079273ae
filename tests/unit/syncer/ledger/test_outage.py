"""What is said of an outage of Redis, on virtual time: its beginning and its end, once each."""

from __future__ import annotations

import asyncio

import pytest

from syncer.ledger.client import LedgerClient
from syncer.ledger.store import Server
from tests.beside import beside
from tests.virtual import on_virtual_time


@on_virtual_time
@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        pytest.param(
            [("gone", 4.9), ("another reason", 3.0), (None, 9.0)],
            [("the log is unavailable", "gone", None), ("the log is available again", None, 7.5)],
            id="whatever the cause turns into",
        ),
        pytest.param([("gone", 0.9), (None, 2.0)] * 5, [], id="over within a second"),
    ],
)
async def test_an_outage_is_said_once_and_its_end_with_its_length(
    reasons: list[tuple[str | None, float]],
    said: list[tuple[str, str | None, float | None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is never connected is another one's to say; a connection that is made anew is no outage."""
    client = LedgerClient("redis://127.0.0.1:1")
    async with beside(client._log_outage()):
        # Half a second before it is looked at.
        await asyncio.sleep(29.5)
        client.server = Server("run", "repl", "master", "store", (7, 0, 0))
        for client.problem, seconds in reasons:
            await asyncio.sleep(seconds)
    assert [
        (r.getMessage().partition(";")[0], vars(r).get("reason"), vars(r).get("seconds"))
        for r in caplog.records
    ] == said
