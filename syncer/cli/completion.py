"""
`syncer completion`, `notifier completion`: three small scripts, and the one answer that all use.

The scripts know nothing about the commands. They pass the words on to `syncer complete` or `notifier
complete`, which reads the parser itself, so the scripts never fall behind, and there is one thing to
test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from syncer.cli.exits import OK

HELP: Final = "print the completion script of a shell"

SHELLS: Final = ("bash", "zsh", "fish")

_BASH: Final = """\
# bash completion of PROGRAM: source <(PROGRAM completion bash)
_PROGRAM() {
    local IFS=$'\\n'
    COMPREPLY=($(PROGRAM complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _PROGRAM PROGRAM
"""

_ZSH: Final = """\
#compdef PROGRAM
# zsh completion of PROGRAM: source <(PROGRAM completion zsh)
_PROGRAM() {
    local -a found
    found=("${(@f)$(PROGRAM complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
compdef _PROGRAM PROGRAM
"""

_FISH: Final = """\
# fish completion of PROGRAM: PROGRAM completion fish | source
function __PROGRAM_complete
    set -l words (commandline -opc)
    set -l token (commandline -ct)
    PROGRAM complete -- $words[2..-1] "$token"
end
complete -c PROGRAM -a '(__PROGRAM_complete)'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(program=parser.prog.partition(" ")[0])


def run(options: argparse.Namespace) -> int:
    """Write the script of a shell; returns the exit code."""
    sys.stdout.write(script(options.shell, options.program))
    return OK


def script(shell: str, program: str) -> str:
    """The script of a shell for a program; KeyError if there is none."""
    return {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell].replace("PROGRAM", program)


def typed_after(words: Sequence[str]) -> list[str] | None:
    """The words that a script asks to complete, None if it is another command."""
    if words[:1] != ["complete"]:
        return None
    return list(words[2:] if words[1:2] == ["--"] else words[1:])


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """
    Return what the last word may become, sorted; nothing where a file name or a free word is expected.

    `words` is what stands on the line after the program's name; the last one is being written.
    """
    *before, current = list(words) or [""]
    for word in before:
        below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001 - argparse offers no other way to its actions
        parser = below[0].choices.get(word, parser) if below else parser
    options = parser._option_string_actions  # noqa: SLF001 - likewise
    action = options.get(before[-1]) if before else None
    if action is not None and action.nargs != 0:
        known: Iterable[object] = action.choices or ()
    elif current.startswith("-"):
        known = options
    else:
        # Its commands are choices, too.
        known = [c for a in parser._actions if not a.option_strings for c in a.choices or ()]  # noqa: SLF001 - likewise
    return sorted(word for word in map(str, known) if word.startswith(current))
