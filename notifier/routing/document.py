"""
Reading a YAML document by the type that is expected at each place.

YAML itself constructs nothing. The text is composed into nodes, which know their lines, and each value
is read as the type that its place expects: a `match` value `5` is the text "5", as it is for Go.
References to anchors and merge keys are resolved only for such values, tags are refused, and the number
of nodes read is bounded, so an alias bomb is an error. No error quotes a value.

A mistake either ends the reading (`ConfigError`), as the controller needs it, or is collected while the
reading continues without that value, as a checker of files needs it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from pydantic.alias_generators import to_camel

from notifier.routing.keys import FOREIGN, MAPPINGS, TEXT, Keys
from notifier.routing.mail import Security
from syncer.configfile import nearest
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import Loader, yaml_errors

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
#: How a value of a type is written.
_EXAMPLES: Final = {
    "a text in quotes": 'a template in quotes: "{{ … }}"',
    "a text": "a text, in quotes if it looks like something else",
    "a list": "a list: each item on a line that begins with a dash",
    "a mapping": "a mapping: lines of the form `key: value`",
    "true or false": "true or false, without quotes",
}

#: Keys of a mapping, each with the nodes of key and value.
Entries = dict[str, tuple[yaml.Node, yaml.Node]]


def too_much(problem: str, node: yaml.Node) -> ConfigError:
    """Return the error of a file that is not read to its end, where it gets too much."""
    line = node.start_mark.line + 1
    return ConfigError(f"failed to parse YAML: {problem} (line {line})", line=line)


class Reader:
    """
    Reads nodes by wanted type; counts what it reads and collects findings.

    Attributes:
        doubts: How many keys look like a slip.
        lines: Where each mapping and each text that was read stands, by path.
    """

    def __init__(self, *, collect: bool = False) -> None:
        self._collect = collect
        self._nodes = 0
        self._findings: list[Finding] = []
        self._left_out = 0
        self.doubts = 0
        self.lines: dict[str, int] = {}
        self._errors: list[Finding] = []
        self._errors_left_out = 0

    def compose(self, text: str) -> yaml.Node | None:
        """
        Compose the first document; None if there is none.

        Raises:
            ConfigError: not YAML, too long or too deep. The text quotes nothing.
        """
        if len(text) > MAX_TEXT:
            raise ConfigError(f"failed to parse YAML: longer than {MAX_TEXT} characters")
        with yaml_errors("failed to parse YAML", text):
            loader = Loader(text)
            try:
                if not loader.check_node():
                    return None
                root: yaml.Node | None = loader.get_node()
                if loader.check_node():
                    line = loader.peek_event().start_mark.line + 1
                    self.warn("", "only the first document is read", "remove the others", line)
            finally:
                loader.dispose()
        return root

    def warn(
        self,
        path: str,
        message: str,
        fix: str,
        line: int = 0,
        *,
        severity: Severity = Severity.WARNING,
    ) -> None:
        """
        Collect a warning, up to a bound.

        Args:
            path: Of the key, or of the mapping that it is about.
            message: What is wrong.
            fix: What to do.
            line: Where, if not where the path stands.
            severity: How much it matters.
        """
        if self.full:
            self._left_out += 1
            return
        self._findings.append(
            Finding(severity, path, message, fix, line or self.lines.get(path, 0))
        )

    def refuse(self, text: str, node: yaml.Node | None, *, path: str, fix: str) -> None:
        """
        Raise an error, or collect it.

        Args:
            text: The whole text, as the log has it, without the line.
            node: Where it is, if not where the path stands.
            path: Of the key.
            fix: What to do.

        Raises:
            ConfigError: unless errors are collected.
        """
        line = node.start_mark.line + 1 if node is not None else self.lines.get(path, 0)
        if not self._collect:
            raise ConfigError(f"{text} (line {line})" if line else text, line=line)
        text = text.removeprefix("failed to parse YAML: ")
        message = text.removeprefix(f"{path}: ").removeprefix(f"{path} ")
        self.collect(Finding(Severity.ERROR, path, message, fix, line))

    def collect(self, error: Finding) -> None:
        """Collect an error, up to a bound."""
        if self.many_errors:
            self._errors_left_out += 1
        else:
            self._errors.append(error)

    @property
    def many_errors(self) -> bool:
        """Whether further errors are only counted; what is costly to say about one is left out then."""
        return len(self._errors) >= _MAX_WARNINGS

    def errors(self) -> tuple[Finding, ...]:
        """Return what would have ended the reading; a last one counts what was left out."""
        return self._bounded(self._errors, self._errors_left_out, Severity.ERROR)

    @property
    def full(self) -> bool:
        """Whether further warnings are only counted."""
        return len(self._findings) >= _MAX_WARNINGS

    def findings(self) -> tuple[Finding, ...]:
        """Return warnings and notes; a last one counts those that were left out."""
        return self._bounded(self._findings, self._left_out, Severity.WARNING)

    @staticmethod
    def _bounded(found: list[Finding], left_out: int, severity: Severity) -> tuple[Finding, ...]:
        if not left_out:
            return tuple(found)
        text = f"{left_out} further {severity}s were left out"
        return (*found, Finding(severity, "", text, "fix those above first"))

    def count(self, node: yaml.Node) -> None:
        """Count a node as read, each time that it is."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise too_much(f"more than {_MAX_NODES} values", node)

    def table(self, node: yaml.Node | None, path: str, keys: Keys) -> Table | None:
        """Read a mapping that may have these keys; None for an absent or null one."""
        if node is None or self.null(node):
            return None
        self.lines[path] = node.start_mark.line + 1
        return Table(self, path, self.entries(node, path), keys)

    def null(self, node: yaml.Node) -> bool:
        """Whether a node is null."""
        return isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null"

    def scalar(self, node: yaml.Node, path: str) -> str:
        """Read a text; null is empty, and numbers are as they are written."""
        self.count(node)
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, path, "a text")
            return ""
        if node.tag not in _SCALARS:
            text = f"failed to parse YAML: {path}: tags are not allowed"
            self.refuse(text, node, path=path, fix="remove the tag")
            return ""
        if self.null(node):
            return ""
        value = str(node.value)
        if _SURROGATE.search(value):
            text = f"failed to parse YAML: {path}: not a valid text"
            self.refuse(
                text, node, path=path, fix="write whole characters, not halves of surrogate pairs"
            )
            return ""
        return value

    def tree(self, node: yaml.Node, path: str, depth: int = 0) -> Any:
        """Read any value of JSON's types; a number is one unless it is in quotes."""
        if depth > MAX_DEPTH:
            raise too_much(f"{path}: nested too deeply", node)
        if isinstance(node, yaml.SequenceNode):
            return [self.tree(item, at, depth + 1) for item, at in self.sequence(node, path)]
        if isinstance(node, yaml.MappingNode):
            if any(isinstance(key, yaml.MappingNode) for key, _ in node.value):
                # What YAML makes of two braces.
                self.wrong(node, path, "a text in quotes")
                return ""
            entries = self.entries(node, path)
            return {
                key: self.tree(value, f"{path}.{key}", depth + 1)
                for key, (_, value) in entries.items()
            }
        text = self.scalar(node, path)
        if node.tag == _YAML + "null":
            return None
        try:
            number = {_YAML + "int": int, _YAML + "float": float}.get(node.tag, str)(text)
        except ValueError:
            return text
        return _BOOLEANS.get(text.lower(), text) if node.tag == _YAML + "bool" else number

    def sequence(self, node: yaml.Node | None, path: str) -> list[tuple[yaml.Node, str]]:
        """Read a list; absent and null are empty."""
        if node is None or self.null(node):
            return []
        if not isinstance(node, yaml.SequenceNode) or node.tag != _YAML + "seq":
            self.wrong(node, path, "a list")
            return []
        for item in node.value:
            self.count(item)
        return [(item, f"{path}[{n}]") for n, item in enumerate(node.value)]

    def wrong(self, node: yaml.Node, path: str, wanted: str) -> None:
        """Refuse a value of another type."""
        where = f"{path}: " if path else ""
        text = f"failed to parse YAML: {where}must be {wanted}"
        self.refuse(text, node, path=path, fix=f"write {_EXAMPLES.get(wanted, wanted)}")

    def entries(self, node: yaml.Node, path: str, *, depth: int = 0) -> Entries:
        """Read keys and values of a mapping, merged ones included."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _YAML + "map":
            self.wrong(node, path, "a mapping")
            return {}
        if depth > MAX_DEPTH:
            raise too_much(f"{path}: merged too deeply", node)
        own: Entries = {}
        merged: Entries = {}
        for key_node, value in node.value:
            self.count(key_node)
            if key_node.tag == _YAML + "merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    for key, entry in self.entries(part, path, depth=depth + 1).items():
                        merged.setdefault(key, entry)
                continue
            key = self.scalar(key_node, f"{path} key".strip())
            if key in own:
                where = f"{path}.{key}".lstrip(".")
                text = f"failed to parse YAML: {where} is defined twice"
                self.refuse(text, key_node, path=where, fix="keep one of the two")
            own[key] = (key_node, value)
        return {**merged, **own}


class Table:
    """A mapping being read: every key that was not read becomes a warning on `close`."""

    def __init__(self, reader: Reader, path: str, entries: Entries, keys: Keys) -> None:
        self.reader = reader
        self.path = path
        self._entries = entries
        self._keys = keys

    def node(self, key: str) -> yaml.Node | None:
        """Return the node of a key, None for an absent or null one."""
        if key not in self._keys:
            raise KeyError(
                f"{key} is not a key of {self.path}: it is missing in notifier.routing.keys"
            )
        entry = self._entries.get(key)
        if entry is None or self.reader.null(entry[1]):
            return None
        self.reader.lines[self._at(key)] = self.line(key)
        return entry[1]

    def text(self, key: str) -> str:
        """Return a text, empty if absent."""
        node = self.node(key)
        return "" if node is None else self.reader.scalar(node, self._at(key))

    def idle(self) -> None:
        """Accept the keys that have no effect, with a note for each that is set."""
        for key in (name for name, about in self._keys.items() if about.idle):
            if self.text(key) if self._keys[key].kind == TEXT else self.items(key):
                where, line = self._at(key), self.line(key)
                self.reader.warn(where, "has no effect", "remove it", line, severity=Severity.NOTE)

    def flag(self, key: str) -> bool:
        """Return a boolean, false if absent."""
        node = self.node(key)
        if node is None:
            return False
        word = self.reader.scalar(node, self._at(key)).lower()
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        if not plain or word not in _BOOLEANS:
            self.reader.wrong(node, self._at(key), "true or false")
            return False
        return _BOOLEANS[word]

    def choice(self, key: str, words: type[Security]) -> Security:
        """Return one of a few words, the first if absent."""
        node = self.node(key)
        if node is not None:
            try:
                return words(self.reader.scalar(node, self._at(key)))
            except ValueError:
                self.reader.wrong(node, self._at(key), " or ".join(words))
        return next(iter(words))

    def enabled(self) -> None:
        """Accept `enabled`; that it is false has no effect."""
        if not self.flag("enabled") and self.node("enabled") is not None:
            self.warn(
                "has no effect: what is listed is delivered",
                "remove the entry from its list",
                "enabled",
            )

    def tree(self, key: str) -> Any:
        """Return a value of any of JSON's types, None if absent."""
        node = self.node(key)
        return None if node is None else self.reader.tree(node, self._at(key))

    def items(self, key: str) -> list[tuple[yaml.Node, str]]:
        """Return the nodes of a list with their paths."""
        return self.reader.sequence(self.node(key), self._at(key))

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        items = self.items(key)
        self.reader.lines.update((path, node.start_mark.line + 1) for node, path in items)
        return [self.reader.scalar(node, path) for node, path in items]

    def table(self, key: str) -> Table:
        """Return an inner mapping, empty if absent."""
        keys = MAPPINGS[key]
        inner = self.reader.table(self.node(key), self._at(key), keys)
        return inner or Table(self.reader, self._at(key), {}, keys)

    def marked(self, key: str) -> list[tuple[str, str, yaml.Node]]:
        """Return a mapping of texts, with the node of each."""
        node = self.node(key)
        found = {} if node is None else self.reader.entries(node, self._at(key))
        self.reader.lines.update(
            (f"{self._at(key)}.{name}", at.start_mark.line + 1) for name, (at, _) in found.items()
        )
        return [
            (name, self.reader.scalar(value, f"{self._at(key)}.{name}"), key_node)
            for name, (key_node, value) in found.items()
        ]

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Return a mapping of texts."""
        return [(name, text) for name, text, _ in self.marked(key)]

    def line(self, key: str) -> int:
        """Return where a key, or a pair that was read, stands; the mapping if it is not there."""
        entry = self._entries.get(key)
        if entry:
            return entry[0].start_mark.line + 1
        lines = self.reader.lines
        return lines.get(self._at(key)) or lines.get(self.path, 0)

    def warn(self, message: str, fix: str, key: str = "") -> None:
        """Warn about this mapping, or about one of its keys."""
        self.reader.warn(self._at(key) if key else self.path, message, fix, self.line(key))

    def lost(self, message: str, fix: str) -> None:
        """Report that nothing is ever delivered through this mapping."""
        line = self.line("")
        self.reader.warn(self.path, message, fix, line, severity=Severity.ERROR)

    def doubt(self, message: str, fix: str, key: str, line: int) -> None:
        """Warn about a key that looks like a typo."""
        self.reader.doubts += 1
        self.reader.warn(self._at(key), message, fix, line)

    def close(self) -> tuple[str, ...]:
        """Warn about every key that is unknown; returns the paths of the first of them."""
        unknown = [key for key in self._entries if key not in self._keys]
        for key in unknown:
            if self.reader.full:  # what is said from here on is left out
                self.doubt("", "", key, 0)
                continue
            near = nearest(key[:MAX_NAME], {known: known for known in self._keys})
            fix = FOREIGN.get(to_camel(key[:MAX_NAME]), f"write {near} instead" if near else "")
            message = "is unknown and ignored"
            if near and not fix.startswith("remove"):
                message += f": did you mean {near}?"
            self.doubt(message, fix or _known(self._keys), key[:MAX_NAME], self.line(key))
        return tuple(self._at(key[:MAX_NAME]) for key in unknown[:_MAX_UNKNOWN])

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _known(keys: Keys) -> str:
    return f"remove it; known are {', '.join(sorted(keys))}"
