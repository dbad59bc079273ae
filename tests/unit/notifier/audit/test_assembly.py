"""Settings of the audit feed, and the sinks that are made of them."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from notifier.audit.assembly import Outlets, store_tls
from notifier.audit.sinks import HttpSink
from notifier.channels.egress import EgressGuard
from syncer.model.errors import ConfigError
from tests.fakes.outside import loaded_with, settings_with

Make = Callable[..., Outlets]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """What makes the sinks of some settings; nothing is connected yet."""
    made: list[Outlets] = []

    def make_them(**members: Any) -> Outlets:
        made.append(Outlets(loaded_with(**members), EgressGuard()))
        return made[-1]

    yield make_them
    for outlets in made:
        await outlets.close()


def test_nothing_is_audited_unless_somebody_takes_it() -> None:
    """A store or a file makes a feed; neither is the default."""
    assert not settings_with().auditing
    assert settings_with(datastorage={"url": "http://store:8080"}).auditing
    assert settings_with(audit={"file": "/var/log/audit.jsonl"}).auditing
    assert settings_with(audit={"webhook": {"url": "https://events"}}).auditing


def test_events_are_kept_for_a_week() -> None:
    """A store that is away for longer misses what came before."""
    assert settings_with().audit.max_age == 7 * 86400


def test_a_relative_path_is_refused() -> None:
    """The error names the key and the rule."""
    with pytest.raises(ConfigError, match=r"audit\.file: must be an absolute path"):
        settings_with(audit={"file": "audit.jsonl"})


async def test_a_store_brings_a_gate_and_a_file_does_not(make: Make, tmp_path: Path) -> None:
    """Readiness depends on a store that says where it may be asked; both may take events at once."""
    file = {"file": str(tmp_path / "audit.jsonl")}
    store = {"url": "http://127.0.0.1:1", "timeout": "5s"}
    only_file = make(audit=file)
    assert [s.name for s in only_file.sinks] == ["audit.file"]
    assert only_file.gate is None
    both = make(audit=file, datastorage=store)
    assert [s.name for s in both.sinks] == ["audit.file", "datastorage"]
    assert both.gate is not None
    assert (both.gate.asking, both.gate.problem) == (False, None)
    asked = make(datastorage={**store, "healthUrl": "http://127.0.0.1:1/readyz"})
    assert asked.gate is not None
    assert asked.gate.asking
    hooked = make(audit={**file, "webhook": {"url": "http://127.0.0.1:1"}})
    assert [s.name for s in hooked.sinks] == ["audit.file", "audit.webhook"]
    assert hooked.gate is None


TOKENS = {
    "the pod's own, as from the replaced controller": ("https://127.0.0.1:1", None, "own"),
    "this machine reads nothing": ("http://127.0.0.1:1", None, "own"),
    "anybody on the way would read it": ("http://store.kubernaut-system:8080", None, ""),
    "one that is named": ("https://127.0.0.1:1", "named", "named"),
    "none, if that is wanted": ("https://127.0.0.1:1", "/dev/null", ""),
}


@pytest.mark.parametrize(("url", "file", "sent"), TOKENS.values(), ids=TOKENS.keys())
async def test_which_token_the_store_gets(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    url: str, file: str | None, sent: str,
) -> None:  # fmt: skip
    """The pod's own by default, and none in clear."""
    for name in ("own", "named"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr("notifier.settings.API_TOKEN", tmp_path / "own")
    named = {"tokenFile": str(tmp_path / file)} if file else {}
    (sink,) = make(datastorage={"url": url, **named}).sinks
    assert isinstance(sink, HttpSink)
    assert sink._token() == sent


def test_the_profiles_of_tls() -> None:
    """Intermediate: each cipher up to TLS 1.2 authenticates what it encrypts; Modern: TLS 1.3 alone."""
    context = store_tls(settings_with(tlsProfile="Intermediate"), None)
    names = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert names
    assert [n for n in names if "GCM" not in n and "POLY1305" not in n] == []
    modern = store_tls(settings_with(tlsProfile="Modern"), None)
    assert modern.minimum_version is ssl.TLSVersion.TLSv1_3


def test_authorities_that_cannot_be_read_are_named() -> None:
    """Those of all receivers by their setting, those of the store by their variable."""
    with pytest.raises(
        ConfigError, match=r"^egress\.caBundle: cannot be read: No such file or directory"
    ):
        store_tls(settings_with(egress={"caBundle": "/nowhere/ca.pem"}), None)
    with pytest.raises(
        ConfigError, match=r"^TLS_CA_FILE cannot be read: No such file or directory"
    ):
        store_tls(settings_with(), "/nowhere/ca.pem")


@pytest.mark.parametrize("there", [True, False])
async def test_a_file_that_must_not_be_written_ends_the_start(
    make: Make, tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself is asked for its rights, or, before there is one, its directory."""
    file = tmp_path / "audit.jsonl"
    if there:
        file.touch()
    access = Mock(return_value=False)
    monkeypatch.setattr(os, "access", access)
    with pytest.raises(ConfigError, match=r"^audit\.file: cannot be written"):
        make(audit={"file": str(file)})
    access.assert_called_once_with(file if there else tmp_path, os.W_OK)
    with pytest.raises(ConfigError, match=r"^audit\.file: its directory does not exist"):
        make(audit={"file": str(tmp_path / "absent" / "audit.jsonl")})
