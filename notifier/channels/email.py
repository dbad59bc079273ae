"""
The e-mail channel: one message to one recipient in one SMTP session.

**One recipient.** A server may accept some recipients of a message and refuse others. Then neither
"sent" nor "failed" would be true, and a retry would send the message again to recipients who have it. So a
message never has several recipients: an entry with several is several channels (`routing.mail`), each with
its own record, retries and breaker. The price is a session per recipient; the gain is a record of who has
got the message, and retries only for those who have not.

**Outcomes.** Success is the server's 2xx to the content: the server has taken responsibility, no more. At
any step a 4xx is transient (greylisting, for example) and a 5xx permanent, even for a wrong password.
Before the first byte of content nothing was sent, whatever fails. After it, only an answer counts: no
answer is *unknown*, since a server may deliver the message and then fail to answer (RFC 1047). A retry
carries the same Message-ID, by which receivers can detect duplicates.

**Protection.** STARTTLS, or TLS from the first byte; plain text only where the file says so, and never with
a password. If STARTTLS is required and the server does not offer it, the attempt fails permanently. One
authentication method is tried once: a second failed login could lock the account.

**Bounds.** One deadline covers rendering, name resolution, dialling, TLS and every step of the dialogue.
The message (`notifier.channels.mail_message`) is cut to `MESSAGE_BYTES`, or to the size that the server
announces, with a mark. An answer may have `_ANSWER_BYTES`. Every address is checked after resolution
(`egress`). Proxies in the environment are for HTTP and are not used.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from notifier.channels.base import (
    Provider,
    Withheld,
    broken_off,
    credential,
    drop,
    rendered_beside,
)
from notifier.channels.dialling import Names, socket_for, tls_context
from notifier.channels.egress import EgressGuard
from notifier.channels.mail_message import MESSAGE_BYTES, mail
from notifier.channels.transport_errors import chain_of, describe, excerpt, lasting_fault
from notifier.contract import Channel, Message, Outcome
from notifier.routing.mail import Security
from notifier.routing.models import EmailConfig

KIND: Final = "email"
#: Maximum number of addresses of one name that are dialled, one after another.
_ADDRESSES: Final = 4
_START_INPUT: Final = 354
#: The server refuses the user name or the password.
_BAD_LOGIN: Final = 535

#: Maximum bytes of one answer; the answers of mail servers have a few hundred.
_ANSWER_BYTES: Final = 8 * 1024

_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
_SIZE: Final = re.compile(r"[0-9]{1,20}")


@dataclass(slots=True)
class _RequestState:
    """The state of one session; filled in while it runs."""

    may_leave: Callable[[], bool]
    step: str = "connect"
    written: bool = False


# There is no public way to limit the size of an answer.
aiosmtplib.protocol.MAX_RESPONSE_LENGTH = _ANSWER_BYTES  # noqa: V101 (the library reads it)


class _Refused(Exception):
    """The server lacks a feature without which nothing may be sent."""


class MailClient:
    """
    Connects to mail servers: names, addresses, TLS; one per process.

    Args:
        guard: Checks every address before it is dialled.
        ca_file: PEM bundle trusted besides the system's roots; empty for none.

    Raises:
        OSError: the bundle cannot be read or holds no certificate.
    """

    def __init__(self, *, guard: EgressGuard | None = None, ca_file: str = "") -> None:
        self.tls = tls_context(ca_file)
        self._names = Names(guard or EgressGuard(), "resolve-mail")

    async def dial(self, host: str, port: int, *, timeout_s: float) -> socket.socket:
        """
        Connect to the first address that answers; each gets an equal share of the time.

        Raises:
            OSError: the name did not resolve, no address answered, or (`EgressDenied`) one is refused.
        """
        answers = (await self._names.look_up(host, port, timeout_s=timeout_s))[:_ADDRESSES]
        failures: list[OSError] = []
        for answer in answers:
            sock = socket_for(*answer[:3])
            try:
                sock.setblocking(False)
                async with asyncio.timeout(timeout_s / len(answers)):
                    await asyncio.get_running_loop().sock_connect(sock, answer[-1])
            except OSError as exc:  # a timeout is one
                sock.close()
                failures.append(exc)
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failures[-1]

    def close(self) -> None:
        """Let the threads end, without waiting for a look-up that hangs."""
        self._names.close()


@dataclass(eq=False, repr=False)
class EmailChannel(Channel):
    """
    Sends to one recipient through one server; its repr shows nothing.

    Attributes:
        mail_client: Connects to the server.
        config: The entry, with its server and one recipient.
        password: Provider of the password, if the entry has a user name.
        timeout_s: Deadline of one session in seconds.
        clock: Unix milliseconds, for the date.
    """

    mail_client: MailClient
    config: EmailConfig
    password: Provider | None
    timeout_s: float
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def send(self, message: Message) -> Outcome:
        """Hand the message to the server."""
        password = ""
        if self.config.username:
            given = credential(KIND, self.password or str, "email password", message)
            if isinstance(given, Outcome):
                return given
            password = given
        now = self.clock() // 1000

        def build(m: Message, limit: int = MESSAGE_BYTES) -> bytes:
            return mail(m, self.config, now, limit=limit)

        loop = asyncio.get_running_loop()
        until = loop.time() + self.timeout_s
        # Half of the time: other large messages may be rendered first, and the session needs the rest.
        content = await rendered_beside(KIND, build, message, seconds=self.timeout_s / 2)
        if isinstance(content, Outcome):
            return content
        request_state = _RequestState(message.may_leave)
        try:
            async with asyncio.timeout_at(until):
                async with _session(
                    self.mail_client, self.config, request_state, until - loop.time()
                ) as (client, protocol):
                    if self.config.username:
                        await _authenticate(client, self.config.username, password, request_state)
                    limit = announced_size(client.esmtp_extensions.get("size", ""))
                    if limit < len(content):
                        left = until - loop.time()
                        smaller = await rendered_beside(
                            KIND, lambda m: build(m, limit), message, seconds=left / 2
                        )
                        if isinstance(smaller, Outcome):
                            return smaller
                        content = smaller
                    code, text = await _transfer(
                        client, protocol, self.config, content, request_state
                    )
        except Exception as exc:  # noqa: BLE001 - what a server does is an outcome, never an error
            return self._failure(exc, request_state, password)
        return self._answered(code, text, request_state, password)

    def _answered(
        self, code: int, text: str, request_state: _RequestState, password: str
    ) -> Outcome:
        if request_state.written and 200 <= code <= 299:
            return Outcome.success(code)
        said = f"email server returned {code} to {request_state.step}"
        shown = excerpt(text, secrets_of(self.config.username, password))
        if 400 <= code <= 499:
            return Outcome.transient(f"{said} (retryable): {shown}", code=code)
        if 500 <= code <= 599:
            build = Outcome.mistaken if code == _BAD_LOGIN else Outcome.permanent
            return build(f"{said} (permanent failure): {shown}", code=code)
        reason = f"email server gave an answer to {request_state.step} that means nothing"
        return Outcome.unknown(reason) if request_state.written else Outcome.transient(reason)

    def _failure(self, exc: Exception, request_state: _RequestState, password: str) -> Outcome:
        links = chain_of(exc)
        if fault := lasting_fault(links, written=request_state.written):
            return fault
        if isinstance(exc, _Refused):
            return Outcome.permanent(str(exc))
        if isinstance(exc, aiosmtplib.SMTPResponseException):
            return self._answered(exc.code, exc.message, request_state, password)
        if any(isinstance(link, aiosmtplib.SMTPServerDisconnected) for link in links):
            reason = describe(links) or "connection closed without an answer (EOF)"
        elif isinstance(exc, TimeoutError):
            reason = f"timeout: no answer within {self.timeout_s:g} s"
        else:
            reason = describe(links) or type(exc).__name__
        text = f"email request failed at {request_state.step}: {reason}"
        return broken_off(text, links, written=request_state.written)


# -- the dialogue ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _session(
    mail_client: MailClient, relay: EmailConfig, request_state: _RequestState, timeout_s: float
) -> AsyncIterator[tuple[aiosmtplib.SMTP, SMTPProtocol]]:
    """Open a session, up to EHLO and TLS; it is closed without waiting, whatever happened in it."""
    sock = await mail_client.dial(relay.host, relay.port, timeout_s=timeout_s)
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        sock=sock,
        use_tls=relay.security is Security.IMPLICIT,
        start_tls=False,
        tls_context=mail_client.tls,
        # A pod's name means nothing to a mail server, and many servers refuse a name without dots.
        local_hostname=address_literal(str(sock.getsockname()[0])),
        # The caller enforces one deadline for everything.
        timeout=None,
    )
    request_state.step = "TLS" if relay.security is Security.IMPLICIT else "the connection"
    await client.connect()  # closes by itself when it fails
    # The library drops both when it closes. STARTTLS puts another transport on top of this one.
    transport = cast("asyncio.Transport", client.transport)
    protocol = cast("SMTPProtocol", client.protocol)
    try:
        request_state.step = "EHLO"
        await client.ehlo()
        if relay.security is Security.STARTTLS:
            request_state.step = "STARTTLS"
            await _protect(client, relay)
            request_state.step = "EHLO"
            await client.ehlo()
        yield client, protocol
        # Nothing depends on the answer to QUIT, so it is not awaited.
        with contextlib.suppress(aiosmtplib.SMTPServerDisconnected):
            protocol.write(b"QUIT\r\n")
        client.close()
    except BaseException:
        # A graceful TLS shutdown would wait for the peer.
        drop(transport)
        raise


async def _protect(client: aiosmtplib.SMTP, relay: EmailConfig) -> None:
    if not client.supports_extension("starttls"):
        raise _Refused("email server does not offer STARTTLS")
    await client.starttls(server_hostname=relay.host)


async def _authenticate(
    client: aiosmtplib.SMTP, username: str, password: str, request_state: _RequestState
) -> None:
    request_state.step = "AUTH"
    ways = {
        "plain": client.auth_plain,
        "login": client.auth_login,
        "cram-md5": client.auth_crammd5,
    }
    for name, way in ways.items():
        if name in client.server_auth_methods:
            await way(username, password)
            return
    raise _Refused("email server offers no authentication that is supported")


async def _transfer(
    client: aiosmtplib.SMTP,
    protocol: SMTPProtocol,
    envelope: EmailConfig,
    content: bytes,
    request_state: _RequestState,
) -> tuple[int, str]:
    """Send envelope and content; return code and text of the last answer."""
    request_state.step = "MAIL"
    options = [f"SIZE={len(content)}"] if client.supports_extension("size") else []
    await client.mail(envelope.sender, options=options)
    request_state.step = "RCPT"
    await client.rcpt(envelope.to)
    request_state.step = "DATA"
    # Not the library's `data`, which does not report whether the content had begun when it failed.
    code, text = await client.execute_command(b"DATA")
    if code != _START_INPUT:
        return code, text
    if not request_state.may_leave():
        raise Withheld
    request_state.step = "the message"
    request_state.written = True
    protocol.write(_LEADING_DOT.sub(b"..", content) + b".\r\n")
    return await protocol.read_response()


def announced_size(text: str) -> int:
    """Return the bytes that a server accepts by its SIZE extension, at most `MESSAGE_BYTES`."""
    size = int(text) if _SIZE.fullmatch(text.strip()) else 0
    return min(size or MESSAGE_BYTES, MESSAGE_BYTES)


def address_literal(address: str) -> str:
    """The EHLO argument of a client without a name of its own: `[10.0.0.1]`, `[IPv6:fd00::1]`."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def secrets_of(username: str, password: str) -> frozenset[str]:
    """Return the password in every form that is sent over the wire; a server may echo any of them."""
    if not password:
        return frozenset()
    plain = f"\0{username}\0{password}"
    forms = {password, *(base64.b64encode(t.encode()).decode() for t in (password, plain))}
    return frozenset(forms)
