"""`kubectl ledger ui`: which pod's port is forwarded, what is said of it, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncer.kubectl import ui
from syncer.kubectl.client import SIGNALS
from syncer.kubectl.main import main
from syncer.kubectl.release import EXPLORER
from tests.unit.syncer.kubectl.stand_in import StandIn, on_path, pod

ROOT = Path(__file__).resolve().parents[4]
SAYS = 'echo "Forwarding from 127.0.0.1:40123 -> 8088"; echo "Handling connection for 40123"'


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A kubectl that lists one explorer."""
    monkeypatch.setattr(ui, "_PAUSE", 0.0)
    found = on_path(monkeypatch, tmp_path / "bin")
    found.lists(pod("ledger-explorer-1", containers=["explorer"]))
    return found


def test_the_port_is_forwarded_again_where_it_was(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first time any free port serves; after its end the same one, until it ends too often."""
    kubectl.forwards(f"{SAYS}; exit 1")
    assert main(["ui", "--no-open"]) == 8
    said = capfd.readouterr()
    assert said.out.splitlines()[0] == "http://127.0.0.1:40123/"
    assert "reconnecting" in said.err
    assert "the connection was lost 8 times in a row" in said.err
    assert "Handling" not in said.out + said.err
    listed, first, _, second, *_ = kubectl.asked
    assert listed[listed.index("-l") + 1] == EXPLORER
    forward = ["port-forward", "-n", "notifications", "pod/ledger-explorer-1"]
    assert first == [*forward, ":8088", "--address", "127.0.0.1"]
    assert second == [*forward, "40123:8088", "--address", "127.0.0.1"]


def test_a_pod_that_was_replaced_is_found(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """After an upgrade the port leads to the new pod; until it is there, the lack of one is said."""
    new = json.dumps({"items": [pod("ledger-explorer-2", containers=["explorer"])]})
    kubectl.file("gone").write_text(json.dumps({"items": []}))
    kubectl.file("new").write_text(new)
    kubectl.forwards(f"{SAYS}; test -e gone && mv gone pods.json || mv new pods.json; exit 1")
    assert main(["ui", "--no-open"]) == 8
    assert "no release of notification-ledger" in capfd.readouterr().err
    pods = [call[3] for call in kubectl.asked if call[0] == "port-forward"]
    assert pods[:3] == ["pod/ledger-explorer-1", "pod/ledger-explorer-1", "pod/ledger-explorer-2"]


#: Words, what kubectl does, exit code, part of what is said.
ENDS = {
    "no right to it": (["ui"], "echo 'pods is forbidden' >&2; exit 1", 8, "pods is forbidden\n"),
    "no such option": (["ui", "--open"], "", 2, "ui: unknown option --open"),
    "no such port": (["ui", "--port", "65536"], "", 2, "below 65536, not '65536'"),
    "no number": (["ui", "--port=-1"], "", 2, "below 65536, not '-1'"),
    "no port at all": (["ui", "--port"], "", 2, "ui: unknown option --port"),
    "it never came about": (["ui"], "exit 1", 8, "the port cannot be forwarded; see above"),
    "what is nobody's error": (
        ["ui"],
        "echo 'E: connection reset by peer' >&2; echo 'Handling connection for 1' >&2; echo own >&2",
        8,
        "own\nkubectl ledger: the port cannot",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_cannot_be_is_said(
    case: str, kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong word is refused before anybody is asked; what kubectl says is handed on."""
    words, script, code, said = ENDS[case]
    kubectl.forwards(script)
    assert main(words) == code
    err = capfd.readouterr().err
    assert said in err
    assert "reset by peer" not in err


#: Words, whether there is a browser, and the addresses that it is asked to open.
BROWSERS: dict[str, tuple[list[str], bool, list[str]]] = {
    "it opens once": (["--port", "65535"], True, ["http://127.0.0.1:40123/"]),
    "there is none": (["--port=1"], False, ["http://127.0.0.1:40123/"]),
    "it is not wanted": (["--no-open", "--port", "0"], True, []),
}


@pytest.mark.parametrize("case", BROWSERS)
def test_a_browser_is_opened_once(
    case: str,
    kubectl: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """When the pages can be reached for the first time; without one, the address is there to be opened."""
    words, there, wanted = BROWSERS[case]
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return there

    monkeypatch.setattr(webbrowser, "open", browser)
    kubectl.forwards(f"{SAYS}; exit 1")
    assert main(["ui", *words]) == 8
    assert opened == wanted
    said = capfd.readouterr()
    assert ("no browser was found; open this address yourself" in said.err) is (
        bool(wanted) and not there
    )
    assert set(said.out.split()) == {"http://127.0.0.1:40123/"}
    port = words[-1].rpartition("=")[2]
    assert kubectl.asked[1][4] == f"{port if port != '0' else ''}:8088"


def test_a_good_connection_begins_the_count_anew(
    kubectl: StandIn, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only failures in a row end it, and each is waited after a little longer."""
    monkeypatch.setattr(ui, "_TRIES", 5)
    waits: list[float] = []
    times = iter([t for n in range(8) for t in (0.0, 30.0 if n == 3 else 29.9)])
    monkeypatch.setattr(ui, "_PAUSE", 1.0)
    clock = SimpleNamespace(monotonic=lambda: next(times), sleep=waits.append)
    monkeypatch.setattr(ui, "time", clock)
    monkeypatch.setattr(ui, "_forward", lambda *_, **__: 40123)
    assert main(["ui", "--no-open"]) == 8
    assert waits == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0]
    assert "the connection was lost 5 times in a row" in capfd.readouterr().err


def test_no_explorer_is_named(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Without such a pod the labels are said by which it was looked for."""
    kubectl.lists()
    assert main(["ui", "--no-open"]) == 8
    assert f"no pod has the labels {EXPLORER}" in capfd.readouterr().err


def test_signals_are_handled_as_before(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """They are held back for as long as kubectl is being started, and no longer."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    during: list[object] = []
    end = ui._end

    def ended(process: subprocess.Popen[bytes]) -> None:
        during.extend(signal.getsignal(number) for number in SIGNALS)
        end(process)

    kubectl.forwards("exit 1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ui, "_end", ended)
        assert main(["ui", "--no-open"]) == 8
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    assert set(during) == set(before.values())
    assert capfd.readouterr().out == ""


def test_help_asks_nobody(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Its options are known here."""
    assert main(["ui", "--help"]) == 0
    assert "--no-open" in capfd.readouterr().out
    assert kubectl.asked == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both(kubectl: StandIn, number: signal.Signals) -> None:
    """Ctrl-C ends the plugin with 130, and the kubectl that it began."""
    kubectl.forwards(f"{SAYS}; echo $$ > pid; exec sleep 60")
    code = "import sys; from syncer.kubectl.main import entry; sys.exit(entry())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--no-open"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "http://127.0.0.1:40123/\n"
        deadline = time.monotonic() + 10
        while not kubectl.file("pid").exists() or not kubectl.wrote("pid").strip():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(15) == 130
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(int(kubectl.wrote("pid")), 0)


@pytest.mark.parametrize("deaf", [False, True])
def test_no_kubectl_is_left_behind(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not end when it is asked to is ended, and each is waited for."""
    monkeypatch.setattr(ui, "_LAST_WORDS", 0.1 if deaf else 60.0)
    script = f"{'trap : TERM;' if deaf else ''} echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    ui._end(process)
    assert process.returncode == -(signal.SIGKILL if deaf else signal.SIGTERM)
    assert process.stdout.closed
