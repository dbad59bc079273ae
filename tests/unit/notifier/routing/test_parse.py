"""What is said of a routing file: of every place in it, with its line."""

from __future__ import annotations

from typing import Final

import pytest

from notifier.routing.document import MAX_TEXT
from notifier.routing.parse import examine
from syncer.model.finding import Severity
from tests.docs.routing import MAPPINGS

NATIVE: Final = frozenset({"email", "webhook"})
#: A file with every kind of mapping; a line of its own for each.
FILE: Final = """\
route:
  receiver: a
  routes:
    - receiver: a
      match: {team: db}
    - receiver: local
receivers:
  - name: a
    allowedNamespaces:
      - payments
    slackConfigs:
      - credentialRef: s
    pagerdutyConfigs:
      - credentialRef: p
    teamsConfigs:
      - credentialRef: t
    emailConfigs:
      - to: a@example.com
        from: b@example.com
        smarthost: mail.example.com
    webhookConfigs:
      - url: https://example.com/hook
        signingSecretRefs:
          - old
          - new
        httpConfig:
          basicAuth:
            username: u
            passwordRef: w
    templates:
      subject: x
  - name: local
    consoleConfigs:
      - enabled: true
    fileConfigs:
      - enabled: true
    logConfigs:
      - enabled: true
"""
#: A mapping, the line behind which a key is put, and its path.
PLACES: Final = {
    "file": ("route:", ""),
    "route": ("    - receiver: a", "route.routes[0]"),
    "receiver": ("  - name: a", "receivers[0]"),
    "templates": ("      subject: x", "receivers[0].templates"),
    "slackConfigs": ("      - credentialRef: s", "receivers[0].slackConfigs[0]"),
    "pagerdutyConfigs": ("      - credentialRef: p", "receivers[0].pagerdutyConfigs[0]"),
    "teamsConfigs": ("      - credentialRef: t", "receivers[0].teamsConfigs[0]"),
    "emailConfigs": ("      - to: a@example.com", "receivers[0].emailConfigs[0]"),
    "webhookConfigs": ("      - url: https://example.com/hook", "receivers[0].webhookConfigs[0]"),
    "httpConfig": ("        httpConfig:", "receivers[0].webhookConfigs[0].httpConfig"),
    "basicAuth": ("          basicAuth:", "receivers[0].webhookConfigs[0].httpConfig.basicAuth"),
    "consoleConfigs": (
        "    consoleConfigs:\n      - enabled: true",
        "receivers[1].consoleConfigs[0]",
    ),
    "fileConfigs": ("    fileConfigs:\n      - enabled: true", "receivers[1].fileConfigs[0]"),
    "logConfigs": ("    logConfigs:\n      - enabled: true", "receivers[1].logConfigs[0]"),
}


def test_a_file_with_everything_is_accepted() -> None:
    """Nothing is said of it, and each place knows its line."""
    config, findings = examine(FILE, native=NATIVE)
    assert findings == ()
    assert config is not None
    assert {(ref, line) for ref, _, _, line in config.references()} == {
        ("s", 12), ("p", 14), ("t", 16), ("old", 24), ("new", 25), ("w", 29),
    }  # fmt: skip


def test_every_child_is_looked_at() -> None:
    """One that is empty hides nothing of those behind it."""
    text = "route: {receiver: a, routes: [~, {receiver: nobody}, ~]}\nreceivers: [{name: a}]"
    _, findings = examine(text, native=NATIVE)
    errors = [f.path for f in findings if f.severity is Severity.ERROR]
    assert errors == ["route.routes[0]", "route.routes[1].receiver", "route.routes[2]"]
    _, findings = examine("route: {receiver: a}\nreceivers: [~, {name: a}, ~]", native=NATIVE)
    errors = [f.path for f in findings if f.severity is Severity.ERROR]
    assert errors == ["receivers[0]", "receivers[2]"]


def test_a_key_that_opens_a_mapping_is_named_by_its_own_line() -> None:
    """Not by the line of what stands below it."""
    config, (finding,) = examine(f"{FILE}global:\n  nonsense: 1\n", native=NATIVE)
    assert config is not None
    assert (finding.path, finding.line) == ("global", FILE.count("\n") + 1)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_key_that_nothing_reads_is_named_everywhere(mapping: str) -> None:
    """With its path and its line, and the file is used all the same."""
    after, path = PLACES[mapping]
    assert FILE.count(f"{after}\n") == 1
    last = after.rpartition("\n")[2]
    indent = len(last) - len(last.lstrip(" -")) + (2 if last.endswith(":") else 0)
    if mapping == "file":
        text, line = f"nonsense: 1\n{FILE}", 1
    else:
        text = FILE.replace(f"{after}\n", f"{after}\n{' ' * indent}nonsense: 1\n")
        line = text.splitlines().index(f"{' ' * indent}nonsense: 1") + 1
    config, findings = examine(text, native=NATIVE)
    assert config is not None
    (finding,) = findings
    assert (finding.severity, finding.path, finding.line) == (
        Severity.WARNING, f"{path}.nonsense".lstrip("."), line,
    )  # fmt: skip


def test_a_pattern_without_measure_is_refused() -> None:
    """Before it is compiled, and the text of the error is short."""
    for size, accepted in ((1_000, True), (100_000, False)):
        text = FILE.replace("match: {team: db}", f"matchRe: {{team: ^{'a' * size}$}}")
        assert len(text) < MAX_TEXT
        _, findings = examine(text, native=NATIVE)
        assert [f.severity for f in findings] == ([] if accepted else [Severity.ERROR])
        if not accepted:
            (finding,) = findings
            assert (finding.path, finding.line) == ("route.routes[0].matchRe.team", 5)
            assert "longer than" in finding.message
            assert len(finding.message) < 500


def test_what_to_do_about_it_is_said() -> None:
    """A key that nobody knows comes with those that are known, a file that cannot be read with a place."""
    _, findings = examine(
        "{route: {receiver: a, qqqqqq: 1}, receivers: [{name: a}]}", native=NATIVE
    )
    fixes = [f.fix for f in findings if "qqqqqq" in f.path]
    assert [fix.partition(" are ")[0] for fix in fixes] == ["remove it; known"]
    assert "matchRe" in fixes[0]
    for text, fix in (
        ("", "see docs/routing.md for the form of the file"),
        ("route: [", "correct the line"),
    ):
        config, (found, *_) = examine(text, native=NATIVE)
        assert (config, found.fix) == (None, fix)
