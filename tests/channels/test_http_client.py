"""The door: what each thing that a receiver can do comes to."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest

from notifier.channels.dialling import tls_context
from notifier.channels.egress import EgressDenied, EgressGuard
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from notifier.contract import Outcome
from syncer.model.attempt import AttemptState, FailureClass
from tests.channels.receiver import Certificates, Step, closed_port, receiving

TRANSIENT = FailureClass.TRANSIENT
PERMANENT = FailureClass.PERMANENT
UNCERTAIN = FailureClass.UNCERTAIN


async def post(
    http_client: HttpClient, url: str, *, body: bytes = b"{}", timeout_s: float = 20.0
) -> Outcome:
    """One request, as the Slack channel would make it."""
    return await http_client.post(
        Target(url), body, {"X-Test": "1"}, timeout_s=timeout_s, kind="slack"
    )


IN_CLEAR = {
    "a header to a name": ("http://a.invalid/x", {"Authorization": "Bearer t"}, True),
    "a header to an address": ("http://192.0.2.7/x", {"Authorization": "Basic dTpw"}, True),
    "a user in the URL": ("http://u:p@a.invalid/x", {}, True),
    "a user without password in the URL": ("http://u@a.invalid/x", {}, True),
    "nothing secret": ("http://a.invalid/x", {}, False),
    "over TLS": ("https://a.invalid/x", {"Authorization": "Bearer t"}, False),
    "to this machine": ("http://127.0.0.1:9/x", {"Authorization": "Bearer t"}, False),
    "to this machine, by its usual name": ("http://localhost:9/x", {"Authorization": "t"}, False),
    "to a name that only begins so": ("http://localhost.invalid/", {"Authorization": "t"}, True),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_CLEAR)
async def test_credentials_do_not_leave_in_the_clear(http_client: HttpClient, case: str) -> None:
    """Over http:// no header and no user of a URL leaves this machine, unless the target says so."""
    url, headers, refused = IN_CLEAR[case]
    for allowed in (False, True):
        target = Target(url, in_clear=allowed)
        outcome = await http_client.post(target, b"{}", headers, timeout_s=2.0, kind="webhook")
        told = "credentials are not sent over http://" in outcome.error
        assert told is (refused and not allowed), outcome.error
        assert not told or outcome.failure is PERMANENT


ANSWERS = {
    "200 is a success": (Step(200), None, ""),
    "202 is a success": (Step(202), None, ""),
    "204 without a body is a success": (Step(raw=b"HTTP/1.1 204 No\r\n\r\n"), None, ""),
    "200 with an error in its body is a success": (Step(200, b'{"ok":false}'), None, ""),
    "500 may be tried again": (
        Step(500, b"boom"), TRANSIENT, "slack webhook returned 500 (retryable): boom",
    ),
    "501 may be tried again": (Step(501), TRANSIENT, "slack webhook returned 501 (retryable): ok"),
    "505 may be tried again": (Step(505), TRANSIENT, "slack webhook returned 505 (retryable): ok"),
    "429 may be tried again": (Step(429), TRANSIENT, "slack webhook returned 429 (retryable): ok"),
    "400 is permanent": (
        Step(400, b"no"), PERMANENT,
        "permanent failure: slack webhook returned 400 (permanent failure): no",
    ),
    "408 is permanent": (
        Step(408), PERMANENT,
        "permanent failure: slack webhook returned 408 (permanent failure): ok",
    ),
    "410 is permanent": (
        Step(410), PERMANENT,
        "permanent failure: slack webhook returned 410 (permanent failure): ok",
    ),
    "a redirect is permanent and names the code": (
        Step(302, b"", (("Location", "http://169.254.169.254/latest"),)), PERMANENT,
        "permanent failure: slack webhook returned 302 (permanent failure): ",
    ),
    "a redirect that keeps the method is permanent": (
        Step(307, b"", (("Location", "/elsewhere"),)), PERMANENT,
        "permanent failure: slack webhook returned 307 (permanent failure): ",
    ),
    "no HTTP at all is unknown": (
        Step(raw=b"not-http"), UNCERTAIN, "slack webhook request failed: malformed answer",
    ),
    "a line that is no status line is unknown": (
        Step(raw=b"HELLO 200\r\n\r\n"), UNCERTAIN,
        "slack webhook request failed: malformed answer",
    ),
    "a head that is too long after a 200 is a success": (
        Step(200, headers=(("X-Long", "x" * 70_000),)), None, "",
    ),
    "a code that does not exist is permanent": (
        Step(raw=b"HTTP/1.1 999 Eh\r\nContent-Length: 0\r\n\r\n"), PERMANENT,
        "permanent failure: slack webhook returned 999 (permanent failure): ",
    ),
    "an interim answer is not the answer": (
        Step(raw=b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nx"),
        TRANSIENT, "slack webhook returned 500 (retryable): x",
    ),
    "an interim answer alone is unknown": (
        Step(raw=b"HTTP/1.1 103 Hints\r\n\r\n"), UNCERTAIN,
        "slack webhook request failed: connection closed without an answer (EOF)",
    ),
    "closing without an answer is unknown": (
        Step(raw=b""), UNCERTAIN,
        "slack webhook request failed: connection closed without an answer (EOF)",
    ),
    "a head that breaks off after a whole status line is a success": (
        Step(raw=b"HTTP/1.1 200 OK\r\nContent-"), None, "",
    ),
    "a status line that breaks off is unknown": (
        Step(raw=b"HTTP/1.1 200 O"), UNCERTAIN,
        "slack webhook request failed: connection closed without an answer (EOF)",
    ),
    "broken chunks after a 200 are a success": (
        Step(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nrest"), None, "",
    ),
    "a 200 whose body breaks off is a success": (
        Step(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", abort=True), None, "",
    ),
    "a 503 whose body breaks off may be tried again": (
        Step(raw=b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nhalf"), TRANSIENT,
        "slack webhook returned 503 (retryable): half",
    ),
    "garbage behind a 200 changes nothing": (
        Step(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok garbage \0\xff"), None, "",
    ),
    "a body in Latin-1 is shown as far as it can be": (
        Step(500, b'{"error":"quota \xe9"}'), TRANSIENT,
        'slack webhook returned 500 (retryable): {"error":"quota \ufffd"}',
    ),
    "a compressed body is undone": (
        Step(503, gzip.compress(b"boom"), (("Content-Encoding", "gzip"),)), TRANSIENT,
        "slack webhook returned 503 (retryable): boom",
    ),
    "what commands a terminal is not recorded, what is beyond ASCII is": (
        Step(503, "a\x1b[2Jb\x7f\x9b2Jc\td\ne é".encode()), TRANSIENT,
        "slack webhook returned 503 (retryable): a\ufffd[2Jb\ufffd\ufffd2Jc\td\ne é",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_answer(http_client: HttpClient, case: str) -> None:
    """An answer comes to one outcome, with the text that is an interface."""
    step, failure, error = ANSWERS[case]
    async with receiving(step) as receiver:
        outcome = await post(http_client, receiver.url())
        assert (outcome.failure, outcome.error) == (failure, error)
        assert receiver.connections == 1
        assert len(receiver.requests) == 1


async def test_request_on_the_wire(http_client: HttpClient) -> None:
    """A request is one POST with our name on it and the body as given; no cookie ever comes back."""
    async with receiving(Step(headers=(("Set-Cookie", "a=b"),))) as receiver:
        url = receiver.url("/hook?x=%2F", host="localhost")
        await post(http_client, url, body=b'{"a":"\xc3\xa9"}')
        await post(http_client, url)
    request, later = receiver.requests
    assert request.line == "POST /hook?x=%2F HTTP/1.1"
    assert re.fullmatch(r"notification-ledger/\d+\.\d+.*", request.headers["user-agent"])
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-test"] == "1"
    assert "cookie" not in later.headers
    assert request.body == b'{"a":"\xc3\xa9"}'


RETRY_AFTER: dict[str, tuple[str, float | None]] = {
    "seconds": ("7", 7.0),
    "zero": ("0", 0.0),
    "an absurd number is cut to an hour": ("1000000000", 3600.0),
    "an endless number is cut, too": ("9" * 4000, 3600.0),
    "a date": ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
    "a date long ago": ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    "a date far away": ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
    "a negative number": ("-5", None),
    "a fraction": ("1.5", None),
    "words": ("soon", None),
    "digits of another script": ("\u0665", None),
}


@pytest.mark.parametrize("case", RETRY_AFTER)
async def test_retry_after(case: str) -> None:
    """The wait asked for is read from seconds or a date, bounded, and garbage is ignored."""
    value, wanted = RETRY_AFTER[case]
    step = Step(429, headers=(("Retry-After", value),))
    async with (
        receiving(step) as receiver,
        aclosing(HttpClient(environment={}, clock=lambda: 1_000_000)) as http_client,
    ):
        outcome = await post(http_client, receiver.url())
    assert outcome.retry_after == wanted


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{port}/certificate-alerts/x509", "connection refused (ECONNREFUSED)"),
        ("http://no-such-host.invalid/x", "the host name did not resolve"),
    ],
)
async def test_nobody_who_listens_is_not_sent(http_client: HttpClient, url: str, why: str) -> None:
    """A failure before any byte, whatever words the URL holds; none of them is quoted."""
    outcome = await post(http_client, url.format(port=closed_port()), timeout_s=10)
    assert outcome.failure is TRANSIENT
    assert outcome.error == f"slack webhook request failed: {why}"


#: What a receiver does, the size of the body, for how long it is waited, and what comes of it.
BROKEN: dict[str, tuple[Step, int, float, AttemptState, int, str]] = {
    "a reset once bytes were read": (
        Step(reset_after=40), 2, 20.0, AttemptState.UNKNOWN, 0,
        "slack webhook request failed: connection reset by peer (ECONNRESET)",
    ),
    "a reset in the middle of a large body": (
        Step(reset_after=200_000), 8_000_000, 20.0, AttemptState.UNKNOWN, 0,
        "slack webhook request failed: connection",
    ),
    "no answer": (
        Step(hang=True), 2, 1.0, AttemptState.UNKNOWN, 0,
        "slack webhook request failed: timeout: no answer within 1 s",
    ),
    # The deadline counts for the whole exchange, not for each byte of it.
    "a head that drips": (
        Step(drip_s=0.2), 2, 1.5, AttemptState.UNKNOWN, 0,
        "slack webhook request failed: timeout: no answer within 1.5 s",
    ),
    # A status line that was read is an answer, even if the body never ends.
    "a body that drips, after a success": (
        Step(200, b"x" * 1000, drip_s=0.05, drip_from=60), 2, 1.5, AttemptState.SUCCESS, 200, "",
    ),
    "a body that drips, after a failure": (
        Step(503, b"x" * 1000, drip_s=0.05, drip_from=60), 2, 1.5, AttemptState.FAILED, 503,
        "slack webhook returned 503 (retryable): x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_an_exchange_that_is_not_whole(http_client: HttpClient, case: str) -> None:
    """What was begun and not answered is unknown: not before the deadline, and soon after it."""
    step, size, timeout_s, state, code, error = BROKEN[case]
    async with receiving(step) as receiver:
        start = time.monotonic()
        outcome = await post(http_client, receiver.url(), body=b"x" * size, timeout_s=timeout_s)
        took = time.monotonic() - start
    assert (outcome.state, outcome.code) == (state, code)
    assert outcome.error.startswith(error)
    assert took < 30
    assert took >= timeout_s - 0.01 or step.reset_after


async def test_unanswered_handshake_is_not_sent(http_client: HttpClient) -> None:
    """A deadline that passes before the request's head was written is a plain failure."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        outcome = await post(http_client, f"https://127.0.0.1:{port}/x", timeout_s=0.3)
    assert outcome.failure is TRANSIENT
    assert outcome.error == "slack webhook request failed: timeout: not connected within 0.3 s"


async def test_slow_receivers_do_not_hold_up_others(http_client: HttpClient) -> None:
    """Fifty hanging requests leave the fifty-first untouched."""
    async with receiving(Step(hang=True)) as slow, receiving() as fast:
        hanging = [
            asyncio.create_task(post(http_client, slow.url(), timeout_s=60)) for _ in range(50)
        ]
        await asyncio.sleep(0.1)
        start = time.monotonic()
        outcome = await post(http_client, fast.url())
        took = time.monotonic() - start
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert outcome.state is AttemptState.SUCCESS
    assert took < 30


@asynccontextmanager
async def _busy() -> AsyncIterator[tuple[str, Callable[[], Awaitable[int]]]]:
    """A receiver that accepts and reads nothing; gives its URL, and what reads all that comes."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        accepted = asyncio.create_task(loop.sock_accept(listening))

        async def read() -> int:
            sock, _ = await accepted
            got = 0
            with sock, contextlib.suppress(ConnectionResetError):
                while piece := await loop.sock_recv(sock, 1 << 20):
                    got += len(piece)
            return got

        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook", read


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("size", [20_000, 900_000])
async def test_what_was_given_up_does_not_arrive_later(
    http_client: HttpClient, size: int, cancelled: bool
) -> None:
    """A receiver that reads again after the deadline, or a cancellation, does not get the whole request."""
    async with _busy() as (url, read):
        sent = asyncio.create_task(
            post(http_client, url, body=b"x" * size, timeout_s=60 if cancelled else 0.5)
        )
        if cancelled:
            await asyncio.sleep(0.5)
            sent.cancel()
        (outcome,) = await asyncio.gather(sent, return_exceptions=True)
        if cancelled:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert isinstance(outcome, Outcome)
            assert outcome.state is AttemptState.UNKNOWN
        async with asyncio.timeout(20):
            assert await read() < size


async def test_secrets_in_an_answer_are_removed(http_client: HttpClient) -> None:
    """A receiver that echoes the URL, a key of the body or a password puts none on record."""
    echo = "at {url} path /services/T000/B000/canaryCanaryCanary key k-1234567890 password=hunter2"
    async with receiving(Step(500, b"")) as receiver:
        url = receiver.url("/services/T000/B000/canaryCanaryCanary?sig=siggySiggySiggyX")
        receiver.script = (Step(500, f"{echo.format(url=url)} siggySiggySiggyX".encode()),)
        outcome = await http_client.post(
            Target(url, ("k-1234567890",)), b"{}", {}, timeout_s=2, kind="teams"
        )
    assert "[REDACTED]" in outcome.error
    for canary in ("canaryCanary", "siggySiggy", "k-1234567890", "hunter2", str(receiver.port)):
        assert canary not in outcome.error


#: URLs by why they are refused.
REFUSED = {
    "slack webhook URL is not usable": {
        "no scheme": "example.com/secret-path",
        "another scheme": "ftp://example.com/secret-path",
        "a file": "file:///secret-path",
        "no host": "http:///secret-path",
        "a port that is no number": "http://example.com:secret-path/",
        "a blank": "http://example.com/secret-path x",
        "a line break": "http://example.com/secret-path\r\nX-Evil: 1",
        "an open bracket": "http://[::1/secret-path",
        "nothing": "",
    },
    # An address that nobody may reach is refused before anything is dialled.
    "egress denied": {
        "metadata": "http://169.254.169.254/secret-path",
        "metadata, mapped into IPv6": "http://[::ffff:169.254.169.254]/secret-path",
        "metadata through NAT64": "http://[64:ff9b::a9fe:a9fe]/secret-path",
        "link-local": "http://[fe80::1]/secret-path",
        "unspecified": "http://0.0.0.0/secret-path",
    },
}


@pytest.mark.parametrize(
    ("why", "case"), [(why, case) for why, cases in REFUSED.items() for case in cases]
)
async def test_a_url_that_is_refused(http_client: HttpClient, why: str, case: str) -> None:
    """A URL that cannot be used, or leads where nobody may go, is refused for good and not shown."""
    outcome = await post(http_client, REFUSED[why][case])
    assert outcome.failure is PERMANENT
    assert outcome.error.startswith(f"permanent failure: {why}: ")
    assert "secret-path" not in outcome.error


#: How a certificate is made, the host that is dialled, and why it is not accepted, if it is not.
TLS: dict[str, tuple[dict[str, Any], str, str]] = {
    "trusted": ({}, "127.0.0.1", ""),
    "self-signed": ({"self_signed": True}, "127.0.0.1", "self-signed certificate"),
    "expired": ({"expired": True}, "127.0.0.1", "certificate has expired"),
    "wrong address": ({"san": "DNS:another-host.example"}, "127.0.0.1", "IP address mismatch"),
    "wrong name": ({"san": "DNS:another-host.example"}, "localhost", "host name mismatch"),
}  # fmt: skip


@pytest.mark.parametrize("case", TLS)
async def test_certificate(certificates: Certificates, case: str) -> None:
    """One that does not verify is refused for good, and no byte of a request leaves."""
    made, host, why = TLS[case]
    context = certificates.context(f"http-{case.replace(' ', '-')}", **made)
    async with (
        receiving(tls=context) as receiver,
        aclosing(HttpClient(environment={}, ca_file=str(certificates.ca))) as http_client,
    ):
        outcome = await post(http_client, receiver.url(host=host))
        assert len(receiver.requests) == (not why)
    refused = Outcome.mistaken(
        f"TLS certificate validation failed (permanent failure - BR-NOT-058): {why}"
    )
    assert outcome == (refused if why else Outcome.success(200))


@pytest.mark.parametrize("ca_file", ["", certifi.where()])
async def test_certificate_file_of_the_environment_is_trusted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, ca_file: str
) -> None:
    """`SSL_CERT_FILE` names authorities as for any other program, also beside a bundle."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    async with (
        receiving(tls=certificates.context("good3")) as receiver,
        aclosing(HttpClient(environment={}, ca_file=ca_file)) as http_client,
    ):
        outcome = await post(http_client, receiver.url())
    assert outcome.state is AttemptState.SUCCESS


async def test_plain_text_where_tls_is_expected_is_not_sent(http_client: HttpClient) -> None:
    """A receiver that speaks no TLS is a failure before any byte of the request, not for good."""
    async with receiving(Step(raw=b"HTTP/1.1 400 Bad\r\n\r\n")) as receiver:
        url = receiver.url().replace("http://", "https://")
        outcome = await post(http_client, url, timeout_s=1)
        assert receiver.requests == []
    assert outcome.failure is TRANSIENT


def test_missing_bundle_stops_the_start(tmp_path: Path) -> None:
    """A bundle that cannot be read is an error at the start, not at the first send."""
    with pytest.raises(OSError, match="No such file"):
        HttpClient(ca_file=str(tmp_path / "none.pem"))


def test_old_tls_is_off() -> None:
    """Versions before 1.2 are not offered, and verification is on."""
    context = tls_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_strict_mode_denies_loopback() -> None:
    """In strict mode a literal and a name of the loopback address are refused alike."""
    guard = EgressGuard("strict")
    async with (
        receiving() as receiver,
        aclosing(HttpClient(guard=guard, environment={})) as http_client,
    ):
        for host in ("127.0.0.1", "localhost", "0x7f000001", "2130706433"):
            outcome = await post(http_client, receiver.url(host=host))
            assert outcome.state is AttemptState.FAILED, host
        named = await post(http_client, receiver.url(host="localhost"))
        assert named.error == "permanent failure: egress denied: private address"
        assert receiver.connections == 0


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "localhost", "LOCALHOST."])
async def test_strict_mode_lets_listed_targets_through(allowed: str) -> None:
    """A listed network or name is let through."""
    listed = [allowed] if "/" not in allowed else [allowed, "::1"]
    guard = EgressGuard("strict", listed)
    async with (
        receiving() as receiver,
        aclosing(HttpClient(guard=guard, environment={})) as http_client,
    ):
        outcome = await post(http_client, receiver.url(host="localhost"))
    assert outcome.state is AttemptState.SUCCESS


async def test_error_in_the_guard_denies() -> None:
    """A guard that breaks lets nothing through."""

    class Broken(EgressGuard):
        def _reason(self, address: str, host: str, *, proxy: bool) -> str:
            raise RuntimeError(address, host, proxy)

    async with (
        receiving() as receiver,
        aclosing(HttpClient(guard=Broken(), environment={})) as http_client,
    ):
        for host in ("127.0.0.1", "localhost"):
            outcome = await post(http_client, receiver.url(host=host))
            assert outcome.error == (
                "permanent failure: egress denied: the address could not be judged"
            )
        assert receiver.connections == 0


#: A variable, a URL, what the proxy answers and is asked for, and what comes of it.
PROXIED: dict[str, tuple[str, str, Step, str, str]] = {
    "a plain request goes with the whole URL in its line": (
        "HTTP_PROXY", "http://receiver.invalid/x", Step(), "POST http://receiver.invalid/x HTTP/1.1", "",
    ),
    # It has kept the request from leaving.
    "a tunnel that is refused": (
        "https_proxy", "https://receiver.invalid/secret-path", Step(403),
        "CONNECT receiver.invalid:443 HTTP/1.1",
        "slack webhook request failed: the proxy refused with 403",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PROXIED)
async def test_proxy_of_the_environment_is_used(case: str) -> None:
    """For a named host."""
    name, url, step, line, error = PROXIED[case]
    async with receiving(step) as proxy:
        environment = {name: f"http://127.0.0.1:{proxy.port}"}
        async with aclosing(HttpClient(environment=environment)) as http_client:
            outcome = await post(http_client, url)
    assert (outcome.failure, outcome.error) == (TRANSIENT if error else None, error)
    assert proxy.requests[0].line == line


async def test_a_proxy_that_is_no_address_is_not_shown() -> None:
    """The outcome says what is wrong in the environment, not the password that may stand there."""
    environment = {"HTTP_PROXY": "http://user:canary@[proxy:80"}
    async with aclosing(HttpClient(environment=environment)) as http_client:
        outcome = await post(http_client, "http://receiver.invalid/x")
    assert outcome.error == (
        "permanent failure: slack webhook URL is not usable: the proxy in the environment is not a URL"
    )


async def test_netrc_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that lie about on the machine are not sent along."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with receiving() as receiver, aclosing(HttpClient()) as http_client:
        await post(http_client, receiver.url())
    assert "authorization" not in receiver.requests[0].headers


async def test_a_socket_is_checked_once_more() -> None:
    """Whatever way an address came by, it is refused where none may go; a dead peer is noticed."""
    info, strict = (socket.AF_INET, socket.SOCK_STREAM, 6, ""), EgressGuard("strict")
    async with aclosing(HttpClient(environment={}, guard=strict)) as client:
        # The mode was applied to the name.
        with client._socket((*info, ("10.0.0.1", 9))) as made:
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        with pytest.raises(EgressDenied, match="link-local"):
            client._socket((*info, ("169.254.169.254", 80)))


async def test_a_client_that_is_closed_sends_nothing() -> None:
    """Whoever is late learns so by an outcome."""
    async with aclosing(HttpClient(environment={})) as client:
        pass
    outcome = await post(client, "http://127.0.0.1:9/x")
    assert (outcome.failure, "RuntimeError" in outcome.error) == (TRANSIENT, True)
