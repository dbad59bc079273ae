"""
All commands and all options, in two tables: an option means the same for every command that has it.

This module is imported for `--help`, so it imports nothing that takes time; the module of a command is
imported when the command runs.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

#: Paths of the settings file in a pod of the controller: where the chart mounts it, and the default of
#: `notifier run`.
SETTINGS_FILES: Final = ("/etc/notification/config/config.yaml", "/etc/notification/config.yaml")
#: States that may deserve attention; `syncer.cli.rows.Row.states` determines them.
ATTENTION: Final = ("lost", "unknown", "held", "unsynced", "quarantined", "journaled")


class Version(argparse.Action):
    """Print the version. It is looked up only then, because that takes longer than making the parser."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it and exit."""
        from importlib.metadata import version

        number = version("notification-ledger")
        sys.stdout.write(f"notification-ledger {number} (Python {sys.version.split()[0]})\n")
        parser.exit()


def address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, for `type=`; the host may be empty, or an address in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(text)
    return host.removeprefix("[").removesuffix("]"), count(port)


def namespace(text: str) -> str:
    """Parse the name of a namespace, for `type=`; any other text could form a different API path."""
    if not re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"no namespace can have the name {text!r}")
    return text


def count(text: str) -> int:
    """Parse a number that is not negative, for `type=`."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def rate(text: str) -> float:
    """Parse a rate such as `5/s` or `30/m` as a number a second, for `type=`."""
    number, _, unit = text.partition("/")
    found = float(number) / {"": 1, "s": 1, "m": 60}.get(unit, math.inf)
    if not 0.001 <= found <= 1000:
        raise ValueError(text)
    return found


def attention(text: str) -> tuple[str, ...]:
    """Parse names of states, separated by commas, for `type=`."""
    wanted = tuple(filter(None, text.replace(" ", "").split(",")))
    if wrong := [state for state in wanted if state not in ATTENTION]:
        raise argparse.ArgumentTypeError(
            f"no such state: {', '.join(wrong)}; there are {', '.join(ATTENTION)}"
        )
    return wanted


def output(text: str) -> bool:
    """Whether the answer is JSON, for `type=`."""
    if text not in {"text", "json"}:
        raise ValueError(text)
    return text == "json"


_SWITCH: Final = {"action": "store_true"}
_MANY: Final = {"action": "append", "metavar": "PATTERN"}

#: Each option, by its name without dashes; names that are missing here are positional arguments.
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "config": {
        "metavar": "FILE",
        "help": "the controller's settings file (default: where a pod of the controller has it)",
    },
    "redis-url": {
        "metavar": "URL",
        "help": "overrides the file's redis.url (default without a file: $REDIS_URL); put no password"
        " here, where other users can read it",
    },
    "key-prefix": {
        "metavar": "PREFIX", "help": "prefix of every key; overrides redis.keyPrefix",
    },
    "kubeconfig": {
        "metavar": "FILE", "help": "default: $KUBECONFIG, else ~/.kube/config, else the pod's own account",
    },
    "context": {
        "metavar": "NAME", "help": "context of the kubeconfig (default: its current one)",
    },
    "output": {
        "flags": ("-o", "--output"), "dest": "json", "type": output, "default": False,
        "metavar": "text|json",
        "help": "json: one object per line (default: text)",
    },
    "until-stdin-closes": {
        **_SWITCH, "help": "end when standard input closes, for connections that may break",
    },
    "namespace": {
        "flags": ("-n", "--namespace"), "action": "append", "type": namespace, "metavar": "NAMESPACE",
        "help": "only this one; may be given again (default: those that the settings file names, else all)",
    },
    "all-namespaces": {
        "flags": ("-A", "--all-namespaces"), **_SWITCH,
        "help": "all namespaces, including those that the settings file does not list",
    },
    "event": {
        "metavar": "EVENT",
        "help": "only what the gateway created for this event, or any part of it: 'alertmanager:GROUPKEY',"
        " 'flux:KIND/NAMESPACE/NAME:REASON', 'cloudevents:SOURCE#ID', 'github:GUID'",
    },
    "receiver": {
        **_MANY,
        "help": "only this channel (`slack:ops`, `slack:*`), or any channel of a receiver (`ops`); may be"
        " given again",
    },
    "since": {
        "metavar": "TIME",
        "help": "only if created, or attempted there, since then (`1h`, `3d`, or a time)",
    },
    "reason": {"metavar": "TEXT", "help": "why (recorded)"},
    "by": {
        "metavar": "WHO", "default": os.environ.get("LEDGER_BY"),
        "help": "the name to record as the operator (default: $LEDGER_BY, else user@host)",
    },
    "dry-run": {**_SWITCH, "help": "only show what would be done"},
    "phase": {
        "action": "append", "metavar": "PHASE", "type": str.lower,
        "choices": ("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed"),
        "help": "only this phase, `none` for none yet; may be given again",
    },
    "state": {
        "metavar": "STATE", "type": attention, "default": (),
        "help": f"only in one of these states, separated by commas: {', '.join(ATTENTION)}",
    },
    "unfinished": {
        **_SWITCH, "help": "only what is still to be sent, with its next attempt",
    },
    "records": {
        **_SWITCH,
        "help": "show every record of its log, and compare log and status; also of a deleted object",
    },
    "follow": {
        "flags": ("-f", "--follow"), **_SWITCH,
        "help": "then follow new attempts, until interrupted",
    },
    "repair": {**_SWITCH, "help": "repair what is found"},
    "rebuild": {
        **_SWITCH,
        "help": "replace a log that cannot be read by a legible one; the old one is kept aside",
    },
    "accept-loss": {
        **_SWITCH, "help": "also if a record is not legible at all; its message may be sent again",
    },
    "unwitnessed": {
        **_SWITCH, "help": "add facts that only the status shows to the log, in the name of --by",
    },
    "moved": {
        **_SWITCH,
        "help": "like --unwitnessed, for objects without a log, before the controller first starts here",
    },
    "as": {
        "dest": "result", "required": True, "choices": ("delivered", "failed"),
        "help": "the result to record",
    },
    "attempt": {
        "metavar": "ID", "help": "its id, or `all` (default: the only one whose result is unknown)",
    },
    "even-open": {**_SWITCH, "help": "also attempts that may still be under way"},
    "failed": {**_SWITCH, "help": "every notification that failed, on any receiver"},
    "even-dropped": {
        **_SWITCH, "help": "without a notification: also channels that an operator has dropped",
    },
    "rate": {
        "type": rate, "metavar": "N/s",
        "help": "at most this many per second (`5/s`) or minute (`30/m`), the oldest first",
    },
    "type": {**_MANY, "help": "notifications with this spec.type, ignoring case"},
    "severity": {**_MANY, "help": "notifications with this spec.severity, ignoring case"},
    "until": {
        "metavar": "TIME",
        "help": "when the hold ends by itself: a duration from now (`2h`, `3d`), or a time",
    },
    "anyway": {**_SWITCH, "help": "even if a pattern matches nothing that is known"},
    "drop": {
        **_SWITCH,
        "help": "of `hold end`: give up what waits; it fails, on record, and younger notifications go on",
    },
    "service-account": {
        "metavar": "NAMESPACE/NAME",
        "help": "check the permissions of this account instead of your own",
    },
    "port": {
        "type": count, "default": 8088, "metavar": "PORT",
        "help": "port on 127.0.0.1, 0 for any free one (default %(default)s)",
    },
    "health-address": {
        "type": address, "metavar": "HOST:PORT",
        "help": "serve only /healthz on this address, for probes (default: none)",
    },
}  # fmt: skip
_NEVER_BOTH: Final = (
    ("namespace", "all-namespaces"), ("object", "event"), ("rate", "drop"), ("dry-run", "wait"),
)  # fmt: skip
_SCOPE: Final = ("namespace", "all-namespaces")
_OBJECT: Final = {"metavar": "NAMESPACE/NAME"}
_SAME: Final[dict[str, Any]] = {}
EVERYWHERE: Final = dict.fromkeys(
    ("config", "redis-url", "key-prefix", "kubeconfig", "context", "output", "until-stdin-closes"),
    _SAME,
)


class Command(NamedTuple):
    """A command: its module, its help text, and its arguments and options with their overrides."""

    module: str
    help: str
    options: Mapping[str, dict[str, Any]]


COMMANDS: Final = {
    "status": Command(
        "status", "show what needs attention now, and the command to continue with",
        dict.fromkeys(_SCOPE, _SAME),
    ),
    "list": Command(
        "rows", "list notifications, the newest first, and which of them need attention",
        dict.fromkeys((*_SCOPE, "phase", "event", "state", "unfinished", "receiver", "since"), _SAME),
    ),
    "tail": Command(
        "tail", "show attempts as they happen: their results, and why one was not made",
        {
            **dict.fromkeys((*_SCOPE, "receiver", "follow"), _SAME),
            "since": {
                "default": "10m",
                "help": "start this long ago (`1h`, `3d`), or at a time (default %(default)s)",
            },
        },
    ),
    "explain": Command(
        "explain", "explain why it was sent or not, and what comes next and when",
        {"object": _OBJECT | {"nargs": "?"}, "event": _SAME, "records": _SAME},
    ),
    "receivers": Command(
        "receivers", "show which receivers are bad, since when, and their last error",
        {
            **dict.fromkeys(_SCOPE, _SAME),
            "since": {
                "default": "1d",
                "help": "count attempts since then (`1h`, `3d`, or a time; default %(default)s)",
            },
        },
    ),
    "verify": Command(
        "verify", "fold every log again, compare it with its status, and repair what differs",
        {
            "object": _OBJECT | {
                "nargs": "*", "help": "a notification to repair, with --repair (default: all that diverge)",
            },
            **dict.fromkeys(
                (*_SCOPE, "repair", "dry-run", "rebuild", "accept-loss", "unwitnessed", "moved", "by"),
                _SAME,
            ),
        },
    ),
    "resolve": Command(
        "resend", "record the result of an attempt that ended as unknown",
        {
            "object": _OBJECT, "as": _SAME,
            "reason": {"required": True, "help": "how you know the result (recorded)"},
            **dict.fromkeys(("attempt", "receiver", "even-open", "dry-run", "by"), _SAME),
        },
    ),
    "resend": Command(
        "resend", "request one more attempt of channels that ended without success",
        {
            "object": _OBJECT | {"nargs": "?"},
            "reason": {"default": "", "help": "why (recorded; required for one notification)"},
            "receiver": {
                "help": "only there; without a notification every one that failed there; may be repeated",
            },
            "failed": _SAME, "even-dropped": _SAME,
            "since": {"help": "only if its last attempt there was since then (`2h`, or a time)"},
            "rate": {"default": "1/s", "help": "of several, so many a second (default %(default)s)"},
            **dict.fromkeys((*_SCOPE, "dry-run", "by"), _SAME),
        },
    ),
    "hold": Command(
        "hold", "send nothing to a receiver, or of a kind, until a given time; list holds, end them",
        {
            "act": {
                "nargs": "?", "choices": ("list", "end"),
                "help": "list the holds, or end those that are named; without it, one is placed",
            },
            "hold": {"nargs": "*", "metavar": "NAME", "help": "of `hold end`: names of holds"},
            "receiver": {
                "help": "a channel as listed (`slack:ops`, `slack:*`), or any of a receiver (`ops`);"
                " may be given again, or patterns separated by commas; different options must all match",
            },
            "namespace": {"type": str, "help": "notifications in this namespace"},
            "rate": {"help": "of `hold end`: let go so many a second (`5/s`), or a minute, oldest first"},
            **dict.fromkeys(
                ("type", "severity", "until", "reason", "anyway", "dry-run", "drop", "by"), _SAME
            ),
        },
    ),
    "doctor": Command(
        "doctor", "check settings, Redis, API server, permissions, replicas and routing",
        dict.fromkeys((*_SCOPE, "service-account"), _SAME),
    ),
    "web": Command(
        "web", "serve the explorer's pages, on loopback only",
        dict.fromkeys((*_SCOPE, "port", "health-address"), _SAME),
    ),
}  # fmt: skip


def add_options(
    parser: argparse.ArgumentParser,
    options: Mapping[str, dict[str, Any]],
    known: Mapping[str, dict[str, Any]] = OPTIONS,
) -> None:
    """
    Add options and arguments to a parser.

    Args:
        parser: Parser of a command.
        options: Options and arguments by name, each with the overrides for this command.
        known: Definition of each option; names that it lacks are positional arguments.
    """
    groups: dict[tuple[str, str], Any] = {}
    for name, more in options.items():
        to: Any = parser
        pair = next((p for p in _NEVER_BOTH if name in p and set(p) <= options.keys()), None)
        if pair is not None:
            if pair not in groups:
                groups[pair] = parser.add_mutually_exclusive_group(required="object" in pair)
            to = groups[pair]
        made = {"flags": (f"--{name}",)} | known[name] if name in known else {"flags": (name,)}
        made |= more
        to.add_argument(*made.pop("flags"), **made)
