"""
Reading a YAML file: values, and the place of each key.

Only plain YAML types are made. No text made here quotes a value: values may be secrets, and YAML's own
errors would print them. YAML allows a key to be written twice; this is reported, because the first
value is lost.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic.alias_generators import to_camel, to_snake
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from syncer.model.errors import ConfigError, reason_of

#: Bytes of a settings file; a ConfigMap holds no more.
MAX_FILE: Final = 1 << 20
#: Characters of a key that are shown.
SHOWN_KEY: Final = 64
#: Anchors may be referred to this often. A settings file needs none, a bomb needs many.
_MAX_ALIASES: Final = 32
_MAX_REPEATED: Final = 100
_INT: Final = "tag:yaml.org,2002:int"


class Document:
    """A settings file as it was read; `repeated` has keys that stand twice, of which the last one holds."""

    def __init__(
        self,
        values: dict[str, Any],
        repeated: tuple[tuple[str, int], ...] = (),
        root: yaml.Node | None = None,
    ) -> None:
        self.values = values
        self.repeated = repeated
        self._root = root
        self._indices: dict[int, dict[object, tuple[yaml.Node, yaml.Node]]] = {}

    def line(self, *location: object) -> int:
        """
        Return the line of a key, or of what is nearest above it where it is not there.

        Keys are found in both spellings. The whole document is line 1; 0 if there is no text.
        """
        node = self._root
        if node is None:
            return 0
        line = 1
        for part in location:
            found: tuple[yaml.Node, yaml.Node] | None = None
            if isinstance(node, yaml.MappingNode):
                index = self._index(node)
                found = index.get(part)
                if found is None and isinstance(part, str):
                    found = index.get(to_camel(part)) or index.get(to_snake(part))
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                item = node.value[part] if part < len(node.value) else None
                found = None if item is None else (item, item)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line

    def _index(self, node: yaml.MappingNode) -> dict[object, tuple[yaml.Node, yaml.Node]]:
        index = self._indices.get(id(node))
        if index is None:
            index = self._indices[id(node)] = {
                _key_of(key): (key, value) for key, value in node.value
            }
        return index


def _key_of(node: yaml.Node) -> object:
    """Return a key as the document has it, as far as it matters: plain numbers and texts."""
    if isinstance(node, yaml.ScalarNode):
        return int(node.value) if node.tag == _INT and node.value.isdigit() else node.value
    return None


def _repeated(root: yaml.Node) -> tuple[tuple[str, int], ...]:
    """Keys that are written again in one mapping; each node is looked at once, whatever refers to it."""
    found: list[tuple[str, int]] = []
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node, tuple[int | str, ...]]] = [(root, ())]
    while waiting and len(found) < _MAX_REPEATED:
        node, at = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, (*at, n)) for n, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            keys: set[object] = set()
            for key, value in node.value:
                name = _key_of(key)
                if name is not None and name in keys:
                    path = path_of((*at, str(name)[:SHOWN_KEY]))
                    found.append((path, key.start_mark.line + 1))
                keys.add(name)
                waiting.append((value, (*at, str(name)[:SHOWN_KEY])))
    return tuple(sorted(found, key=lambda each: each[1]))


def read_file(path: Path | str, *, max_bytes: int = MAX_FILE) -> Document:
    """
    Read a YAML file whose top level is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: unreadable, above `max_bytes`, not UTF-8, not YAML (with the line), or no mapping.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason_of(error)}") from None
    if len(raw) > max_bytes:
        raise ConfigError(f"{path} is larger than {max_bytes} bytes")
    try:
        return read_document(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}", line=error.line) from None


def read_document(text: str) -> Document:
    """Read the text of a settings file, as plain YAML with few anchors; errors as of `read_file`."""
    with yaml_errors("not valid YAML", text):
        loader = _Bounded(text)
        try:
            root = loader.get_single_node()
            # Before values are made of it, which merges mappings in place.
            repeated = () if root is None else _repeated(root)
            values = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    if values is None:
        return Document({}, (), root)
    if not isinstance(values, dict):
        raise ConfigError("the top level must be a mapping", line=1)
    return Document(values, repeated, root)


def path_of(location: Iterable[int | str]) -> str:
    """Write a path as people read it: `sources[0].name`."""
    path = ""
    for part in location:
        name = f"[{part}]" if isinstance(part, int) else part
        path += f".{name}" if path and not isinstance(part, int) else name
    return path


@contextlib.contextmanager
def yaml_errors(prefix: str, text: str = "") -> Iterator[None]:
    """
    Turn whatever the YAML library raises into a `ConfigError`: prefix, line where known, problem.

    The problem quotes no more of the text than punctuation: it may be a piece of a token. The last line of
    `text` stands for its end, which the library may count as one more.
    """
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        number = mark.line + 1 if mark else 0
        number = min(number, len(text.splitlines()) or number)
        problem = _QUOTED.sub(_unquoted, error.problem or "syntax error")
        at = f"line {number}: " if mark else ""
        raise ConfigError(f"{prefix}: {at}{problem}", line=number) from None
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


class Loader(Composer, SafeConstructor, Resolver):
    """
    The safe loader, over YAML's parser in C where that is there.

    With the one in Python a file takes five times as long. What is in C ends with the events of a text:
    nodes are composed here, so that a loader that counts or refuses some of them sees each.
    """

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        events: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self.check_event = events.check_event
        self.get_event = events.get_event
        self.peek_event = events.peek_event
        self.dispose = events.dispose


class _Bounded(Loader):
    """Counts references as well: each may multiply what a merge key copies."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MAX_ALIASES:
                raise yaml.MarkedYAMLError(
                    problem="too many references to anchors",
                    problem_mark=self.peek_event().start_mark,
                )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node
