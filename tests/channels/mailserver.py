"""
Mail servers that do as they are told, and keep their own books.

`mail_server` is a real one (aiosmtpd) for what mail servers do: TLS, authentication, refusing some
recipients. `scripted` answers each step of the dialogue with a given line, or hangs, or cuts the
connection, for what no server would admit to.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers.listening import listening


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as a server took it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    tls: bool
    user: str

    @property
    def mail(self) -> EmailMessage:
        """The message, parsed."""
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def text(self) -> str:
        """Its text, lines ending in a line feed."""
        return cast("str", self.mail.get_content()).replace("\r\n", "\n")


@dataclass  # without slots: its server looks at all members, and Python 3.11.2 cannot read `__weakref__`
class MailServer:
    """
    A listening server.

    Attributes:
        refuse: Answers to RCPT by recipient, used one after the other; then it is accepted.
        logins: User and password of each try to authenticate.
        users: Passwords by user.
        port: Where it listens.
        arrived: Messages that were accepted.
        host: Where it listens.
    """

    refuse: dict[str, list[str]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    sessions: int = 0

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse as told."""
        answers = self.refuse.get(address)
        if answers:
            return answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's name
        """Take the message."""
        self.arrived.append(
            Arrived(
                str(envelope.mail_from),
                tuple(map(str, envelope.rcpt_tos)),
                bytes(envelope.original_content or b""),
                session.ssl is not None,
                str(session.auth_data or ""),
            )
        )
        return "250 taken"

    def login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """Compare a password."""
        assert isinstance(data, LoginPassword)
        user, password = data.login.decode(), data.password.decode()
        self.logins.append((user, password))
        if self.users.get(user) == password:
            return AuthResult(success=True, auth_data=user)
        return AuthResult(success=False, handled=False)


@asynccontextmanager
async def mail_server(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[MailServer]:
    """
    A server that listens while the block runs.

    Args:
        starttls: Offers and demands STARTTLS with it.
        tls: Speaks TLS from the first byte.
        settings: Of the library's class.
    """
    made = MailServer()
    loop = asyncio.get_running_loop()
    protocols: list[SMTP] = []

    def protocol() -> SMTP:
        made.sessions += 1
        smtp = SMTP(
            made,
            loop=loop,
            hostname="mail.test",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=made.login,
            auth_require_tls=starttls is not None,
            **settings,
        )
        protocols.append(smtp)
        return smtp

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for smtp in protocols:
            if smtp.transport is not None:
                smtp.transport.close()
        await asyncio.sleep(0)


CUT: Final = "cut"
HANG: Final = "hang"

FINE: Final[Mapping[str, str]] = {
    "connect": "220 scripted",
    "EHLO": "250-scripted\r\n250 8BITMIME",
    "STARTTLS": "220 go on",
    "AUTH": "235 accepted",
    "MAIL": "250 fine",
    "RCPT": "250 fine",
    "DATA": "354 go on",
    "content": "250 taken",
    "QUIT": "221 bye",
}


@dataclass(slots=True)
class Scripted:
    """
    A server that says what it is told at each step.

    Attributes:
        answers: By verb, `connect` and `content`; `cut` and `hang` are no answers but deeds.
        lines: Commands in order of arrival.
        contents: What came behind each DATA, dots still doubled.
        cut_after: Bytes of content after which the connection is cut, None for never.
        ended: Sessions that the client has closed after its QUIT.
    """

    answers: Mapping[str, str | bytes]
    cut_after: int | None = None
    port: int = 0
    lines: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    sessions: int = 0
    ended: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1

        async def say(step: str) -> str:
            answer = self.answers.get(step, FINE.get(step, "500 what"))
            if answer == CUT:
                writer.transport.abort()
                raise ConnectionResetError
            if answer == HANG:
                await asyncio.sleep(60)
            wire = answer if isinstance(answer, bytes) else f"{answer}\r\n".encode()
            writer.write(wire)
            await writer.drain()
            return wire[:3].decode("latin-1")

        await say("connect")
        while line := await reader.readline():
            text = line.decode("latin-1").strip()
            self.lines.append(text)
            verb = text.partition(" ")[0].upper()
            code = await say(verb)
            if verb == "STARTTLS" and code == "220":
                await asyncio.sleep(60)
            if verb == "DATA" and code == "354":
                if self.cut_after is not None:
                    self.contents.append(await reader.readexactly(self.cut_after))
                    writer.transport.abort()
                    raise ConnectionResetError
                self.contents.append(await reader.readuntil(b"\r\n.\r\n"))
                await say("content")
            if verb == "QUIT":
                self.ended += await reader.read() == b""
                return


@asynccontextmanager
async def scripted(
    answers: Mapping[str, str | bytes] | None = None, *, cut_after: int | None = None
) -> AsyncIterator[Scripted]:
    """A scripted server that listens while the block runs."""
    made = Scripted(answers or {}, cut_after)
    async with listening(made._serve) as made.port:
        yield made
