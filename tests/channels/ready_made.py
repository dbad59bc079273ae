"""The ready-made receivers of `docs/receivers`: their files, and what becomes of a notification by them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from notifier.content.message import compose
from notifier.content.wording import worded
from notifier.contract import Message
from notifier.routing.config import RoutingConfig
from notifier.routing.parse import examine
from notifier.templates.request import Made
from syncer.model.incident import DATA, INCIDENT, STATE
from tests.channels.messages import document
from tests.docs.pages import DOCS

FOLDER: Final = DOCS / "receivers"
NAMES: Final = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def routing(name: str) -> str:
    """A routing file with one of them."""
    text = (FOLDER / f"{name}.yaml").read_text()
    entry = "".join(f"  {line}\n" for line in text.splitlines())
    return f"route: {{receiver: {name}}}\nreceivers:\n-\n{entry}"


def read(name: str) -> RoutingConfig:
    """The file, read without a finding."""
    config, findings = examine(routing(name), native=frozenset({"webhook"}))
    assert findings == ()
    assert config is not None
    return config


CONFIGS: Final = {name: read(name) for name in NAMES}


def alert(instance: str, summary: str, status: str = "firing", url: str = "") -> dict[str, Any]:
    """One as the gateway hands it on."""
    labels = {"alertname": "Disk", "instance": instance}
    return {"status": status, "labels": labels, "annotations": {"summary": summary}, "url": url}


def told(
    state: str = "firing", answer: str = "", text: str = "", *, url: Any = "", links: str = "",
    **spec: Any,
) -> Message:  # fmt: skip
    """A notification of an incident; `text` stands wherever somebody may write."""
    alerts = [
        alert("db-1" + text, "97 % full" + text, "firing" + text, "https://p.example.org/g" + text),
        alert("db-2", "fine" + text, "resolved", url),
    ]
    data = json.dumps({"status": state, "alerts": alerts}, ensure_ascii="\ud800" in text)
    data = data.replace('"nested"', "[" * 1000 + "]" * 1000)
    extensions = {DATA: data, INCIDENT: "gw/am/1", STATE: state, "team" + text: "db" + text}
    target = links or "https://am.example.org/" + text[:500]
    shown = [{"service": "am", "url": target, "label": "Alerts"}]
    made = compose(
        document(
            extensions=extensions, subject="Disk full" + text, body="b" + text, actionLinks=shown,
            severity="page" + text, clusterID="west" + text, **spec,
        ),
        "webhook:x",
        "0.5-1",
        installation="i",
    )  # fmt: skip
    return replace(made, answer=answer)


def made(name: str, message: Message) -> Made:
    """The request that it becomes."""
    wording = CONFIGS[name].targets[f"webhook:{name}"].wording
    assert wording is not None
    words = worded(message, wording).words
    assert words is not None
    found: Made = words.payload
    return found


CASES: Final = {
    "firing": ("firing", ""),
    "firing again": ("firing", "77"),
    "resolved": ("resolved", "77"),
    "resolved, without an id": ("resolved", ""),
}
#: What counts as more than one character: escaped, or of several bytes or units.
WIDE: Final = 'x\\\n"&<@`\u00e9\u0001\U0001f600'
