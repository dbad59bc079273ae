"""
The part of an API server that a CustomResourceDefinition prescribes: defaults, pruning, validation.

It reads the very definition that a server would be given, so a change there is a change here. The one
thing it cannot read is CEL: each rule has its counterpart in `RULES`, found by the rule's message,
and a definition with a rule that has none is refused. That the counterparts mean the same is proved
by asking a real server the same questions.

Nothing here changes what it is given; values come back rebuilt where they had to differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from syncer.model.resource import Json

_RULES_KEY: Final = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of an answer 422: the path, a machine word, and what follows the path as text."""

    field: str
    reason: str
    message: str


#: What a real server adds when an error made it skip the rules.
RULES_SKIPPED: Final = FieldError(
    "<nil>",
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


def conform(value: Any, schema: Json) -> Any:
    """Drop members that the schema does not know, and fill in its defaults."""
    if isinstance(value, dict) and "properties" in schema:
        members = schema["properties"]
        free = schema.get("x-kubernetes-preserve-unknown-fields")
        kept = {
            name: conform(member, members[name]) if name in members else member
            for name, member in value.items()
            if name in members or free
        }
        for name, node in members.items():
            if "default" in node and name not in kept:
                kept[name] = deepcopy(node["default"])
        return kept
    if isinstance(value, list) and "items" in schema:
        return [conform(entry, schema["items"]) for entry in value]
    return value


def violations(new: Json, old: Json | None, schema: Json) -> list[FieldError]:
    """
    Check an object against its schema and against the rules that compare it with its predecessor.

    Returns:
        What a real server would name as causes; order is the schema's, theirs is not fixed.
    """
    errors = list(_check(new, schema, ""))
    if any(e.reason != "FieldValueInvalid" for e in errors):
        # Sizes, patterns and numbers out of bounds do not stop the rules; wrong shapes do.
        return [*errors, RULES_SKIPPED]
    return errors + list(_break(new, old, schema, ""))


def check_known(schema: Json) -> None:
    """
    Refuse a schema with a rule that has no counterpart here.

    Raises:
        NotImplementedError: naming the rule.
    """
    for rule in schema.get(_RULES_KEY) or []:
        if rule["message"] not in RULES:
            raise NotImplementedError(f"no counterpart of the rule {rule['message']!r}")
    for node in (schema.get("properties") or {}).values():
        check_known(node)


def _check(value: Any, schema: Json, path: str) -> Iterator[FieldError]:
    # A real server validates the status on its own, so its messages name paths within the status.
    inner = path.removeprefix("status").lstrip(".") if path.startswith("status") else path
    if "type" in schema and not _is_a(value, schema):
        misformed = isinstance(value, str) and schema["type"] == "string"
        word = schema["format"] if misformed else schema["type"]
        given = f'"{value}"' if misformed else f'"{_type(value)}"'
        text = f"Invalid value: {given}: {inner} in body must be of type {word}: {given}"
        yield FieldError(path or "<nil>", "FieldValueTypeInvalid", text)
        return
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(f'"{v}"' for v in schema["enum"])
        text = f'Unsupported value: "{value}": supported values: {known}'
        yield FieldError(path, "FieldValueNotSupported", text)
    if isinstance(value, str):
        yield from _check_text(value, schema, path, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, schema, path, inner)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            text = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
            yield FieldError(path, "FieldValueTooMany", text)
        for index, entry in enumerate(value):
            yield from _check(entry, schema.get("items") or {}, f"{path}[{index}]")
    elif isinstance(value, dict):
        yield from _check_object(value, schema, path)


def _check_object(value: Json, schema: Json, path: str) -> Iterator[FieldError]:
    for name in schema.get("required") or []:
        if name not in value:
            yield FieldError(_join(path, name), "FieldValueRequired", "Required value")
    others = schema.get("additionalProperties") or {}
    members = schema.get("properties") or {}
    for name, member in value.items():
        yield from _check(member, members.get(name) or others, _join(path, name))


def _check_number(value: float, schema: Json, path: str, inner: str) -> Iterator[FieldError]:
    for key, outside, word in (
        ("maximum", value > schema.get("maximum", value), "less"),
        ("minimum", value < schema.get("minimum", value), "greater"),
    ):
        if outside:
            text = f"{inner} in body should be {word} than or equal to {schema[key]}"
            yield _invalid(path, value, text)


def _check_text(value: str, schema: Json, path: str, inner: str) -> Iterator[FieldError]:
    if len(value) < schema.get("minLength", 0):
        text = f"{inner} in body should be at least {schema['minLength']} chars long"
        yield _invalid(path, f'"{value}"', text)
    if len(value) > schema.get("maxLength", len(value)):
        yield FieldError(
            path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes"
        )
    # A final $ is the end of the text in the server's dialect; Python's lets a newline follow.
    if "pattern" in schema and not re.search(re.sub(r"\$$", r"\\Z", schema["pattern"]), value):
        yield _invalid(path, f'"{value}"', f"{inner} in body should match '{schema['pattern']}'")


def _invalid(path: str, value: object, text: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {value}: {text}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "integer", float: "number"}
    return names[type(value)]


def _is_a(value: Any, schema: Json) -> bool:
    wanted, given = schema["type"], _type(value)
    if wanted == "string" and given == "string" and schema.get("format") == "date-time":
        try:
            return "T" in value.upper() and datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            return False
    return bool(given == wanted or (wanted == "number" and given == "integer"))


def _break(new: Json, old: Json | None, schema: Json, path: str) -> Iterator[FieldError]:
    """Yield the rules that are broken; each compares, so it needs a predecessor."""
    if old is None:
        return
    for rule in schema.get(_RULES_KEY) or []:
        if not RULES[rule["message"]](new, old):
            yield FieldError(
                path or "<nil>", "FieldValueInvalid", f"Invalid value: {rule['message']}"
            )
    for name, node in (schema.get("properties") or {}).items():
        if isinstance(new.get(name), dict) and isinstance(old.get(name), dict):
            yield from _break(new[name], old[name], node, _join(path, name))


#: The rules of the definition by message; each is `(self, oldSelf) -> holds`.
RULES: Final[dict[str, Callable[[Json, Json], bool]]] = {
    "spec is immutable after creation (DD-NOT-005)": lambda new, old: new == old,
}
