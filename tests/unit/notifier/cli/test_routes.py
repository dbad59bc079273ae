"""The routing tree as it is shown, and who would get a notification: what the controller decides."""

from __future__ import annotations

import io
import json
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.cli.main import main
from notifier.cli.sample import parse_attributes
from notifier.routing.parse import parse
from notifier.routing.tree import RULE_MATCHED, resolve, trace
from syncer.model.errors import ConfigError
from tests.examples import examples

ROUTING: Final = """\
route:
  receiver: chat
  routes:
    - match: {namespace: payments}
      receiver: payments
      continue: true
    - match: {priority: Critical}
      receiver: pager
      routes:
        - matchRe: {team: "^(db|storage)$"}
          receiver: databases
        - match: {priority: High}
          receiver: gone
    - match: {priority: Critical, team: web}
      receiver: gone
    - match: {type: Simple}
receivers:
  - name: chat
    slackConfigs: [{credentialRef: s}, {credentialRef: t}]
  - name: pager
    pagerdutyConfigs: [{credentialRef: p}]
  - name: databases
    consoleConfigs: [{enabled: true}]
  - name: payments
    allowedNamespaces: [payments, pay-*]
    slackConfigs: [{credentialRef: s}]
  - name: gone
    logConfigs: [{enabled: true}]
"""

SHOWN: Final = """\
everything → chat                            line 1
├─ namespace=payments (continue) → payments  line 4
├─ priority=Critical → pager                 line 7
│  ├─ team=~"^(db|storage)$" → databases     line 10
│  └─ priority=High → gone                   line 12  match.priority makes the route match nothing: a route\
 above wants priority to be "Critical"
├─ priority=Critical team=web → gone         line 14  is never reached: routes[1] matches all that this one\
 matches and does not continue
└─ type=Simple → nobody                      line 16

RECEIVER   CHANNELS                  CREDENTIALS  NAMESPACES       ROUTES
chat       slack:chat:0, slack:chat:1  s, t         all              1
pager      pagerduty:pager           p            all              1
databases  console                   -            all              1
payments   slack:payments            s            payments, pay-*  1
gone       log                       -            all              none: it gets nothing
"""


@pytest.fixture
def routing(tmp_path: Path) -> str:
    """Path of the routing file."""
    path = tmp_path / "routing.yaml"
    path.write_text(ROUTING)
    return str(path)


def test_the_tree_is_shown(routing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each route with its line, why it never matches, and the receivers with what they need."""
    assert main(["routes", "show", "--routing", routing]) == 0
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()] == [
        line.split() for line in SHOWN.splitlines()
    ]
    assert shown.splitlines()[:4] == SHOWN.splitlines()[:4]


def test_the_tree_for_programs(routing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as one document."""
    assert main(["routes", "show", "--routing", routing, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    never = [r["path"] for r in document["routes"] if r["neverMatches"]]
    assert never == ["route.routes[1].routes[1]", "route.routes[2]"]
    assert document["routes"][1] == {
        "path": "route.routes[0]", "line": 4, "receiver": "payments", "continue": True,
        "match": {"namespace": "payments"}, "matchRe": {}, "neverMatches": None,
    }  # fmt: skip
    assert document["receivers"][3] == {
        "name": "payments", "channels": ["slack:payments"], "credentials": ["s"],
        "namespaces": ["payments", "pay-*"], "routes": ["route.routes[0]"],
    }  # fmt: skip


#: Attributes, and the answer.
TESTS: Final[dict[str, tuple[str, str]]] = {
    "one that a deep route takes": (
        "priority=Critical,team=db,namespace=a,type=Approval",
        """\
        everything → chat                            yes
        ├─ namespace=payments (continue) → payments  no: namespace is "a"
        ├─ priority=Critical → pager                 yes
        │  ├─ team=~"^(db|storage)$" → databases     yes, gets it
        │  └─ priority=High → gone                   not tried
        ├─ priority=Critical team=web → gone         not tried
        └─ type=Simple → nobody                      not tried

        receivers: databases
        channels:  console
        """,
    ),
    "one that two routes take": (
        "priority=Critical,namespace=payments,type=Approval",
        """\
        everything → chat                            yes
        ├─ namespace=payments (continue) → payments  yes, gets it
        ├─ priority=Critical → pager                 yes, gets it
        │  ├─ team=~"^(db|storage)$" → databases     no: there is no team
        │  └─ priority=High → gone                   no: priority is "Critical"
        ├─ priority=Critical team=web → gone         not tried
        └─ type=Simple → nobody                      not tried

        receivers: payments, pager
        channels:  slack:payments, pagerduty:pager
        """,
    ),
    "one with an attribute that is there and empty": (
        "priority=Critical,team=,namespace=a,type=Approval",
        """\
        everything → chat                            yes
        ├─ namespace=payments (continue) → payments  no: namespace is "a"
        ├─ priority=Critical → pager                 yes, gets it
        │  ├─ team=~"^(db|storage)$" → databases     no: team is present, and empty
        │  └─ priority=High → gone                   no: priority is "Critical"
        ├─ priority=Critical team=web → gone         not tried
        └─ type=Simple → nobody                      not tried

        receivers: pager
        channels:  pagerduty:pager
        """,
    ),
    "one that ends nowhere": (
        "priority=Low,namespace=a,type=Simple",
        """\
        everything → chat                            yes
        ├─ namespace=payments (continue) → payments  no: namespace is "a"
        ├─ priority=Critical → pager                 no: priority is "Low"
        │  ├─ team=~"^(db|storage)$" → databases     not tried
        │  └─ priority=High → gone                   not tried
        ├─ priority=Critical team=web → gone         no: priority is "Low"
        └─ type=Simple → nobody                      yes

        receivers: default-console-fallback
        channels:  console
        doubt:     no rule with a receiver matched
        """,
    ),
}


@pytest.mark.parametrize("case", TESTS)
def test_who_gets_a_notification_and_why(
    case: str, routing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each route says what happened to it."""
    attributes, wanted = TESTS[case]
    assert main(["routes", "test", "--routing", routing, "--attributes", attributes]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == textwrap.dedent(wanted).splitlines()
    assert printed.err == ""


def test_a_manifest_is_tested(
    routing: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its attributes are those that the controller would see; attributes that are given win over it."""
    text = (
        "apiVersion: kubernaut.ai/v1alpha1\nkind: NotificationRequest\n"
        "metadata: {name: n, namespace: payments}\n"
        "spec: {type: Approval, priority: Critical, subject: s, body: b, extensions: {team: db},"
        " context: {review: {reason: r}}}\n"
    )
    (tmp_path / "n.yaml").write_text(text)
    words = ["routes", "test", "--routing", routing, "-o", "json", "--notification"]
    assert main([*words, str(tmp_path / "n.yaml")]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["receivers"] == ["payments", "databases"]
    assert document["attributes"] == {
        "namespace": "payments", "name": "n", "type": "Approval", "priority": "Critical",
        "reason": "r", "team": "db",
    }  # fmt: skip
    gets = {r["path"]: r["gets"] for r in document["routes"] if r["gets"]}
    assert gets == {"route.routes[0]": "payments", "route.routes[1].routes[0]": "databases"}
    assert [r["path"] for r in document["routes"] if not r["tried"]] == [
        "route.routes[1].routes[1]", "route.routes[2]", "route.routes[3]",
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main([*words, "-", "--attributes", "namespace=other,priority=Low"]) == 0
    assert json.loads(capsys.readouterr().out)["receivers"] == ["chat"]


def test_a_denial_is_said(routing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Routing leads there, and the receiver takes nothing of that namespace."""
    path = Path(routing)
    path.write_text(ROUTING.replace("{namespace: payments}", "{team: pay}"))
    words = ["--attributes", "team=pay,namespace=dev,type=Approval,priority=Low"]
    assert main(["routes", "test", "--routing", routing, *words]) == 1
    assert (
        'refused:   slack:payments: receiver "payments" takes no notifications of namespace dev'
        in capsys.readouterr().out
    )


def test_what_is_expected(routing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For CI: exit code 1 unless exactly these receivers get it."""
    words = [
        "routes",
        "test",
        "--routing",
        routing,
        "--attributes",
        "priority=Critical",
        "--expect",
    ]
    assert main([*words, "pager"]) == 0
    assert main([*words, "pager,chat"]) == 1
    assert "notifier: expected chat, pager" in capsys.readouterr().err


def test_slips_of_what_is_typed_are_doubted(
    routing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt attribute, a value that there is not, and what every notification has."""
    words = ["--attributes", "prioritty=Critical", "--attributes", "type=simple,subject=x"]
    assert main(["routes", "test", "--routing", routing, *words]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "notifier: prioritty is not a known attribute: did you mean priority?",
        "notifier: type=simple is not possible: it is a value that type never has: did you mean Simple?",
        "notifier: subject is not an attribute: routing does not look at this member of a notification",
        "notifier: namespace is not given: every notification has one, and routes match it",
        "notifier: priority is not given: every notification has one, and routes match it",
    ]


_NO_RECEIVER: Final = "route: {receiver: y}\nreceivers: [{name: x}]\n"
#: A routing file, a manifest, further words, and what is said of them.
REFUSED: Final[dict[str, tuple[str, str | None, tuple[str, ...], str]]] = {
    "a pair that is none": (
        ROUTING, None, ("--attributes", "critical"), "is not of the form KEY=VALUE",
    ),
    "a key that is empty": (ROUTING, None, ("--attributes", "=x"), "is not of the form KEY=VALUE"),
    "no manifest": (ROUTING, None, ("--notification", "/nowhere"), "cannot read /nowhere"),
    "a routing file with an error": (
        _NO_RECEIVER, None, (), "r.yaml: receiver 'y' not found in receivers list (line 1)",
    ),
    "one that lacks a credential's name": (
        "route: {receiver: a}\nreceivers: [{name: a, slackConfigs: [{}]}]", None, (),
        "credentialRef is required",
    ),
    "one that has a key twice": (
        "route: {receiver: a}\nreceivers: [{name: a, name: b}]", None, (), "twice",
    ),
    "another kind": (ROUTING, "kind: Pod\n", (), "holds no NotificationRequest of kubernaut.ai"),
    "another group": (
        ROUTING, "kind: NotificationRequest\napiVersion: v1\n", (), "holds no NotificationRequest",
    ),
    "another kind of the group": (
        ROUTING, "kind: Pod\napiVersion: kubernaut.ai/v1alpha1\n", (), "holds no NotificationRequest",
    ),
    "another shape": (
        ROUTING,
        "apiVersion: kubernaut.ai/v1alpha1\nkind: NotificationRequest\nspec: {context: 5}\n", (),
        "does not fit the CustomResourceDefinition",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with the reason, and the line of a bad routing file."""
    text, manifest, words, reason = REFUSED[case]
    routing, notification = tmp_path / "r.yaml", tmp_path / "n.yaml"
    routing.write_text(text)
    if manifest is not None:
        notification.write_text(manifest)
        words = ("--notification", str(notification))
    assert main(["routes", "test", "--routing", str(routing), *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_bad_routing_file_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named with its line."""
    (tmp_path / "r.yaml").write_text(_NO_RECEIVER)
    assert main(["routes", "show", "--routing", str(tmp_path / "r.yaml")]) == 2
    assert "receiver 'y' not found in receivers list (line 1)" in capsys.readouterr().err


def test_settings_decide_which_channels_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A webhook has a channel of its own where webhooks are delivered; an empty file is the console."""
    routing, config = tmp_path / "r.yaml", tmp_path / "c.yaml"
    routing.write_text(
        "route: {receiver: x}\nreceivers: [{name: x, webhookConfigs: [{url: https://h}]}]\n"
    )
    words = ["routes", "test", "--config", str(config), "--routing", str(routing)]
    for enabled, channel in (("true", "webhook:x"), ("false", "webhook")):
        config.write_text(
            f"redis: {{passwordFile: /nowhere}}\ndelivery: {{webhook: {{enabled: {enabled}}}}}\n"
        )
        assert main(words) == 0
        assert capsys.readouterr().out.endswith(f"channels:  {channel}\n")
    assert main(["routes", "test", "--routing", str(routing)]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("channels:  webhook:x\n")
    assert "e-mail and webhooks are assumed to be enabled" in printed.err
    routing.write_text("")
    assert main(words) == 0
    assert "receivers: console-fallback\n" in capsys.readouterr().out


def test_attributes_as_they_are_typed() -> None:
    """A comma within a value has a backslash before it; an equals sign needs none; the last one wins."""
    assert parse_attributes(["a=b,c=d\\,e", "f=g=h", "a=i", "j="]) == {
        "a": "i", "c": "d,e", "f": "g=h", "j": "",
    }  # fmt: skip
    with pytest.raises(ConfigError):
        parse_attributes([""])


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from(["namespace", "priority", "team", "type"]),
        st.sampled_from(["payments", "Critical", "High", "db", "web", "Simple"]),
    )
)
def test_what_is_shown_is_what_is_decided(attributes: dict[str, str]) -> None:
    """The receivers of the routes that give are those of the decision; no route did and did not match."""
    config = parse(ROUTING)
    seen, found = trace(config, attributes), resolve(config, attributes)
    assert set(seen.gave.values()) == set(found.receivers if found.reason == RULE_MATCHED else ())
    assert not seen.matched & set(seen.passed)
    assert all(seen.passed.values())


def test_what_receivers_would_get_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of their templates; those that do not fit are told, and are the exit code."""
    file, notification = tmp_path / "routing.yaml", tmp_path / "notification.yaml"
    text = """\
route: {receiver: ops}
receivers:
- name: ops
  templates: {subject: "%s"}
  slackConfigs: [{credentialRef: a}]
  pagerdutyConfigs: [{credentialRef: b}]
  teamsConfigs: [{credentialRef: c}]
  webhookConfigs: [{url: https://w.example}]
  emailConfigs: [{to: a@example.org, from: b@example.org, smarthost: m.example.org}]
"""
    file.write_text(text % "{{ upper(subject) }}")
    notification.write_text(
        "{apiVersion: kubernaut.ai/v1alpha1, kind: NotificationRequest, metadata: {name: n, namespace: x},"
        " spec: {type: Simple, priority: Low, subject: Disk, body: full}}"
    )
    arguments = [
        "routes",
        "test",
        "--routing",
        str(file),
        "--notification",
        str(notification),
        "--render",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("DISK") == 5
    assert "slack:ops:\n{" in out
    file.write_text(text % "{{ upper(links) }}")
    assert main([*arguments, "-o", "json"]) == 1
    shown = json.loads(capsys.readouterr().out)["rendered"]
    assert shown["slack:ops"]["problem"].startswith("subject: the expression upper(links)")
    assert shown["slack:ops"]["payload"]["blocks"][0]["text"]["text"].endswith("Disk")
    assert main(["routes", "test", "--routing", str(file), "--render"]) == 2
