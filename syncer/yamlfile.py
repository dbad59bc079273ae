"""
Reading a YAML file: values, and the place of each key.

Only plain YAML types are constructed. No text made here quotes a value: values may be secrets, and YAML's
own errors would print them. YAML allows a key to be written twice; this is reported, because the first
value is lost.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
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
_MERGE: Final = "tag:yaml.org,2002:merge"


class Document:
    """
    A settings file as it was read.

    Attributes:
        values: The content of the file.
        repeated: Keys written twice in one mapping, where the last one counts, each with its line.
    """

    def __init__(self, values: dict[str, Any], root: yaml.Node | None = None) -> None:
        """Keep the values; `root`, their node before values are constructed from it, gives the lines."""
        self.values = values
        self.repeated: list[tuple[str, int]] = []
        self._lines: dict[str, int] = {}
        if root is not None:
            self._lines[""] = 1
            self._look(root, "", set())
            self.repeated.sort(key=lambda each: each[1])

    def line(self, path: str) -> int:
        """
        Return the line of a key, or of its nearest ancestor if the key is absent.

        Both spellings of a key are found. The whole document is line 1; 0 if there is no text.
        """
        return line_of(self._lines, _folded(path))

    def _look(self, node: yaml.Node, at: str, seen: set[int]) -> None:
        """Record the lines of keys and items; each node is visited once, whatever refers to it."""
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            return
        seen.add(id(node))
        keys: set[str] = set()
        for n, item in enumerate(node.value):
            key, value = item if isinstance(node, yaml.MappingNode) else (item, item)
            name = f"[{n}]"
            if isinstance(node, yaml.MappingNode):
                name = str(key.value)[:SHOWN_KEY]
                if name in keys and len(self.repeated) < _MAX_REPEATED:
                    self.repeated.append((f"{at}.{name}".lstrip("."), key.start_mark.line + 1))
                keys.add(name)
                name = "" if key.tag == _MERGE else f".{name}"
            path = f"{at}{name}".lstrip(".")
            self._lines.setdefault(_folded(path), key.start_mark.line + 1)
            self._look(value, path, seen)


def line_of(lines: Mapping[str, int], path: str) -> int:
    """Return the line of a path, or of its nearest ancestor."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 0)


def _folded(path: str) -> str:
    return path.replace("_", "").lower()


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
    """Read the text of a settings file, as plain YAML with few references; raises as `read_file` does."""
    with yaml_errors("not valid YAML", text):
        loader = _Bounded(text)
        try:
            root = loader.get_single_node()
            # Before values are constructed, because that merges mappings in place.
            document = Document({}, root)
            values = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    if not isinstance(values, dict | None):
        raise ConfigError("the top level must be a mapping", line=1)
    document.values = values or {}
    return document


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

    The problem quotes only punctuation from the text, because anything else may be part of a token. An
    error at the end of `text` is reported at its last line; the library may count one more.
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
    The safe loader, on top of YAML's parser in C if that is installed.

    The parser in Python takes five times as long. The C code stops at the events of a text; nodes are
    composed here, so that a subclass that counts or refuses some of them sees each one.
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
    """Limits references to anchors, because each may multiply what a merge key copies."""

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
