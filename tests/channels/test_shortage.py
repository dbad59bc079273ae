"""What the process itself lacks: no attempt that it could not make is held against a receiver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from notifier.channels.email import EmailChannel, MailClient
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from notifier.contract import Outcome
from notifier.routing.mail import Security
from syncer.model.attempt import FailureClass
from tests.channels.messages import mail_entry, message
from tests.channels.receiver import closed_port
from tests.servers.descriptors import no_descriptor_left

Send = Callable[[Path], Awaitable[Outcome]]


async def _http(_: Path) -> Outcome:
    async with aclosing(HttpClient(environment={})) as client:
        target = Target(f"http://127.0.0.1:{closed_port()}/x")
        with no_descriptor_left():
            return await client.post(target, b"{}", {}, timeout_s=5.0, kind="slack")


async def _mail(_: Path) -> Outcome:
    client = MailClient()
    entry = mail_entry(
        "a@sender.example", "ops@receiver.example", host="127.0.0.1", port=closed_port(),
        security=Security.NONE,
    )  # fmt: skip
    channel = EmailChannel(client, entry, password=None, timeout_s=5.0)
    try:
        with no_descriptor_left():
            return await channel.send(message())
    finally:
        client.close()


async def _file(folder: Path) -> Outcome:
    channel = FileChannel(str(folder), timeout_s=5.0)
    try:
        with no_descriptor_left():
            return await channel.send(message())
    finally:
        channel.close()


SENDS: dict[str, Send] = {"over HTTP": _http, "by mail": _mail, "into a file": _file}


@pytest.mark.parametrize("case", SENDS)
async def test_no_descriptor_is_left(case: str, tmp_path: Path) -> None:
    """Without a descriptor nothing leaves, which uses up no attempt and speaks of no receiver."""
    outcome = await SENDS[case](tmp_path)
    assert outcome.failure is FailureClass.NOT_SENT
    assert "too many open files" in outcome.error
