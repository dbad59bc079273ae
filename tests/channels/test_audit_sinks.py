"""The audit feed's sinks and the readiness gate, over real HTTP and on a real disk."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from notifier.audit.assembly import store_tls
from notifier.audit.events import events_of
from notifier.audit.gate import PATIENCE, HealthGate
from notifier.audit.sinks import FileSink, Result, store_sink, webhook_sink
from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpClient
from notifier.settings import Settings
from syncer.configfile import build
from syncer.model.errors import ConfigError
from tests.beside import eventually
from tests.channels.receiver import Certificates, Step, closed_port, receiving
from tests.unit.notifier.audit.told import (
    FAILED,
    SUCCESS,
    log_of,
    notification,
    opened,
    planned,
    settled,
)

LINES = (b'{"n":1}', b'{"n":2}')
NO_TOKEN = Path("/nonexistent/token")


def settings_with(**members: object) -> Settings:
    """Settings of a file that holds only what it must, and these members."""
    return build(Settings, {"redis": {"url": "redis://r"}, **members}, constants=members)


# -- the audit store ------------------------------------------------------------------------------


async def test_a_batch_is_one_json_list(http_client: HttpClient, tmp_path: Path) -> None:
    """The request is what the store documents: POST, JSON list, bearer token; 201 is a receipt."""
    token = tmp_path / "token"
    token.write_text("first\n")
    async with receiving(Step(201)) as receiver:
        sink = store_sink(http_client, receiver.url("/"), timeout_s=2, token_file=token)
        assert (await sink.write(LINES)).result is Result.STORED
        token.write_text("rotated")
        assert (await sink.write(LINES)).result is Result.STORED
    first, second = receiver.requests
    assert first.line == "POST /api/v1/audit/events/batch HTTP/1.1"
    assert first.headers["content-type"] == "application/json"
    assert first.json() == [{"n": 1}, {"n": 2}]
    assert first.headers["authorization"] == "Bearer first"
    assert second.headers["authorization"] == "Bearer rotated"


async def test_a_webhook_gets_a_batch_of_cloudevents(
    http_client: HttpClient, tmp_path: Path
) -> None:
    """What the format asks for: the attributes of version 1.0, and the whole event as data."""
    token = tmp_path / "token"
    token.write_text("secret")
    records = log_of(
        planned("slack:ops"), opened(1), settled(1, FAILED), opened(2), settled(2, SUCCESS)
    )
    lines = [event.line for event in events_of(records, notification())]
    async with receiving(Step(202)) as receiver:
        sink = webhook_sink(http_client, receiver.url("/in?x=1"), timeout_s=2, token_file=token)
        assert (await sink.write(lines)).result is Result.STORED
    (request,) = receiver.requests
    assert request.line == "POST /in?x=1 HTTP/1.1"
    assert request.headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert request.headers["authorization"] == "Bearer secret"
    events = request.json()
    assert [event.pop("data") for event in events] == [json.loads(line) for line in lines]
    source = "/apis/kubernaut.ai/v1alpha1/namespaces/ops/notificationrequests/disk-full"
    assert events == [
        {
            "specversion": "1.0", "id": f"uid-1/0.7-{n}/{kind}", "source": source,
            "type": f"notification-ledger.message.{kind}", "subject": "uid-1", "time": time,
            "datacontenttype": "application/json",
        }
        for (n, kind), time in zip(
            [(1, "failed"), (2, "sent"), (2, "acknowledged")],
            [json.loads(line)["event_timestamp"] for line in lines], strict=True,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "two words", "line\nbreak", "\xff"])
async def test_without_a_usable_token_none_is_sent(
    http_client: HttpClient, tmp_path: Path, content: str | None
) -> None:
    """A missing or broken token file leads to a request without the header."""
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    async with receiving(Step(200)) as receiver:
        sink = store_sink(http_client, receiver.url(), timeout_s=2, token_file=token)
        assert (await sink.write(LINES)).result is Result.STORED
    assert "authorization" not in receiver.requests[0].headers


async def test_a_token_is_not_sent_in_the_clear(http_client: HttpClient, tmp_path: Path) -> None:
    """Whatever the settings let through: over http:// no token leaves, and the reason is told."""
    token = tmp_path / "token"
    token.write_text("canary")
    sink = store_sink(http_client, "http://store.invalid", timeout_s=2, token_file=token)
    written = await sink.write(LINES)
    assert written.result is Result.RETRY
    assert "credentials are not sent over http://" in written.reason


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://store.ns.svc:8080", True),
        ("http://10.0.0.1", True),
        ("http://localhost.example.org", True),
        ("https://store", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8080", False),
    ],
)
def test_a_token_needs_a_way_that_nobody_reads(url: str, refused: bool) -> None:
    """A token for a store over http:// ends the start; this machine is no way."""
    store = {"url": url, "tokenFile": "/t"}
    if not refused:
        assert settings_with(datastorage=store).datastorage is not None
        return
    with pytest.raises(ConfigError, match="could be read on the network") as caught:
        settings_with(datastorage=store)
    assert caught.value.path == "datastorage.tokenFile"


VERDICTS = {
    "a bad request is about the events": (Step(400), Result.REFUSED),
    "too large is about the events": (Step(413), Result.REFUSED),
    "unprocessable is about the events": (Step(422), Result.REFUSED),
    "no right to write is about us": (Step(401), Result.RETRY),
    "forbidden is about us": (Step(403), Result.RETRY),
    "a missing endpoint is about the store": (Step(404), Result.RETRY),
    "too many requests is about the store": (Step(429), Result.RETRY),
    "an error of the store is about the store": (Step(500), Result.RETRY),
    "a redirect is not followed": (
        Step(307, headers=(("Location", "http://127.0.0.1:1/"),)), Result.RETRY,
    ),
    "a lost reply is no receipt": (Step(raw=b"", abort=True), Result.RETRY),
    "silence is no receipt": (Step(hang=True), Result.RETRY),
}  # fmt: skip


@pytest.mark.parametrize(("step", "result"), VERDICTS.values(), ids=VERDICTS.keys())
async def test_what_an_answer_means(http_client: HttpClient, step: Step, result: Result) -> None:
    """Only answers that speak of the events refuse them; everything else may be tried again."""
    async with receiving(step) as receiver:
        sink = store_sink(http_client, receiver.url("/"), timeout_s=0.5, token_file=NO_TOKEN)
        written = await sink.write(LINES)
    assert written.result is result
    assert written.reason


async def test_the_token_does_not_come_back_in_a_reason(
    http_client: HttpClient, tmp_path: Path
) -> None:
    """A store that echoes the token does not bring it into the log."""
    token = tmp_path / "token"
    token.write_text("canary-of-a-token-1234567890")
    async with receiving(Step(500, body=token.read_bytes())) as receiver:
        sink = store_sink(http_client, receiver.url("/"), timeout_s=2, token_file=token)
        written = await sink.write(LINES)
    assert "canary" not in written.reason
    assert "500" in written.reason


async def test_the_guard_holds_for_the_store() -> None:
    """A store at a private address is refused in strict mode, and allowed where it is listed."""
    async with receiving(Step(201)) as receiver:
        for allowed, result in (((), Result.RETRY), (("127.0.0.1",), Result.STORED)):
            guard = EgressGuard("strict", allowed)
            async with aclosing(HttpClient(guard=guard, environment={})) as http_client:
                sink = store_sink(http_client, receiver.url("/"), timeout_s=2, token_file=NO_TOKEN)
                assert (await sink.write(LINES)).result is result
    assert len(receiver.requests) == 1


async def test_the_store_has_authorities_of_its_own(certificates: Certificates) -> None:
    """TLS_CA_FILE makes the store's certificate trusted; without it nothing is sent."""
    tls = certificates.context("store")
    async with receiving(Step(201), tls=tls) as receiver:
        for ca_file, result in ((None, Result.RETRY), (str(certificates.ca), Result.STORED)):
            context = store_tls(settings_with(tlsProfile="Modern"), ca_file)
            async with aclosing(HttpClient(tls=context, environment={})) as http_client:
                sink = store_sink(http_client, receiver.url("/"), timeout_s=2, token_file=NO_TOKEN)
                assert (await sink.write(LINES)).result is result
    assert len(receiver.requests) == 1


# -- the file -------------------------------------------------------------------------------------


async def test_the_file_grows_by_lines(tmp_path: Path) -> None:
    """Batches are appended; a file that was rotated away is made anew."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    assert (await sink.write(LINES)).result is Result.STORED
    assert (await sink.write(LINES[:1])).result is Result.STORED
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":1}\n'
    path.rename(tmp_path / "audit.1")
    assert (await sink.write(LINES[1:])).result is Result.STORED
    assert path.read_bytes() == b'{"n":2}\n'
    sink.close()


async def test_a_line_cut_short_by_a_crash_spoils_no_other(tmp_path: Path) -> None:
    """The next batch begins on a line of its own."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"n":0}\n{"n":')
    sink = FileSink(path)
    assert (await sink.write(LINES)).result is Result.STORED
    sink.close()
    lines = path.read_bytes().splitlines()
    assert lines == [b'{"n":0}', b'{"n":', *LINES]


async def test_a_file_that_cannot_be_written_may_be_tried_again(tmp_path: Path) -> None:
    """A missing directory is an answer with a reason and without the path; later it works."""
    path = tmp_path / "later" / "audit.jsonl"
    sink = FileSink(path)
    written = await sink.write(LINES)
    assert (written.result, written.reason) == (Result.RETRY, "no such file or directory")
    path.parent.mkdir()
    assert (await sink.write(LINES)).result is Result.STORED
    sink.close()


class HangingDisk(FileSink):
    """A file on a disk that answers when the test says so."""

    answers = threading.Event()

    def _append(self, lines: Sequence[bytes]) -> None:
        with self._busy:
            self.answers.wait(10)


async def test_a_disk_that_hangs_costs_one_thread(tmp_path: Path) -> None:
    """A write that does not end times out, and no second one is begun behind it."""
    sink = HangingDisk(tmp_path / "audit.jsonl", timeout_s=0.1)
    try:
        first = await sink.write(LINES)
        second = await sink.write(LINES)
    finally:
        sink.answers.set()
        sink.close()
    assert (first.result, first.reason) == (Result.RETRY, "not written within 0.1 s")
    assert (second.result, second.reason) == (Result.RETRY, "an earlier write has not ended")


# -- the gate -------------------------------------------------------------------------------------


async def test_the_gate_is_closed_until_the_first_2xx(http_client: HttpClient) -> None:
    """Not asked, not answered and not well all keep it closed, with the reason."""
    async with receiving(Step(503), Step(204)) as receiver:
        gate = HealthGate(http_client, receiver.url("/health"), timeout_s=2)
        said = [gate.problem]
        for _ in range(2):
            await gate.ask()
            said.append(gate.problem)
    assert said == [
        "the audit store is not healthy: not asked yet",
        "the audit store is not healthy: HTTP 503",
        None,
    ]
    assert receiver.requests[0].line == "GET /health HTTP/1.1"


async def test_an_open_gate_bears_a_few_failures(http_client: HttpClient) -> None:
    """It closes after several failures in a row, and a success in between starts the count anew."""
    well, ill = Step(200), Step(500)
    script = [well, *[ill] * (PATIENCE - 1), well, *[ill] * PATIENCE, well]
    expected = [True] * (PATIENCE + 1) + [True] * (PATIENCE - 1) + [False, True]
    async with receiving(*script) as receiver:
        gate = HealthGate(http_client, receiver.url("/health"), timeout_s=2)
        seen = []
        for _ in script:
            await gate.ask()
            seen.append(gate.problem is None)
    assert seen == expected


async def test_the_gate_asks_again_by_itself(http_client: HttpClient) -> None:
    """A store that comes up later opens the gate; a refused connection is not an end."""
    gate = HealthGate(http_client, f"http://127.0.0.1:{closed_port()}", timeout_s=1, period=0.01)
    running = asyncio.create_task(gate.run())
    await eventually(lambda: "connection refused" in (gate.problem or ""))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_health_answer_is_bounded(http_client: HttpClient) -> None:
    """A store that answers with a huge body is well, and the body is not read to its end."""
    huge = json.dumps({"status": "x" * (1 << 21)}).encode()
    async with receiving(Step(200, body=huge)) as receiver:
        gate = HealthGate(http_client, receiver.url("/health"), timeout_s=2)
        await gate.ask()
    assert gate.problem is None


async def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """A file that is made shows nobody else what failed and why; one that is there keeps its mode."""
    made, shared = tmp_path / "made.jsonl", tmp_path / "shared.jsonl"
    shared.touch(mode=0o640)
    shared.chmod(0o640)
    for path, mode in ((made, 0o600), (shared, 0o640)):
        sink = FileSink(path)
        assert (await sink.write(LINES)).result is Result.STORED
        sink.close()
        assert path.stat().st_mode & 0o777 == mode
