"""The page of templates: each example says what it is shown to say."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
import yaml

from notifier.content.message import compose
from notifier.content.wording import worded
from notifier.routing.parse import examine
from notifier.templates.text import Template
from notifier.templates.wording import PAYLOADS, wording_of
from tests.docs.template_examples import EXAMPLES, PAGE, notification


def shown(name: str, source: Any) -> str:
    """What one template makes of it."""
    kind = {payload: kind for kind, payload in PAYLOADS.items()}.get(name, "slack")
    made = worded(compose(notification(), f"{kind}:x", "a"), wording_of(kind, {name: source}))
    if made.words and made.words.payload is not None:
        found = made.words.payload
        return found if isinstance(found, str) else orjson.dumps(found).decode()
    if name == "titleLink":
        return made.spec.action_links[0][1]
    return made.spec.subject if name == "subject" else made.spec.body


@pytest.mark.parametrize("title", [title for title, _, _ in EXAMPLES])
def test_an_example_says_what_it_is_shown_to_say(title: str) -> None:
    """Beside what Alertmanager's users have today."""
    source, wanted = next((ours, text) for name, ours, text in EXAMPLES if name == title)
    ((name, template),) = yaml.safe_load(source).items()
    assert shown(name, template).rstrip("\n") == wanted.rstrip("\n")


def test_the_file_of_the_page_is_taken() -> None:
    """With neither errors nor warnings, and six examples follow."""
    assert len(EXAMPLES) == 6
    (file,) = re.findall(r"^```yaml\n# example: routing\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config, findings = examine(file)
    assert config is not None
    assert findings == ()


@pytest.mark.parametrize(
    "ours", re.findall(r"^\| `.*` \| `(\{\{[^|…]*\}\})` \|$", PAGE, re.MULTILINE)
)
def test_what_replaces_a_tag_is_one(ours: str) -> None:
    """Go's on the left, ours on the right."""
    Template(f"{ours}{{{{/each}}}}" if "#each" in ours else ours)
