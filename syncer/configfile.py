"""
How the settings in a file are read: a document in, a frozen model and findings out.

A group of settings is a frozen model: field names as in the code, camelCase in the file (the name as
written in the code is accepted too). An unknown key is a warning with its dotted path, never an error,
since a file may be written for another version. A wrong type or an impossible value is a `ConfigError`
with the path and the line. `null` means default. Durations are Go's (`1m30s`) or plain seconds, and always
seconds in the code.

No text made here quotes a value: values may be secrets.
"""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from syncer.model.errors import ConfigError, reason_of
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import SHOWN_KEY, Document, path_of, read_file

# When the first model is created, pydantic searches the metadata of every installed package for plugins,
# which takes a twentieth of the start-up time. No plugin affects what a setting means.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")

_MAX_SECONDS: Final = 10.0 * 365 * 86400
#: Unknown keys of a group for which a known key is suggested; further ones get no suggestion.
_HINTS: Final = 100
#: Characters of a file that holds one secret.
_MAX_SECRET: Final = 1 << 16

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_PARTS: Final = re.compile(rf"\+?(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,9})?")
_UNIT: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_DURATION_HELP: Final = "must be a duration such as 500ms, 10s or 1m30s"


def parse_duration(value: object) -> float:
    """
    Read a duration: Go's text form, or a number of seconds. The result is in seconds.

    Raises:
        ValueError: neither form, negative, not finite or beyond ten years. Names the rule, not the
            value.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(_DURATION_HELP)  # noqa: TRY004 - pydantic reports ValueError with its path
    seconds = _text_duration(value.strip()) if isinstance(value, str) else value
    # `not >=` instead of `<`, so that NaN is refused as well.
    if not seconds >= 0:
        raise ValueError("must not be negative")
    if seconds > _MAX_SECONDS:
        raise ValueError("must not exceed ten years")
    return float(seconds)


def _text_duration(text: str) -> float:
    if len(text) > 64:
        raise ValueError(_DURATION_HELP)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise ValueError("must not be negative")
    if not _PARTS.fullmatch(text):
        raise ValueError(_DURATION_HELP)
    # Rounded, since decimal fractions do not add up exactly: 100ms200ms is 0.3, not 0.30000000000000004.
    return round(sum(float(number) * _UNIT[unit] for number, unit in _PART.findall(text)), 9)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


E = TypeVar("E")
Listed = Annotated[tuple[E, ...], BeforeValidator(_as_tuple)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Names = Listed[str]
Level = Annotated[Literal["DEBUG", "INFO", "WARN", "ERROR"], BeforeValidator(_upper)]


class Group(BaseModel):
    """Base of every group: frozen, strict about types, tolerant of unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # Cross-field checks are field validators; they must see defaults too.
        validate_default=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _given(cls, document: Any) -> Any:
        """Drop null values, and add an empty group for each required group that is missing."""
        if not isinstance(document, Mapping):
            return document
        given = {key: value for key, value in document.items() if value is not None}
        for name, field in cls.model_fields.items():
            if field.is_required() and group_of(field.annotation) and name not in given:
                given.setdefault(field.alias or name, {})
        return given


class Section(Group):
    """
    Base of every mapping in a routing file. A null value counts as absent, a null mapping as empty.

    Values are read as text, as they are written, so 5 is the text "5"; see `key` for the exceptions.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(validate_default=False)

    @model_validator(mode="before")
    @classmethod
    def _given(cls, document: Any) -> Any:
        # Where an unknown key is an error, any empty value counts as an empty mapping.
        closed = cls.model_config.get("extra") == "forbid"
        return {} if document is None or (closed and not document) else document


#: A text in a `Section`; a list of texts; a mapping from names to texts.
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
Texts = Listed[Text]
Pairs = dict[str, Text]


def or_else(default: Any) -> Any:
    """Return a validator for an annotation; it replaces an empty value by this default."""
    return BeforeValidator(lambda value: value or default)


def key(about: str, default: Any = "", *, alias: str | None = None, **marks: bool) -> Any:
    """
    Return a field of a `Section` with its description.

    Args:
        about: What the key does, for the reference page and the schema.
        default: Value if the key is absent.
        alias: Name of the key in the file, if it differs from the field's.
        marks: `required` if page and schema call the key required, `idle` if it is accepted without effect,
            `typed` if its value keeps the type that YAML gives it.
    """
    return Field(default=default, alias=alias, description=about, json_schema_extra={**marks})


def marked(field: FieldInfo, mark: str) -> bool:
    """Whether a field has one of the marks of `key`."""
    marks = field.json_schema_extra
    return isinstance(marks, dict) and mark in marks


def constant(value: Any) -> Any:
    """
    Return a field that has this value, whatever a settings file says.

    Only a test can change it, in the file that `constants_of` reads.
    """
    return Field(default=value, exclude=True)


def constants_of(env: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a test's values for constants, from the file that LEDGER_TESTING names, else nothing."""
    path = env.get("LEDGER_TESTING")
    return read_file(path).values if path else {}


def secret_of(path: str, key: str) -> str:
    """
    Read a file that holds one secret, without trailing line breaks.

    Raises:
        ConfigError: the file cannot be read, is empty, too long or not UTF-8. The error names `key` and
            quotes nothing.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_SECRET + 1).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"cannot be read: {reason_of(error)}", path=key) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", path=key) from None
    if not text or len(text) > _MAX_SECRET:
        raise ConfigError(
            "names a file that is empty" if not text else "names a file that is too long", path=key
        )
    return text


G = TypeVar("G", bound=Group)
#: Source of a document that does not come from a file.
NOWHERE: Final = Document({})


class Fault(typing.NamedTuple):
    """
    One mistake in a document.

    Attributes:
        path: The dotted path, as the file spells it.
        message: What is wrong; reads on from the path.
        group: The model that has the key.
    """

    path: str
    message: str
    group: type[BaseModel]


def read_into(
    model: type[G], document: Mapping[str, Any], constants: Mapping[str, Any] = MappingProxyType({})
) -> G | list[Fault]:
    """Build settings from a document, or return everything that is wrong with it."""
    try:
        return model.model_validate(_with_constants(model, document, constants))
    except ValidationError as error:
        return [
            Fault(dotted(e["loc"]), reason_for(e), _model_at(model, e["loc"]))
            for e in error.errors(include_url=False)
        ]


def build(
    model: type[G],
    document: Mapping[str, Any],
    source: Document = NOWHERE,
    *,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> G:
    """
    Build settings from a document.

    A required group that is missing is reported by its required key (`redis.url`).

    Args:
        model: The model of the settings.
        document: The document to read.
        source: The file that the document comes from, for the lines of errors.
        constants: A test's values for constants; see `constants_of`.

    Raises:
        ConfigError: with the dotted path of the first fault; further faults follow in the text.
    """
    found = read_into(model, document, constants)
    if isinstance(found, list):
        raise refusal(found, source)
    return found


def refusal(faults: Sequence[Fault], source: Document = NOWHERE) -> ConfigError:
    """Return the error for a document: the path of its first fault; further faults follow in the text."""
    lines = [source.line(fault.path) for fault in faults[:9]]
    said = [
        f"{fault.message} (line {line})" if line else fault.message
        for fault, line in zip(faults, lines, strict=False)
    ]
    more = "".join(
        f"; {fault.path}: {text}" for fault, text in zip(faults[1:], said[1:], strict=False)
    )
    return ConfigError(said[0] + more, path=faults[0].path, line=lines[0])


def unknown_keys(
    model: type[BaseModel], document: object, source: Document = NOWHERE, *, at: str = ""
) -> list[Finding]:
    """
    Find the keys of a document that a model does not know.

    Args:
        model: The model of the settings.
        document: The document that was read.
        source: The file that the document comes from, for the lines of findings.
        at: Dotted path of the document in the file.
    """
    if not isinstance(document, Mapping):
        return []
    keys = keys_of(model)
    spelled = {key: model.model_fields[name].alias or name for key, name in keys.items()}
    found: list[Finding] = []
    for key, value in document.items():
        name = str(key)[:SHOWN_KEY]
        path = f"{at}.{name}".lstrip(".")
        field = keys.get(key) if isinstance(key, str) else None
        if field is None:
            near = nearest(name, spelled) if len(found) < _HINTS else ""
            found.append(unknown_key(path, near, source.line(path)))
        elif (inner := group_of(model.model_fields[field].annotation)) is not None:
            found += unknown_keys(inner, value, source, at=path)
    return found


def unknown_key(path: str, near: str, line: int, instead: str = "") -> Finding:
    """Return the warning about an unknown key; `near` is the key probably meant, `instead` another fix."""
    fix = f"write {near} instead" if near else "remove it"
    message = "is unknown and ignored"
    if near and not instead.startswith("remove"):
        message += f": did you mean {near}?"
    return Finding(Severity.WARNING, path, message, instead or fix, line, doubt=True)


def repeated_keys(source: Document) -> list[Finding]:
    """Find the keys that are written twice in one mapping."""
    return [
        Finding(
            Severity.WARNING,
            path,
            "is written twice; only the last one counts",
            fix="keep one of the two",
            line=line,
            doubt=True,
        )
        for path, line in source.repeated
    ]


def nearest(name: str, known: Mapping[str, str], alike: float = 0.65) -> str:
    """Return the known name most similar to a misspelt one; empty if none is this `alike` (1 is equal)."""
    from difflib import get_close_matches  # noqa: PLC0415 (needed only after a mistake)

    folded = {key.lower(): key for key in known}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=alike)
    return known[folded[close[0]]] if close else ""


def fields_of(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The fields that a document may set, with their names."""
    return [item for item in model.model_fields.items() if not item[1].exclude]


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Keys that a document may use, each with the field it sets."""
    keys: dict[str, str] = {}
    for name, field in fields_of(model):
        keys[field.alias or name] = name
        keys.setdefault(name, name)
    return keys


def options_of(annotation: object) -> tuple[object, ...]:
    """Return the members of a union; for any other type, the type itself."""
    if typing.get_origin(annotation) in {Union, types.UnionType}:
        return typing.get_args(annotation)
    return (annotation,)


def group_of(annotation: object) -> type[BaseModel] | None:
    """Return the group that a field holds, required or not; None for a plain value."""
    for option in options_of(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def listed_group_of(annotation: object) -> type[BaseModel] | None:
    """Return the group that a field holds a list of; None for any other field."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is not tuple:
        return None
    return group_of(typing.get_args(annotation)[0])


def _with_constants(model: type[BaseModel], given: Any, constants: Any) -> Any:
    """Drop a file's values for constants, and put a test's values in their place."""
    if not isinstance(given, Mapping):
        return given
    out = dict(given)
    for name, field in model.model_fields.items():
        key = name if name in out else field.alias or name
        said = constants.get(field.alias, constants.get(name)) if constants else None
        if field.exclude:
            out = {k: v for k, v in out.items() if k not in {name, field.alias}}
        inner = group_of(field.annotation)
        found = (
            said if field.exclude else inner and _with_constants(inner, out.get(key) or {}, said)
        )
        if found is not None and (found or field.exclude):
            out[key] = found
    return out


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the group that holds the key at a location."""
    for part in location[:-1]:
        name = keys_of(model).get(str(part))
        inner = group_of(model.model_fields[name].annotation) if name else None
        if inner is None:
            break
        model = inner
    return model


def dotted(location: tuple[int | str, ...]) -> str:
    """Write a path in dotted form."""
    # A fault in a default has the field's name, a fault in the file the key of the file.
    return path_of(part if isinstance(part, int) else to_camel(part) for part in location)


_REASONS: Final = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be a mapping"),
    "string_type": "must be a string", "tuple_type": "must be a list",
    "bool_type": "must be true or false", "missing": "is required", "extra_forbidden": "is unknown",
}  # fmt: skip


def reason_for(error: Any) -> str:
    """Return the message for one of pydantic's errors, without the value."""
    cause = (error.get("ctx") or {}).get("error")
    if error["type"] == "value_error" and cause is not None:
        return str(cause)
    if error["type"] in _REASONS:
        return _REASONS[error["type"]]
    message = str(error["msg"]).replace("Input should be", "must be")
    return message[:1].lower() + message[1:]
