"""
The values that settings accept, in words and as a JSON schema, both made from the models.

The words are for the reference page, and for the error about a value that is not accepted. The schema
is for editors and for the chart: closed, so that a misspelt key is noticed, with descriptions, and
without defaults.
"""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Collection
from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from syncer.configfile import (
    fields_of,
    group_of,
    listed_group_of,
    marked,
    options_of,
    parse_duration,
)

#: Go's text form, or plain seconds.
_DURATION: Final = (
    r"^(\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[0-9]{1,12}(\.[0-9]{0,9})?)$"
)
_WORDS: Final[dict[object, str]] = {
    bool: "boolean", int: "integer", float: "number", str: "string", SecretStr: "secret string",
}  # fmt: skip

_BOUNDS: Final = {
    "ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}",
    "min_length": "at least {} characters", "max_length": "at most {} characters",
}  # fmt: skip
#: Members of pydantic's schema of a field, and marks, that are stated elsewhere or left out.
_LEFT_OUT: Final = frozenset({"default", "title", "required", "idle", "typed"})
_SCHEMA_BOUNDS: Final = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
}  # fmt: skip


def is_duration(field: FieldInfo) -> bool:
    """Whether a field takes Go's text form as well as seconds; it may also take null."""
    options = [o for o in options_of(field.annotation) if typing.get_origin(o) is typing.Annotated]
    return any(
        isinstance(m, BeforeValidator) and m.func is parse_duration
        for m in (*field.metadata, *(m for o in options for m in typing.get_args(o)[1:]))
    )


def kind_of(field: FieldInfo) -> str:
    """Return the type and bounds of a field in words: `duration, ≥ 1, ≤ 30`."""
    if is_duration(field):
        return _bounded("duration", field)
    words = []
    for option in options_of(field.annotation):
        if typing.get_origin(option) is typing.Annotated:
            option = typing.get_args(option)[0]  # noqa: PLW2901 - the same option, unwrapped
        if typing.get_origin(option) is typing.Literal:
            words += [f"`{value}`" if value else "empty" for value in typing.get_args(option)]
        elif typing.get_origin(option) is tuple:
            item = typing.get_args(option)[0]
            item = typing.get_args(item)[0] if typing.get_origin(item) is typing.Annotated else item
            words.append("list of strings" if item is str else "list")
        elif typing.get_origin(option) is dict:
            words.append("mapping" if Any in typing.get_args(option) else "map of strings")
        elif isinstance(option, type) and issubclass(option, enum.StrEnum):
            words += [f"`{value}`" for value in option]
        elif option is type(None):
            continue
        else:
            words.append(_WORDS.get(option, "string"))
    return _bounded(" or ".join(dict.fromkeys(words)), field)


def default_of(field: FieldInfo) -> str:
    """Return a field's default in backticks, such as `10s`; `none` and `required` come without them."""
    value = field.default
    if field.default_factory is not None:
        return "none"
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", ()):
        return "none"
    if is_duration(field):
        return f"`{_duration(float(value))}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def summary(model: type[BaseModel]) -> str:
    """Return the first paragraph of a group's description, on one line."""
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def schema_for(
    model: type[BaseModel],
    *,
    skip: Collection[str] = (),
    nullable: Collection[str] | None,
    texts: Collection[type] = (),
    path: str = "",
) -> dict[str, Any]:
    """
    Return the JSON schema of a group.

    Args:
        model: The group.
        skip: Dotted paths of keys that are left out.
        nullable: Paths of keys that may be null; None for all.
        texts: Types that are written as a text.
        path: Dotted path of the group, with a dot at its end; empty for the whole document.

    A group that holds a list of its own kind is a reference to `$defs`, by the name of its model.

    Raises:
        TypeError: a field has a type that is not supported here.
    """
    plain = model.model_json_schema(by_alias=True)
    plain = plain["$defs"][model.__name__] if "$ref" in plain else plain
    properties: dict[str, Any] = {}
    required = []
    for name, field in fields_of(model):
        key = field.alias or name
        full = f"{path}{key}"
        if full in skip:
            continue
        group, listed = group_of(field.annotation), listed_group_of(field.annotation)
        if (field.is_required() and group is None) or marked(field, "required"):
            required.append(key)
        if group is not None and _lists_itself(group):
            reference = f"#/$defs/{group.__name__}"
            properties[key] = {"description": field.description, "$ref": reference}
            continue
        if group is not None:
            inner = schema_for(group, skip=skip, nullable=nullable, texts=texts, path=f"{full}.")
            properties[key] = _or_null(inner) if nullable is None else inner
            continue
        found = {k: v for k, v in plain["properties"][key].items() if k not in _LEFT_OUT}
        found = _of_value(_in_schema_words(found), field, full, texts)
        if listed is model:
            found["items"] = {"$ref": f"#/$defs/{model.__name__}"}
        elif listed is not None:
            found["items"] = schema_for(listed, skip=skip, nullable=nullable, texts=texts)
        elif "$ref" in json.dumps(found):
            raise TypeError(f"{full}: a type that is not known here")
        properties[key] = _or_null(found) if nullable is None or full in nullable else found
    out: dict[str, Any] = {
        "description": summary(model),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**out, "required": required} if required else out


def _lists_itself(model: type[BaseModel]) -> bool:
    return any(listed_group_of(field.annotation) is model for _, field in fields_of(model))


def _of_value(
    found: dict[str, Any], field: FieldInfo, full: str, texts: Collection[type]
) -> dict[str, Any]:
    """Add to the schema of a plain value what pydantic does not state."""
    if marked(field, "idle"):
        found = {"deprecated": True, **found}
    if field.annotation in texts:
        return {"description": found["description"], "type": "string"}
    if is_duration(field):
        for option in found.pop("anyOf", ()):
            found |= option  # the alternative to null
        found |= {"type": ["string", "number"], "pattern": _DURATION}
        found.setdefault("minimum", 0)
    elif full == "logging.level":
        found["enum"] = [word for level in found["enum"] for word in (level, level.lower())]
    return found


def _in_schema_words(found: Any) -> Any:
    """Rename the bounds of nullable fields, which keep pydantic's own names."""
    if isinstance(found, list):
        return [_in_schema_words(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {_SCHEMA_BOUNDS.get(k, k): _in_schema_words(v) for k, v in found.items()}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "const" in schema:
        schema = {"enum": [schema["const"]], **{k: v for k, v in schema.items() if k != "const"}}
    out = dict(schema)
    if "enum" in schema:
        out["enum"] = [*schema["enum"], None]
    if "type" in schema:
        kinds = schema["type"]
        kinds = [kinds] if isinstance(kinds, str) else kinds
        out["type"] = [kind for kind in kinds if kind != "null"] + ["null"]
    return out


def _bounded(kind: str, field: FieldInfo) -> str:
    bounds = []
    for found in field.metadata:
        # Each object holds one kind of bound, in an attribute of that name.
        for member, form in _BOUNDS.items():
            bound = getattr(found, member, None)
            if bound is not None:
                text = form.format(_number(bound))
                bounds.append(text.replace("characters", "entries") if "list" in kind else text)
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"
