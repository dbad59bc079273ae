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
        about: What it does, in the words of that program's own help.
        program: Serves it in the pod. A command of `notifier` gets no width or colours from here: its
            output is short and plain. Empty for `ui`, which runs here (`syncer.kubectl.ui`).
        namespaces: `-n` and `-A` behind its name are its own: the notifications' namespaces.
        by: It records who acts: the person here, not the pod.
        reads: Its last word is a file here, whose content it gets as standard input.
        writes: `--output` is a file here.
        asks: It asks first on a terminal, unless `--yes` or `--dry-run` is given.
        creates: It chooses something in the pod, which is created from here.
    """

    about: str = ""
    program: str = "syncer"
    namespaces: bool = False
    by: bool = False
    reads: bool = False
    writes: bool = False
    asks: bool = False
    creates: bool = False


#: The commands, in the order of the help. A program's other commands are not for a pod that runs already.
COMMANDS: Final[dict[str, Command]] = {
    "list": Command("list notifications, and which of them need attention", namespaces=True),
    "tail": Command(
        "show attempts as they happen: their results, and why one was not made", namespaces=True
    ),
    "explain": Command("explain why it was sent or not, and what comes next and when"),
    "inspect": Command("show log, fold and status of one notification"),
    "verify": Command("fold every log again and compare it with its status", namespaces=True),
    "doctor": Command(
        "check Redis, API server, permissions, CRD, leases and clocks", namespaces=True
    ),
    "repair": Command("repair what verify finds", namespaces=True, by=True, asks=True),
    "resolve": Command("record the result of an attempt that ended as unknown", by=True),
    "resend": Command("request one more attempt of a channel that ended without success", by=True),
    "hold": Command(
        "send nothing to a receiver, or of a kind, until a given time", namespaces=True, by=True
    ),
    "holds": Command(
        "list the holds, until when they last, and how many notifications each holds back",
        namespaces=True,
    ),
    "release": Command("release a hold", by=True),
    "export": Command("write logs as JSON lines", namespaces=True, writes=True),
    "import": Command("read logs from JSON lines", reads=True),
    "check": Command(
        "check the settings file, the routing file, the credentials, the gateway's file",
        program="notifier",
    ),
    "routes": Command(
        "show the routing tree, and which receivers would get a notification", program="notifier"
    ),
    "send": Command(
        "create a test notification, and follow it to its end",
        program="notifier",
        namespaces=True,
        creates=True,
    ),
    "ui": Command("open the explorer in a browser", program=""),
}
