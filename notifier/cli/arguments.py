"""
All commands with their options. Each command is one module, which is imported when the command runs.

This module is imported for `--help`, so it imports nothing that takes time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from syncer.cli import arguments

#: The values that the CRD allows; a test compares them.
TYPES: Final = ("Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion")
PRIORITIES: Final = ("Critical", "High", "Medium", "Low")

_SAME: Final[dict[str, Any]] = {}
#: Every option by its name without dashes; names that are not listed here are positional arguments.
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "config": {
        "metavar": "FILE", "help": "settings file (default: the pod's own, if there is one)",
    },
    "routing": {
        "metavar": "FILE",
        "help": "routing file (default: $ROUTING_CONFIG_PATH, else the pod's own, if there is one)",
    },
    "credentials": {
        "metavar": "DIR",
        "help": "directory of credentials (default: the one that the settings name, if it exists)",
    },
    "gateway": {
        "metavar": "FILE",
        "help": "the gateway's file; if only this one is given, only this one is checked",
    },
    "output": {
        "flags": ("-o", "--output"), "choices": ("text", "json"), "default": "text",
        "help": "output format (default %(default)s)",
    },
    "source": {
        "required": True, "metavar": "NAME", "help": "a source of the configuration file",
    },
    "header": {
        "action": "append", "default": [], "metavar": "'NAME: VALUE'",
        "help": "a header of the request; may be given several times",
    },
    "attributes": {
        "metavar": "KEY=VALUE,...", "action": "append", "default": [],
        "help": "what routes match, as severity=critical,team=db; may be given again",
    },
    "notification": {
        "metavar": "FILE",
        "help": "manifest of a NotificationRequest (`-`: standard input); --attributes override it",
    },
    "render": {
        "action": "store_true",
        "help": "show the messages that they would get for --notification, rendered by their templates;"
        " exit with 1 if a template does not fit",
    },
    "expect": {
        "metavar": "RECEIVER,...", "help": "exit with 1 unless exactly these receivers get it",
    },
    "receiver": {
        "metavar": "NAME",
        "help": "the receiver to reach; the command chooses attributes that reach it alone",
    },
    "namespace": {
        "flags": ("-n", "--namespace"), "metavar": "NAMESPACE",
        "help": "where to create it (default: what the routes ask for, else the pod's own)",
    },
    "subject": {"default": "Test notification", "help": "default: %(default)r"},
    "body": {
        "help": "text of the message (default: says who sent it, and that nothing is wrong)",
    },
    "type": {"choices": TYPES, "help": "default: what the routes ask for, else Simple"},
    "priority": {"choices": PRIORITIES, "help": "default: what the routes ask for, else Low"},
    "dry-run": {"action": "store_true", "help": "print the manifest, and who would get it"},
    "wait": {
        "action": "store_true", "help": "show its attempts until the notification has ended",
    },
    "timeout": {
        "default": "2m", "metavar": "TIME",
        "help": "give up waiting after this time (default %(default)s)",
    },
    "kubeconfig": arguments.OPTIONS["kubeconfig"],
    "context": arguments.OPTIONS["context"],
}  # fmt: skip
_FILES: Final = {"config": _SAME, "routing": _SAME}
_FORMS: Final = {"output": {"choices": ("tree", "json"), "default": "tree"}}
_ROUTES: Final = (
    "exit codes: 0 done, and as expected; 1 the receivers differ from --expect, one refuses the"
    " notification, or a template does not fit; 2 wrong usage, or files that the controller refuses"
)


class Command(NamedTuple):
    """A command: its help, its options with their changes to `OPTIONS`, its exit codes, its subcommands."""

    help: str
    options: Mapping[str, dict[str, Any]]
    epilog: str = ""
    below: Mapping[str, Command] | None = None

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the options and subcommands to the command's parser."""
        parser.epilog = self.epilog
        arguments.add_options(parser, self.options, OPTIONS)
        if self.below is not None:
            # A command with options of its own also works without a subcommand.
            commands = parser.add_subparsers(
                dest="action", metavar="|".join(self.below), required=not self.options
            )
            for name, each in self.below.items():
                each.add_to(commands.add_parser(name, help=each.help, description=each.help))


COMMANDS: Final = {
    "run": Command(
        "run the controller",
        {"config": {
            "flags": ("--config", "-config"), "default": "/etc/notification/config.yaml",
            "help": "settings file (default %(default)s)",
        }},
        "exit codes: 0 stopped by a signal; 1 the configuration cannot be used, or a background task has"
        " ended; 2 wrong usage",
    ),
    "gateway": Command(
        "receive webhooks from other programs, or show what a payload would become",
        {"config": {
            "default": "/etc/notification-gateway/gateway.yaml",
            "help": "the configuration file (default %(default)s)",
        }},
        "exit codes: 0 stopped by a signal, or tested; 1 the configuration cannot be used, or the payload"
        " becomes no notification; 2 wrong usage",
        {"test": Command(
            "show what the payload on standard input would become",
            {
                "source": _SAME,
                "routing": {"help": "a routing file: also show who would get the notification"},
                "header": _SAME,
                "config": {
                    "default": argparse.SUPPRESS, "help": "the gateway's configuration file",
                },
            },
        )},
    ),
    "check": Command(
        "check the settings file, the routing file, the credentials, the gateway's file",
        {**_FILES, "credentials": _SAME, "gateway": _SAME, "output": _SAME},
        "exit codes: 0 no errors; warnings are shown and do not count; 1 errors; 2 wrong usage",
    ),
    "routes": Command(
        "show the routing tree, and which receivers would get a notification", {}, _ROUTES,
        {
            "show": Command(
                "show the tree, its receivers, and which routes never match", {**_FILES, **_FORMS},
                _ROUTES,
            ),
            "test": Command(
                "show which receivers a notification would go to, and why",
                {
                    **_FILES,
                    **dict.fromkeys(("attributes", "notification", "render", "expect"), _SAME),
                    **_FORMS,
                },
                _ROUTES,
            ),
        },
    ),
    "send": Command(
        "create a test notification, and follow it to its end",
        dict.fromkeys(
            ("receiver", "attributes", "namespace", "subject", "body", "type", "priority", *_FILES,
             "dry-run", "wait", "timeout", "kubeconfig", "context", "output"), _SAME,
        ),
        "exit codes: 0 created, and with --wait delivered by every channel; 1 it ended otherwise, or was"
        " refused; 2 wrong usage or files; 4 the API server does not answer; 6 the API server refuses the"
        " account; 7 it has not ended within --timeout",
    ),
    "show": Command(
        "print the CRD, or for editors the JSON schema of a file: settings, routing, gateway",
        {"what": {"choices": ("crd", "settings", "routing", "gateway")}},
    ),
}  # fmt: skip
