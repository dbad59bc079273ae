"""Options that several commands share: what they become, their defaults, and how many there are."""

from __future__ import annotations

from typing import Any, Final

import pytest

from syncer.cli import arguments
from syncer.cli.arguments import COMMANDS, OPTIONS
from syncer.cli.main import _parser as syncer_parser

GIVEN: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "where Redis is": (
        "list --redis-url redis://h --key-prefix p", {"redis_url": "redis://h", "key_prefix": "p"},
    ),
    "where the API server is": (
        "list --kubeconfig k --config c --context prod",
        {"kubeconfig": "k", "config": "c", "context": "prod"},
    ),
    "answers in JSON": ("list -o json", {"json": True}),
    "nothing": ("list", {"json": False, "namespace": None, "state": (), "until_stdin_closes": False}),
    "all namespaces": ("list -A", {"all_namespaces": True}),
    "two namespaces": ("list -n a --namespace b", {"namespace": ["a", "b"]}),
    "states": ("list --state held,unknown", {"state": ("held", "unknown")}),
    "some of the past": ("tail", {"since": "10m", "follow": False}),
    "a day": ("receivers", {"since": "1d"}),
    "what writes": (
        "resolve ns/n --as failed --reason r --dry-run --by me",
        {"result": "failed", "reason": "r", "dry_run": True, "by": "me", "object": "ns/n"},
    ),
    "a hold": ("hold --receiver a --receiver b --until 1h", {"receiver": ["a", "b"], "act": None}),
    "the end of two holds": ("hold end a b --rate 5/s", {"act": "end", "hold": ["a", "b"], "rate": 5.0}),
    "a rate": ("hold end a --rate 0.5/s", {"rate": 0.5}),
    "a rate without a unit": ("hold end a --rate 5", {"rate": 5.0}),
    "a slow rate": ("hold end a --rate 30/m", {"rate": 0.5}),
    "the usual rate": ("resend --failed", {"rate": 1.0}),
    "one notification": ("explain ns/n", {"object": "ns/n", "event": None}),
    "an event": ("explain --event e", {"object": None, "event": "e"}),
    "a port": ("web --port 0", {"port": 0}),
    "a port for probes": ("web --health-address :80", {"health_address": ("", 80)}),
    "an address for probes": ("web --health-address h:80", {"health_address": ("h", 80)}),
    "one in brackets": ("web --health-address [::1]:80", {"health_address": ("::1", 80)}),
}  # fmt: skip


@pytest.mark.parametrize("case", GIVEN)
def test_options(case: str) -> None:
    """What is given is read, and everything else keeps its default."""
    line, wanted = GIVEN[case]
    found = vars(syncer_parser().parse_args(line.split()))
    assert {name: found[name] for name in wanted} == wanted


def test_there_are_few() -> None:
    """About forty in all, and each is of some command."""
    used = {name for command in COMMANDS.values() for name in command.options if name in OPTIONS}
    assert used | set(arguments.EVERYWHERE) == set(OPTIONS)
    assert len(OPTIONS) <= 41
