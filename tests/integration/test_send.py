"""`notifier send` on real servers: created, delivered, followed to its end; and where that fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from notifier.cli.main import _parser
from notifier.cli.send import send
from syncer.cli.exits import failed
from syncer.model.carried import fold
from syncer.model.errors import LedgerError
from tests.beside import eventually
from tests.e2e.harness import CHANNEL, Stage, Step
from tests.fakes.apianswers import Request
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.faults import Answer, ApplyThen, Match
from tests.integration.operating import NO_SWEEPS, owner
from tests.integration.scripted import write_kubeconfig
from tests.servers.ports import free_port

ROUTING = """\
route: {receiver: other, routes: [{match: {team: a}, receiver: ops}]}
receivers:
  - {name: ops, slackConfigs: [{credentialRef: slack-ops}]}
  - {name: other, consoleConfigs: [{enabled: true}]}
"""


async def sent(
    capsys: pytest.CaptureFixture[str], kubeconfig: Path | str, *words: str
) -> tuple[int, str, str]:
    """Exit code, answer and standard error of a command."""
    capsys.readouterr()
    try:
        code = await send(_parser().parse_args(["send", "--kubeconfig", str(kubeconfig), *words]))
    except LedgerError as error:
        code = failed(error, "notifier")
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_it_is_followed_to_its_end(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A first attempt fails and a second one succeeds: both are shown, and the code is 0."""
    here.script("hallo", Step(404, "no such hook"))
    process = here.notifier(sync=NO_SWEEPS)
    routing = here.folder / "routing.yaml"
    routing.write_text(ROUTING)
    words = ["--routing", str(routing), "--config", str(process._config), "-n", here.namespace]
    async with owner(process):
        code, out, err = await sent(
            capsys,
            here.plane.kubeconfig,
            "--receiver",
            "ops",
            "--subject",
            "there",
            "--wait",
            *words,
        )
        assert code == 0, out + err
        created, attempt, end = out.splitlines()
        assert created.startswith(f"created {here.namespace}/test-20")
        assert f"{CHANNEL}  attempt 1  success in " in attempt
        assert end == "Sent: Successfully delivered to 1 channel(s)"
        assert err == f"notifier: receivers: ops; channels: {CHANNEL}\n"
        assert len(here.receiver.calls("there")) == 1
        code, out, _ = await sent(
            capsys, here.plane.kubeconfig, "--receiver", "ops", "--subject", "hallo", "--wait",
            "-o", "json", *words,
        )  # fmt: skip
        assert code == 1
        document = json.loads(out)
        assert (document["phase"], document["attempts"][0]["class"]) == ("Failed", "permanent")
    reply = await here.api.ask(
        "GET", f"{here.api.requests}?labelSelector=notification-ledger/test=true"
    )
    assert len(reply.body["items"]) == 2


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_nobody_takes_it_up(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a controller the wait ends with a code of its own; a namespace that is not there is told."""
    plane = here.plane.kubeconfig
    code, out, err = await sent(
        capsys, plane, "--attributes", "team=a", "-n", here.namespace, "--wait", "--timeout", "1s"
    )
    assert (code, len(out.splitlines())) == (7, 1)
    assert "has not ended within 1 s: no controller has picked it up" in err
    code, out, err = await sent(capsys, plane, "--attributes", "team=a", "-n", "no-such-namespace")
    assert (code, out) == (1, "")
    assert "not found" in err


async def test_answers_that_are_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was created although the answer says otherwise is found by its name; there is one object."""
    async with FakeApiServer() as server:
        config = write_kubeconfig(tmp_path / "k", server.url)
        server.faults.add(Match("POST"), ApplyThen())
        code, out, _ = await sent(capsys, config, "--attributes", "team=a", "-n", "default")
        assert (code, out.startswith("created default/test-")) == (0, True)
        server.faults.add(Match("POST"), Answer(504, "Timeout"))
        code, out, err = await sent(capsys, config, "--attributes", "team=a", "-n", "default")
        assert (code, out) == (4, "")
        assert err.splitlines()[-1].startswith("notifier: 504")


#: What the server answers, the exit code, and what is said.
ANSWERS = {
    "no right": (
        Answer(403, "Forbidden", 'User "u" cannot create resource "notificationrequests"'),
        6,
        "may not create NotificationRequests; with --dry-run",
    ),
    "an object that a webhook refuses": (
        Answer(403, "Forbidden", 'admission webhook "w" denied the request: no'),
        6,
        "denied the request: no\n",
    ),
    "an object that is refused": (Answer(422, "Invalid", "spec.type"), 1, "422 Invalid"),
    "a name that is taken": (Answer(409, "AlreadyExists"), 1, "409"),
    "a busy server": (Answer(503, "ServiceUnavailable"), 4, "503"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_the_server_answers(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has its code."""
    answer, code, text = ANSWERS[case]
    async with FakeApiServer() as server:
        config = write_kubeconfig(tmp_path / "k", server.url)
        server.faults.add(Match("POST"), answer)
        found = await sent(capsys, config, "--attributes", "team=a", "-n", "default")
    assert found[:2] == (code, "")
    assert text in found[2]


async def test_each_attempt_is_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often the status is looked at; a result that becomes known later is a line of its own."""
    path = "/apis/kubernaut.ai/v1alpha1/namespaces/default/notificationrequests/one"

    def attempt(state: str) -> dict[str, object]:
        return {
            "id": "0.5-1", "channel": "log", "attempt": 1, "status": state, "error": "no answer",
            "timestamp": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    async with FakeApiServer() as server:
        config = write_kubeconfig(tmp_path / "k", server.url)

        def show(**status: object) -> None:
            body = json.dumps({"status": fold(status)}).encode()
            headers = "application/merge-patch+json"
            answer = server.state.answer(Request("PATCH", f"{path}/status", {}, body, headers))
            assert answer.code == 200, answer

        def looks() -> int:
            return server.state.requests["get", "notificationrequests", "", 200]

        async def seen_again() -> None:
            before = looks()
            await eventually(lambda: looks() >= before + 2)

        task = asyncio.create_task(
            sent(capsys, config, "--attributes", "name=one", "-n", "default", "--wait")
        )
        await eventually(
            lambda: server.state.get("notificationrequests", "default", "one") is not None
        )
        show(phase="Sending", deliveryAttempts=[attempt("unknown")])
        await seen_again()
        show(phase="Sending", deliveryAttempts=[attempt("success")])
        await seen_again()
        show(phase="Sent", message="done", deliveryAttempts=[attempt("success")])
        code, out, _ = await task
    assert code == 0
    assert out.splitlines() == [
        "created default/one",
        "00:00:00Z log  attempt 1  unknown: no answer",
        "00:00:00Z log  attempt 1  success",
        "Sent: done",
    ]


async def test_a_server_that_is_away_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Looks that fail are repeated; an object that is deleted is named; a server that is gone, too."""
    async with FakeApiServer() as server:
        config = write_kubeconfig(tmp_path / "k", server.url)
        server.faults.add(Match("GET"), Answer(500), times=2)
        task = asyncio.create_task(
            sent(capsys, config, "--attributes", "name=one", "-n", "default", "--wait")
        )
        path = "/apis/kubernaut.ai/v1alpha1/namespaces/default/notificationrequests/one"
        await eventually(lambda: len(server.faults.struck) >= 2)
        server.state.answer(Request("DELETE", path, {}, b""))
        code, _, err = await task
        assert code == 1
        assert "default/one was deleted before it ended" in err
    async with FakeApiServer() as server:
        config = write_kubeconfig(tmp_path / "deaf", server.url)
        server.faults.add(Match("GET"), Answer(503), times=99)
        words = ["--attributes", "name=one", "-n", "default", "--wait", "--timeout", "0"]
        code, _, err = await sent(capsys, config, *words)
        assert (code, "no controller" in err) == (4, False)
    away = write_kubeconfig(tmp_path / "away", f"http://127.0.0.1:{free_port()}")
    code, _, err = await sent(capsys, away, "--attributes", "team=a", "-n", "default")
    assert (code, "notifier: " in err) == (4, True)
    assert f"by --kubeconfig {away})" in err
