"""Each command of docs/on-call.md is run on real servers, and answers as the page shows."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.e2e.harness import BUSY, OK, Stage, Step, until
from tests.integration.api import notification
from tests.integration.operating import NO_SWEEPS, Operator, owner, waiting

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

PAGE: Final = ROOT / "docs" / "on-call.md"
SLOW: Final[dict[str, Any]] = {
    "maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300,
}  # fmt: skip


#: Commands that are about one notification, or about holds.
_ALONE: Final = ("explain", "resolve", "hold")


#: What is another each time, and what stands for it.
_VARIES: Final = {
    r"\b[0-9a-f]{8}-[-0-9a-f]{27}\b": "UID",
    r"hold-[0-9a-f]{8}": "HOLD",
    r"sha256 [0-9a-f]{8}": "DIGEST",
    r"\d+(?:\.\d+)?(?: (?:second|minute|hour)s?|ms|[smhd]\b)": "TIME",
    r"[\d-]+[T ]?[\d:.]{7,}Z?(?: UTC)?": "MOMENT",
    r"https?://[\d.:]+": "ADDRESS",
    r"(?<=alive: )\S+": "REPLICA",
    r"\d+": "N",
}


def alike(text: str, namespace: str = "payments") -> list[str]:
    """The lines of an answer without what is another each time: numbers, times, names of processes."""
    text = text.replace(namespace, "payments")
    for pattern, word in _VARIES.items():
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def questions() -> list[list[str]]:
    """Each command of the page, with the lines of its answer behind it."""
    lines = [line for block in blocks(PAGE) for line in block.lines]
    starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
    return [lines[a:b] for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]


async def test_each_question_is_answered(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten questions on data of an evening on which the receiver failed; each answer is the page's."""
    operator = Operator(here, capsys)
    process = here.notifier(sync=NO_SWEEPS)
    here.script("Backup failed", Step(400, "no such channel"))
    here.script("Disk full on db-3", BUSY)
    here.script("Certificate expires", Step(drop="after"))
    here.script("Queue grows", BUSY, OK)
    async with owner(process):
        for name, subject, severity, phase, more in (
            ("queue-grows", "Queue grows", "warning", "Sent", {}),
            ("backup-failed", "Backup failed", "critical", "Failed", {}),
            (
                "certificate",
                "Certificate expires",
                "critical",
                "Sending",
                {"retryPolicy": SLOW},
            ),
            ("db-full", "Disk full on db-3", "critical", "Sending", {"retryPolicy": SLOW}),
        ):
            uid = await here.create(name, subject=subject, severity=severity, **more)
            await here.wait_phase(uid, phase)
            if phase == "Sending":
                await waiting(here, name, uid)
        document = notification("deploy-done", subject="Deploy done", severity="info")
        document["metadata"]["annotations"] = {"notification-ledger/hold": "until Monday"}
        reply = await here.api.ask("POST", here.api.requests, document)
        await here.wait_phase(reply.body["metadata"]["uid"], "Sending")
        unsynced = ("list", "-o", "json", "-n", here.namespace, "--state", "unsynced")

        async def settled() -> bool:
            return not (await operator.run(*unsynced, config=str(process._config))).lines

        await until(settled, "everything is published")
        found, shown, page = [], [], ""
        for command, *wanted in questions():
            words = shlex.split(command.removeprefix("$ kubectl ledger"))
            words = [w.replace("payments", here.namespace) for w in words]
            scope = ["-n", here.namespace] if words[0] not in _ALONE else []
            by = ["--by", "sam"] if {"--reason", "--failed"} & {*words} else []
            answer = await operator.run(*words, *scope, *by, config=str(process._config))
            said = answer.out + answer.err.replace("syncer: ", "")
            page += "\n".join(["", command, *said.splitlines()]).replace(here.namespace, "payments")
            # Newest first, by the second: which of them share one differs.
            order = sorted if words[0] == "list" else list
            found.append([command, *order(alike(said, here.namespace))])
            shown.append([command, *order(alike("\n".join(wanted)))])
    assert len(found) >= 10
    assert found == shown, page
