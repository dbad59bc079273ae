"""Which program in the pod serves a command, and what the plugin adds to its words."""

from __future__ import annotations

from typing import Final, NamedTuple

#: What the plugin tells a command of this side: that it ends, how wide it is, whether it has colours.
ENDS: Final = "--until-stdin-closes"
WIDTH: Final = "--width"
COLOR: Final = "--color"


class Command(NamedTuple):
    """
    A command of the plugin.

    Attributes:
        program: Serves it in the pod. A command of `notifier` gets no width or colours from here: its
            output is short and plain. Empty for `ui`, which runs here (`syncer.kubectl.ui`).
        namespaces: `-n` and `-A` behind its name are its own: the notifications' namespaces.
        by: It records who acts: the person here, not the pod.
        reads: Its last word is a file here, whose content it gets as standard input.
        writes: `--output` is a file here.
        asks: It asks first on a terminal, unless `--yes` or `--dry-run` is given.
        creates: It chooses something in the pod, which is created from here.
    """

    program: str = "syncer"
    namespaces: bool = False
    by: bool = False
    reads: bool = False
    writes: bool = False
    asks: bool = False
    creates: bool = False


#: The commands, in the order of the help. A program's other commands are not for a pod that runs already.
COMMANDS: Final[dict[str, Command]] = {
    "list": Command(namespaces=True),
    "tail": Command(namespaces=True),
    "explain": Command(),
    "inspect": Command(),
    "verify": Command(namespaces=True),
    "doctor": Command(namespaces=True),
    "repair": Command(namespaces=True, by=True, asks=True),
    "resolve": Command(by=True),
    "resend": Command(by=True),
    "hold": Command(namespaces=True, by=True),
    "holds": Command(namespaces=True),
    "release": Command(by=True),
    "export": Command(namespaces=True, writes=True),
    "import": Command(reads=True),
    "check": Command("notifier"),
    "routes": Command("notifier"),
    "send": Command("notifier", namespaces=True, creates=True),
    "ui": Command(program=""),
}
