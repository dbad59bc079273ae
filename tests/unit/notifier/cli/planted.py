"""Files with planted mistakes, and what a check finds in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from notifier.cli.main import main

CANARY: Final = "c4n4ry-s3cret"


class Planted(NamedTuple):
    """A mistake, at the mark of its name: how it is found."""

    severity: str
    path: str
    message: str
    fix: str


def checked(
    capsys: pytest.CaptureFixture[str], folder: Path, *words: str, **files: str
) -> tuple[int, dict[str, Any], str]:
    """Exit code, answer and standard error of a check of these files."""
    named: list[str] = []
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
        named += [f"--{name}", str(path)]
    code = main(["check", *named, *words, "-o", "json"])
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err
    return code, json.loads(printed.out), printed.err


def line_of(text: str, mark: str) -> int:
    """The line with a mark."""
    (line,) = [n for n, line in enumerate(text.splitlines(), 1) if f"#{mark}" in line.split()]
    return line


def found_at(answer: dict[str, Any], line: int, planted: Planted) -> list[dict[str, Any]]:
    """Findings that say what is said of a planted mistake."""
    return [
        f
        for f in answer["findings"]
        if (f["severity"], f["path"], f["line"]) == (planted.severity, planted.path, line)
        and planted.message in f["message"]
        and planted.fix in f["fix"]
    ]


#: What the replaced controller's chart makes of its values, with the two lines that ours needs.
SHIPPED_SETTINGS: Final = """\
controller:
  metricsAddr: ":9090"
  healthProbeAddr: ":8081"
  leaderElection: false
  leaderElectionId: "notification.kubernaut.ai"
delivery:
  console: {enabled: true}
  file: {outputDir: /tmp/notifications, format: json, timeout: 5s}
  log: {enabled: true, format: json}
  slack: {timeout: 10s}
  credentials: {dir: /etc/notification/credentials}
datastorage:
  url: "https://data-storage-service:8080"
  timeout: 10s
  buffer: {bufferSize: 10000, batchSize: 100, flushInterval: 1s, maxRetries: 3}
redis:
  url: rediss://redis:6379
"""


SHIPPED_ROUTING: Final = {
    "with Slack": """\
route:
  receiver: slack-and-console
receivers:
  - name: slack-and-console
    consoleConfigs:
      - enabled: true
    slackConfigs:
      - channel: "#kubernaut-alerts"
        credentialRef: slack-webhook
""",
    "without": """\
route:
  receiver: default-console
receivers:
  - name: default-console
    consoleConfigs:
      - enabled: true
""",
}
