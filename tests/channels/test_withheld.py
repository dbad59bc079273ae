"""
A channel asks right before the first byte whether it may still leave.

A process that is frozen while it connects goes on with a connection that is ready, before its timers say
that the time is over. Somebody else may have sent the message by then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from notifier.channels.base import WITHHELD
from notifier.channels.egress import EgressGuard
from notifier.channels.email import EmailChannel, MailClient
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.contract import Message
from notifier.routing.mail import Security
from tests.channels.http_payloads import MAKERS
from tests.channels.mailserver import scripted
from tests.channels.messages import mail_entry, message
from tests.channels.receiver import Certificates, receiving


@dataclass
class Lease:
    """Whether a message may leave, and what had happened whenever a channel asked."""

    seen: Callable[[], object] = lambda: None
    holds: bool = True
    asked: list[object] = field(default_factory=list)

    def may_leave(self) -> bool:
        """Whether it may leave."""
        self.asked.append(self.seen())
        return self.holds

    def message(self) -> Message:
        """A message under this lease."""
        return replace(message(), may_leave=self.may_leave)


class Freezer(EgressGuard):
    """A process that is frozen beyond its lease as soon as it makes a socket."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease

    def check(self, address: str, *, host: str = "", proxy: bool = False) -> None:
        """Let everything pass; the socket's own check says `proxy`."""
        if proxy:
            self.lease.holds = False


@pytest.mark.parametrize(("kind", "tls"), [*((kind, False) for kind in MAKERS), ("webhook", True)])
async def test_a_request_is_withheld_on_a_new_connection(
    certificates: Certificates, kind: str, *, tls: bool
) -> None:
    """The lease held when the send began; the receiver sees a connection, or a handshake, and no byte."""
    lease = Lease()
    client = HttpClient(environment={}, guard=Freezer(lease), ca_file=str(certificates.ca))
    context = certificates.context("local") if tls else None
    async with receiving(tls=context) as receiver, aclosing(client):
        made = MAKERS[kind](client, receiver.url)
        assert await made.send(lease.message()) == WITHHELD
        assert (lease.asked, receiver.requests) == ([None], [])
    assert tls or receiver.connections == 1


async def test_a_mail_is_withheld_before_its_content() -> None:
    """Sender and recipient are told; the server gets no byte of content and delivers nothing."""
    mail_client = MailClient()
    async with scripted() as server:
        lease = Lease(lambda: server.lines[-1], holds=False)
        entry = mail_entry(
            "a@s.example", "b@r.example", host="127.0.0.1", port=server.port, security=Security.NONE
        )
        made = EmailChannel(mail_client, entry, password=None, timeout_s=5)
        assert await made.send(lease.message()) == WITHHELD
        assert lease.asked == ["DATA"]
        assert server.contents == []
    mail_client.close()


async def test_a_file_is_withheld_before_it_gets_its_name(tmp_path: Path) -> None:
    """It is written whole under another name and removed."""

    def names() -> list[str]:
        return [p.suffix for p in tmp_path.iterdir()]

    lease = Lease(names, holds=False)
    made = FileChannel(str(tmp_path), timeout_s=5)
    made.prepare()
    assert await made.send(lease.message()) == WITHHELD
    assert lease.asked == [[".tmp"]]
    assert names() == []
    made.close()
