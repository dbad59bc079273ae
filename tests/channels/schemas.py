"""
What is sent to vendors, checked against the schemas that they publish.

    python -m tests.channels.schemas discord=openapi.json pagerduty=openapiv3.json …

Each argument names a receiver and its vendor's file, which is not kept here; `SCHEMAS` says where it is
from. For Slack, it is the folder of the vendor's library, whose classes know lengths. What is checked is
every state of an incident, a text that would break out, and texts as long as they get, by each sign that
counts as more than one. Members that a schema does not know are errors.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import orjson

from notifier.channels.pagerduty import pagerduty_body
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_body
from notifier.content.wording import worded
from notifier.templates.wording import wording_of
from tests.channels.ready_made import CASES, NAMES, WIDE, made, told

_SAID: Final = "<!channel> @everyone \"'\\ <b>](javascript:x) {{ x }}\r\n\0\u202e\ud800"
#: Templates: what each kind has beside subject and body fits as well.
_WORDS: Final[dict[str, Any]] = {
    "subject": "{{ state }}: {{ subject }}",
    "body": "{{#each alerts}}{{ labels.instance }} {{ url }}\n{{/each}}",
    "slackBlocks": [
        {"type": "header", "text": {"type": "plain_text", "text": "{{ subject }}"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "*{{ subject }}*: {{ body }}"}},
        {
            "type": "section",
            "fields": [
                {"type": "mrkdwn", "text": "*s* {{ severity }}"},
                {"type": "plain_text", "text": "c {{ cluster }}"},
            ],
        },
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "in {{ cluster }}"}]},
    ],
    "pagerduty": {
        "summary": "{{ subject }}",
        "class": "{{ severity }}",
        "details": {"c": "{{ cluster }}"},
    },
}
_BUILT: Final[dict[str, Callable[[Any], Any]]] = {
    "slack": lambda message: slack_payload(message)["blocks"],
    "teams": lambda message: orjson.loads(teams_body(message))["attachments"][0]["content"],
    "pagerduty": lambda message: orjson.loads(pagerduty_body(message, "k" * 32)),
}


def payloads(name: str) -> Iterator[tuple[str, str, Any]]:
    """What is sent: in which case, to which path, and the body."""
    for case, (state, answer) in CASES.items():
        for text in ("", _SAID, *(sign * times for sign in WIDE for times in (900, 20_000))):
            if name in NAMES:
                found = made(name, told(state, answer, text))
                yield case, found.path, found.body
            else:
                for words in (None, _WORDS):
                    message = told(state, "", text)
                    yield (
                        case,
                        "",
                        _BUILT[name](
                            worded(message, wording_of(name, words)) if words else message
                        ),
                    )


def closed(schema: Any) -> Any:
    """A schema in which members that it does not name are errors; also of a discovery document."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("$ref"), str) and "/" not in found["$ref"]:
        found["$ref"] = f"#/schemas/{found['$ref']}"
    if (
        isinstance(found.get("properties"), dict)
        and "type" in found
        and "additionalProperties" not in found
    ):
        found["additionalProperties"] = "allOf" in found or "anyOf" in found
    return found


def pointed(at: str) -> Callable[[str, str], Any]:
    """A schema within a document of JSON."""
    return lambda text, _: closed(json.loads(text)) | {"$ref": at}


def discord(text: str, path: str) -> Any:
    """Of a message, or of its change."""
    name = "IncomingWebhookUpdateRequestPartial" if path else "IncomingWebhookRequestPartial"
    return pointed(f"#/components/schemas/{name}")(text, path)


def pagerduty(text: str, path: str) -> Any:
    """Of an event; what a trigger wants is said in words."""
    return pointed("#/paths/~1enqueue/post/requestBody/content/application~1json/schema")(
        text, path
    )


def jsm(text: str, path: str) -> Any:
    """Of an alert, or of its end; both with what every action takes."""
    name = "CloseAlertPayload" if path else "CreateAlertPayload"
    return json.loads(text) | {"$ref": f"#/definitions/{name}", "unevaluatedProperties": False}


def telegram(text: str, path: str) -> Any:
    """Of the method that the path names, by the list of its fields."""
    read = json.loads(text)
    plain = {
        "Integer": {"type": "integer"},
        "String": {"type": "string"},
        "Boolean": {"type": "boolean"},
    }

    def typed(name: str) -> Any:
        if name.startswith("Array of "):
            return {"type": "array", "items": typed(name.removeprefix("Array of "))}
        return plain.get(name) or listed(read["types"][name]["fields"])

    def listed(fields: list[Any]) -> Any:
        known: dict[str, Any] = {
            f["name"]: {"anyOf": [typed(t) for t in f["types"]]}
            for f in fields
            if f["name"] in _TELEGRAM
        }
        for field in fields:
            if (name := field["name"]) in known and (
                most := re.search(r"\d-(\d+) characters", field["description"])
            ):
                known[name] |= {"maxLength": int(most[1])}
        wanted = [f["name"] for f in fields if f["required"]]
        return {
            "type": "object",
            "properties": known,
            "required": wanted,
            "additionalProperties": False,
        }

    return listed(read["methods"][path.strip("/")]["fields"])


_TELEGRAM: Final = frozenset(
    {"chat_id", "message_id", "parse_mode", "link_preview_options", "is_disabled", "text"}
)


def golang(root: str) -> Callable[[str, str], Any]:
    """Of a struct in Go, with those that it holds: names and types of what its decoder takes."""

    def schema(text: str, _: str) -> Any:
        structs = dict(
            re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
        )

        def typed(name: str) -> Any:
            if name.startswith("[]"):
                return {"type": "array", "items": typed(name[2:])}
            name = name.lstrip("*")
            if name in structs:
                members = re.findall(r'^\t\w+ +(\S+) +`json:"(\w+)', structs[name], re.MULTILINE)
                known = {key: typed(kind) for kind, key in members}
                return {"type": "object", "properties": known, "additionalProperties": False}
            return {
                "type": {
                    "string": "string",
                    "int": "integer",
                    "int64": "integer",
                    "bool": "boolean",
                }.get(name, "object")
            }

        return typed(root)

    return schema


#: The schema in each vendor's file.
SCHEMAS: Final[dict[str, Callable[[str, str], Any]]] = {
    "discord": discord,  # discord/discord-api-spec: specs/openapi.json
    "pagerduty": pagerduty,  # PagerDuty/api-schema: reference/events-v2/openapiv3.json
    "google-chat": pointed("#/schemas/Message"),  # the discovery document of chat.v1
    "telegram": telegram,  # PaulSonOfLars/telegram-bot-api-spec: api.json, made from the vendor's page
    "jira-service-management": jsm,  # opsgenie/opsgenie-oas: swagger.json, whose events the vendor has kept
    "mattermost": golang(
        "IncomingWebhookRequest"
    ),  # mattermost/mattermost: incoming_webhook.go and slack_attachment.go
    "ntfy": golang("publishMessage"),  # binwiederhier/ntfy: server/types.go
    # microsoft/AdaptiveCards: schemas/1.6.0/adaptive-card.json, which is closed as it is
    "teams": lambda text, _: json.loads(text) | {"$ref": "#/definitions/AdaptiveCard"},
}


def by_schema(schema: Any, body: Any) -> list[str]:
    """What a schema finds in a body; one that takes any member finds nothing in anything."""
    check = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
    if check.is_valid(body | {"nobody": "knows"}):
        return ["the schema takes members that it does not know"]
    return [f"{error.json_path}: {error.message[-200:]}" for error in check.iter_errors(body)]


def by_library(body: Any) -> list[str]:
    """What the vendor's own library, which is on the path, finds in Slack's blocks."""
    from slack_sdk.errors import SlackObjectFormationError  # type: ignore[import-not-found]  # noqa: PLC0415 - given
    from slack_sdk.models.blocks import Block  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    found = Block.parse_all(body)
    try:
        for block in found:
            block.validate_json()
    except SlackObjectFormationError as error:
        return [str(error)]
    return [] if [block.to_dict() for block in found] == body else ["a block is read as another"]


def main(given: list[str]) -> int:
    """Check what is given, and say what does not fit."""
    wrong = 0
    for name, _, file in (argument.partition("=") for argument in given):
        sys.path.append(file)
        text = Path(file).read_text() if name in SCHEMAS else ""
        sent = list(payloads(name))
        reasons = {
            f"{case}: {reason}"
            for case, path, body in sent
            for reason in (by_schema(SCHEMAS[name](text, path), body) if text else by_library(body))
        }
        print(f"{name}: {len(sent)} bodies, {len(reasons)} findings")  # noqa: T201 (a command)
        for reason in sorted(reasons)[:20]:
            print(f"  {reason}")  # noqa: T201 - as above
        wrong += len(reasons)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
