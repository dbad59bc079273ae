"""Which program in the pod serves a command, and what the plugin adds to its words."""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """
    A command of the plugin.

    Attributes:
        program: Serves it in the pod.
        namespaces: `-n` and `-A` behind its name are its own: the notifications' namespaces.
        by: It records who acts: the person here, not the pod.
        reads: Its last word is a file here, whose content it gets as standard input.
        writes: `--output` is a file here.
    """

    program: str = "syncer"
    namespaces: bool = False
    by: bool = False
    reads: bool = False
    writes: bool = False


#: The commands, in the order of the help. A program's other commands are not for a pod that runs already.
COMMANDS: Final[dict[str, Command]] = {
    "list": Command(namespaces=True),
    "tail": Command(namespaces=True),
    "explain": Command(),
    "inspect": Command(),
    "verify": Command(namespaces=True),
    "doctor": Command(namespaces=True),
    "repair": Command(namespaces=True, by=True),
    "resolve": Command(by=True),
    "resend": Command(by=True),
    "export": Command(namespaces=True, writes=True),
    "import": Command(reads=True),
}
