"""Files are checked as a whole: every planted mistake is found, with its line and what to do."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Final

import pytest

from notifier.cli.main import main
from tests.unit.notifier.cli.planted import (
    CANARY,
    SHIPPED_ROUTING,
    SHIPPED_SETTINGS,
    Planted,
    checked,
    found_at,
    line_of,
)

#: What a file says, with a mark behind each line that has a mistake.
SETTINGS: Final = f"""\
logging: {{level: LOUD}}                                #s-level
controller:
  metricsAdr: ":9090"                                 #s-unknown
  leaderElection: true                                #s-election
  namespaces: [Prod]                                  #s-namespace
delivery:
  guarantee: exactlyOnce                              #s-guarantee
  ratePerSecond: -1                                   #s-bound
  slack: {{timeout: 10 seconds}}                        #s-duration
  log: {{enabled: "yes"}}                               #s-boolean
  file: 5                                             #s-group
datastorage:                                          #s-required
  timeout: 10s
redis:
  url: redis://user:{CANARY}@redis.example:6379       #s-password
  keyPrefix: "a:b"                                    #s-prefix
sharding:
  shards: 5                                           #s-constant
egress:
  mode: strict
  mode: operator                                      #s-twice
"""
IN_SETTINGS: Final[dict[str, Planted]] = {
    "s-level": Planted("error", "logging.level", "must be 'DEBUG'", "DEBUG or INFO or WARN"),
    "s-unknown": Planted(
        "error", "controller.metricsAdr", "did you mean metricsAddr?", "write metricsAddr instead"
    ),
    "s-namespace": Planted(
        "error", "controller.namespaces", "no namespace can have", "list of strings"
    ),
    "s-guarantee": Planted("error", "delivery.guarantee", "must be", "atLeastOnce or atMostOnce"),
    "s-bound": Planted("error", "delivery.ratePerSecond", "greater than", "≥ 0, ≤ 100,000"),
    "s-duration": Planted(
        "error", "delivery.slack.timeout", "must be a duration", "the default is 10s"
    ),
    "s-boolean": Planted(
        "error", "delivery.log.enabled", "must be true or false", "boolean; the default"
    ),
    "s-group": Planted("error", "delivery.file", "must be a mapping", "keys below it"),
    "s-required": Planted("error", "datastorage.url", "is required", "add it: datastorage"),
    "s-password": Planted("warning", "redis.url", "holds a password", "redis.passwordFile"),
    "s-prefix": Planted("error", "redis.keyPrefix", "must hold no `:`", "the default is nl"),
    "s-constant": Planted("error", "sharding.shards", "unknown and ignored", "remove it"),
    "s-twice": Planted("error", "egress.mode", "is written twice", "keep one"),
}

ROUTING: Final = f"""\
route:
  receiver: default
  match: {{severity: low}}                              #r-root
  routes:
    - match: {{priority: critical}}                     #r-case
      receiver: pager
    - match: {{severty: high}}                          #r-attribute
      receiver: pager
    - match: {{spec.phase: waiting}}                    #r-place
      receiver: pager
    - match: {{body: help}}                             #r-unseen
      receiver: pager
    - match: {{review-source: aianalysis}}              #r-sometimes
      receiver: pager
    - match: {{team: db}}
      receiver: pagr                                  #r-receiver
    - matchRe: {{team: "^(db"}}                         #r-pattern
      receiver: pager
    - matchRe: {{team: web}}                            #r-anchor
      receiver: pager
    - match: {{severity: critical}}
      receiver: pager
      routes:
        - match: {{severity: high}}                     #r-contradiction
          receiver: chat
        - matchRe: {{severity: ^w}}                     #r-never-found
          receiver: chat
    - match:                                          #r-shadow
        severity: critical
        team: mobile
      receiver: chat
    - match: {{team: ops}}                              #r-nobody
    - matchers: ["team=x"]                            #r-matchers
      receiver: chat
    - receiver: chat                                  #r-behind
    -                                                 #r-null
receivers:
  - name: default
    consoleConfigs: [{{enabled: false}}]                #r-enabled
  - name: pager
    pagerdutyConfigs:
      - serviceKey: {CANARY}                          #r-key #r-no-credential
  - name: chat
    slackConfigs: [{{credentialRef: chat-url}}]         #c-missing
    teamsConfigs: [{{credentialRef: teams-url}}]        #c-no-url
    webhookConfigs:
      - url: http://hooks.example/x
        httpConfig: {{bearerTokenRef: token}}           #r-in-clear #c-empty
      - url: https://hooks.slack.com/services/x       #r-secret-url
      - url: hooks.example                            #r-no-url
        httpConfig: {{bearerToken: {CANARY}}}     #r-token
      - url: http://u:{CANARY}@hooks.example/x      #r-user
        httpConfig:
          basicAuth: {{username: u, password: {CANARY}}}  #r-basic
          credentialsOverHttp: true                   #r-allowed-in-clear
  - name: nobody                                      #r-unused
    slackConfig: [{{credentialRef: chat-url}}]          #r-kind
  - name: silent
    fileConfigs: [{{}}]                                 #r-switched-off
  - consoleConfigs: [{{enabled: true}}]                 #r-name
  - name: team
    allowedNamespaces: [Team_A]                       #r-allowed
    emailConfigs: [{{to: ops, from: a@b.c, smarthost: m}}]  #r-mail
"""
IN_ROUTING: Final[dict[str, Planted]] = {
    "r-root": Planted("warning", "route.match", "no effect on the root", "a route below"),
    "r-case": Planted(
        "warning", "route.routes[0].match.priority", "did you mean Critical?", "write Critical"
    ),
    "r-attribute": Planted(
        "error", "route.routes[1].match.severty", "did you mean severity?", "write severity"
    ),
    "r-place": Planted(
        "warning", "route.routes[2].match.spec.phase", "named without their place, as phase", "see"
    ),
    "r-unseen": Planted(
        "warning", "route.routes[3].match.body", "is not an attribute", "routing sees"
    ),
    "r-sometimes": Planted(
        "warning", "route.routes[4].match.review-source", "did you mean AIAnalysis?", "AIAnalysis"
    ),
    "r-receiver": Planted(
        "error", "route.routes[5].receiver", "'pagr' not found", "write pager instead"
    ),
    "r-pattern": Planted("error", "route.routes[6].matchRe.team", "missing )", "a pattern of RE2"),
    "r-anchor": Planted("warning", "route.routes[7].matchRe.team", "not anchored", "write ^"),
    "r-contradiction": Planted(
        "warning", "route.routes[8].routes[0].match.severity", "match nothing", "put it beside"
    ),
    "r-never-found": Planted(
        "warning",
        "route.routes[8].routes[1].matchRe.severity",
        "not found in",
        "change the pattern",
    ),
    "r-shadow": Planted(
        "warning", "route.routes[9]", "never reached: routes[8]", "put it before routes[8]"
    ),
    "r-nobody": Planted("warning", "route.routes[10]", "names no receiver", "add receiver"),
    "r-matchers": Planted(
        "error", "route.routes[11].matchers", "is unknown", "write match: {attribute: value}"
    ),
    "r-behind": Planted("warning", "route.routes[12]", "matches everything", "put it before"),
    "r-null": Planted("error", "route.routes[13]", "empty child route", "remove the dash"),
    "r-enabled": Planted(
        "warning", "receivers[0].consoleConfigs[0].enabled", "no effect", "remove the entry"
    ),
    "r-key": Planted(
        "error", "receivers[1].pagerdutyConfigs[0].serviceKey", "unknown", "credentialRef"
    ),
    "r-no-credential": Planted(
        "error", "receivers[1].pagerdutyConfigs[0]", "names no credential", "add credentialRef"
    ),
    "r-in-clear": Planted(
        "error", "receivers[2].webhookConfigs[0].httpConfig", "sent over http://", "use https://"
    ),
    "r-secret-url": Planted(
        "warning", "receivers[2].webhookConfigs[1].url", "is a secret", "credentialRef"
    ),
    "r-no-url": Planted(
        "warning", "receivers[2].webhookConfigs[2].url", "is not a usable URL", "https://"
    ),
    "r-token": Planted(
        "warning",
        "receivers[2].webhookConfigs[2].httpConfig.bearerToken",
        "token",
        "bearerTokenRef",
    ),
    "r-user": Planted(
        "warning", "receivers[2].webhookConfigs[3].url", "holds a user or password", "passwordRef"
    ),
    "r-basic": Planted(
        "warning",
        "receivers[2].webhookConfigs[3].httpConfig.basicAuth.password",
        "is the password itself",
        "passwordRef",
    ),
    "r-allowed-in-clear": Planted(
        "warning",
        "receivers[2].webhookConfigs[3].httpConfig.credentialsOverHttp",
        "readable on the network",
        "use https://",
    ),
    "r-unused": Planted("warning", "receivers[3]", "gets nothing", "add a route"),
    "r-kind": Planted(
        "error", "receivers[3].slackConfig", "did you mean slackConfigs?", "slackConfigs"
    ),
    "r-switched-off": Planted(
        "error", "receivers[4].fileConfigs", "never delivered", "delivery.file.outputDir"
    ),
    "r-name": Planted("error", "receivers[5].name", "cannot be empty", "write name"),
    "r-allowed": Planted(
        "error", "receivers[6].allowedNamespaces", "neither the name", "name of a namespace"
    ),
    "r-mail": Planted(
        "error", "receivers[6].emailConfigs[0].to", "not an address", "separated by commas"
    ),
    "c-missing": Planted(
        "error", "receivers[2].slackConfigs[0].credentialRef", "no such file", "chat-url"
    ),
    "c-no-url": Planted(
        "error", "receivers[2].teamsConfigs[0].credentialRef", "is not a URL", "whole URL"
    ),
    "c-empty": Planted(
        "error", "receivers[2].webhookConfigs[0].httpConfig.bearerTokenRef", "empty", "token"
    ),
}
#: What follows from a mistake above and is said, too.
ALSO: Final = {
    "receivers[3]", "receivers[4]", "receivers[5]", "receivers[6]", "receivers[2].webhookConfigs[2]",
}  # fmt: skip
#: A file of settings for the routing file: that above cannot be used.
SWITCHES: Final = (
    "redis: {url: redis://h}\ndelivery: {webhook: {enabled: true}, email: {enabled: true}}\n"
)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A directory of credentials, with mistakes in it."""
    place = tmp_path / "credentials"
    place.mkdir()
    for name, text in {"teams-url": CANARY, "token": "\n", "stray": "x\ny", "open": CANARY}.items():
        (place / name).write_text(text)
        (place / name).chmod(0o600)
    (place / "open").chmod(0o644)
    return place


def test_planted_mistakes_in_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each is found at its line, with what to do; nothing else is."""
    code, answer, _ = checked(capsys, tmp_path, config=SETTINGS)
    missed = {
        mark: [f for f in answer["findings"] if f["line"] == line_of(SETTINGS, mark)]
        for mark, planted in IN_SETTINGS.items()
        if len(found_at(answer, line_of(SETTINGS, mark), planted)) != 1
    }
    assert missed == {}
    assert code == 1
    known = {planted.path for planted in IN_SETTINGS.values()}
    assert [f for f in answer["findings"] if f["path"] not in known] == []


def test_planted_mistakes_in_routing_and_credentials(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """Each is found at its line, with what to do; what is said beyond them follows from one of them."""
    code, answer, _ = checked(
        capsys, tmp_path, "--credentials", str(credentials), config=SWITCHES, routing=ROUTING
    )
    missed = {
        mark: [f for f in answer["findings"] if f["line"] == line_of(ROUTING, mark)]
        for mark, planted in IN_ROUTING.items()
        if len(found_at(answer, line_of(ROUTING, mark), planted)) != 1
    }
    assert missed == {}
    assert code == 1
    known = {planted.path for planted in IN_ROUTING.values()} | ALSO
    routing = str(tmp_path / "routing.yaml")
    assert [f for f in answer["findings"] if f["path"] not in known and f["file"] == routing] == []
    files = {f["file"]: f["message"] for f in answer["findings"] if f["file"] != routing}
    assert files == {
        f"{credentials}/stray": "is not used: holds a line break or control character",
        f"{credentials}/open": "can be read by every user of this machine",
    }


def test_thirty_and_more_are_planted() -> None:
    """None of the marks is left over."""
    assert len(IN_SETTINGS) + len(IN_ROUTING) >= 30
    marks = {word[1:] for text in (SETTINGS, ROUTING) for word in text.split() if word[0] == "#"}
    assert marks - {"s-election"} == {*IN_SETTINGS, *IN_ROUTING}


def test_more_is_said_of_settings_that_can_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What has no effect is a warning: it ends with 0."""
    text = (
        "redis: {url: 'rediss://h?ssl_cert_reqs=none'}\ncontroller:\n  leaderElection: true\n"
        "egress:\n  allow: [10.0.0.0/8]\n"
    )
    code, answer, _ = checked(capsys, tmp_path, config=text)
    assert [(f["path"], f["line"]) for f in answer["findings"]] == [
        ("redis.url", 1), ("controller.leaderElection", 3), ("egress.allow", 5),
    ]  # fmt: skip
    assert (code, answer["errors"], answer["warnings"]) == (0, 0, 3)


def test_what_follows_from_an_error_is_not_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pattern that is none takes nothing from others and contradicts nothing; a name is named once."""
    routing = (
        "route: {receiver: a, routes: [{match: {type: Simple}, matchRe: {type: '(x'}, receiver: a},"
        " {matchRe: {team: '(y'}, receiver: a}, {match: {team: z}, receiver: a}]}\n"
        "receivers: [{name: a, logConfigs: [{}]}, {name: b, logConfigs: [{}]},"
        " {name: b, logConfigs: [{}]}]\n"
    )
    _, answer, _ = checked(capsys, tmp_path, routing=routing)
    assert [(f["severity"], f["path"]) for f in answer["findings"]] == [
        ("error", "route.routes[0].matchRe.type"), ("error", "route.routes[1].matchRe.team"),
        ("warning", "receivers[1]"), ("warning", "receivers[2]"),
    ]  # fmt: skip
    assert [f["message"] for f in answer["findings"][2:]] == [
        "is not used: a later receiver has the same name", "gets nothing: no route names it",
    ]  # fmt: skip


def test_a_receiver_is_found_by_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its entry may begin with its channels, lines before."""
    entries = "- name: a\n  logConfigs: [{}]\n- logConfigs: [{}]\n  name: b\n"
    routing = f"route: {{receiver: a}}\nreceivers:\n{entries}"
    _, answer, _ = checked(capsys, tmp_path, routing=routing)
    assert [(f["path"], f["line"]) for f in answer["findings"]] == [("receivers[1]", 6)]


def test_settings_of_this_machine_are_not_those_of_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names a routing file alone has it checked alone, whatever else there is."""
    other = tmp_path / "other.yaml"
    other.write_text("redis: 5")
    monkeypatch.setattr("notifier.cli.files.SETTINGS_FILES", (str(other),))
    code, answer, said = checked(capsys, tmp_path, routing=SHIPPED_ROUTING["without"])
    assert (code, answer["findings"]) == (0, [])
    assert said == "notifier: the settings file is not checked: name it with --config\n"


def test_a_password_without_tls_is_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Within a cluster that is usual; to this machine, or by TLS, it is nothing at all."""
    (tmp_path / "password").write_text("p")
    for url, noted in (
        ("redis://u@redis:6379", True), ("rediss://u@redis", False), ("redis://u@127.0.0.1", False),
        ("unix:///run/redis.sock", False), ("redis+sentinel://u@a:1,127.0.0.1:2/s", True),
    ):  # fmt: skip
        text = f"redis:\n  url: {url}\n  passwordFile: {tmp_path}/password\n"
        _, answer, _ = checked(capsys, tmp_path, config=text)
        assert [f["line"] for f in answer["findings"]] == ([2] if noted else []), url


#: Files of secrets that contradict the rest, and what is said.
SECRETS: Final[dict[str, tuple[str, str, str]]] = {
    "a URL beside a file with one": (
        "redis: {url: redis://h, urlFile: FILE}", "redis.urlFile", "must not be set beside redis.url",
    ),
    "an empty file": ("redis: {url: redis://h, passwordFile: EMPTY}", "redis.passwordFile", "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", SECRETS)
def test_a_file_of_a_secret_that_cannot_be_used(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is an error here, too, and the rest is checked all the same."""
    text, path, message = SECRETS[case]
    (tmp_path / "file").write_text(f"redis://:{CANARY}@h")
    (tmp_path / "empty").write_text("\n")
    text = text.replace("FILE", str(tmp_path / "file")).replace("EMPTY", str(tmp_path / "empty"))
    code, answer, _ = checked(capsys, tmp_path, config=f"{text}\nsharding: {{leaseNam: x}}\n")
    assert code == 1
    found = {f["path"]: f["message"] for f in answer["findings"]}
    assert message in found[path]
    assert "sharding.leaseNam" in found


@pytest.mark.parametrize("case", SHIPPED_ROUTING)
def test_what_the_replaced_controller_ships_has_no_findings(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """Not one; that the channel of a Slack entry has no effect is no slip."""
    for path in credentials.iterdir():
        path.unlink()
    (credentials / "slack-webhook").write_text("https://hooks.slack.com/services/x\n")
    (credentials / "slack-webhook").chmod(0o600)
    files = {"config": SHIPPED_SETTINGS, "routing": SHIPPED_ROUTING[case]}
    words = ("--credentials", str(credentials))
    code, answer, said = checked(capsys, tmp_path, *words, **files)
    assert (code, answer["findings"], said) == (0, [], "")


#: What is wrong with a whole file, and what is said.
WHOLE: Final[dict[str, tuple[str, str, int | None, str]]] = {
    "settings that are no YAML": ("config", "a: [1\nb: {", 2, "not valid YAML: line 2: "),
    "settings that are a list": ("config", "- 1", 1, "the top level must be a mapping"),
    "no settings at all": ("config", "", None, "neither is the variable REDIS_URL"),
    "routing that is no YAML": ("routing", "route: [\n  a: {", 2, "failed to parse YAML: line"),
    "routing without a route": ("routing", "receivers: [{name: x}]\n", None, "is required"),
    "routing without receivers": ("routing", "route: {}\n", None, "at least one receiver"),
    "empty routing": ("routing", " \n", 1, "is empty: everything goes to the console"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_file_that_is_wrong_as_a_whole(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The line where there is one, and what to do."""
    name, text, line, message = WHOLE[case]
    _, answer, _ = checked(capsys, tmp_path, **{name: text})
    found = [f for f in answer["findings"] if message in f["message"]]
    assert [f["line"] for f in found] == [line], answer
    assert found[0]["fix"]


def test_a_required_key_that_is_there_need_not_be_added(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its value is of the wrong kind; that is another fix than for a missing one."""
    _, answer, _ = checked(capsys, tmp_path, config="redis: {url: [1]}\n")
    (found,) = [f for f in answer["findings"] if f["path"] == "redis.url"]
    assert found["fix"] == "see docs/configuration.md for what it takes"
    _, answer, _ = checked(capsys, tmp_path, config="redis: {}\n")
    (found,) = [f for f in answer["findings"] if f["path"] == "redis.url"]
    assert found["fix"].startswith("add it")


def test_files_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Files that are named must be there; nothing named and no pod is wrong usage."""
    code = main(["check", "--config", str(tmp_path / "a"), "--routing", str(tmp_path / "b")])
    printed = capsys.readouterr().out
    assert code == 1
    assert printed.count("cannot read") == 2
    assert main(["check"]) == 2
    assert "name a file: --config FILE" in capsys.readouterr().err


def test_what_is_not_looked_at_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Files of secrets and credentials are not on a laptop; that is no finding, and it is said."""
    settings = "redis: {url: redis://h, passwordFile: /nowhere/password}\n"
    code, answer, said = checked(
        capsys, tmp_path, config=settings, routing=SHIPPED_ROUTING["with Slack"]
    )
    assert (code, answer["findings"]) == (0, [])
    assert said == (
        "notifier: redis.passwordFile is not checked: its file does not exist here\n"
        "notifier: credentials are not checked: /etc/notification/credentials does not exist here\n"
    )
    assert len(answer["not_looked_at"]) == 2


def test_in_its_pod_everything_is_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are found without options there, and what is missing is an error."""
    account = tmp_path / "namespace"
    account.write_text("ns")
    monkeypatch.setattr("notifier.cli.files.NAMESPACE_FILE", account)
    (tmp_path / "config.yaml").write_text(
        f"redis: {{url: redis://h, passwordFile: {tmp_path}/password}}\n"
        f"delivery: {{credentials: {{dir: {tmp_path}/gone}}}}\n"
    )
    (tmp_path / "routing.yaml").write_text(SHIPPED_ROUTING["with Slack"])
    monkeypatch.setattr(
        "notifier.cli.files.SETTINGS_FILES", (str(tmp_path / "no"), str(tmp_path / "config.yaml"))
    )
    monkeypatch.setenv("ROUTING_CONFIG_PATH", str(tmp_path / "routing.yaml"))
    assert main(["check", "-o", "json"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    found = [(f["file"], f["path"], f["line"]) for f in json.loads(printed.out)["findings"]]
    assert found == [
        (str(tmp_path / "config.yaml"), "redis.passwordFile", 1), (str(tmp_path / "gone"), "", None),
    ]  # fmt: skip


def test_a_file_that_the_environment_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked beside settings that an option names; an option for it counts before."""
    (tmp_path / "good").write_text(
        "route: {receiver: a}\nreceivers: [{name: a, consoleConfigs: [{}]}]\n"
    )
    monkeypatch.setenv("ROUTING_CONFIG_PATH", str(tmp_path / "gone"))
    _, answer, said = checked(capsys, tmp_path, config="redis: {url: redis://localhost}\n")
    assert ([f["file"] for f in answer["findings"]], said) == ([str(tmp_path / "gone")], "")
    assert main(["check", "--routing", str(tmp_path / "good")]) == 0


def test_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line that editors and CI can jump to, the fix below it, and the counts."""
    path = tmp_path / "routing.yaml"
    path.write_text("route: {receiver: a}\nreceivers:\n  - name: a\n    logConfig: [{}]\n")
    assert main(["check", "--routing", str(path)]) == 1
    assert capsys.readouterr().out == textwrap.dedent(f"""\
        {path}:3: warning: receivers[0]: configures nothing: it delivers to the console
            fix: add a list such as slackConfigs, or consoleConfigs: [{{enabled: true}}] if it is meant
        {path}:4: error: receivers[0].logConfig: is unknown and ignored: did you mean logConfigs?
            fix: write logConfigs instead
        1 error, 1 warning
        """)


def test_a_volume_of_the_kubelet_may_be_read_by_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """Its files are the pod's alone, whatever their mode."""
    shutil.rmtree(credentials)
    real = credentials / "..2026"
    real.mkdir(parents=True)
    (real / "slack-webhook").write_text("https://h/x")
    (real / "slack-webhook").chmod(0o444)
    (credentials / "..data").symlink_to(real.name)
    (credentials / "slack-webhook").symlink_to("..data/slack-webhook")
    words = ("--credentials", str(credentials))
    code, answer, _ = checked(capsys, tmp_path, *words, routing=SHIPPED_ROUTING["with Slack"])
    assert (code, answer["findings"]) == (0, [])


CREDENTIALS: Final[dict[str, tuple[str, str, str, str]]] = {
    "a URL for PagerDuty": ("pagerdutyConfigs: [{credentialRef: c}]", "https://h/x", "error", "no"),
    "a key of two words": ("pagerdutyConfigs: [{credentialRef: c}]", "a b", "error", "not a routing"),
    "a URL in the clear": ("slackConfigs: [{credentialRef: c}]", "http://h/x", "warning", "http:"),
    "a token over http": (
        "webhookConfigs: [{credentialRef: c, httpConfig: {bearerTokenRef: d}}]", "http://h/x",
        "error", "token or password would be sent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CREDENTIALS)
def test_a_credential_that_cannot_be_one(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """What is in a file is compared with what its channel needs, and not shown."""
    entry, value, severity, message = CREDENTIALS[case]
    for name, text in {"c": value, "d": CANARY}.items():
        (credentials / name).write_text(text)
        (credentials / name).chmod(0o600)
    routing = f"route: {{receiver: a}}\nreceivers:\n  - name: a\n    {entry}\n"
    words = ("--credentials", str(credentials))
    _, answer, _ = checked(capsys, tmp_path, *words, config=SWITCHES, routing=routing)
    found = [f for f in answer["findings"] if message in f["message"]]
    assert severity in {f["severity"] for f in found}


def test_a_credential_that_two_entries_name_is_looked_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """A file that everybody can read is one mistake, however many places name it."""
    (credentials / "open").write_text("https://h/x")
    for times in (1, 3):
        slack = f"slackConfigs: [{', '.join(['{credentialRef: open}'] * times)}]"
        routing = f"route: {{receiver: a}}\nreceivers:\n  - name: a\n    {slack}\n"
        _, answer, _ = checked(capsys, tmp_path, "--credentials", str(credentials), routing=routing)
        said = [f for f in answer["findings"] if "read by every user" in f["message"]]
        assert [f["fix"] for f in said] == [f"chmod 600 {credentials / 'open'}"]


#: The option, the file, and what to do about it.
UNREAD: Final = {
    "settings in Latin-1": ("--config", b"a: \xff\n", "save it in UTF-8"),
    "routing in Latin-1": ("--routing", b"a: \xff\n", "save it in UTF-8"),
    "a gateway's file in Latin-1": ("--gateway", b"a: \xff\n", "save it in UTF-8"),
    "settings that are not there": ("--config", None, "name a readable file with --config"),
    "routing that is not there": (
        "--routing",
        None,
        "name a readable file with --routing or $ROUTI",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_a_file_that_cannot_be_read_is_given_its_fix(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the folder is called has no say in it."""
    option, content, fix = UNREAD[case]
    file = tmp_path / "é, not UTF-8" / "file.yaml"
    file.parent.mkdir()
    if content is not None:
        file.write_bytes(content)
    assert main(["check", option, str(file)]) == 1
    assert f"    fix: {fix}" in capsys.readouterr().out
