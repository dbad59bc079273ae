"""`notifier gateway test`: what is printed of a payload and of its routing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Final
from unittest.mock import Mock

import pytest

from notifier.cli import program
from notifier.cli.main import main
from syncer.model.resource import Json
from tests.unit.notifier.gateway.payloads import alert, alertmanager

ROUTING = """\
route: {receiver: all, routes: [{match: {severity: critical}, receiver: pager}]}
receivers:
  - {name: all, consoleConfigs: [{enabled: true}]}
  - {name: pager, slackConfigs: [{credentialRef: x}]}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with both files."""
    more = "namespace: alerts, auth: {insecure: true}"
    sources = f"[{{name: am, kind: alertmanager, {more}}}, {{name: gh, kind: github, {more}}}]"
    (tmp_path / "gateway.yaml").write_text(f"sources: {sources}")
    (tmp_path / "routing.yaml").write_text(ROUTING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tried(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    payload: object,
    *words: str,
) -> tuple[int, str, str]:
    """Exit code, answer and standard error."""
    body = io.BytesIO(json.dumps(payload).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(body))
    code = main(["gateway", "test", "--config", "gateway.yaml", "--source", "am", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_who_would_get_it(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receivers are those of the routing file, and an unusable one is named."""
    words = ("--routing", "routing.yaml")
    code, out, err = tried(capsys, monkeypatch, alertmanager(), *words)
    assert (code, err) == (0, "")
    assert out.endswith("\n# receivers: pager\n# channels: slack:pager\n")
    assert out.index("\n  type:") < out.index("\n  subject:") < out.index("\n  body:"), "as made"
    (files / "routing.yaml").write_text("route: {receiver: nobody}")
    code, out, err = tried(capsys, monkeypatch, alertmanager(), *words)
    assert (code, out) == (1, "")
    assert err.startswith("notifier: routing.yaml: at least one receiver is required")


def test_ends_are_those_of_what_is_open(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which those are is not known here: the end of an alert is shown, and that it depends."""
    sources = (files / "gateway.yaml").read_text().replace("kind: alert", "per: alert, kind: alert")
    (files / "gateway.yaml").write_text(sources)
    over = alertmanager(alert("aaaa", "resolved"), alert("bbbb", "resolved"), status="resolved")
    code, out, err = tried(capsys, monkeypatch, over)
    assert (code, out.count("notification-ledger/state: resolved")) == (0, 2)
    assert err.startswith(
        "notifier: an end is created if its incident is open, of an alert also if"
    )


def _commanding() -> Json:
    """A payload with a key that would command a terminal."""
    payload = alertmanager()
    payload["alerts"][0]["labels"] = {"\x1b]0;owned\x07": 5}
    return payload


#: A payload, words, the exit code, and what is said.
NOTHING: Final[dict[str, tuple[object, tuple[str, ...], int, str]]] = {
    "larger than the server takes": (
        alertmanager(x="x" * (8 << 20)), (), 1, "larger than 8388608 bytes (HTTP 413)",
    ),
    "a ping, which creates nothing": (
        {}, ("--source", "gh", "--header", "X-GitHub-Event: ping"), 0,
        "notifier: such a request is accepted and creates no notification\n",
    ),
    "a key with control characters": (
        _commanding(), (), 1, "alerts[0].labels. ]0;owned : must be text (HTTP 422)",
    ),
    "a source that is not there": (
        alertmanager(), ("--source", "x"), 1,
        "notifier: there is no source x; the file has am, gh\n",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", NOTHING)
def test_a_payload_that_becomes_nothing(
    case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the server's status; nothing commands the terminal, and no answer is empty."""
    payload, words, wanted, said = NOTHING[case]
    code, out, err = tried(capsys, monkeypatch, payload, *words)
    assert (code, out) == (wanted, "")
    assert said in err


def test_what_is_odd_about_the_configuration_is_said(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, beside the answer."""
    text = (files / "gateway.yaml").read_text()
    (files / "gateway.yaml").write_text(f"{text}\nnonsense: 1\n")
    code, out, err = tried(capsys, monkeypatch, alertmanager())
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("notifier: ")
    assert "nonsense" in err
    assert out.startswith("apiVersion: ")
    assert "# receivers" not in out, "nobody asked for them"


def test_the_gateway_is_a_process_that_lasts(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with the settings of its file, whose warnings it logs; its exit code is the process's."""
    text = (files / "gateway.yaml").read_text()
    (files / "gateway.yaml").write_text(f"{text}\nnonsense: 1\nlogging: {{level: debug}}\n")
    serve = Mock(return_value=7)
    monkeypatch.setattr(program, "serve", serve)
    assert main(["gateway", "--config", "gateway.yaml"]) == 7
    made, _ = serve.call_args.args[0]()
    assert made.settings.logging.level == "DEBUG"
    assert [w for w in made.warnings if "nonsense" in w] == list(made.warnings)
    assert len(made.warnings) == 1
