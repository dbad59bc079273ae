"""
What PagerDuty gets, held against the schema that PagerDuty publishes.

It is no test of `scripts/test`, since it needs the schema, which is PagerDuty's own:

    curl -sSfLO https://raw.githubusercontent.com/PagerDuty/api-schema/main/reference/events-v2/openapiv3.json
    .venv/bin/python -m tests.channels.published openapiv3.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from notifier.channels.pagerduty import DEDUP_CHARS, EVENT_BYTES, SUMMARY_CHARS, pagerduty_body
from notifier.content.message import compose
from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.translation import translate
from syncer.model.resource import Json
from tests.channels.messages import UID, document
from tests.properties.hostile import GOOD, NOW, SOURCES, hostile
from tests.unit.notifier.gateway.payloads import alert, alertmanager

EXAMPLES: Final = 2000


def schema_of(file: Path) -> Draft7Validator:
    """Return what an event must be. Members that the schema does not have are none of PagerDuty's."""
    published = json.loads(file.read_text())
    event = published["paths"]["/enqueue"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    for node in (event, *published["components"]["schemas"].values()):
        for one in (node, node.get("items", {})):
            if "properties" in one and one.get("type") == "object":
                one["additionalProperties"] = False
    return Draft7Validator({**event, "components": published["components"]})


def events(kind: str, payload: Json) -> list[Json]:
    """Return the notifications that a payload becomes, with and without a mapping."""
    found: list[Json] = []
    for source in SOURCES[kind]:
        try:
            made, ends = translate(source, Incoming({}, json.dumps(payload).encode()), NOW)
        except Refused:
            continue
        found += [one.manifest for one in (*made, *(end.make() for end in ends))]
    return found


def check(manifest: Json, schema: Draft7Validator) -> Any:
    """Hold one event against schema and documented limits; returns what it does."""
    whole = manifest | {"metadata": manifest["metadata"] | {"uid": UID, "resourceVersion": "7"}}
    body = pagerduty_body(compose(whole, "pagerduty:ops", "0.5-1", installation="n/i@1"), "K" * 32)
    event = json.loads(body)
    schema.validate(event)
    assert len(body) <= EVENT_BYTES
    assert len(event["dedup_key"]) <= DEDUP_CHARS
    assert 0 < len(event["payload"]["summary"]) <= SUMMARY_CHARS
    assert all(image["src"].startswith("https://") for image in event.get("images", ()))
    return event["event_action"]


def main() -> None:
    """Check whatever the gateway makes of good and hostile payloads, and what has no incident."""
    schema = schema_of(Path(sys.argv[1]))
    count = Counter([check(document(), schema), check(document(body="b" * 1_000_000), schema)])

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.sampled_from(sorted(GOOD)).flatmap(lambda kind: st.tuples(st.just(kind), hostile(kind)))
    )
    def anything(case: tuple[str, Json]) -> None:
        count.update(check(manifest, schema) for manifest in events(*case))

    for kind, payload in GOOD.items():
        count.update(check(manifest, schema) for manifest in events(kind, payload))
    over = alertmanager(*(alert(f"{n}", "resolved") for n in range(120)), status="resolved")
    count.update(check(manifest, schema) for manifest in events("alertmanager", over))
    anything()
    assert count["trigger"], "nothing was checked"
    assert count["resolve"], "no end was checked"
    sys.stdout.write(f"{count.total()} events are as PagerDuty publishes them: {dict(count)}\n")


if __name__ == "__main__":
    main()
