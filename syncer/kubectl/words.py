"""
The words of a command line: which are the plugin's own, and which go to the pod.

Options before the command's name say how the release is found, and what kubectl needs for it. The words
after it belong to the command; `--release`, `--context` and `--kubeconfig` may also stand there, and so
may `-n` and `-A` where the command has no such options itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from syncer.kubectl.commands import COMMANDS, Command
from syncer.kubectl.exits import USAGE, PluginError

#: Options of kubectl that are passed on to it; each has a value.
_KUBECTL: Final = ("--context", "--kubeconfig", "--cluster", "--user", "--as", "--as-group")
#: Of these, those that may stand behind the command's name; `--as` is an option of `resolve`.
_ANYWHERE: Final = ("--context", "--kubeconfig")


@dataclass
class Words:
    """
    What was typed.

    Attributes:
        command: Name of the command, empty if there is none.
        rest: What goes to it.
        namespace: Where the release is, empty if it was not said.
        everywhere: It is looked for in all namespaces.
        release: Its name, or `namespace/name`, empty if it was not said.
    """

    command: str = ""
    rest: list[str] = field(default_factory=list)
    namespace: str = ""
    everywhere: bool = False
    release: str = ""
    kubectl: list[str] = field(default_factory=list)
    help: bool = False
    version: bool = False


def split(typed: Sequence[str]) -> Words:
    """Split a command line; PluginError if a value is missing or an option is not known."""
    words, left = Words(), list(typed)
    while left:
        word = left.pop(0)
        if not words.command and not word.startswith("-"):
            words.command = word
            continue
        if words.command and word == "--":
            words.rest += [word, *left]
            break
        if not _take(words, word, left):
            if not words.command:
                raise PluginError(
                    USAGE,
                    f"unknown option {word}; the options of a command follow its name",
                )
            words.rest.append(word)
    return words


def _take(words: Words, word: str, left: list[str]) -> bool:
    """Take one of the plugin's own options with its value; False if it is none."""
    name, equals, joined = word.partition("=")
    if word[:2] == "-n" and len(word) > 2 and not equals:
        name, equals, joined = "-n", "=", word[2:]
    command = COMMANDS.get(words.command, Command()) if words.command else None

    def value() -> str:
        if equals:
            return joined
        if not left:
            raise PluginError(USAGE, f"{name} needs a value")
        return left.pop(0)

    if name in {"-n", "--namespace"}:
        found = value()
        if command is not None and command.namespaces:
            words.rest += [name, found]
        else:
            words.namespace = found
    elif word in {"-A", "--all-namespaces"} and not (command is not None and command.namespaces):
        words.everywhere = True
    elif name == "--release":
        words.release = value()
    elif name in (_KUBECTL if command is None else _ANYWHERE):
        words.kubectl += [name, value()]
    elif command is None and word in {"-h", "--help"}:
        words.help = True
    elif command is None and word == "--version":
        words.version = True
    else:
        return False
    return True
