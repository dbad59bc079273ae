"""
CloudEvents 1.0 over HTTP: structured and binary.

By the specification, `source` and `id` together are unique for an event, so they are its identity. A
JSON body with `specversion` is read as structured under any content type, because some senders do not
set the right one. Batches are refused: they are for receivers that have asked for them. If the proof is a
signature of the body, binary mode is refused, too: unsigned headers would choose id, source, routing and
mode.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

from notifier.gateway.draft import (
    Draft,
    Incoming,
    Kind,
    Options,
    Reader,
    Refused,
    json_object,
    json_value,
)
from syncer.model.resource import Json

_PREFIX: Final = "ce-"
_OWN: Final = frozenset({
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
    "data", "data_base64",
})  # fmt: skip


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make a draft of an event; Refused for a batch, another version, or a missing required member."""
    content = incoming.header("content-type").lower()
    if content.startswith("application/cloudevents-batch"):
        raise Refused("batches are not taken: send events one by one", status=415)
    if _PREFIX + "specversion" in incoming.headers:
        if options.body_alone:
            reason = "the signature does not cover ce- headers: send structured events"
            raise Refused(reason, status=415)
        attributes = _binary(incoming, content)
    else:
        attributes = json_object(incoming.body)
    event = Reader(attributes)
    if event.text("specversion", None) != "1.0":
        raise Refused("must be 1.0", path="specversion")
    identity, source, kind = (event.text(key, None) for key in ("id", "source", "type"))
    about = event.text("subject")
    extra = {
        key: value
        for key, value in attributes.items()
        if key not in _OWN and isinstance(value, str)
    }
    return (
        Draft(
            identity=(source, identity),
            view=attributes,
            event=f"cloudevents:{source}#{identity}",
            subject=f"{kind}: {about}" if about else kind,
            body=_shown(attributes) or f"{kind} from {source}",
            extensions={
                "eventType": kind, "eventSource": source,
                **({"eventSubject": about} if about else {}), **extra,
            },
        ),
    )  # fmt: skip


def _binary(incoming: Incoming, content: str) -> Json:
    attributes: Json = {
        name.removeprefix(_PREFIX): _decoded(name, value)
        for name, value in incoming.headers.items()
        if name.startswith(_PREFIX)
    }
    if not incoming.body:
        return attributes
    if content.startswith("application/json") or "+json" in content:
        attributes["data"] = json_value(incoming.body)
        return attributes
    try:
        attributes["data"] = incoming.body.decode()
    except UnicodeDecodeError:
        attributes["data_base64"] = base64.b64encode(incoming.body).decode()
    return attributes


def _decoded(name: str, value: str) -> str:
    """Return a header's value: unquoted, then decoded once, as the specification says."""
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise Refused("is not UTF-8 after percent-decoding", path=name) from None


def _shown(attributes: Json) -> str:
    data = attributes.get("data")
    if data is None:
        return ""
    if isinstance(data, str):
        return data
    try:
        return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        raise Refused("is nested too deeply", path="data") from None


KIND: Final = Kind(
    name="cloudevents", prefix="ce", read=read, patience=20.0, handshake=True, too_many=429
)
