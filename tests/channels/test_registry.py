"""Channels by name: what the routing file says of a webhook reaches its receiver."""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import pytest

from notifier.channels.console import ConsoleChannel
from notifier.channels.email import EmailChannel, MailClient
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.channels.log import LogChannel
from notifier.channels.registry import ChannelRegistry
from notifier.channels.targets import Target
from notifier.channels.vendor import VendorChannel
from notifier.channels.webhook import WebhookChannel
from notifier.contract import Outcome
from notifier.routing.reload import Routing
from tests.channels.messages import message
from tests.channels.receiver import Receiver, receiving
from tests.channels.rig import Rig


def _routing(receiver: Receiver, http: str, more: str = "") -> str:
    url = json.dumps(receiver.url())
    return (
        "route: {receiver: ops}\nreceivers:\n"
        f"- {{name: ops, webhookConfigs: [{{url: {url}, httpConfig: {{{http}}}{more}}}]}}"
    )


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"u:{password}".encode()).decode()


CASES: dict[str, tuple[str, list[str]]] = {
    "a token in the file": ("bearerToken: in-file", ["Bearer in-file", "Bearer in-file"]),
    "a token elsewhere": ("bearerTokenRef: auth", ["Bearer one", "Bearer two"]),
    "a password in the file": (
        "basicAuth: {username: u, password: in-file}", [_basic("in-file"), _basic("in-file")],
    ),
    "a password elsewhere": (
        "basicAuth: {username: u, passwordRef: auth}", [_basic("one"), _basic("two")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_authentication_of_a_webhook(
    tmp_path: Path, http_client: HttpClient, case: str
) -> None:
    """Token and password reach the receiver, and rotate with the credential."""
    http, wanted = CASES[case]
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, _routing(receiver, http), auth="one\n")
        assert await rig.send("webhook:ops") == Outcome.success(200)
        (rig.credentials / "auth").write_text("two\n")
        await rig.reload()
        assert await rig.send("webhook:ops") == Outcome.success(200)
    assert [r.headers["authorization"] for r in receiver.requests] == wanted


async def test_changed_entry_makes_a_new_channel(tmp_path: Path, http_client: HttpClient) -> None:
    """Another way to authenticate is used from the next send on."""
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, _routing(receiver, "bearerToken: first"))
        await rig.send("webhook:ops")
        rig.file.write_text(_routing(receiver, "basicAuth: {username: u, password: second}"))
        await rig.reload()
        await rig.send("webhook:ops")
        rig.file.write_text(_routing(receiver, ""))
        await rig.reload()
        await rig.send("webhook:ops")
    assert [r.headers.get("authorization") for r in receiver.requests] == [
        "Bearer first", _basic("second"), None,
    ]  # fmt: skip


async def test_signed_and_authenticated(tmp_path: Path, http_client: HttpClient) -> None:
    """A signature and a token go together."""
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    async with receiving() as receiver:
        text = _routing(receiver, "bearerTokenRef: auth", ", signingSecretRefs: [key]")
        rig = Rig(tmp_path, http_client, text, auth="one", key=secret)
        await rig.send("webhook:ops")
    headers = receiver.requests[0].headers
    assert headers["authorization"] == "Bearer one"
    assert headers["webhook-signature"].startswith("v1,")


async def test_channel_that_is_gone_sends_nothing(
    tmp_path: Path, http_client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt that began before its receiver went has no credential any more."""
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, SLACK, slack=receiver.url())
        channel = rig.channels.channel("slack:ops")
        assert channel is not None
        rig.file.write_text(NOBODY)
        await rig.reload()
        assert rig.channels.channel("slack:ops") is None
        outcome = await channel.send(message("slack:ops"))
        assert receiver.connections == 0
    assert outcome == Outcome.not_sent("slack credential is not available")
    assert "slack credential is not available: LookupError" in caplog.messages


NOBODY = "route: {receiver: x}\nreceivers: [{name: x, logConfigs: [{}]}]"
SLACK = "route: {receiver: ops}\nreceivers: [{name: ops, slackConfigs: [{credentialRef: slack}]}]"

#: An entry of a receiver, and the channel that is made of it.
KINDS: Final[dict[str, tuple[str, type]]] = {
    "slack": ("slackConfigs: [{credentialRef: one}]", VendorChannel),
    "teams": ("teamsConfigs: [{credentialRef: one}]", VendorChannel),
    "pagerduty": ("pagerdutyConfigs: [{credentialRef: one}]", VendorChannel),
    "webhook": ("webhookConfigs: [{credentialRef: one}]", WebhookChannel),
    "email": (
        "emailConfigs: [{to: a@y.example, from: n@x.example, smarthost: 'm:25', tls: none}]",
        EmailChannel,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_channel_of_each_kind(tmp_path: Path, http_client: HttpClient, kind: str) -> None:
    """Each kind of receiver has its channel, with the time that the settings give it."""
    entry, wanted = KINDS[kind]
    mails = MailClient()
    rig = Rig(
        tmp_path, http_client, f"route: {{receiver: ops}}\nreceivers: [{{name: ops, {entry}}}]",
        mails, one="https://hooks.example/x",
    )  # fmt: skip
    made = rig.channels.channel(f"{kind}:ops")
    mails.close()
    assert made is not None
    assert type(made) is wanted
    assert made.timeout_s == 20
    # What is sent again must be the same, so it may not show a status, which changes.
    assert not made.shows_status
    assert rig.channels.not_ready(f"{kind}:ops") is None


@pytest.mark.parametrize("kind", ["slack", "teams", "pagerduty"])
async def test_credential_that_is_not_there_holds(
    tmp_path: Path, http_client: HttpClient, kind: str
) -> None:
    """A due send waits for its credential, and says which; a name that nobody carries waits for none."""
    text = f"route: {{receiver: ops}}\nreceivers: [{{name: ops, {KINDS[kind][0]}}}]"
    file = tmp_path / "routing.yaml"
    file.write_text(text)
    routing = Routing(file, tmp_path / "not-mounted-yet")
    routing.load_initial()
    channels = ChannelRegistry(
        lambda: routing.current, http_client, http_timeout=20, file=None, log=None,
        mail_timeout=20, dedup_namespace=False,
    )  # fmt: skip
    assert channels.not_ready(f"{kind}:ops") == "credential one is not there"
    assert channels.not_ready(f"{kind}:other") is None


async def test_webhook_without_a_url(tmp_path: Path, http_client: HttpClient) -> None:
    """An entry that leads nowhere has no channel."""
    text = "route: {receiver: ops}\nreceivers: [{name: ops, webhookConfigs: [{}]}]"
    rig = Rig(tmp_path, http_client, text)
    assert rig.channels.channel("webhook:ops") is None


async def test_default_endpoint_of_pagerduty(tmp_path: Path) -> None:
    """Without a URL the events go where PagerDuty takes them."""
    text = f"route: {{receiver: ops}}\nreceivers: [{{name: ops, {KINDS['pagerduty'][0]}}}]"
    sent: list[str] = []

    class Client(HttpClient):
        async def post(self, target: Target, *_: Any, **__: Any) -> Outcome:
            sent.append(target.url)
            return Outcome.success(202)

    async with aclosing(Client(environment={})) as client:
        rig = Rig(tmp_path, client, text, one="key")
        assert await rig.send("pagerduty:ops") == Outcome.success(202)
    assert sent == ["https://events.pagerduty.com/v2/enqueue"]


async def test_local_channels(tmp_path: Path, http_client: HttpClient) -> None:
    """Console is there always, file and log if they are on; each serves all receivers."""
    file, log = FileChannel(str(tmp_path), timeout_s=5), LogChannel()
    text = (
        "route: {receiver: ops}\n"
        "receivers: [{name: ops, consoleConfigs: [{}], fileConfigs: [{}], logConfigs: [{}]}]"
    )
    rig = Rig(tmp_path, http_client, text)
    for switched_on in (True, False):
        channels = ChannelRegistry(
            lambda: rig.routing.current, http_client, http_timeout=20,
            file=file if switched_on else None, log=log if switched_on else None,
            mail_timeout=20, dedup_namespace=False,
        )  # fmt: skip
        console = channels.channel("console")
        assert isinstance(console, ConsoleChannel)
        # What only writes a line needs the lease for a second.
        assert (console.timeout_s, log.timeout_s) == (1.0, 1.0)
        assert (console.shows_status, file.shows_status, log.shows_status) == (False, True, True)
        for kind, channel in (("file", file), ("log", log)):
            assert channels.channel(kind) is (channel if switched_on else None)
        assert channels.channel("telegram") is None
    file.close()


@pytest.mark.parametrize(("namespaced", "wanted"), [(False, "disk-full"), (True, "ops/disk-full")])
async def test_deduplication_key_of_pagerduty(
    tmp_path: Path, http_client: HttpClient, *, namespaced: bool, wanted: str
) -> None:
    """The name alone, as ever, or with the namespace, as the setting says."""
    async with receiving() as receiver:
        url = json.dumps(receiver.url())
        text = (
            "route: {receiver: ops}\nreceivers:\n"
            f"- {{name: ops, pagerdutyConfigs: [{{credentialRef: key, url: {url}}}]}}"
        )
        rig = Rig(tmp_path, http_client, text, dedup_namespace=namespaced, key="k")
        assert (await rig.send("pagerduty:ops")).state.word == "success"
    assert json.loads(receiver.requests[0].body)["dedup_key"] == wanted
