"""A test notification: that it reaches the receiver that was asked for, and nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from notifier.cli import arguments as command
from notifier.cli.main import main
from notifier.cli.sample import attributes_for, attributes_of_manifest, manifest_of
from notifier.cli.send import line_of
from notifier.routing.attributes import ALWAYS, KNOWN
from notifier.routing.parse import parse
from notifier.routing.tree import resolve
from syncer.cli.exits import Refused
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.carried import fold
from syncer.model.resource import parse_object
from tests.examples import examples

RECEIVERS: Final = """\
receivers:
  - {name: chat, slackConfigs: [{credentialRef: s}]}
  - {name: pager, pagerdutyConfigs: [{credentialRef: p}]}
  - {name: log, logConfigs: [{enabled: true}]}
  - {name: pay, allowedNamespaces: [payments, pay-*], slackConfigs: [{credentialRef: s}]}
"""


def reached(routes: str, receiver: str, **given_: str) -> dict[str, str]:
    """Attributes that were chosen; the controller's rules send them to the receiver alone."""
    config = parse(f"route: {{receiver: chat, routes: [{routes}]}}\n{RECEIVERS}")
    found = attributes_for(config, receiver, given_)
    manifest = manifest_of(found, name="n", subject="s", body="b")
    assert resolve(config, attributes_of_manifest(manifest)).receivers == (receiver,)
    return found


LOW: Final = {"type": "Simple", "priority": "Low"}

#: Routes, the receiver, what is given, and what is chosen beside type and priority.
CHOSEN: Final[dict[str, tuple[str, str, dict[str, str], dict[str, str]]]] = {
    "the root's receiver": ("{match: {team: a}, receiver: log}", "chat", {}, {}),
    "an exact match": ("{match: {team: a}, receiver: log}", "log", {}, {"team": "a"}),
    "a match of type and priority": (
        "{match: {type: Approval, priority: High}, receiver: log}", "log", {},
        {"type": "Approval", "priority": "High"},
    ),
    "a route below another": (
        "{match: {team: a}, receiver: log, routes: [{match: {severity: high}, receiver: pager}]}",
        "pager", {}, {"team": "a", "severity": "high"},
    ),
    "the receiver of a route whose children take others": (
        "{match: {team: a}, receiver: log, routes: [{match: {type: Simple}, receiver: pager}]}",
        "log", {}, {"team": "a", "type": "Escalation"},
    ),
    "a type that another route does not take": (
        "{match: {type: Simple}, receiver: log}", "chat", {}, {"type": "Escalation"},
    ),
    "a pattern of words": (
        '{matchRe: {team: "^(db|storage)$"}, receiver: log}', "log", {}, {"team": "db"},
    ),
    "a pattern of characters": (
        '{matchRe: {host: "^web-[a-c][0-9]+.*x\\\\.y$"}, receiver: log}', "log", {},
        {"host": "web-a0xx.y"},
    ),
    "a pattern of a known attribute": (
        '{matchRe: {priority: "^(Critical|High)$"}, receiver: log}', "log", {}, {"priority": "Critical"},
    ),
    "a pattern of an attribute of few values": (
        "{matchRe: {verificationDegraded: ^t}, receiver: log}", "log", {},
        {"verificationDegraded": "true"},
    ),
    "a pattern with a value that is given": (
        '{matchRe: {host: "^(?:a|b){2,3}$"}, receiver: log}', "log", {"host": "abb"}, {"host": "abb"},
    ),
    "a namespace that a route asks for": (
        "{match: {namespace: dev}, receiver: log}", "log", {}, {"namespace": "dev"},
    ),
    "a namespace that the receiver asks for": (
        "{match: {team: a}, receiver: pay}", "pay", {}, {"team": "a", "namespace": "payments"},
    ),
    "an attribute that must not be there": (
        "{match: {team: '', type: Approval}, receiver: log}", "log", {}, {"type": "Approval"},
    ),
    "the second of two ways": (
        "{match: {a: a}, receiver: pager, continue: true}, {match: {a: a}, receiver: log},\
 {match: {a: b}, receiver: log}", "log", {}, {"a": "b"},
    ),
    "the first of two ways": (
        "{match: {a: x}, receiver: log}, {match: {b: y}, receiver: log}", "log", {}, {"a": "x"},
    ),
    "what is given is kept": (
        "{match: {team: a}, receiver: log}", "log", {"severity": "x"}, {"team": "a", "severity": "x"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOSEN)
def test_attributes_that_reach_a_receiver(case: str) -> None:
    """They are those of a way through the tree, and what disturbs least beside them."""
    routes, receiver, given_, wanted = CHOSEN[case]
    assert reached(routes, receiver, **given_) == {**LOW, **wanted}


#: Routes, the receiver, what is given, and why no notification reaches it alone.
REASONS: Final[dict[str, tuple[str, str, dict[str, str], str]]] = {
    "no such receiver": (
        "", "pagr", {}, 'there is no receiver "pagr"; the receivers are chat, log, pager, pay',
    ),
    "no route": ("", "log", {}, 'reaches receiver "log": no route names it; add one'),
    "another one on the way": (
        "{match: {team: a}, receiver: pager, continue: true}, {match: {team: a}, receiver: log}",
        "log", {}, 'a notification that takes route.routes[1] also reaches "pager"',
    ),
    "another one before": (
        "{receiver: pager}, {match: {team: a}, receiver: log}", "log", {}, 'routes[1] reaches "pager"',
    ),
    "a value that is given": (
        "{match: {team: a}, receiver: log}", "log", {"team": "b"},
        'route.routes[0] wants team to be "a"',
    ),
    "a pattern without a guess": (
        "{matchRe: {team: '^x{7}$'}, receiver: log}", "log", {},
        "give a value with --attributes team=VALUE",
    ),
    "a route that never matches": (
        "{match: {team: a}, routes: [{match: {team: b}, receiver: log}]}", "log", {},
        'routes[0] wants team to be "b", a route above "a"',
    ),
    "a namespace that it does not take": (
        "{match: {team: a}, receiver: pay}", "pay", {"namespace": "dev"},
        'receiver "pay" takes no notifications of namespace dev',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REASONS)
def test_why_a_receiver_is_not_reached(case: str) -> None:
    """The reason names the route, or what is missing."""
    routes, receiver, given_, reason = REASONS[case]
    with pytest.raises(Refused) as caught:
        reached(routes, receiver, **given_)
    assert reason in str(caught.value)


def test_of_many_reasons_three_are_named() -> None:
    """An installation may have hundreds of routes to one receiver."""
    routes = ", ".join(f"{{match: {{team: a{n}}}, receiver: log}}" for n in range(9))
    with pytest.raises(Refused) as caught:
        reached(routes, "log", team="b")
    wanted = [f'route.routes[{n}] wants team to be "a{n}"' for n in range(3)]
    assert str(caught.value).endswith('receiver "log" alone: ' + "; ".join(wanted))


def test_a_namespace_has_to_be_said_where_only_a_pattern_names_it() -> None:
    """Which of the namespaces that a pattern means exists is not known."""
    config = parse(
        "route: {receiver: x}\n"
        "receivers: [{name: x, allowedNamespaces: ['pay-*'], slackConfigs: [{credentialRef: s}]}]"
    )
    with pytest.raises(Refused, match=r"namespaces pay-\*; name one with -n"):
        attributes_for(config, "x", {})
    assert attributes_for(config, "x", {"namespace": "pay-eu"})["namespace"] == "pay-eu"


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from([*(k for k in KNOWN if k not in ("namespace", "name")), "team", "x.y/z"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=8),
        max_size=6,
    ),
    st.sampled_from(ALWAYS["type"]),
)
def test_routing_sees_what_was_chosen(attributes: dict[str, str], kind: str) -> None:
    """Whatever attributes a manifest is made of, it has these, and type and priority."""
    wanted = {**LOW, **attributes, "type": kind, "namespace": "ns"}
    manifest = manifest_of(wanted, name="n", subject="s", body="b")
    assert attributes_of_manifest(manifest) == {**wanted, "name": "n"}


def test_words_are_those_of_the_definition() -> None:
    """The options offer what the API server lets through."""
    assert {"type": command.TYPES, "priority": command.PRIORITIES} == ALWAYS


@pytest.fixture
def routing(tmp_path: Path) -> str:
    """Path of a routing file."""
    path = tmp_path / "routing.yaml"
    path.write_text(
        "route: {receiver: chat, routes: [{match: {team: a}, receiver: pager},"
        f" {{match: {{team: p}}, receiver: pay}}]}}\n{RECEIVERS}"
    )
    return str(path)


def test_a_dry_run_prints_what_would_be_created(
    routing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest alone on standard output, for kubectl; who gets it on standard error."""
    words = ["send", "--receiver", "pager", "--routing", routing, "-n", "dev", "--dry-run"]
    assert main([*words, "--subject", "Hallo", "--body", "Welt", "--priority", "High"]) == 0
    printed = capsys.readouterr()
    manifest = yaml.safe_load(printed.out)
    assert manifest["metadata"].pop("name").startswith("test-20")
    assert manifest == {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {"namespace": "dev", "labels": {"notification-ledger/test": "true"}},
        "spec": {
            "type": "Simple", "priority": "High", "subject": "Hallo", "body": "Welt",
            "extensions": {"team": "a"}, "retentionDays": 1,
        },
    }  # fmt: skip
    assert printed.err == "notifier: receivers: pager; channels: pagerduty:pager\n"
    assert main([*words, "-o", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "Nothing is wrong" in document["spec"]["body"]


def test_by_attributes(routing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said is what routing sees; who gets it is said, and who refuses it."""
    words = ["send", "--attributes", "team=p,severity=high", "-n", "dev", "--dry-run"]
    assert main([*words, "--routing", routing]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["spec"]["severity"] == "high"
    assert printed.err.splitlines() == [
        "notifier: receivers: pay; channels: slack:pay",
        'notifier: receiver "pay" takes no notifications of namespace dev (allowedNamespaces)',
    ]
    assert main(words) == 0
    assert "its receivers are unknown here" in capsys.readouterr().err


def test_in_its_pod_the_namespace_is_its_own(
    routing: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless the receiver takes nothing of it."""
    account = tmp_path / "namespace"
    account.write_text("home\n")
    monkeypatch.setattr("syncer.settings.NAMESPACE_FILE", account)
    for receiver, namespace in (("pager", "home"), ("pay", "payments")):
        words = ["send", "--receiver", receiver, "--routing", routing, "--dry-run"]
        assert main(words) == 0
        assert yaml.safe_load(capsys.readouterr().out)["metadata"]["namespace"] == namespace


#: Words, the exit code, and what is said.
REFUSED: Final[dict[str, tuple[list[str], int, str]]] = {
    "nobody": (["-n", "a"], 2, "name a receiver"),
    "no namespace": (["--receiver", "pager"], 2, "name the namespace to create it in: -n NAMESPACE"),
    "no such namespace": (["--receiver", "pager", "-n", "A_b"], 2, "is not a valid name of a namespace"),
    "two priorities": (
        ["--receiver", "pager", "-n", "a", "--priority", "Low", "--attributes", "priority=High"], 2,
        "--priority and --attributes priority=… contradict each other",
    ),
    "a timeout that is none": (
        ["--receiver", "pager", "-n", "a", "--timeout", "soon"], 2, "--timeout: must be a duration",
    ),
    "a receiver that is not reached": (
        ["--receiver", "log", "-n", "a"], 1, 'no notification reaches receiver "log"',
    ),
    "a namespace that nobody watches": (
        ["--receiver", "pager", "-n", "a", "--config", "CONFIG"], 1,
        "the controller does not watch namespace a, but b, c (controller.namespaces)",
    ),
    "no cluster": (
        ["--receiver", "pager", "-n", "a", "--kubeconfig", "/nowhere"], 2,
        "the kubeconfig /nowhere does not exist: name an existing file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(
    case: str, routing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, before anything is created."""
    words, code, reason = REFUSED[case]
    config = tmp_path / "config.yaml"
    config.write_text("redis: {url: redis://h}\ncontroller: {namespaces: [b, c]}\n")
    words = [str(config) if word == "CONFIG" else word for word in words]
    assert main(["send", "--routing", routing, *words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert reason in printed.err


def test_a_receiver_needs_the_routing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it nobody knows what reaches it."""
    assert main(["send", "--receiver", "pager", "-n", "a"]) == 2
    assert "--receiver needs the routing file" in capsys.readouterr().err


#: An attempt, and its line.
LINES: Final[dict[str, tuple[Attempt, str]]] = {
    "a success": (
        Attempt(AttemptId("0.1-1"), "slack:a", AttemptState.SUCCESS, ended=1000, duration=420, number=1),
        "00:00:01Z slack:a  attempt 1  success in 0.42 s",
    ),
    "a failure": (
        Attempt(
            AttemptId("0.1-1"), "slack:a", AttemptState.FAILED, ended=61_000, error="HTTP 503",
            failure=FailureClass.TRANSIENT, number=2,
        ),
        "00:01:01Z slack:a  attempt 2  failed: HTTP 503 (next at 00:01:40Z)",
    ),
    "a failure for good": (
        Attempt(
            AttemptId("0.1-1"), "slack:a", AttemptState.FAILED, error="HTTP 404",
            failure=FailureClass.PERMANENT, number=1,
        ),
        "-         slack:a  attempt 1  failed for good: HTTP 404",
    ),
    "an unknown result": (
        Attempt(AttemptId("0.1-1"), "log", AttemptState.UNKNOWN, started=1000, number=1),
        "00:00:01Z log  attempt 1  unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_an_attempt_as_a_line(case: str) -> None:
    """When, where, the result, and when the next one comes."""
    attempt, line = LINES[case]
    seen = parse_object(
        {
            "metadata": {"uid": "u", "namespace": "n", "name": "m"}, "spec": {},
            "status": fold({
                "channels": [
                    {"name": "slack:a", "state": "Retrying", "nextRetryTime": "1970-01-01T00:01:40Z"}
                ]
            }),
        }
    )  # fmt: skip
    assert line_of(attempt, seen) == line


def test_an_interrupt_ends_it_with_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was created goes on without it."""
    monkeypatch.setattr("notifier.cli.send.send", AsyncMock(side_effect=KeyboardInterrupt))
    assert main(["send", "--receiver", "chat"]) == 130
