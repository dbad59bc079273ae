"""
All commands with their options. A command is one module of its name, which is imported when it runs.

This module is imported for `--help` and for completion, so it imports nothing that takes time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from syncer.cli.arguments import OPTIONS

#: Those of the CRD; a test compares.
TYPES: Final = ("Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion")
PRIORITIES: Final = ("Critical", "High", "Medium", "Low")
_FORMS: Final = ("tree", "json")


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the files of settings and routing."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings file (default: the pod's own, if there is one)"
    )
    parser.add_argument(
        "--routing", metavar="FILE",
        help="routing file (default: $ROUTING_CONFIG_PATH, else the pod's own, if there is one)",
    )  # fmt: skip


def _add_attributes(parser: argparse.ArgumentParser) -> None:
    """Add the option for the attributes of a notification."""
    parser.add_argument(
        "--attributes", metavar="KEY=VALUE,...", action="append", default=[],
        help="what routes match, as severity=critical,team=db; may be given again",
    )  # fmt: skip


def _add_output(parser: argparse.ArgumentParser, forms: Sequence[str]) -> None:
    """Add the option for the format of the answer; the first of the forms is the default."""
    parser.add_argument(
        "-o", "--output", choices=forms, default=forms[0],
        help="output format (default %(default)s)",
    )  # fmt: skip


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", "-config", metavar="FILE", default="/etc/notification/config.yaml",
        help="settings file (default %(default)s)",
    )  # fmt: skip
    parser.set_defaults(grace="")
    parser.epilog = (
        "exit codes: 0 stopped by a signal; 1 the configuration cannot be used, or a background task has"
        " ended; 2 wrong usage"
    )


def _gateway(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", default="/etc/notification-gateway/gateway.yaml",
        help="the configuration file (default %(default)s)",
    )  # fmt: skip
    parser.epilog = (
        "exit codes: 0 stopped by a signal, or tested; 1 the configuration cannot be used, or the payload"
        " becomes no notification; 2 wrong usage"
    )
    actions = parser.add_subparsers(dest="action", metavar="test")
    test = actions.add_parser("test", help="show what the payload on standard input would become")
    test.add_argument(
        "--source", required=True, metavar="NAME", help="a source of the configuration file"
    )
    test.add_argument(
        "--routing", metavar="FILE", help="a routing file: also show who would get the notification"
    )
    test.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'",
        help="a header of the request; may be given several times",
    )  # fmt: skip
    test.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS,
        help="the gateway's configuration file",
    )  # fmt: skip


def _check(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    parser.add_argument(
        "--credentials", metavar="DIR",
        help="directory of credentials (default: the one that the settings name, if it exists)",
    )  # fmt: skip
    parser.add_argument(
        "--gateway", metavar="FILE",
        help="the gateway's file; if only this one is given, only this one is checked",
    )  # fmt: skip
    _add_output(parser, ("text", "json"))
    parser.epilog = (
        "exit codes: 0 no errors; warnings are shown and do not count; 1 errors; 2 wrong usage"
    )


def _routes(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="routes", metavar="show|test", required=True)
    shown = "show the tree, its receivers, and which routes never match"
    show = commands.add_parser("show", help=shown, description=shown)
    _add_files(show)
    _add_output(show, _FORMS)
    tried = "show which receivers a notification would go to, and why"
    test = commands.add_parser("test", help=tried, description=tried)
    _add_files(test)
    _add_attributes(test)
    test.add_argument(
        "--notification", metavar="FILE",
        help="manifest of a NotificationRequest (`-`: standard input); --attributes override it",
    )  # fmt: skip
    test.add_argument(
        "--render", action="store_true",
        help="show what they would get of the --notification, in the words of their templates; exit with 1"
        " if these do not fit",
    )  # fmt: skip
    test.add_argument(
        "--expect", metavar="RECEIVER,...",
        help="exit with 1 unless exactly these receivers get it",
    )  # fmt: skip
    _add_output(test, _FORMS)
    epilog = (
        "exit codes: 0 done, and as expected; 1 other receivers than expected, some that refuse it, or"
        " templates that do not fit; 2 wrong usage, or files that the controller refuses"
    )
    parser.epilog = show.epilog = test.epilog = epilog


def _send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--receiver", metavar="NAME",
        help="the receiver to reach; the command chooses attributes that reach it alone",
    )  # fmt: skip
    _add_attributes(parser)
    parser.add_argument(
        "-n", "--namespace", metavar="NAMESPACE",
        help="where to create it (default: what the routes ask for, else the pod's own)",
    )  # fmt: skip
    parser.add_argument("--subject", default="Test notification", help="default: %(default)r")
    parser.add_argument(
        "--body", help="text of the message (default: says who sent it, and that nothing is wrong)"
    )
    parser.add_argument(
        "--type", choices=TYPES, help="default: what the routes ask for, else Simple"
    )
    parser.add_argument(
        "--priority", choices=PRIORITIES, help="default: what the routes ask for, else Low"
    )
    _add_files(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="print the manifest, and who would get it"
    )
    how.add_argument(
        "--wait", action="store_true", help="show its attempts until the notification has ended"
    )
    parser.add_argument(
        "--timeout", default="2m", metavar="TIME",
        help="give up waiting after this time (default %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("the API server")
    for name in ("kubeconfig", "context"):
        group.add_argument(f"--{name}", **OPTIONS[name])
    _add_output(parser, ("text", "json"))
    parser.epilog = (
        "exit codes: 0 created, and with --wait delivered by every channel; 1 it ended otherwise, or was"
        " refused; 2 wrong usage or files; 4 the API server does not answer; 6 the API server refuses the"
        " account; 7 it has not ended within --timeout"
    )


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("crd", "settings", "routing", "gateway"))


class Command(NamedTuple):
    """A command: what it does, and what adds its options to a parser."""

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]


COMMANDS: Final = {
    "run": Command("run the controller", _run),
    "gateway": Command(
        "receive webhooks from other programs, or show what a payload would become", _gateway
    ),
    "check": Command(
        "check the settings file, the routing file, the credentials, the gateway's file", _check
    ),
    "routes": Command(
        "show the routing tree, and which receivers would get a notification", _routes
    ),
    "send": Command("create a test notification, and follow it to its end", _send),
    "show": Command(
        "print the CRD, or for editors the JSON schema of a file: settings, routing, gateway", _show
    ),
}
