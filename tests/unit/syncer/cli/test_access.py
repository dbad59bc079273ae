"""Which kubeconfig a command uses, and how it says so."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.cli.access import (
    Access,
    _Redis,
    access,
    kubeconfig_of,
    operator_name,
)
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import PROBE
from syncer.model.errors import ConfigError, Unavailable


def where(**given: str) -> argparse.Namespace:
    """Options that say where to look."""
    known = ("config", "redis_url", "key_prefix", "kubeconfig", "context")
    return argparse.Namespace(**{**dict.fromkeys(known), "redis_from": "--redis-url", **given})


#: Option, $KUBECONFIG, whether ~/.kube/config is there, and what is used; `~` is the home directory.
USED: Final[dict[str, tuple[str | None, str, bool, tuple[str, str]]]] = {
    "the option": ("a", "b", True, ("a", "--kubeconfig a")),
    "the variable": (None, "b:c", True, ("b:c", "$KUBECONFIG b:c")),
    "the file in the home directory": (None, "", True, ("~/.kube/config", "~/.kube/config")),
    "the pod's account": (None, "", False, ("", "the pod's own account")),
}


@pytest.mark.parametrize("case", USED)
def test_the_kubeconfig_is_looked_for_as_kubectl_does(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Option, variable, home directory, and last the account of the pod."""
    option, variable, there, (path, source) = USED[case]
    if there:
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"KUBECONFIG": variable} if variable else {}
    found = kubeconfig_of(option, environ)
    assert found == (path.replace("~", str(tmp_path)), source)


@pytest.mark.parametrize(
    ("kubeconfig", "context", "wanted"),
    [
        pytest.param("k", "other", "k has no context 'other'; its contexts are", id="unknown"),
        pytest.param("", "other", "a context is named, but no kubeconfig", id="no kubeconfig"),
        pytest.param("k", "", "", id="the current one"),
        pytest.param("k", "second", "", id="another one"),
    ],
)
async def test_a_context_is_of_a_kubeconfig(
    kubeconfig: str, context: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there is an error that names it, not the current context."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k").write_text(
        """
        {apiVersion: v1, kind: Config, current-context: first,
         clusters: [{name: one, cluster: {server: "http://127.0.0.1:1"}},
                    {name: two, cluster: {server: "http://127.0.0.1:2"}}],
         users: [{name: u, user: {token: t}}],
         contexts: [{name: first, context: {cluster: one, user: u}},
                    {name: second, context: {cluster: two, user: u}}]}
        """
    )
    there = where(redis_url="redis://127.0.0.1:1/0", kubeconfig=kubeconfig, context=context)
    async with access(there) as at:
        assert at.problem.startswith(wanted)
        assert (at.kube is None) is bool(wanted)
        if at.kube is not None:
            port = 2 if context else 1
            assert at.kube.address == f"http://127.0.0.1:{port}"
            with pytest.raises(Unavailable, match=f"{at.kube.address}, by --kubeconfig k"):
                await at.objects.get("ns", "n")


async def test_the_time_is_that_of_redis() -> None:
    """In whole milliseconds."""
    nothing: Any = None
    client = Mock(command=AsyncMock(return_value=[b"1700000000", b"123999"]))
    at = Access(nothing, client, nothing, None, None)
    assert await at.now() == 1_700_000_000_123
    client.command.assert_awaited_once_with("TIME")


@pytest.mark.parametrize("given", [True, False])
async def test_whether_the_settings_are_the_controller_s(given: bool, tmp_path: Path) -> None:
    """They are if a file was named; without one a command judges by defaults."""
    file = tmp_path / "config.yaml"
    file.write_text("redis: {url: 'redis://127.0.0.1:1/0'}")
    there = where(config=str(file)) if given else where(redis_url="redis://127.0.0.1:1/0")
    async with access(there) as at:
        assert at.configured is given
        with pytest.raises(ConfigError, match="this needs the API server: "):
            await at.objects.get("ns", "n")


@pytest.mark.parametrize("call", ["evaluate", "command", "gather"])
async def test_an_error_of_redis_names_it(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, whatever asks."""
    client = _Redis("redis://127.0.0.1:1", prefix="nl")
    client.where = "Redis at h"
    arguments: dict[str, tuple[Any, ...]] = {
        "evaluate": (PROBE, "key", ()), "command": ("PING",), "gather": ([("PING",)],),
    }  # fmt: skip
    refuse = AsyncMock(side_effect=[Unavailable("away"), TimeoutError()])
    monkeypatch.setattr(LedgerClient, "_submit", refuse)
    for error in (Unavailable, TimeoutError):
        with pytest.raises(error) as caught:
            await getattr(client, call)(*arguments[call])
        assert caught.value.__notes__ == ["Redis at h"]


def test_who_an_operator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line and with a measure: it becomes part of the record."""
    assert operator_name(" Ada \n Lovelace ") == "Ada Lovelace"
    assert operator_name("x" * 129) == "x" * 128
    monkeypatch.setenv("LOGNAME", "y" * 200)
    assert operator_name(None) == "y" * 128
