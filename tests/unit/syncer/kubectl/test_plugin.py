"""`kubectl ledger`: which pod is asked, what for, and what of its answer meets the terminal."""

from __future__ import annotations

import contextlib
import getpass
import os
import pty
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.rules.text import escaped
from tests.unit.syncer.kubectl.stand_in import FORBIDDEN, PLUGIN, StandIn, on_path, pod

MANIFEST: Final = """{
  "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
  "metadata": {"name": "test-1", "namespace": "payments"},
  "spec": {"body": "a, \\"namespace\\": \\"kube-system\\", {\\"name\\": \\"x\\"}"}
}"""
_WITHIN: Final = 30


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A machine with the program."""
    return on_path(monkeypatch, tmp_path / "bin")


def run(*words: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run the plugin, with nothing on a terminal."""
    return subprocess.run(
        [shell, PLUGIN, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WITHIN,
        check=False,
    )  # fmt: skip


def on_a_terminal(*words: str, **env: str) -> tuple[int, bytes]:
    """Run the plugin on a terminal; returns its exit code and what is seen."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PLUGIN, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", **env},
    ) as plugin:  # fmt: skip
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # what Linux says at the end
            while part := os.read(ours, 65536):
                seen += part
        os.close(ours)
        return plugin.wait(_WITHIN), seen.replace(b"\r\n", b"\n")


#: What is installed and where that may not be listed, what is typed; the pod that is asked, or the exit
#: code and a part of what is said.
RELEASES: Final[dict[str, tuple[tuple[str, ...], str, str, str | tuple[int, str]]]] = {
    "one that is ready comes first": (
        (pod("a", ready="False"), pod("b"), pod("c", going="2027-01-15T08:00:00Z")), "", "list", "b",
    ),
    "one that is not ready, for want of another": (
        (pod("a", ready=""), pod("b", phase="Pending")), "", "list", "a",
    ),
    "none that runs": (
        (pod("a", phase="Pending"),), "", "list", (8, "no pod of notification-ledger (controller) runs"),
    ),
    "none in a namespace": ((), "", "-n there list", (8, "runs in there; -n names its namespace")),
    "two": (
        (pod("a"), pod("b", release="other")), "", "list",
        (9, "several releases: --release takes one of notifications/ledger notifications/other"),
    ),
    "one of two": ((pod("a"), pod("b", release="other")), "", "--release other list", "b"),
    "the same name twice": (
        (pod("a"), pod("b", namespace="there")), "", "--release there/ledger list", "b",
    ),
    "who may not look everywhere looks at home": ((pod("a"),), " -A ", "list", "a"),
    "who may not look at all": ((pod("a"),), " pods ", "list", (8, FORBIDDEN)),
    "a value is missing": ((pod("a"),), "", "-n", (2, "needs a value")),
    "an option of nobody": ((pod("a"),), "", "--color list", (2, "no option --color before the command")),
    "no command": ((pod("a"),), "", "", "a"),
}  # fmt: skip


@pytest.mark.parametrize("case", RELEASES)
def test_which_pod_is_asked(kubectl: StandIn, case: str) -> None:
    """By labels, a ready one first; several releases are never chosen from by chance."""
    pods, forbidden, words, wanted = RELEASES[case]
    kubectl.lists(*pods, forbidden=forbidden or " nowhere ")
    done = run(*words.split())
    if isinstance(wanted, str):
        assert (done.returncode, [c[3] for c in kubectl.asked if "exec" in c]) == (0, [wanted])
        return
    code, said = wanted
    assert (done.returncode, said in done.stderr, kubectl.remote) == (code, True, []), done.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_words_and_answers_pass(kubectl: StandIn, shell: str) -> None:
    """The command gets its words as they were typed, and who types; its answer and exit code come back."""
    kubectl.does("exec", "echo out; echo err >&2; exit 5")
    words = ("resolve", "a/b", "--reason", "it's  $HOME; *")
    done = run("--context", "c", "--kubeconfig", "/k f", *words, shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")
    call = kubectl.asked[-1]
    assert call[:4] == ["--context", "c", "--kubeconfig", "/k f"]
    by = f"{getpass.getuser()}@{os.uname().nodename}"
    in_the_pod = call[call.index("--") + 1 : call.index("syncer")]
    said = subprocess.run(
        [*in_the_pod, "sh", "-c", "echo $LEDGER_BY"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"{by}\n", "the pod has Python, and no env(1)"
    assert kubectl.remote == [["syncer", *words]]
    run("check", "--gateway", "g", shell=shell)
    assert kubectl.remote[-1] == ["notifier", "check", "--gateway", "g"]


def test_a_terminal_is_not_commanded(kubectl: StandIn) -> None:
    """Of what a pod prints, on either stream, nothing passes that commands a terminal."""
    unsafe = [chr(c) for c in (*range(1, 0x3000), 0xFEFF, *range(0xFFF0, 0xFFFE), 0xE0001)]
    unsafe = [c for c in unsafe if escaped(c) != c and c != "\n"]
    assert len(unsafe) > 90
    # Of two, one within the other, no half stays.
    nested = b"".join(
        b"a" + c[:-1] + c + c[-1:] + b"b\n" for c in map(str.encode, unsafe) if len(c) > 1
    )
    lines = (
        "".join(f"a{c}b\n" for c in unsafe) + "\x1b[31mred\x1b[0m \x1b]0;title\x07 é · 火 👩‍🚒\n"
    )
    (kubectl.folder / "said").write_bytes(nested + lines.encode())
    kubectl.does(
        "exec",
        "cat $folder/said; cat $folder/said >&2; echo command terminated with exit code 4 >&2; exit 4",
    )
    code, seen = on_a_terminal("list")
    named, *shown = seen.decode().splitlines()
    assert (code, named) == (
        4,
        "kubectl ledger: notifications/ledger, pod ledger-1 in namespace notifications",
    )
    twice = 2 * (len(unsafe) + nested.count(b"\n"))
    assert shown.count("ab") == twice
    assert shown.count("[31mred[0m ]0;title é · 火 👩‍🚒") == 2
    assert len(shown) == twice + 2


def test_what_the_pod_learns_of_a_terminal(kubectl: StandIn) -> None:
    """For what follows, that it is still there."""
    on_a_terminal("tail", "-f")
    call = kubectl.asked[-1]
    assert "-i" in call
    assert call[-3:] == ["tail", "-f", "--until-stdin-closes"]
    on_a_terminal("list")
    assert not {"-i", "--until-stdin-closes"} & set(kubectl.asked[-1])


#: What the pod answers, its exit code, what the API server does; the exit code and a part of what is said.
SENT: Final[dict[str, tuple[str, int, str, int, str]]] = {
    "it is created": (MANIFEST, 0, "cat > $folder/body", 0, "created payments/test-1"),
    "nothing is chosen": ("no such receiver", 2, "exit 9", 2, ""),
    "no notification": ("created", 0, "exit 9", 1, "nothing is created"),
    "no path": (MANIFEST.replace("payments", "../x"), 0, "exit 9", 1, "nothing is created"),
    "it is refused": (MANIFEST, 0, "echo no >&2; exit 1", 1, "no"),
}


@pytest.mark.parametrize("case", SENT)
def test_a_test_notification(kubectl: StandIn, case: str) -> None:
    """The pod chooses, and this user creates, by a path that takes nothing but a notification."""
    said, code, create, ended, part = SENT[case]
    (kubectl.folder / "said").write_text(said)
    kubectl.does("exec", f"cat $folder/said; exit {code}")
    kubectl.does("create", create)
    done = run("send", "--receiver", "ops")
    assert (done.returncode, part in done.stdout + done.stderr) == (ended, True), done
    if not ended:
        path = "/apis/kubernaut.ai/v1alpha1/namespaces/payments/notificationrequests"
        assert kubectl.asked[-1] == [
            "create", "--raw", path, "--request-timeout=15s", "-f", "-"
        ]  # fmt: skip
        assert (kubectl.folder / "body").read_text() == f"{MANIFEST}\n"
        (remote,) = kubectl.remote
        assert remote[:5] == ["notifier", "send", "--dry-run", "-o", "json"]
        assert remote[-2:] == ["--receiver", "ops"]


@pytest.mark.parametrize(("phase", "code"), [("Sent", 0), ("PartiallySent", 1), ("Failed", 1)])
def test_it_is_waited_for(kubectl: StandIn, phase: str, code: int) -> None:
    """With --wait the notification is explained once it has ended, and the exit code says how."""
    (kubectl.folder / "said").write_text(MANIFEST)
    (kubectl.folder / "phase").write_text(phase)
    kubectl.does("exec", 'case "$*" in *explain*) echo story;; *) cat $folder/said;; esac')
    done = run("send", "--wait", "--receiver", "ops")
    assert (done.returncode, done.stdout) == (code, "created payments/test-1\nstory\n")
    chosen, explained = kubectl.remote
    assert "--wait" not in chosen
    # A server that hangs does not keep the terminal.
    assert all("--request-timeout=15s" in words for words in kubectl.asked if words[0] == "get")
    assert explained == ["syncer", "explain", "payments/test-1"]


def test_the_explorer(kubectl: StandIn, tmp_path: Path) -> None:
    """A port is forwarded to the explorer's pod, and a browser is opened at its address."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    kubectl.does(
        "port-forward",
        "echo 'Forwarding from 127.0.0.1:4711 -> 8088'; echo 'Forwarding from [::1]:4711 -> 8088'\n"
        "echo 'Handling connection for 4711'",
    )
    environ: dict[str, Any] = {**os.environ, "BROWSER": str(browser)}
    for words, port in (((), ":8088"), (("--port", "80", "--no-open"), "80:8088")):
        done = subprocess.run(
            [PLUGIN, "ui", *words],
            env=environ,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
        assert done.stdout == "http://127.0.0.1:4711/\n"
        assert kubectl.asked[-1] == ["port-forward", "-n", "notifications", "ledger-1", port]
        assert "component=explorer" in " ".join(kubectl.asked[-2])
    assert (tmp_path / "opened").read_text() == "http://127.0.0.1:4711/\n"


def test_what_it_is() -> None:
    """Help and version need no kubectl; the version is the product's."""
    project = (PLUGIN.parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{run("--version").stdout.split()[-1]}"\n' in project
    assert run("--help").returncode == 0
