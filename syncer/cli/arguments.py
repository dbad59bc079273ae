"""
Options that several commands share.

This module and those of the commands are imported for `--help` and for completion, so they import nothing
that takes time; what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Final

#: The values of `syncer.rules.divergence.VERIFIED`, which is slow to import.
CLASSES: Final = (
    "foreign", "unreadable", "misnamed", "mark-beyond", "log-missing", "log-behind", "plan-missing",
    "expiring", "status-behind", "acked", "status-differs", "open-attempt", "unacked", "no-expiry",
    "orphan", "epoch-ahead", "two-open", "conflict", "phase", "channels", "spec",
    "numbers", "object",
)  # fmt: skip
#: Where a pod of the controller has its settings file: as the chart mounts it, as `notifier run` expects
#: it.
SETTINGS_FILES: Final = ("/etc/notification/config/config.yaml", "/etc/notification/config.yaml")
#: What the name of a notification looks like.
OBJECT: Final = "NAMESPACE/NAME"
#: States of what is shown of a log, as `syncer.cli.attempts` names them.
STATES: Final = ("success", "failed", "unknown", "skip", "intent")


class Parser(argparse.ArgumentParser):
    """Refuses `--option=--`, for which the library returns an empty list instead of a text."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:  # noqa: V105 (of the library)
        values = super()._get_values(action, arg_strings)
        if values == [] and action.nargs is None:
            raise argparse.ArgumentError(action, "expected one argument")
        return values


def where_to_look() -> Parser:
    """Return the parent of the commands' parsers: how Redis and the API server are found."""
    where = Parser(add_help=False)
    group = where.add_argument_group("where to look")
    group.add_argument(
        "--config", metavar="FILE",
        help="the controller's settings file (default: where a pod of the controller has it)",
    )  # fmt: skip
    group.add_argument(
        "--redis-url", metavar="URL",
        help="overrides the file's redis.url; put no password here, where other users can read it",
    )  # fmt: skip
    group.add_argument(
        "--redis-url-file",
        metavar="FILE",
        help="file that holds that URL (default without --redis-url and --config: $REDIS_URL)",
    )
    group.add_argument(
        "--key-prefix", metavar="PREFIX", help="prefix of every key; overrides redis.keyPrefix"
    )
    add_kubeconfig(group)
    shape = where.add_argument_group("the answer")
    shape.add_argument(
        "-o", "--output", dest="json", type=_json, default=False, metavar="text|json",
        help="json: one object per line (default: text)",
    )  # fmt: skip
    shape.add_argument(
        "--until-stdin-closes", action="store_true",
        help="end when standard input closes, for connections that may break",
    )  # fmt: skip
    return where


def add_kubeconfig(parser: argparse._ActionsContainer) -> None:
    """Add the options that locate the API server."""
    parser.add_argument(
        "--kubeconfig", metavar="FILE",
        help="default: $KUBECONFIG, else ~/.kube/config, else the pod's own account",
    )  # fmt: skip
    parser.add_argument(
        "--context", metavar="NAME", help="context of the kubeconfig (default: its current one)"
    )


def add_object(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a notification."""
    parser.add_argument("object", metavar=OBJECT)


def add_event(parser: argparse._ActionsContainer) -> None:
    """Add the option that names the event behind a notification."""
    parser.add_argument(
        "--event", metavar="EVENT",
        help="only what the gateway created for this event: 'alertmanager:GROUPKEY',"
        " 'flux:KIND/NAMESPACE/NAME:REASON', 'cloudevents:SOURCE#ID', 'github:GUID'",
    )  # fmt: skip


def add_namespaces(parser: argparse._ActionsContainer) -> None:
    """Add the options that choose namespaces."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--namespace", action="append", type=namespace, metavar="NAMESPACE",
        help="only this one; may be given again (default: those that the settings file names,"
        " else all)",
    )  # fmt: skip
    which.add_argument(
        "-A", "--all-namespaces", action="store_true",
        help="all namespaces, including those that the settings file does not list",
    )  # fmt: skip


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the controller's namespace."""
    parser.add_argument(
        "--controller-namespace", metavar="NAMESPACE",
        help="namespace of the Leases (default: $KUBERNAUT_CONTROLLER_NAMESPACE, else the pod's own)",
    )  # fmt: skip


def add_attempts(parser: argparse.ArgumentParser) -> None:
    """Add the options that filter attempts."""
    parser.add_argument(
        "--channel", metavar="PATTERN", help="only this channel, `slack:ops` or `slack:*`"
    )
    parser.add_argument(
        "--receiver", metavar="PATTERN", help="only channels of this receiver, `ops`"
    )
    parser.add_argument(
        "--error", metavar="TEXT", help="only errors that contain this, ignoring case"
    )


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the options of a check of logs against objects: its bounds, and the classes to report."""
    parser.add_argument(
        "--class", dest="classes", action="append", choices=CLASSES, metavar="CLASS",
        help="only this class of divergence; may be given again",
    )  # fmt: skip
    add_time(parser, "--settle", "10s", "age up to which an unpublished record is not reported")
    add_time(parser, "--stuck", "2m", "time after which an open attempt counts as abandoned")
    parser.add_argument(
        "--pause", type=seconds, default=2.0, metavar="SECONDS",
        help="wait before a divergence is read again to confirm it (default %(default)s)",
    )  # fmt: skip


def add_dry_run(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the options of a command that writes; `what` names what a dry run shows."""
    parser.add_argument("--dry-run", action="store_true", help=f"only show {what}")
    parser.add_argument(
        "--unchecked-store", action="store_true",
        help="write even if the owner of the store cannot be checked",
    )  # fmt: skip


def add_reason(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option for the reason, which is recorded; `what` is its help text."""
    parser.add_argument("--reason", required=True, help=f"{what} (recorded)")


def add_time(parser: argparse._ActionsContainer, option: str, default: str, what: str) -> None:
    """
    Add an option that takes a duration.

    Args:
        parser: Of the command.
        option: Name of the option, with its dashes.
        default: As it would be typed, `10s`.
        what: Help text.
    """
    parser.add_argument(
        option, default=default, metavar="TIME", help=f"{what} (default %(default)s)"
    )


def add_by(parser: argparse._ActionsContainer) -> None:
    """Add the option for the operator's name, which is recorded."""
    parser.add_argument(
        "--by", metavar="WHO", default=os.environ.get("LEDGER_BY"),
        help="the name to record as the operator (default: $LEDGER_BY, else user@host)",
    )  # fmt: skip


def _json(text: str) -> bool:
    """Whether the answer is JSON, for `type=`."""
    if text not in {"text", "json"}:
        raise ValueError(text)
    return text == "json"


def address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, for `type=`; the host may be empty, or an address in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(text)
    return host.removeprefix("[").removesuffix("]"), count(port)


def namespace(text: str) -> str:
    """Parse the name of a namespace, for `type=`: any other text would be another path of the API."""
    if not re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"no namespace can have the name {text!r}")
    return text


def seconds(text: str) -> float:
    """Parse seconds of an hour at most, for `type=`."""
    number = float(text)
    if not 0 <= number <= 3600:
        raise ValueError(text)
    return number


def count(text: str) -> int:
    """Parse a number that is not negative, for `type=`."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
