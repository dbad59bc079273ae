"""
Reading a YAML document by what is wanted at each place.

Nothing is constructed by YAML itself. The text is composed into nodes, which know their lines, and every
value is read by what is wanted there: a `match` value `5` is the text "5", as it is for Go. References to
anchors and merge keys only name such values, tags are refused, the number of nodes read is bounded: an
alias bomb is an error. No error quotes a value.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from notifier.routing.mail import Security
from syncer.configfile import yaml_errors
from syncer.model.errors import ConfigError

#: Characters of a routing file; a ConfigMap holds no more.
MAX_TEXT: Final = 1 << 20
#: Nodes that may be read, each reference to an anchor counted anew.
_MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 50
_MAX_WARNINGS: Final = 100
MAX_NAME: Final = 256
#: Unknown keys that a route or a receiver remembers.
_MAX_UNKNOWN: Final = 3

_YAML: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(
    _YAML + tag for tag in ("str", "int", "float", "bool", "null", "timestamp", "value")
)
#: What Go's YAML takes for a boolean where one is wanted.
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "no", "off", "n"), False),
}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def line_of(node: yaml.Node) -> str:
    """Where a node begins, to be put behind an error."""
    return f" (line {node.start_mark.line + 1})"


class Reader:
    """Reads nodes by wanted type; counts what it reads and collects warnings."""

    def __init__(self) -> None:
        self._nodes = 0
        self._warnings: list[str] = []
        self._left_out = 0
        self.doubts = 0

    def compose(self, text: str) -> yaml.Node | None:
        """
        Compose the first document; None if there is none.

        Raises:
            ConfigError: not YAML, too long or too deep. The text quotes nothing.
        """
        if len(text) > MAX_TEXT:
            raise ConfigError(f"failed to parse YAML: longer than {MAX_TEXT} characters")
        with yaml_errors("failed to parse YAML"):
            loader = yaml.SafeLoader(text)
            try:
                if not loader.check_node():
                    return None
                root: yaml.Node | None = loader.get_node()
                if loader.check_node():
                    self.warn("", "only the first document is read")
            finally:
                loader.dispose()
        return root

    def warn(self, path: str, message: str) -> None:
        """Collect a warning, up to a bound."""
        if len(self._warnings) < _MAX_WARNINGS:
            self._warnings.append(f"{path} {message}" if path else message)
        else:
            self._left_out += 1

    def doubt(self, path: str, message: str) -> None:
        """Warn about what looks like a slip."""
        self.doubts += 1
        self.warn(path, message)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings; a last one counts those that were left out."""
        more = (f"{self._left_out} further warnings were left out",) if self._left_out else ()
        return (*self._warnings, *more)

    def count(self, node: yaml.Node) -> None:
        """Count a node as read, each time that it is."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ConfigError(f"failed to parse YAML: more than {_MAX_NODES} values{line_of(node)}")

    def table(self, node: yaml.Node | None, path: str) -> Table | None:
        """Read a mapping; None for an absent or null one."""
        if node is None or self.null(node):
            return None
        return Table(self, path, self._entries(node, path, depth=0))

    def null(self, node: yaml.Node) -> bool:
        """Whether a node is null."""
        return isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null"

    def scalar(self, node: yaml.Node, path: str) -> str:
        """Read a text; null is empty, and numbers are as they are written."""
        self.count(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self.wrong(node, path, "a text")
        if node.tag not in _SCALARS:
            raise ConfigError(f"failed to parse YAML: {path}: tags are not allowed{line_of(node)}")
        if self.null(node):
            return ""
        value = str(node.value)
        if _SURROGATE.search(value):
            raise ConfigError(f"failed to parse YAML: {path}: not a valid text{line_of(node)}")
        return value

    def sequence(self, node: yaml.Node | None, path: str) -> list[tuple[yaml.Node, str]]:
        """Read a list; absent and null are empty."""
        if node is None or self.null(node):
            return []
        if not isinstance(node, yaml.SequenceNode) or node.tag != _YAML + "seq":
            raise self.wrong(node, path, "a list")
        for item in node.value:
            self.count(item)
        return [(item, f"{path}[{n}]") for n, item in enumerate(node.value)]

    def wrong(self, node: yaml.Node, path: str, wanted: str) -> ConfigError:
        """Make the error for a value of another type."""
        where = f"{path}: " if path else ""
        return ConfigError(f"failed to parse YAML: {where}must be {wanted}{line_of(node)}")

    def _entries(
        self, node: yaml.Node, path: str, *, depth: int
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode) or node.tag != _YAML + "map":
            raise self.wrong(node, path, "a mapping")
        if depth > MAX_DEPTH:
            raise ConfigError(f"failed to parse YAML: {path}: merged too deeply{line_of(node)}")
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            self.count(key_node)
            if key_node.tag == _YAML + "merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    for key, entry in self._entries(part, path, depth=depth + 1).items():
                        merged.setdefault(key, entry)
                continue
            key = self.scalar(key_node, f"{path} key".strip())
            if key in own:
                raise ConfigError(
                    f"failed to parse YAML: {f'{path}.{key}'.lstrip('.')} is defined twice"
                    f"{line_of(key_node)}"
                )
            own[key] = (key_node, value)
        return {**merged, **own}


class Table:
    """A mapping being read: every key that was not read becomes a warning on `close`."""

    def __init__(
        self, reader: Reader, path: str, entries: dict[str, tuple[yaml.Node, yaml.Node]]
    ) -> None:
        self.reader = reader
        self.path = path
        self._entries = entries
        self._asked: set[str] = set()

    def node(self, key: str) -> yaml.Node | None:
        """Return the node of a key, None for an absent or null one."""
        self._asked.add(key)
        entry = self._entries.get(key)
        return None if entry is None or self.reader.null(entry[1]) else entry[1]

    def text(self, key: str) -> str:
        """Return a text, empty if absent."""
        node = self.node(key)
        return "" if node is None else self.reader.scalar(node, self._at(key))

    def idle_text(self, key: str) -> str:
        """Return a text that has no effect."""
        text = self.text(key)
        if text:
            self.warn("has no effect", key)
        return text

    def idle(self, key: str) -> None:
        """Accept a list that has no effect."""
        if self.reader.sequence(self.node(key), self._at(key)):
            self.warn("has no effect", key)

    def flag(self, key: str) -> bool:
        """Return a boolean, false if absent."""
        node = self.node(key)
        if node is None:
            return False
        word = self.reader.scalar(node, self._at(key)).lower()
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if not plain or word not in _BOOLEANS:
            raise self.reader.wrong(node, self._at(key), "true or false")
        return _BOOLEANS[word]

    def choice(self, key: str, words: type[Security]) -> Security:
        """Return one of a few words, the first if absent."""
        node = self.node(key)
        first, *_ = words
        if node is None:
            return first
        try:
            return words(self.reader.scalar(node, self._at(key)))
        except ValueError:
            raise self.reader.wrong(node, self._at(key), " or ".join(words)) from None

    def enabled(self) -> bool:
        """Return `enabled`, which has no effect when it is false."""
        enabled = self.flag("enabled")
        if not enabled and self.node("enabled") is not None:
            self.warn("has no effect: what is listed is delivered", "enabled")
        return enabled

    def items(self, key: str) -> list[tuple[yaml.Node, str]]:
        """Return the nodes of a list with their paths."""
        return self.reader.sequence(self.node(key), self._at(key))

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        return [self.reader.scalar(node, path) for node, path in self.items(key)]

    def table(self, key: str) -> Table:
        """Return an inner mapping, empty if absent."""
        inner = self.reader.table(self.node(key), self._at(key))
        return inner or Table(self.reader, self._at(key), {})

    def marked(self, key: str) -> list[tuple[str, str, yaml.Node]]:
        """Return a mapping of texts, with the node of each."""
        inner = self.table(key)
        return [
            (name, self.reader.scalar(node, inner._at(name)), key_node)  # noqa: SLF001 - same class
            for name, (key_node, node) in inner._entries.items()  # noqa: SLF001 - own
        ]

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Return a mapping of texts."""
        return [(name, text) for name, text, _ in self.marked(key)]

    def warn(self, message: str, key: str = "") -> None:
        """Warn about this mapping, or about one of its keys."""
        self.reader.warn(self._at(key) if key else self.path, message)

    def doubt(self, message: str, key: str) -> None:
        """Warn about a key that looks like a slip."""
        self.reader.doubt(self._at(key), message)

    def close(self) -> tuple[str, ...]:
        """Warn about every key that was not asked for; returns the paths of the first of them."""
        unknown = [key[:MAX_NAME] for key in self._entries if key not in self._asked]
        for key in unknown:
            self.doubt("is unknown and ignored", key)
        return tuple(self._at(key) for key in unknown[:_MAX_UNKNOWN])

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key
