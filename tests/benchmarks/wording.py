"""
What templates cost: the six examples of `docs/templates.md`, rendered for 10 and for 100 alerts.

The slowest example counts. A message is composed, and made a request of Slack's, with templates and without
in turns, so that the machine's noise falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final

import orjson
import yaml

from notifier.channels.slack import slack_payload
from notifier.content.message import compose
from notifier.content.wording import view_of, worded
from notifier.templates.wording import PAYLOADS, wording_of
from syncer.model.incident import DATA
from syncer.model.resource import Json
from tests.benchmarks.report import Report
from tests.docs.template_examples import EXAMPLES, notification, one

_KINDS: Final = {payload: kind for kind, payload in PAYLOADS.items()}


def _view(alerts: int) -> Json:
    """What templates see of so many alerts, twice as many as the gateway hands on."""
    text = "disk is 97 % full & growing"
    listed = [one(f"db-{n}", summary=text, runbook_url="https://r/d") for n in range(alerts)]
    return {**view_of(compose(notification(), "slack:x", "a")), "alerts": listed}


def _ms(made: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        made()
    return (time.process_time() - began) / times * 1000


def _rendered(parts: list[Any], view: Json) -> list[Any]:
    return [part.render(view) for part in parts]


async def run(*, quick: bool) -> Report:
    """Measure rendering alone, and a message with and without templates."""
    report, rounds = Report("wording"), 5 if quick else 15
    report.notes.append("CPU of one process; alerts with four labels and two annotations")
    templates = [
        (title, _KINDS.get(name, "slack"), {name: source})
        for title, text, _ in EXAMPLES
        for name, source in yaml.safe_load(text).items()
    ]
    for alerts in (10, 100):
        view, slowest = _view(alerts), list[float]()
        for title, kind, source in templates:
            wording = wording_of(kind, source)
            parts: list[Any] = [*wording.texts.values(), *filter(None, [wording.payload])]
            found = [_ms(partial(_rendered, parts, view), 20) for _ in range(rounds)]
            report.add(f"{alerts} alerts: {title}", "ms", found)
            slowest = max(slowest, found, key=lambda each: median(each or [0.0]))
        report.add(f"{alerts} alerts: the slowest example", "ms", slowest)
    body = wording_of("slack", next(source for _, _, source in templates if "body" in source))
    document = notification()
    assert orjson.loads(document["spec"]["extensions"][DATA])["alerts"]

    def usual() -> object:
        return slack_payload(compose(document, "slack:x", "a"))

    def own() -> object:
        return slack_payload(worded(compose(document, "slack:x", "a"), body))

    pairs = [(_ms(usual, 50), _ms(own, 50)) for _ in range(rounds)]
    report.add("message of three alerts", "ms", [a for a, _ in pairs])
    report.add("message of three alerts, with templates / without", "", [b / a for a, b in pairs])
    return report
