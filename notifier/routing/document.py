"""
Reading the text of a routing file: YAML in, values for its models and the line of each out.

The YAML library constructs no objects. The text is composed into nodes, which know their lines, and only
nodes that a model reads are visited. A text value stays as written: a `match` value `5` is the text "5", as
it is for Go. Aliases and merge keys are resolved only in visited nodes, tags are refused, and the number of
visited nodes is bounded, so an alias bomb is an error. No error quotes a value.

All errors are collected: parts that cannot be read are removed, and the rest is read without them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from notifier.routing.models import FOREIGN
from syncer.configfile import (
    fields_of,
    group_of,
    listed_group_of,
    marked,
    nearest,
    reason_for,
    unknown_key,
)
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import Loader, line_of, path_of, yaml_errors

#: Most characters of a routing file; a ConfigMap holds no more.
MAX_TEXT: Final = 1 << 20
#: Most nodes that are read; an aliased node counts each time.
_MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 50
#: Most warnings, and most errors, that are kept; further ones are only counted.
_MAX_FINDINGS: Final = 100
MAX_NAME: Final = 256
#: Most unknown keys that are kept for a route or a receiver.
_MAX_UNKNOWN: Final = 3

_PARSE: Final = "failed to parse YAML: "
_YAML: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(
    _YAML + tag for tag in ("str", "int", "float", "bool", "timestamp", "value")
)
#: Texts that Go's YAML reads as a boolean where a boolean is expected.
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "no", "off", "n"), False),
}
_NUMBERS: Final = {_YAML + "int": int, _YAML + "float": float}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: Fixes for values of the wrong type, by the error.
_FIXES: Final = {
    "must be a string": "write a string, in quotes if it looks like something else",
    "must be a list": "write a list: each item on a line that begins with a dash",
    "must be a mapping": "write a mapping: lines of the form `key: value`",
    "must be true or false": "write true or false, without quotes",
}

M = TypeVar("M", bound=BaseModel)


def too_much(problem: str, line: int) -> ConfigError:
    """Return the error of a file that exceeds a bound at a line and is not read any further."""
    return ConfigError(f"{_PARSE}{problem} (line {line})", line=line)


def bounded(found: list[Finding]) -> tuple[Finding, ...]:
    """Return the first findings in the order of the file; an additional last one counts the rest."""
    kept = sorted(found[:_MAX_FINDINGS], key=lambda finding: finding.line)
    if more := len(found) - len(kept):
        severity = min(finding.severity for finding in kept)
        text = f"{more} further {severity}s were left out"
        kept.append(Finding(severity, "", text, "fix those above first"))
    return tuple(kept)


def many(found: list[Finding]) -> bool:
    """Whether further findings are only counted; details that are costly to find are then left out."""
    return len(found) >= _MAX_FINDINGS


class Reader:
    """
    Reads nodes for models; counts what it reads and collects findings.

    Attributes:
        lines: The line of each key and each list item that was read, by path.
        unknown: Paths of the first keys that nothing reads, by the path of their mapping.
        refusals: Why the file is refused, as texts for the log.
        errors: The same, as findings.
        warnings: Findings that do not refuse the file.
    """

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.unknown: dict[str, tuple[str, ...]] = {}
        self.refusals: list[str] = []
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self._nodes = 0

    def compose(self, text: str) -> yaml.Node | None:
        """
        Compose the first document; None if there is none.

        Raises:
            ConfigError: not YAML, too long or too deep. The text quotes nothing.
        """
        if len(text) > MAX_TEXT:
            raise ConfigError(f"{_PARSE}longer than {MAX_TEXT} characters")
        with yaml_errors(_PARSE[:-2], text):
            loader = Loader(text)
            try:
                if not loader.check_node():
                    return None
                root: yaml.Node | None = loader.get_node()
                if loader.check_node():
                    self.lines[""] = loader.peek_event().start_mark.line + 1
                    self.warn("", "only the first document is read", "remove the others")
            finally:
                loader.dispose()
        return root

    def warn(
        self,
        path: str,
        message: str,
        fix: str,
        severity: Severity = Severity.WARNING,
        *,
        doubt: bool = False,
    ) -> None:
        """Add a warning about a key or a mapping, with its fix; a `doubt` looks like a typo."""
        self.warnings.append(Finding(severity, path, message, fix, self.line(path), doubt=doubt))

    def refuse(self, text: str, path: str, fix: str) -> None:
        """Refuse the file; `text` is for the log and contains the path where it helps."""
        line = self.line(path)
        self.refusals.append(f"{text} (line {line})" if line else text)
        message = text.removeprefix(_PARSE).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        self.errors.append(Finding(Severity.ERROR, path, message, fix, line))

    def refuse_key(self, path: str, reason: str, fix: str) -> None:
        """Refuse the file because of the value at a path; the text for the log begins with the path."""
        self.refuse(f"{path}: {reason}", path, fix)

    def line(self, path: str) -> int:
        """Return the line of a path, or of its nearest parent that has one."""
        return line_of(self.lines, path)

    def fill(self, model: type[M], values: Any) -> M | None:
        """Validate values as a model, leaving out values that do not fit; None if no model can be made."""
        for _ in range(MAX_DEPTH):
            try:
                return model.model_validate(values)
            except ValidationError as error:
                for each in error.errors(include_url=False, include_input=False):
                    if not each["loc"]:
                        self._wrong("", reason_for(each))
                        return None
                    self._wrong(path_of(each["loc"]), reason_for(each))
                    _take_out(values, each["loc"], "" if each["type"] == "string_type" else None)
        return None

    def read(
        self,
        node: yaml.Node,
        path: str,
        model: type[BaseModel] | None = None,
        *,
        typed: bool = False,
        depth: int = 0,
    ) -> Any:
        """
        Read a node into plain values; in a mapping that has a model, only the model's keys are read.

        Args:
            node: The node to read.
            path: Its path in the file.
            model: Model of the mapping, or of the mappings in a list; None for free values.
            typed: Whether numbers stay numbers instead of becoming texts.
            depth: Depth of its nesting.
        """
        if depth > MAX_DEPTH * (1 if typed else 3):
            raise too_much("nested too deeply", node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            self._count(node)
            return self._scalar(node, path, typed=typed)
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            places = [(f"{path}[{n}]", item) for n, item in enumerate(node.value)]
            for at, item in places:
                self._count(item)
                self.lines[at] = item.start_mark.line + 1
            found = [self.read(i, at, model, typed=typed, depth=depth + 1) for at, i in places]
            return found if typed or model else ["" if item is None else item for item in found]
        entries: dict[str, yaml.Node] = {}
        for name, (key_node, value) in self._entries(node, path).items():
            self.lines[f"{path}.{name}".lstrip(".")] = key_node.start_mark.line + 1
            entries[name] = value
        if model is not None:
            return self._section(entries, path, model, typed=typed, depth=depth + 1)
        values = {
            name: self.read(value, f"{path}.{name}", typed=typed, depth=depth + 1)
            for name, value in entries.items()
        }
        return values if typed else {k: "" if v is None else v for k, v in values.items()}

    def _section(
        self,
        entries: dict[str, yaml.Node],
        path: str,
        model: type[BaseModel],
        *,
        typed: bool,
        depth: int,
    ) -> dict[str, Any]:
        fields = _fields(model)
        found: dict[str, Any] = {}
        for name, value in entries.items():
            if name not in fields:
                if model.model_config.get("extra") == "forbid":
                    found[name] = None
                else:
                    self._nothing_reads(path, name, fields)
                continue
            field, inner = fields[name]
            own = typed or marked(field, "typed")
            at = f"{path}.{name}".lstrip(".")
            if marked(field, "idle") and field.default == () and value.tag == _YAML + "seq":
                continue
            it = self.read(value, at, inner, typed=own, depth=depth if own is typed else 0)
            if field.annotation is bool and isinstance(value, yaml.ScalarNode) and not value.style:
                it = _BOOLEANS.get(it.lower(), it) if isinstance(it, str) else it
            if it is not None or typed:
                found[name] = it
        return found

    def _scalar(self, node: yaml.ScalarNode, path: str, *, typed: bool) -> Any:
        if node.tag == _YAML + "null":
            return None
        if node.tag not in _SCALARS:
            self._wrong(path, "tags are not allowed", "remove the tag")
            return None
        value = str(node.value)
        if _SURROGATE.search(value):
            self._wrong(path, "not a valid text", "write whole characters, not halves of pairs")
            return None
        if not typed:
            return value
        try:
            number = _NUMBERS.get(node.tag, str)(value)
        except ValueError:
            return value
        return _BOOLEANS.get(value.lower(), value) if node.tag == _YAML + "bool" else number

    def _entries(
        self, node: yaml.Node, path: str, depth: int = 0
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Read the keys of a mapping, merged ones included, each with the nodes of key and value."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _YAML + "map":
            self._wrong(path, "must be a mapping")
            return {}
        if depth > MAX_DEPTH:
            raise too_much(f"{path}: merged too deeply", node.start_mark.line + 1)
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            self._count(key_node)
            if key_node.tag == _YAML + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = {**merged, **self._entries(part, path, depth + 1), **merged}
                continue
            name = self.read(key_node, f"{path} key".strip())
            name = "" if name is None else name
            if not isinstance(name, str):
                # YAML reads an unquoted key with two braces as a nested mapping.
                self._wrong(path, "must be a string in quotes", 'write "{{ … }}" in quotes')
                continue
            at = f"{path}.{name}".lstrip(".")
            if name in own:
                self.lines[at] = key_node.start_mark.line + 1
                self._wrong(at, "is defined twice", "keep one of the two")
            own[name] = key_node, value
        return {**merged, **own}

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise too_much(f"more than {_MAX_NODES} values", node.start_mark.line + 1)

    def _wrong(self, path: str, why: str, fix: str = "see docs/routing.md") -> None:
        """Refuse the file because of the YAML at a path."""
        colon = "" if why.startswith("is ") else ":"
        text = f"{_PARSE}{path}{colon} {why}" if path else f"{_PARSE}{why}"
        self.refuse(text, path, _FIXES.get(why, fix))

    def _nothing_reads(self, path: str, name: str, fields: dict[str, Any]) -> None:
        name = name[:MAX_NAME]
        at = f"{path}.{name}".lstrip(".")
        self.unknown[path] = (*self.unknown.get(path, ()), at)[:_MAX_UNKNOWN]
        # Further findings are only counted, so the costly search is skipped.
        near = "" if many(self.warnings) else nearest(name, {known: known for known in fields})
        instead = FOREIGN.get(to_camel(name), "")
        if not (near or instead):
            instead = f"remove it; known are {', '.join(sorted(fields))}"
        self.warnings.append(unknown_key(at, near, self.line(at), instead))


@cache
def _fields(model: type[BaseModel]) -> dict[str, tuple[FieldInfo, type[BaseModel] | None]]:
    """Return the keys of a model, each with its field and the model of the field's value, if any."""
    return {
        field.alias or name: (
            field,
            group_of(field.annotation) or listed_group_of(field.annotation),
        )
        for name, field in fields_of(model)
    }


def _take_out(values: Any, location: tuple[int | str, ...], instead: Any) -> None:
    """Remove the value at a location; in a list, `instead` takes its place."""
    for part in location[:-1]:
        values = values[part]
    if isinstance(values, dict):
        del values[location[-1]]
    else:
        values[location[-1]] = instead
