"""
The e-mail channel: one message to one recipient in one SMTP session.

**One recipient.** A server may accept some recipients of a message and refuse others. Then neither
"sent" nor "failed" would be true, and a retry of the whole would send to those again who have it. So
there is no such message: an entry with several recipients is several channels (`routing.mail`), each
with its own record, retries and breaker. The price is a session per recipient; the gain is a record
that says who got it, and a retry that goes only to who did not.

**What is claimed.** Success is the server's 2xx to the content; it has taken responsibility, no more.
A 4xx is transient (greylisting is one), a 5xx permanent, at whatever step it is given, a wrong password
included. Before the first byte of content nothing was sent, whatever breaks. After it, only an answer
counts: no answer is *unknown*, since a server may deliver and then fail to say so (RFC 1047). A repeat
carries the same Message-ID, by which receivers that look for repeats know it.

**Protection.** STARTTLS, or TLS from the first byte; plain text only where the file says so, and never
with a password. A server that does not offer the STARTTLS that is wanted is refused for good. One
method of authentication is tried once: a second wrong one could lock the account.

**Bounds.** One deadline covers the name, the dial, TLS and every step of the dialogue. The message is
cut to `MESSAGE_BYTES`, or to what the server announces, with a mark. Answers are bounded by the
library. Every address is judged after resolution (`egress`). Proxies of the environment are for HTTP
and are not used.

**The message** is made of what cannot change between attempts, apart from its date and the attempt's
id, which only headers hold. Text only: every client shows it, and nothing in it is read as markup.
Headers are put together here from parts that hold no control character, so none can begin another.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, formataddr
from typing import Final, cast

import aiosmtplib

from notifier.channels.base import Provider, credential, rendered_beside
from notifier.channels.egress import EgressDenied, EgressGuard
from notifier.channels.transport_errors import certificate_fault, chain_of, describe, excerpt
from notifier.content.trim import TRUNCATED
from notifier.contract import Message, Outcome
from notifier.routing.mail import Security

KIND: Final = "email"
#: Bytes of the whole message; a server may announce less.
MESSAGE_BYTES: Final = 512 * 1024
SUBJECT_CHARS: Final = 500
#: Characters of one fact or link below the body, and how many links are shown.
FACT_CHARS: Final = 1000
LINKS: Final = 20
#: Bytes that headers must leave, or the mark of a cut would not fit.
_LEAST_ROOM: Final = 1024
#: Addresses of one name that are dialled, in turn.
_ADDRESSES: Final = 4
_START_INPUT: Final = 354
#: Unacknowledged data kills the connection after this time, whatever the kernel's defaults.
_USER_TIMEOUT_MS: Final = 20_000

_HEADLINE: Final = {"Critical": "CRITICAL: ", "High": "HIGH: "}
#: C0, DEL, C1, what Unicode takes for the end of a line, and what turns the direction of writing.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_BODY_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PLAIN: Final = re.compile(r"[\x20-\x7e]{1,60}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+(?:\r\n [\x20-\x7e]+)*")
#: The end of quoted-printable that was cut: less than an escape, or than a soft line break.
_BROKEN_ESCAPE: Final = re.compile(rb"=[0-9A-F\r]?\Z")
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Relay:
    """
    The mail server of an entry.

    Attributes:
        host: Name or address.
        port: Of the server.
        security: How the way there is protected.
        username: Empty for no authentication.
    """

    host: str
    port: int
    security: Security = Security.STARTTLS
    username: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who writes to whom; addresses are checked by `routing.mail`."""

    sender: str
    recipient: str
    sender_name: str = ""


@dataclass(slots=True)
class _RequestState:
    """What is known about one session; filled in as it goes."""

    step: str = "connect"
    written: bool = False


class _Refused(Exception):
    """The server lacks what must not be done without."""


class MailClient:
    """
    The way out for mail: names, addresses, TLS; one per process.

    Names are resolved in threads of its own, since a dead name server holds a thread for many seconds.

    Args:
        guard: Judges every address before it is dialled.
        ca_file: PEM bundle trusted besides the system's roots; empty for none.

    Raises:
        OSError: the bundle cannot be read or holds no certificate.
    """

    def __init__(self, *, guard: EgressGuard | None = None, ca_file: str = "") -> None:
        self._guard = guard or EgressGuard()
        self.tls = ssl.create_default_context()
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_file:
            self.tls.load_verify_locations(cafile=ca_file)
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolve-mail")

    async def dial(self, host: str, port: int, *, timeout_s: float) -> socket.socket:
        """
        Connect to the first address that answers; each gets an equal share of the time.

        Raises:
            OSError: the name did not resolve, no address answered, or (`EgressDenied`) one is refused.
        """
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc
        for *_, address in answers:
            self._guard.check(str(address[0]), host=host)
        answers = answers[:_ADDRESSES]
        trouble: OSError = socket.gaierror(socket.EAI_NONAME, "no addresses")
        for family, kind, protocol, _, address in answers:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
                async with asyncio.timeout(timeout_s / len(answers)):
                    await loop.sock_connect(sock, address)
            except OSError as exc:  # a timeout is one
                sock.close()
                trouble = exc
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise trouble

    def close(self) -> None:
        """Let the threads end; a lookup that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class EmailChannel:
    """
    Sends to one recipient by one server.

    Args:
        mail_client: The way out.
        relay: The server.
        envelope: From whom, to whom.
        password: Provider of the password, where the relay has a user.
        timeout_s: Deadline of one session in seconds.
        clock: Unix milliseconds, for the date.
    """

    shows_status: bool = False

    def __init__(
        self,
        mail_client: MailClient,
        relay: Relay,
        envelope: Envelope,
        *,
        password: Provider | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._mail_client = mail_client
        self._relay = relay
        self._envelope = envelope
        self._password = password
        self._clock = clock
        self.timeout_s = timeout_s

    async def send(self, message: Message) -> Outcome:
        """Hand the message to the server."""
        password = ""
        if self._relay.username:
            given = credential(KIND, self._password or str)
            if isinstance(given, Outcome):
                return given
            password = given
            if not password:
                return Outcome.permanent(f"email password is empty for notification {message.key}")
        now = self._clock() // 1000

        def build(m: Message, limit: int = MESSAGE_BYTES) -> bytes:
            return mail(m, self._envelope, now, limit=limit)

        content = await rendered_beside(KIND, build, message, seconds=self.timeout_s)
        if isinstance(content, Outcome):
            return content
        request_state = _RequestState()
        try:
            async with asyncio.timeout(self.timeout_s):
                async with _session(
                    self._mail_client, self._relay, request_state, self.timeout_s
                ) as client:
                    if self._relay.username:
                        await _authenticate(client, self._relay.username, password, request_state)
                    room = announced_size(client.esmtp_extensions.get("size", ""))
                    if room < len(content):
                        smaller = await rendered_beside(
                            KIND, lambda m: build(m, room), message, seconds=self.timeout_s
                        )
                        if isinstance(smaller, Outcome):
                            return smaller
                        content = smaller
                    code, text = await _transfer(client, self._envelope, content, request_state)
        except Exception as exc:  # noqa: BLE001 - what a server does is an outcome, never an error
            return self._failure(exc, request_state, password)
        return self._answered(code, text, request_state, password)

    def _answered(
        self, code: int, text: str, request_state: _RequestState, password: str
    ) -> Outcome:
        if request_state.written and 200 <= code <= 299:
            return Outcome.success(code)
        said = f"email server returned {code} to {request_state.step}"
        shown = excerpt(text, secrets_of(self._relay.username, password))
        if 400 <= code <= 499:
            return Outcome.transient(f"{said} (retryable): {shown}", code=code)
        if 500 <= code <= 599:
            return Outcome.permanent(f"{said} (permanent failure): {shown}", code=code)
        why = f"email server gave an answer to {request_state.step} that means nothing"
        return Outcome.unknown(why) if request_state.written else Outcome.transient(why)

    def _failure(self, exc: Exception, request_state: _RequestState, password: str) -> Outcome:
        links = chain_of(exc)
        for link in links:
            if isinstance(link, EgressDenied):
                return Outcome.permanent(f"egress denied: {link.reason}")
        if not request_state.written and (fault := certificate_fault(links)):
            return Outcome.permanent(fault)
        if isinstance(exc, _Refused):
            return Outcome.permanent(str(exc))
        if isinstance(exc, aiosmtplib.SMTPResponseException):
            return self._answered(exc.code, exc.message, request_state, password)
        if isinstance(exc, aiosmtplib.SMTPServerDisconnected):
            why = describe(links) or "connection closed without an answer (EOF)"
        elif isinstance(exc, TimeoutError):
            why = f"timeout: no answer within {self.timeout_s:g} s"
        else:
            why = describe(links) or type(exc).__name__
        text = f"email request failed at {request_state.step}: {why}"
        return Outcome.unknown(text) if request_state.written else Outcome.transient(text)


# -- the dialogue ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _session(
    mail_client: MailClient, relay: Relay, request_state: _RequestState, timeout_s: float
) -> AsyncIterator[aiosmtplib.SMTP]:
    """A session that is greeted and protected; ends at once, whatever happened in it."""
    sock = await mail_client.dial(relay.host, relay.port, timeout_s=timeout_s)
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        sock=sock,
        use_tls=relay.security is Security.IMPLICIT,
        start_tls=False,
        tls_context=mail_client.tls,
        # The name of a pod means nothing to a mail server, and many refuse one without dots.
        local_hostname=address_literal(str(sock.getsockname()[0])),
        # The deadline is the caller's, one for everything.
        timeout=None,
    )
    request_state.step = "TLS" if relay.security is Security.IMPLICIT else "the connection"
    transport: asyncio.BaseTransport | None = None
    try:
        await client.connect()
        transport = client.transport
        request_state.step = "EHLO"
        await _greet(client, relay)
        if relay.security is Security.STARTTLS:
            request_state.step = "STARTTLS"
            await _protect(client, relay)
            transport = client.transport
            request_state.step = "EHLO"
            await client.ehlo()
        yield client
        # Nothing depends on the answer to QUIT, so none is waited for.
        protocol = client.protocol
        if protocol is not None:
            with contextlib.suppress(aiosmtplib.SMTPServerDisconnected):
                protocol.write(b"QUIT\r\n")
        client.close()
    except BaseException:
        client.close()
        if transport is not None:
            # A graceful end of TLS would wait for the peer.
            cast("asyncio.Transport", transport).abort()
        raise


async def _greet(client: aiosmtplib.SMTP, relay: Relay) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if relay.security is Security.STARTTLS or relay.username or not client.is_connected:
            raise
        await client.helo()


async def _protect(client: aiosmtplib.SMTP, relay: Relay) -> None:
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
    client: aiosmtplib.SMTP, envelope: Envelope, content: bytes, request_state: _RequestState
) -> tuple[int, str]:
    """Envelope and content; answers with what the server said to the content."""
    request_state.step = "MAIL"
    options = [f"SIZE={len(content)}"] if client.supports_extension("size") else []
    await client.mail(envelope.sender, options=options)
    request_state.step = "RCPT"
    await client.rcpt(envelope.recipient)
    request_state.step = "DATA"
    # Not the library's `data`: it does not tell whether the content had begun when it broke.
    code, text = await client.execute_command(b"DATA")
    protocol = client.protocol
    if code != _START_INPUT:
        return code, text
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("")
    request_state.step = "the message"
    request_state.written = True
    protocol.write(_LEADING_DOT.sub(b"..", content) + b".\r\n")
    code, text = await protocol.read_response()
    return code, text


def announced_size(text: str) -> int:
    """Bytes that a server takes by its SIZE extension, at most `MESSAGE_BYTES`."""
    text = text.strip()[:20]
    size = int(text) if text.isascii() and text.isdigit() else 0
    return min(size or MESSAGE_BYTES, MESSAGE_BYTES)


def address_literal(address: str) -> str:
    """How a client without a name of its own introduces itself: `[10.0.0.1]`, `[IPv6:fd00::1]`."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def secrets_of(username: str, password: str) -> frozenset[str]:
    """The password in every form in which it goes over the wire; a server may echo any."""
    if not password:
        return frozenset()
    plain = f"\0{username}\0{password}"
    forms = {password, *(base64.b64encode(t.encode()).decode() for t in (password, plain))}
    return frozenset(forms)


# -- the message ----------------------------------------------------------------------------------


def mail(message: Message, envelope: Envelope, now: int, *, limit: int = MESSAGE_BYTES) -> bytes:
    """
    The message as it goes on the wire, before dots are doubled; lines end in CRLF.

    Args:
        message: What to say.
        envelope: From whom, to whom.
        now: Unix seconds, for the date.
        limit: Bytes that it may have.

    Raises:
        ValueError: its headers leave no room for a body, or one of them would hold what no header may.
    """
    spec = message.spec
    domain = envelope.sender.rpartition("@")[2]
    headers = {
        "From": _from(envelope),
        "To": envelope.recipient,
        "Subject": subject_header(f"{_HEADLINE.get(spec.priority, '')}{spec.subject}"),
        "Date": format_datetime(datetime.fromtimestamp(now, UTC)),
        "Message-ID": f"<{message.idempotency_key}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Notification-Attempt": message.attempt_id,
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    if spec.priority in _HEADLINE:
        headers["Importance"] = "high"
    for name, value in headers.items():
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} cannot be written")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    room = limit - len(head) - len(b"\r\n")
    if room < _LEAST_ROOM:
        raise ValueError("the message cannot be cut to size")
    below = _cut_encoded(mail_facts(message), room // 2)
    body = _cut_encoded(_body(spec.body), room - len(below))
    return head + body + below + b"\r\n"


def mail_facts(message: Message) -> str:
    """What stands below the body: a line per fact that there is, then the links."""
    spec = message.spec
    facts = {
        "Priority": spec.priority,
        "Type": spec.type,
        "Severity": spec.severity,
        "Cluster": spec.cluster_id,
        "Root cause": message.fact("analysis", "rootCause"),
        "Confidence": message.fact("workflow", "confidence"),
        "Affected resource": message.fact("target", "targetResource"),
        "Verification": message.fact("verification", "outcome"),
        "Verification reason": message.fact("verification", "reason"),
        "Command": message.chat_command(),
        "Notification": message.key,
    }
    lines = ["", "", "---"]
    lines += [f"{name}: {_short(_one_line(value))}" for name, value in facts.items() if value]
    shown = spec.action_links[:LINKS]
    lines += [
        f"{_short(_one_line(label or service))}: {_short(_one_line(url))}"
        for service, url, label in shown
    ]
    if len(spec.action_links) > len(shown):
        lines.append(f"({len(spec.action_links) - len(shown)} further links are left out)")
    return "\r\n".join(lines)


def subject_header(text: str) -> str:
    """A subject as a header's value: as it is if it is short ASCII, else in encoded words."""
    text = _one_line(text)
    if len(text) > SUBJECT_CHARS:
        text = text[: SUBJECT_CHARS - 1] + "…"
    if _PLAIN.fullmatch(text) and "=?" not in text and text == text.strip():
        return text
    return Header(text or "(no subject)", "utf-8", header_name="Subject").encode(linesep="\r\n")


def _from(envelope: Envelope) -> str:
    name = _one_line(envelope.sender_name)
    if name.isascii():
        return formataddr((name, envelope.sender))
    encoded = Header(name, "utf-8", header_name="From").encode(linesep="\r\n")
    return f"{encoded} <{envelope.sender}>"


def _one_line(text: str) -> str:
    return _CONTROLS.sub(" ", _unicode(text)).strip()


def _body(text: str) -> str:
    return _LINE_END.sub("\r\n", _BODY_CONTROLS.sub("\ufffd", _unicode(text)))


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _short(text: str) -> str:
    return text if len(text) <= FACT_CHARS else f"{text[:FACT_CHARS]} {TRUNCATED}"


def _quoted_printable(text: str) -> bytes:
    # The function takes its line ends from the first one that it sees, and breaks with that.
    encoded = binascii.b2a_qp(f"\r\n{text}".encode(), istext=True)
    return encoded.removeprefix(b"\r\n")


def _cut_encoded(text: str, room: int) -> bytes:
    """The text in quoted-printable, cut at a character and marked if it takes more than so much."""
    if len(text) <= room:
        encoded = _quoted_printable(text)
        if len(encoded) <= room:
            return encoded
    mark = _quoted_printable(f"\r\n{TRUNCATED}")
    # Not a search: each encoding of so long a text holds the process up for milliseconds. A cut of the
    # whole says how much of it fits, but for what its end costs.
    encoded = _quoted_printable(text[:room])
    fits = _BROKEN_ESCAPE.sub(b"", encoded[: max(0, room - len(mark))])
    low = len(binascii.a2b_qp(fits).decode("utf-8", "ignore"))
    while True:
        # A cut between CR and LF would leave a bare CR; a blank that ends a text takes more room.
        kept = _quoted_printable(text[:low].removesuffix("\r"))
        if len(kept) + len(mark) <= room or not low:
            return kept + mark
        low = max(0, low - 4)
