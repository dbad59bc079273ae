"""Channels by name: what the routing file says of a webhook reaches its receiver."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from notifier.channels.http import HttpClient
from notifier.channels.targets import Target, secrets_of
from notifier.contract import Outcome
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


async def test_kept_target_keeps_its_channel(tmp_path: Path, http_client: HttpClient) -> None:
    """A channel is made once and goes when its receiver does."""
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, _routing(receiver, "bearerTokenRef: auth"), auth="one")
        first = rig.channels.channel("webhook:ops")
        (rig.credentials / "auth").write_text("two")
        await rig.reload()
        assert rig.channels.channel("webhook:ops") is first
        rig.file.write_text("route: {receiver: x}\nreceivers: [{name: x, logConfigs: [{}]}]")
        await rig.reload()
        assert rig.channels.channel("webhook:ops") is None


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


PARTS = {
    "seven characters are a word": ("https://h.example/abc-DEF", set()),
    "eight are a secret": ("https://h.example/abc-DEFG", {"abc-DEFG"}),
    "a word is none, up to twice that": ("https://h.example/team-channel-a", set()),
    "whatever is longer is one": ("https://h.example/teams-channel-ab", {"teams-channel-ab"}),
    "a value of the query": ("https://h.example/x?sig=AbC12345", {"AbC12345"}),
    "a password": ("https://u:Pa55w0rd@h.example/x", {"Pa55w0rd"}),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_of_a_url_that_are_secrets(case: str) -> None:
    """What must not come back in an excerpt: the URL, its path, and parts that are no words."""
    url, telling = PARTS[case]
    found = secrets_of(Target(url))
    assert url in found
    assert {s for s in found if "/" not in s} == telling


def test_declared_secrets_are_secrets_however_short() -> None:
    """A key inside of a body is one whatever it looks like; an empty text is none."""
    found = secrets_of(Target("https://h.example/x", secrets=("abc", "")))
    assert "abc" in found
    assert "" not in found
