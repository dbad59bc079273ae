"""`kubectl ledger`: which release it finds, what runs in the pod, what comes back."""

from __future__ import annotations

import getpass
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from notifier.cli.main import COMMANDS as CONTROLLERS
from notifier.cli.main import _parser as controllers_parser
from syncer.cli import exits as commands_exits
from syncer.cli.completion import _commands, _options
from syncer.cli.main import COMMANDS as OPERATORS
from syncer.cli.main import _parser
from syncer.kubectl import exits
from syncer.kubectl.commands import COMMANDS, Command
from syncer.kubectl.main import COMPLETER, _version, main
from syncer.kubectl.release import LABELS
from syncer.kubectl.terminal import Harmless
from syncer.model.carried import expand, fold
from tests.unit.syncer.kubectl.stand_in import FORBIDDEN, TERMINATED, StandIn, on_path, pod

ROOT: Final = Path(__file__).resolve().parents[4]
GET: Final = ["get", "pods", "-A", "-l", LABELS, "-o", "json", "--request-timeout=15s"]


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A kubectl that lists one ready pod, in which every command succeeds."""
    return on_path(monkeypatch, tmp_path / "bin")


def test_a_command_runs_in_the_pod(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """The release is found by its labels; the command keeps its words, and its answer is handed on."""
    kubectl.runs('echo "NAMESPACE  NAME"; echo "syncer: remark" >&2')
    words = ["list", "--since", "1h", "--channel", "slack:ops", "--error", "time out"]
    assert main(words) == 0
    assert kubectl.asked == [
        GET,
        ["exec", "-i", "-n", "notifications", "ledger-1", "-c", "controller", "--", "syncer", "list",
         "--until-stdin-closes", "--color", "never", *words[1:]],
    ]  # fmt: skip
    assert capfd.readouterr() == ("NAMESPACE  NAME\n", "syncer: remark\n")


#: A shell script in the pod, the exit code of the plugin, and what is said on standard error.
ENDS: Final = {
    "a finding": (f'echo "syncer: no" >&2; echo "{TERMINATED} 1" >&2; exit 1', 1, "syncer: no\n"),
    "no such notification": (f'echo "{TERMINATED} 3" >&2; exit 3', 3, ""),
    "a command that is killed": (f'echo "{TERMINATED} 137" >&2; exit 137', 137, ""),
    "no such pod": (
        """echo 'Error from server (NotFound): pods "x" not found' >&2; exit 1""", 8,
        'Error from server (NotFound): pods "x" not found\n',
    ),
    "no right to it": (f"echo '{FORBIDDEN}' >&2; exit 1", 8, f"{FORBIDDEN}\n"),
    "a question in the middle of a line": (
        "printf 'Password: ' >&2; sleep 0.1; echo 'thanks' >&2", 0, "Password: thanks\n",
    ),
    "a line without an end": (f"printf '{TERMINATED}' >&2; exit 1", 8, TERMINATED),
    "a text that only looks like it": (
        f'echo "he said: {TERMINATED} 1" >&2; exit 1', 8, f"he said: {TERMINATED} 1\n",
    ),
    "a reader that has enough": ("kill -PIPE $$", 0, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_it_ends(case: str, kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """The command's code is the plugin's; kubectl's own failure has another, and its last line is gone."""
    script, code, said = ENDS[case]
    kubectl.runs(script)
    assert main(["doctor"]) == code
    assert capfd.readouterr().err == said


def test_another_version_in_the_pod_is_named_where_words_are_refused(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """A command that only this side knows is no wrong word of the person who typed it."""
    refused = f'echo "syncer: no holds" >&2; echo "{TERMINATED} 2" >&2; exit 2'
    for version, said in (("0.0.9", "ledger-1 runs version 0.0.9"), (_version(), "")):
        tells = f'echo "notification-ledger {version} (Python 3.11.2)"; exit'
        kubectl.runs(f'case "$*" in *--version*) {tells};; esac; {refused}')
        assert main(["holds"]) == 2
        first, _, more = capfd.readouterr().err.partition("\n")
        assert first == "syncer: no holds"
        assert said in more
        assert bool(said) is bool(more)


SEVERAL: Final = "several releases are installed in the cluster; choose one:"
NONE: Final = f"no release of notification-ledger in the cluster: no pod has the labels {LABELS}"
TWO: Final = (
    pod("a-1", release="a", namespace="one"),
    pod("b-1", release="b", namespace="two"),
    pod("b-2", release="b", namespace="two"),
)
#: Words, pods, what forbids to list, and the pod that is asked or the exit code with a part of what is
#: said.
FOUND: Final[dict[str, tuple[list[str], tuple[Any, ...], str, str | tuple[int, str]]]] = {
    "several": (
        ["doctor"], TWO, "",
        (9, f"{SEVERAL}\n  --release one/a\n  --release two/b\n"),
    ),
    "one by its name": (["--release", "b", "doctor"], TWO, "", "two/b-1"),
    "one by its namespace and name": (["doctor", "--release=one/a"], TWO, "", "one/a-1"),
    "a name that no release has": (
        ["doctor", "--release", "c"], TWO, "", (8, "no release 'c' in the cluster; found: one/a, two/b"),
    ),
    "several, whatever is asked about": (["list", "-n", "two"], TWO, "", (9, "--release one/a")),
    "the one of a namespace": (["-n", "two", "list"], TWO[1:], "", "two/b-1"),
    "none": (["list"], (), "", (8, NONE)),
    "the ready pod": (
        ["list"], (pod("p-1", ready=False), pod("p-2"), pod("p-3", going=True)), "", "notifications/p-2",
    ),
    "a pod that only runs": (["doctor"], (pod("p-1", ready=False),), "", "notifications/p-1"),
    "no pod that runs": (
        ["list"], (pod("p-1", phase="Pending"), pod("p-2", going=True)), "",
        (8, "no pod of release notifications/ledger runs; `kubectl -n notifications describe pods` says"),
    ),
    "its own namespace, where the rest is forbidden": (["list"], (pod("p"),), "-A", "notifications/p"),
    "nothing but what is forbidden": (
        ["explain", "a/b"], (pod("p"),), "get pods",
        (8, "listing pods in the context's namespace (in all of them it is forbidden) is forbidden"),
    ),
    "all, said by name, and forbidden": (
        ["-A", "list"], (), "-A", (8, "listing pods in the cluster is forbidden"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_which_pod_is_asked(case: str, kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Where there is one release it is found; of several, one is named, or lives where is asked."""
    words, pods, forbidden, wanted = FOUND[case]
    kubectl.lists(*pods, forbidden=forbidden)
    code = main(words)
    said = capfd.readouterr().err
    if isinstance(wanted, tuple):
        assert (code, wanted[1] in said) == (wanted[0], True), said
        assert not any("exec" in call for call in kubectl.asked)
        return
    namespace, _, name = wanted.partition("/")
    assert code == 0, said
    assert kubectl.asked[-1][:5] == ["exec", "-i", "-n", namespace, name]
    unready = "no pod of notifications/ledger is ready; asking p-1 anyway"
    assert (unready in said) is (case == "a pod that only runs")
    home = "forbidden; using notifications/ledger, in the context's namespace (-n NAMESPACE selects"
    assert (home in said) is (case == "its own namespace, where the rest is forbidden")


#: Words; those of the listing's options, and those of the command in the pod.
SPLIT: Final[dict[str, tuple[list[str], list[str], list[str]]]] = {
    "the release's namespace, before": (["-n", "x", "list"], ["-n", "x"], ["list"]),
    "in one word": (["-nx", "list"], ["-n", "x"], ["list"]),
    "with an equals sign": (["--namespace=x", "list"], ["-n", "x"], ["list"]),
    "behind a command without namespaces": (["explain", "a/b", "-n", "x"], ["-n", "x"], ["explain", "a/b"]),
    "everywhere": (["-A", "list"], ["-A"], ["list"]),
    "behind the same": (["explain", "-A", "a/b"], ["-A"], ["explain", "a/b"]),
    "the notifications' namespace": (["list", "-n", "x"], ["-A"], ["list", "-n", "x"]),
    "all of them": (["list", "-A"], ["-A"], ["list", "-A"]),
    "both": (["-n", "x", "tail", "-n", "y", "-f"], ["-n", "x"], ["tail", "-n", "y", "-f"]),
    "by the release": (["inspect", "a/b", "--release", "x/r"], ["-n", "x"], ["inspect", "a/b"]),
    "nothing behind the mark": (["explain", "--", "-n"], ["-A"], ["explain", "--", "-n"]),
    "an option of the command": (
        ["resolve", "a/b", "--as", "failed", "--reason", "r", "--by", "me"], ["-A"],
        ["resolve", "a/b", "--as", "failed", "--reason", "r", "--by", "me"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLIT)
def test_whose_words_they_are(case: str, kubectl: StandIn) -> None:
    """What finds the release goes to kubectl, the rest to the pod; where both could be, by its place."""
    words, where, rest = SPLIT[case]
    kubectl.lists(pod("p", release="r", namespace="x"))
    assert main(words) == 0
    listing = kubectl.asked[0]
    assert listing[2 : listing.index("-l")] == where
    added = {"--until-stdin-closes", "--color", "never"}
    assert [w for w in kubectl.remote[1:] if w not in added] == rest


def test_the_controllers_own_command_serves_some(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told nothing of the terminal, which it does not know, and completes no words."""
    kubectl.runs("echo fine")
    assert main(["check", "--strict"]) == 0
    assert kubectl.remote == ["notifier", "check", "--strict"]
    capfd.readouterr()
    assert completed("check", "--st", capfd=capfd) == []


def test_options_of_kubectl(kubectl: StandIn) -> None:
    """Each call gets them; two may stand behind the command's name."""
    assert main(["--as", "me", "list", "--context", "prod", "--kubeconfig=k"]) == 0
    options = ["--as", "me", "--context", "prod", "--kubeconfig", "k"]
    assert [call[:6] for call in kubectl.asked] == [options, options]
    assert "prod" not in kubectl.remote


#: Words, and a part of what is said; the code is 2.
WRONG: Final = {
    "no command": ([], "usage: kubectl ledger"),
    "a command that is none": (["lst"], "no command 'lst'; the commands are list, tail, "),
    "an option before that is none": (
        ["--phase", "sent"],
        "unknown option --phase",
    ),
    "a value that is missing": (["list", "--release"], "--release needs a value"),
    "a file that is missing": (["import"], "import: name one file"),
    "a file that is not there": (["import", "/nowhere/x"], "/nowhere/x: No such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(case: str, kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked, and the exit code is the commands' own for it."""
    words, said = WRONG[case]
    assert main(words) == 2
    assert said in capfd.readouterr().err
    assert kubectl.asked == []


def test_help_and_version(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """The plugin's own are answered here, a command's by the command."""
    assert main(["--help"]) == 0
    text = capfd.readouterr().out
    assert "usage: kubectl ledger" in text
    assert all(f"  {name:<10}{row.about}\n" in text for name, row in COMMANDS.items())
    (named,) = re.findall(r"where the command knows them \(([^)]*)\)", text)
    assert set(named.split(", ")) == {name for name, row in COMMANDS.items() if row.namespaces}
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("kubectl-ledger ")
    assert kubectl.asked == []
    assert main(["explain", "--help"]) == 0
    assert kubectl.remote[-1] == "--help"


def test_kubectl_is_missing_or_fails(
    kubectl: StandIn, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it says is said, and the code tells that nobody was asked."""
    kubectl.fails("The connection to the server was refused")
    assert main(["list"]) == 8
    assert capfd.readouterr().err == (
        "The connection to the server was refused\nkubectl ledger: kubectl failed to list pods\n"
    )
    monkeypatch.setenv("KUBECTL", "/nowhere/kubectl")
    assert main(["list"]) == 8
    assert "there is no program '/nowhere/kubectl'" in capfd.readouterr().err


def test_who_acts_is_the_person_here(kubectl: StandIn) -> None:
    """The pod's own name would say nothing; who gives a name is believed."""
    assert main(["resend", "a/b", "--reason", "r"]) == 0
    assert kubectl.remote[-5:] == [
        "--by", f"{getpass.getuser()}@{socket.gethostname()}", "a/b", "--reason", "r",
    ]  # fmt: skip
    assert main(["resend", "a/b", "--reason", "r", "--by=me"]) == 0
    assert kubectl.asked[-1].count("--by") == 0


#: What is typed at the question, the words of the command, and the exit code.
ASKED: Final[dict[str, tuple[bytes, list[str], int]]] = {
    "yes": (b"y\n", [], 0),
    "no": (b"n\n", [], 1),
    "nothing": (b"\n", [], 1),
    "a dry run does not ask": (b"", ["--dry-run"], 0),
    "neither does who has said yes": (b"", ["--yes"], 0),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_repairs_asks_on_a_terminal(case: str, kubectl: StandIn) -> None:
    """The command in the pod has no terminal, so the question is put here."""
    typed, words, code = ASKED[case]
    ours, theirs = pty.openpty()
    try:
        with started("repair", *words, stdin=theirs, stderr=subprocess.PIPE) as process:
            os.write(ours, typed)
            _, said = process.communicate(timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert (b"repair in notifications/ledger? " in said) is bool(typed)
    assert any("exec" in call for call in kubectl.asked) is (code == 0)


def test_files_are_here(
    kubectl: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """
    An export goes into a file of this machine, for its user alone, and an import comes from one.

    It goes to nobody who merely has the labels of a release.
    """
    logs = tmp_path / "logs.jsonl"
    kubectl.runs("echo exported")
    assert main(["export", "--output", str(logs), "-n", "a"]) == 0
    assert logs.read_text() == "exported\n"
    assert logs.stat().st_mode & 0o777 == 0o600
    assert kubectl.remote[-2:] == ["-n", "a"]
    kubectl.file("words").unlink()
    kubectl.runs("cat > got")
    words = ["import", "--key-prefix", "p", str(logs), "--by-name"]
    assert main(words) == 2
    assert "exec" not in kubectl.asked[-1]
    assert "name the release: --release notifications/ledger" in capfd.readouterr().err
    assert main(["-n", "notifications", *words]) == 0
    assert kubectl.wrote("got") == "exported\n"
    assert kubectl.remote == [
        "syncer", "import", "--color", "never", "--key-prefix", "p", "-", "--by-name",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["no release", "a refusal", "an end in the middle"])
def test_an_export_that_fails_leaves_the_file_as_it_was(
    wrong: str, kubectl: StandIn, tmp_path: Path
) -> None:
    """The wrong context, or a lost connection, costs nobody the export of yesterday."""
    folder = tmp_path / "exports"
    folder.mkdir()
    logs = folder / "logs.jsonl"
    logs.write_text("yesterday\n")
    if wrong == "no release":
        kubectl.lists()
    elif wrong == "a refusal":
        kubectl.runs(f"echo '{TERMINATED} 4' >&2; exit 4")
    else:
        kubectl.runs("echo half; echo 'error: connection lost' >&2; exit 1")
    assert main(["export", "--output", str(logs)]) != 0
    assert logs.read_text() == "yesterday\n"
    assert [file.name for file in folder.iterdir()] == ["logs.jsonl"]


def test_a_folder_that_is_not_there_is_named_as_it_was_typed(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody has typed the name of the file that is written until all of it is there."""
    assert main(["export", "--output", "/nowhere/logs"]) == 2
    assert capfd.readouterr().err == "kubectl ledger: /nowhere/logs: No such file or directory\n"
    assert kubectl.asked == []


def test_no_link_is_followed(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In a folder that others may write to, an export overwrites no file that one of them chose."""
    mine, link = tmp_path / "profile", tmp_path / "logs.jsonl"
    mine.write_text("mine")
    link.symlink_to(mine)
    assert main(["export", "--output", str(link)]) == 2
    said = "it is a symbolic link; name the file itself"
    assert capfd.readouterr().err == f"kubectl ledger: {link}: {said}\n"
    assert (mine.read_text(), kubectl.asked) == ("mine", [])


def test_an_export_may_go_to_standard_output(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By `-`, as that of the command itself, or into a pipe; neither is replaced by a file."""
    kubectl.runs("echo exported")
    assert main(["export", "--output=-"]) == 0
    assert capfd.readouterr().out == "exported\n"
    # A pipe of our own: a defect would replace a device of the machine, which all programs use.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["export", "--output", str(pipe)]) == 0
        assert os.read(reading, 100) == b"exported\n"
    finally:
        os.close(reading)
    assert pipe.is_fifo()


# -- send -----------------------------------------------------------------------------------------

META: Final = {"namespace": "payments", "name": "test-1", "uid": "u"}
#: What the pod chooses.
CHOSEN: Final = {
    "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
    "metadata": {"namespace": "payments", "name": "test-1"},
}  # fmt: skip


def looks(*statuses: dict[str, Any]) -> str:
    """A shell script that prints an object, which has another status at each look."""
    lines = [json.dumps({"metadata": META, "status": s}) for s in statuses]
    cases = "".join(f"{n}) echo {shlex.quote(line)};; " for n, line in enumerate(lines))
    return (
        f'n=$(cat looks 2>/dev/null || echo 0); echo $((n + 1)) > looks; case "$n" in {cases}esac'
    )


def attempt(number: int, status: str, **more: Any) -> dict[str, Any]:
    """An attempt of a status."""
    return {"channel": "slack:ops", "attempt": number, "status": status, **more}


@pytest.fixture
def sending(kubectl: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A pod that chooses a manifest, which is created here."""
    monkeypatch.setattr("syncer.kubectl.sending._PAUSE", 0.0)
    kubectl.runs(f"echo 'notifier: it goes to ops' >&2; echo {shlex.quote(json.dumps(CHOSEN))}")
    kubectl.does("create", f"cat > created; echo {shlex.quote(json.dumps({'metadata': META}))}")
    return kubectl


def test_a_test_notification_is_created_from_here(
    sending: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pod chooses it, this user creates it, and it says who that was."""
    assert main(["send", "--receiver", "ops", "-n", "payments", "-o", "text"]) == 0
    body = f"Sent by {getpass.getuser()}@{socket.gethostname()} with `kubectl ledger send`"
    remote = sending.remote
    assert remote[:-1] == [
        "notifier", "send", "--dry-run", "-o", "json", "--receiver", "ops", "-n", "payments", "--body",
    ]  # fmt: skip
    assert remote[-1].startswith(body)
    assert json.loads(sending.wrote("created")) == CHOSEN
    assert sending.asked[-1] == ["create", "-f", "-", "-o", "json", "--request-timeout=15s"]
    assert capfd.readouterr() == ("created payments/test-1\n", "notifier: it goes to ops\n")
    for form in ("-o=json", "-ojson"):
        assert main(["send", "--receiver", "ops", form]) == 0
        assert json.loads(capfd.readouterr().out) == META


#: Statuses at each look, the exit code, and what is said.
FOLLOWED: Final[dict[str, tuple[list[dict[str, Any]], int, str]]] = {
    "sent at last": (
        [
            {}, {"phase": "Retrying", "deliveryAttempts": [attempt(1, "failed", error="busy\x1b[2J")]},
            {
                "phase": "Sent", "message": "all of it",
                "deliveryAttempts": [attempt(1, "failed"), attempt(2, "success")],
            },
        ],
        0, "slack:ops  attempt 1  failed: busy [2J\nslack:ops  attempt 2  success\nSent: all of it\n",
    ),
    "failed": ([{"phase": "Failed", "message": "none of it"}], 1, "Failed: none of it\n"),
    "a result becomes known, while an older attempt is folded": (
        [
            fold({
                "deliveryAttempts": [
                    attempt(1, "failed", id="0.7-1"), attempt(2, "unknown", id="0.7-2"),
                ],
            }),
            fold({
                "phase": "Sent", "message": "it",
                "deliveryAttempts": [attempt(2, "success", id="0.7-2")],
            }),
        ],
        0,
        "".join(f"slack:ops  attempt {s}\n" for s in ("1  failed", "2  unknown", "2  success"))
        + "Sent: it\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
def test_a_test_notification_is_followed(
    case: str, sending: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each attempt is a line, once; the end is the exit code, as that of the command itself."""
    statuses, code, said = FOLLOWED[case]
    sending.gets(looks(*statuses))
    assert main(["send", "--receiver", "ops", "--wait"]) == code
    assert capfd.readouterr().out == f"created payments/test-1\n{said}"
    sending.file("looks").unlink()
    assert main(["send", "--receiver", "ops", "--wait", "-o", "json"]) == code
    assert json.loads(capfd.readouterr().out) == {**META, "status": expand(statuses[-1])}


#: What does not come about, and its exit code.
BROKEN_OFF: Final[dict[str, tuple[dict[str, str], list[str], int]]] = {
    "the pod refuses": ({"run": f"echo '{TERMINATED} 2' >&2; exit 2"}, [], 2),
    "this user may not create it": ({"create": f"echo '{FORBIDDEN}' >&2; exit 1"}, [], 6),
    "this user may not look at it": ({"get": f"echo '{FORBIDDEN}' >&2; exit 1"}, ["--wait"], 6),
    "the API server is away": ({"create": "exit 1"}, [], 8),
    "it does not end in time": ({"get": looks({})}, ["--wait", "--timeout", "0s"], 7),
    "a time that is none": ({}, ["--timeout", "soon"], 2),
    "a form that is none": ({}, ["-o", "yaml"], 2),
    "a value that is missing": ({}, ["--timeout"], 2),
}


@pytest.mark.parametrize("case", BROKEN_OFF)
def test_where_it_breaks_off(case: str, sending: StandIn) -> None:
    """Each has its exit code, as that of the command itself has."""
    scripts, words, code = BROKEN_OFF[case]
    if "run" in scripts:
        sending.runs(scripts["run"])
    if "create" in scripts:
        sending.does("create", scripts["create"])
    if "get" in scripts:
        sending.gets(scripts["get"])
    assert main(["send", "--receiver", "ops", *words]) == code
    assert ("create" in str(sending.asked)) is (code in {6, 7, 8})


#: What a pod answers that nobody should create with the rights of whoever asks.
FOREIGN: Final[dict[str, str]] = {
    "another kind": json.dumps(
        CHOSEN | {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
    ),
    "another group": json.dumps(CHOSEN | {"apiVersion": "v1"}),
    "a list": json.dumps({"apiVersion": "v1", "kind": "List", "items": [CHOSEN]}),
    "several": f"{json.dumps(CHOSEN)}\n---\n{json.dumps(CHOSEN)}",
    "no name": json.dumps(CHOSEN | {"metadata": {"namespace": "payments"}}),
    "nothing": "",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_nothing_but_a_notification_is_created(
    case: str, sending: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pod chooses a notification, and has this user create nothing else."""
    sending.runs(f"echo {shlex.quote(FOREIGN[case])}")
    assert main(["send", "--receiver", "ops"]) == 1
    assert not any("create" in call for call in sending.asked)
    assert "a NotificationRequest; nothing is created" in capfd.readouterr().err


def test_a_create_whose_answer_was_lost_is_looked_up(
    sending: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is there by its random name was created; it is not created again."""
    sending.does("create", "cat > created; echo 'error: EOF' >&2; exit 1")
    sending.gets(looks({}, {"phase": "Sent"}))
    assert main(["send", "--receiver", "ops", "--wait"]) == 0
    assert capfd.readouterr().out.startswith("created payments/test-1\n")
    assert sum("create" in call for call in sending.asked) == 1


def test_an_outage_does_not_end_a_wait(sending: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """It is said once, and the next look that is answered goes on."""
    seen = shlex.quote(json.dumps({"metadata": META, "status": {"phase": "Sent"}}))
    sending.gets(
        "n=$(cat looks 2>/dev/null || echo 0); echo $((n + 1)) > looks;"
        f' case "$n" in 3) echo {seen};; *) echo "connection refused" >&2; exit 1;; esac'
    )
    assert main(["send", "--receiver", "ops", "--wait"]) == 0
    assert capfd.readouterr().err.count("connection refused") == 1


#: What kubectl says at every look, and the exit code.
LOOKS: Final[dict[str, tuple[str, int]]] = {
    "nobody answers": ("connection refused", 4),
    "it is gone": ('Error from server (NotFound): notificationrequests "test-1" not found', 1),
}


@pytest.mark.parametrize("case", LOOKS)
def test_a_wait_that_cannot_go_on(case: str, sending: StandIn) -> None:
    """It ends at its time, or as soon as there is nothing to wait for."""
    said, code = LOOKS[case]
    sending.gets(f"echo {shlex.quote(said)} >&2; exit 1")
    assert main(["send", "--receiver", "ops", "--wait", "--timeout", "0s"]) == code


def test_a_list_that_does_not_come_is_not_waited_for(
    kubectl: StandIn, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a while kubectl is ended, and what that means is said."""
    monkeypatch.setattr("syncer.kubectl.client._PATIENCE", 0.1)
    kubectl.file("get").write_text(": > asked; exec sleep 60")
    assert main(["doctor"]) == 8
    assert "kubectl ledger: kubectl did not answer within 0.1 s\n" in capfd.readouterr().err


#: When kubectl is gone, and the exit code.
GONE: Final = {"before the create": ("run", 8), "before the first look": ("create", 4)}


@pytest.mark.parametrize("case", GONE)
def test_a_kubectl_that_is_gone_is_named(
    case: str, sending: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be asked any more, the code says how far it came."""
    when, code = GONE[case]
    file = sending.file(when)
    file.write_text(f"{file.read_text()}; rm kubectl")
    assert main(["send", "--receiver", "ops", "--wait", "--timeout", "0s"]) == code
    assert "kubectl ledger: kubectl: [Errno 2] No such file" in capfd.readouterr().err


def test_pods_that_are_no_json_are_an_error(
    kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever answers in the place of kubectl."""
    kubectl.file("pods.json").write_text("no JSON")
    assert main(["doctor"]) == 8
    assert "kubectl did not answer in JSON" in capfd.readouterr().err


@pytest.mark.parametrize(
    "listed",
    [
        '{"items": 7}', '{"items": ["x"]}', '{"items": [{"metadata": []}, 1]}',
        '{"items": [{"spec": {"containers": [null]}}]}', '{"items": [{"status": "Running"}]}',
    ],
)  # fmt: skip
def test_a_list_of_something_else_is_an_error(
    listed: str, kubectl: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """JSON, and no list of pods."""
    kubectl.file("pods.json").write_text(listed)
    assert main(["doctor"]) == 8
    assert capfd.readouterr().err == "kubectl ledger: kubectl did not answer with a list of pods\n"


def test_a_kubectl_of_another_machine_is_named(
    kubectl: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One that this system cannot run."""
    program = tmp_path / "other"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(program))
    assert main(["list"]) == 8
    assert capfd.readouterr().err == f"kubectl ledger: {program}: Exec format error\n"


def test_a_dry_run_is_the_pods(sending: StandIn) -> None:
    """Nothing is created, and the manifest is shown as the command shows it."""
    assert main(["send", "--receiver", "ops", "--dry-run"]) == 0
    assert sending.remote == ["notifier", "send", "--receiver", "ops", "--dry-run"]


# -- as a process ---------------------------------------------------------------------------------


def started(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    """The plugin as a program."""
    program = "import sys; from syncer.kubectl.main import entry; sys.exit(entry())"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *words], cwd=ROOT,
        **{"stdin": subprocess.DEVNULL, **options},
    )  # fmt: skip


def there(file: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} does not come"
        time.sleep(0.02)


#: A command in a pod that goes on until its input ends, and says so.
FOLLOWS: Final = (
    f'echo began; : > began; cat > /dev/null; : > ended; echo "last words" >&2;'
    f' echo "{TERMINATED} 130" >&2; exit 130'
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lets_the_command_end(number: int, kubectl: StandIn) -> None:
    """Its input ends, it says its last words, and nothing is left."""
    kubectl.runs(FOLLOWS)
    with started("tail", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        there(kubectl.file("began"))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"began\n", b"last words\n")


def test_a_killed_plugin_leaves_nothing_behind(kubectl: StandIn) -> None:
    """The system closes the command's input for it, and the command ends."""
    kubectl.runs(FOLLOWS)
    with started("tail", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        there(kubectl.file("began"))
        assert not kubectl.file("ended").exists()
        process.kill()
        there(kubectl.file("ended"))


@pytest.mark.slow("waits for the seconds that a command has to end by itself")
def test_a_command_that_does_not_end_is_ended(kubectl: StandIn) -> None:
    """After a few seconds kubectl is killed."""
    kubectl.runs(": > began; exec sleep 60")
    with started("tail", "-f", stderr=subprocess.DEVNULL) as process:
        there(kubectl.file("began"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130


@pytest.mark.parametrize("words", [["--help"], ["send", "--receiver", "ops"]])
def test_a_reader_that_has_enough_is_no_error(words: list[str], sending: StandIn) -> None:
    """`| head` ends it without a complaint."""
    read, write = os.pipe()
    os.close(read)
    try:
        with started(*words, stdout=write, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=30)
    finally:
        os.close(write)
    assert process.returncode == 0
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said


#: Environment, and the words that a terminal of 97 columns adds.
TERMINALS: Final[dict[str, tuple[dict[str, str], list[str]]]] = {
    "a terminal": ({"TERM": "xterm"}, ["--width", "97", "--color", "always"]),
    "one that wants no colours": (
        {"TERM": "xterm", "NO_COLOR": "1"}, ["--width", "97", "--color", "never"],
    ),
    "one that can do nothing": ({"TERM": "dumb"}, ["--width", "97", "--color", "never"]),
    "one that was told otherwise": (
        {"TERM": "xterm", "COLUMNS": "70"}, ["--width", "70", "--color", "always"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TERMINALS)
def test_width_and_colours_are_handed_over(case: str, kubectl: StandIn) -> None:
    """The command in the pod has no terminal; it is told what this one can do."""
    environ, wanted = TERMINALS[case]
    ours, theirs = pty.openpty()
    try:
        subprocess.run(["stty", "cols", "97"], stdin=theirs, check=True, timeout=10)
        with started("list", stdout=theirs, env={**os.environ, **environ}) as process:
            assert process.wait(30) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert kubectl.remote == ["syncer", "list", "--until-stdin-closes", *wanted]


def test_a_pipe_is_as_wide_as_it_is_said(kubectl: StandIn) -> None:
    """Nothing is cut there unless somebody wants it."""
    with started(
        "list", stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    ) as process:
        assert process.wait(30) == 0
    assert kubectl.remote[3:] == ["--width", "60", "--color", "never"]


#: What a pod prints, and what a terminal gets.
PRINTED: Final = {
    "colours, tabs and letters": ("\x1b[31;1mä\t\x1b[0m\n", "\x1b[31;1mä\t\x1b[0m\n"),
    "a clipboard": ("a\x1b]52;c;cm0gLXJm\x07b", "a\ufffd]52;c;cm0gLXJm\ufffdb"),
    "a title in one byte": ("\x9d0;root\x9c", "\ufffd0;root\ufffd"),
    "a cursor": ("ok\x1b[2K\r\x1b[1A", "ok\ufffd[2K\ufffd\ufffd[1A"),
    "a direction": ("a\u202eb", "a\ufffdb"),
    "an escape at the end": ("x\x1b[3", "x\ufffd[3"),
}


@pytest.mark.parametrize("case", PRINTED)
def test_a_pod_commands_no_terminal(case: str) -> None:
    """Wherever what it prints is cut, colours pass and no other command does."""
    printed, wanted = PRINTED[case]
    data = printed.encode()
    for cut in range(len(data) + 1):
        harmless = Harmless()
        found = (
            harmless.text(data[:cut]) + harmless.text(data[cut:]) + harmless.text(b"", final=True)
        )
        assert found == wanted


def test_what_a_pod_prints_reaches_a_terminal_harmless(kubectl: StandIn) -> None:
    """Both streams: one cannot tell which of them would be trusted."""
    kubectl.runs(r"printf '\033[1mout\033[0m\033]0;t\007'; printf '\033]0;u\007err' >&2")
    ours, theirs = pty.openpty()
    try:
        with started("list", stdout=theirs, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=30)
            shown = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b[1mout\x1b[0m\ufffd]0;t\ufffd" in shown
    assert "\ufffd]0;u\ufffderr" in said.decode()


@pytest.mark.parametrize("named", [False, True])
def test_a_person_is_told_which_release_was_found(named: bool, kubectl: StandIn) -> None:
    """Whoever may create pods can put the labels on one of his own, where the controller has none."""
    ours, theirs = pty.openpty()
    try:
        words = ["-n", "notifications", "list"] if named else ["list"]
        with started(*words, stdout=subprocess.DEVNULL, stderr=theirs) as process:
            assert process.wait(30) == 0
        os.write(theirs, b".")
        said = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("using notifications/ledger, found by the labels of its pods" in said) is not named


# -- completion -----------------------------------------------------------------------------------


def completed(*words: str, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What kubectl is offered for the last word."""
    assert main(list(words), program=f"/usr/local/bin/{COMPLETER}") == 0
    *found, last = capfd.readouterr().out.splitlines()
    assert last == ":4"
    return found


def test_words_are_completed(kubectl: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Commands are known here, everything else is asked for in the pod."""
    assert completed("re", capfd=capfd) == ["repair", "resolve", "resend", "release"]
    assert completed("-n", "x", "", capfd=capfd) == list(COMMANDS)
    assert kubectl.asked == []
    kubectl.runs("echo payments/a; echo payments/b")
    assert completed("-n", "notifications", "explain", "pay", capfd=capfd) == [
        "payments/a", "payments/b",
    ]  # fmt: skip
    assert kubectl.remote == ["syncer", "complete", "--", "explain", "pay"]
    kubectl.runs("exit 1")
    assert completed("explain", "pay", capfd=capfd) == []
    kubectl.fails("away")
    assert completed("explain", "pay", capfd=capfd) == []
    assert completed("nothing", "pay", capfd=capfd) == []


# -- the table ------------------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_commands() -> None:
    """A script need not know whether the plugin or the command in the pod has ended it."""
    pairs = {"DIFFERENT": "DIFFERENT", "USAGE": "USAGE", "ABSENT": "ABSENT", "AWAY": "UNAVAILABLE",
             "REFUSED": "REFUSED", "INTERRUPTED": "INTERRUPTED"}  # fmt: skip
    for own, theirs in pairs.items():
        assert getattr(exits, own) == getattr(commands_exits, theirs), own
    others = {exits.NOT_ASKED, exits.SEVERAL}
    assert not others & {getattr(commands_exits, name) for name in pairs.values()}


def test_the_commands_are_those_of_the_programs() -> None:
    """Each has a row, and the row says of its options what its parser knows."""
    known = _commands(_parser())
    own = {name for name, command in COMMANDS.items() if command.program == "syncer"}
    # The pages are served in a pod of their own; `ui` is the way to them.
    assert own == known.keys() - {"completion", "web"}
    for name, row in COMMANDS.items():
        if row.program == "notifier":
            assert name in _commands(controllers_parser())
            options = _options(_commands(controllers_parser())[name])
            assert row == Command(
                CONTROLLERS[name].HELP,
                program="notifier",
                namespaces="-n" in options,
                creates="--dry-run" in options,
            )
    for name in own:
        options, row = _options(known[name]), COMMANDS[name]
        assert row.about == OPERATORS[name].HELP
        assert row.namespaces is ("-n" in options), name
        assert row.by is ("--by" in options), name
        assert row.writes is ("--output" in options), name
        assert row.asks is ("--yes" in options), name
        assert {"--until-stdin-closes", "--width", "--color"} <= options.keys()
        assert not {"--release"} & options.keys()
