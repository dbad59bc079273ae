"""
How a settings file is read: YAML text in, a frozen model and warnings out.

A group of settings is a frozen model: field names as in the code, camelCase in the file (the name as
written in the code is accepted too). An unknown key is a warning with its dotted path, never an error,
since a file may be written for another version. A wrong type or an impossible value is a `ConfigError`
with the path. `null` means default. Durations are Go's (`1m30s`) or plain seconds, and always seconds in
the code.

No text made here quotes a value: values may be secrets, and a YAML error would like to print them.
"""

from __future__ import annotations

import contextlib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from syncer.model.errors import ConfigError

#: Bytes of a settings file; a ConfigMap holds no more.
MAX_FILE: Final = 1 << 20
#: Anchors may be referred to this often. A settings file needs none, a bomb needs many.
_MAX_ALIASES: Final = 32
_MAX_SECONDS: Final = 10.0 * 365 * 86400
_WARNED_KEY: Final = 64
#: Characters of a file that holds one secret.
_MAX_SECRET: Final = 1 << 16

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
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
    if isinstance(value, str):
        seconds = _text_duration(value.strip())
    else:
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError("must not be negative")
    if seconds > _MAX_SECONDS:
        raise ValueError("must not exceed ten years")
    return seconds


def _text_duration(text: str) -> float:
    if len(text) > 64:
        raise ValueError(_DURATION_HELP)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise ValueError("must not be negative")
    text = text.removeprefix("+")
    end = 0
    seconds = 0.0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        seconds += float(part[1]) * _UNIT[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(_DURATION_HELP)
    # Sums of decimal fractions: 500ms + 1s is 1.5, not 1.5000000000000002.
    return round(seconds, 9)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
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


def secret_of(path: str, key: str) -> str:
    """
    Read a file that holds one secret; line ends at its end do not count.

    Args:
        path: The file.
        key: What names it, for errors, which quote nothing of it.

    Raises:
        ConfigError: it cannot be read, is empty, too long or no text.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_SECRET + 1).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot be read: {reason}", path=key) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", path=key) from None
    if not text or len(text) > _MAX_SECRET:
        raise ConfigError(
            "names a file that is empty" if not text else "names a file that is too long", path=key
        )
    return text


G = TypeVar("G", bound=Group)


def build(model: type[G], document: Mapping[str, Any]) -> G:
    """
    Make settings from a document.

    A required group that is missing is reported by its required key (`redis.url`).

    Raises:
        ConfigError: with the dotted path of the first fault; further faults follow in the text.
    """
    try:
        return model.model_validate(_without_nulls(model, document))
    except ValidationError as error:
        faults = [(_dotted(e["loc"]), _reason(e)) for e in error.errors(include_url=False)]
    path, message = faults[0]
    more = "".join(f"; {p}: {m}" for p, m in faults[1:9])
    raise ConfigError(message + more, path=path)


def unknown_keys(model: type[BaseModel], document: object, path: str = "") -> list[str]:
    """One warning per key of the document that means nothing to the model, with its dotted path."""
    if not isinstance(document, Mapping):
        return []
    keys = keys_of(model)
    warnings = []
    for key, value in document.items():
        name = str(key)[:_WARNED_KEY]
        where = f"{path}.{name}" if path else name
        field = keys.get(key) if isinstance(key, str) else None
        if field is None:
            from difflib import get_close_matches  # noqa: PLC0415 (for a mistake alone)

            near = get_close_matches(name, keys, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            warnings.append(f"unknown key {where} is ignored{hint}")
            continue
        inner = _group_of(model.model_fields[field].annotation)
        if inner is not None:
            warnings += unknown_keys(inner, value, where)
    return warnings


def load_file(path: Path | str) -> dict[str, Any]:
    """
    Read a YAML file whose top level is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: unreadable, larger than 1 MiB, not UTF-8, not YAML (with the line), or no
            mapping.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot read {path}: {reason}") from None
    if len(raw) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes")
    try:
        return parse_document(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_document(text: str) -> dict[str, Any]:
    """
    Read the text of a settings file.

    Only plain YAML types are made, references to anchors are few.

    Raises:
        ConfigError: as `load_file`.
    """
    with yaml_errors("not valid YAML"):
        loader = _Loader(text)
        try:
            document = loader.get_single_data()
        finally:
            loader.dispose()
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("the top level must be a mapping")
    return document


@contextlib.contextmanager
def yaml_errors(prefix: str) -> Iterator[None]:
    """
    Turn whatever the YAML library raises into a `ConfigError`: prefix, line where known, problem.

    The problem quotes no more of the text than punctuation: it may be a piece of a token.
    """
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = _QUOTED.sub(_unquoted, error.problem or "syntax error")
        raise ConfigError(f"{prefix}: {line}{problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{prefix}: unprintable character") from None
    except RecursionError:
        raise ConfigError(f"{prefix}: nested too deeply") from None
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        # Values such as `!!bool x`, escapes beyond Unicode, versions with impossible numbers.
        raise ConfigError(f"{prefix}: a value does not fit its type") from None


_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
#: Punctuation, and the parser's names for ends and beginnings.
_HARMLESS: Final = re.compile(r"[^A-Za-z0-9]{1,2}|\\.|<[a-z ]+>")


def _unquoted(quote: re.Match[str]) -> str:
    return quote[0] if _HARMLESS.fullmatch(quote[0][1:-1]) else "…"


class _Loader(yaml.SafeLoader):
    """The safe loader, which also counts references: each may multiply what a merge key copies."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MAX_ALIASES:
                raise yaml.MarkedYAMLError(
                    problem="too many references to anchors", problem_mark=self.get_mark()
                )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Keys that a document may use, each with the field it sets."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        keys[field.alias or name] = name
        keys.setdefault(name, name)
    return keys


def _group_of(annotation: object) -> type[BaseModel] | None:
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in {Union, types.UnionType}
        else (annotation,)
    )
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _without_nulls(model: type[BaseModel], document: object) -> object:
    """Drop what is null, and put an empty group where a required one is missing."""
    if not isinstance(document, Mapping):
        return document
    keys = keys_of(model)
    out: dict[Any, Any] = {}
    for key, value in document.items():
        field = keys.get(key) if isinstance(key, str) else None
        if value is None or field is None:
            continue
        inner = _group_of(model.model_fields[field].annotation)
        out[key] = _without_nulls(inner, value) if inner else value
    for name, required in model.model_fields.items():
        key = required.alias or name
        if required.is_required() and _group_of(required.annotation) and not {key, name} & set(out):
            out[key] = {}
    return out


def _dotted(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        # Faults in defaults come with the field's name, faults in the file with the file's.
        name = f"[{part}]" if isinstance(part, int) else to_camel(part)
        path += f".{name}" if path and not isinstance(part, int) else name
    return path


def _reason(error: Any) -> str:
    cause = (error.get("ctx") or {}).get("error")
    if error["type"] == "value_error" and cause is not None:
        return str(cause)
    if error["type"] == "missing":
        return "is required"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return "must be a mapping"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]
