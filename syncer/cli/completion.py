"""
`syncer completion`: three small scripts, and the one answer that all of them ask for.

The scripts know nothing of the commands: they pass the words on to `syncer complete`, which reads the
parser itself. So they never fall behind, and there is one thing to test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from syncer.cli.arguments import OBJECT
from syncer.cli.exits import OK

HELP: Final = "print the completion script of a shell"

SHELLS: Final = ("bash", "zsh", "fish")

_BASH: Final = """\
# bash completion of syncer: source <(syncer completion bash)
_syncer() {
    local IFS=$'\\n'
    COMPREPLY=($(syncer complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _syncer syncer
"""

_ZSH: Final = """\
#compdef syncer
# zsh completion of syncer: source <(syncer completion zsh)
_syncer() {
    local -a found
    found=("${(@f)$(syncer complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
compdef _syncer syncer
"""

_FISH: Final = """\
# fish completion of syncer: syncer completion fish | source
function __syncer_complete
    set -l words (commandline -opc)
    set -l token (commandline -ct)
    syncer complete -- $words[2..-1] "$token"
end
complete -c syncer -a '(__syncer_complete)'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options of the command."""
    parser.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    """Write the script of a shell; returns the exit code."""
    sys.stdout.write(script(options.shell))
    return OK


def script(shell: str) -> str:
    """The script of a shell; KeyError if there is none."""
    return {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """
    What the last word may become.

    Args:
        parser: Of the whole command.
        words: What stands on the line after the program's name; the last one is being written.

    Returns:
        In alphabetical order; empty where a file name or a free word is expected.
    """
    *before, current = list(words) or [""]
    commands = _commands(parser)
    command = next((w for w in before if w in commands), None)
    if command is None:
        known = [*commands, *(o for o in _options(parser) if current.startswith("-"))]
        return sorted(w for w in known if w.startswith(current))
    chosen = commands[command]
    options = _options(chosen)
    previous = before[-1] if before else ""
    action = options.get(previous)
    if action is not None and action.nargs != 0:
        values = [str(c) for c in action.choices or ()]
        return sorted(v for v in values if v.startswith(current))
    if current.startswith("-"):
        return sorted(o for o in options if o.startswith(current))
    free = [a for a in chosen._actions if not a.option_strings and a.choices]  # noqa: SLF001 - argparse offers no other way to its actions
    return sorted(str(c) for a in free for c in a.choices or () if str(c).startswith(current))


def expects_object(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    """
    Whether the last word is the name of a notification.

    Args:
        parser: Of the whole command.
        words: As of `candidates`.
    """
    *before, current = list(words) or [""]
    commands = _commands(parser)
    chosen = commands.get(next((w for w in before if w in commands), ""))
    if chosen is None or current.startswith("-"):
        return False
    action = _options(chosen).get(before[-1])
    if action is not None and action.nargs != 0:
        return False
    # As above.
    return any(a.metavar == OBJECT and not a.option_strings for a in chosen._actions)  # noqa: SLF001 - argparse offers no other way to its actions


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    # As above.
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to its actions
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse offers no other way to its actions
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    # As above.
    return dict(parser._option_string_actions)  # noqa: SLF001 - argparse offers no other way to its actions
