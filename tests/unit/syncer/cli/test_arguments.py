"""Options that several commands share: what they become, their defaults, and how many there are."""

from __future__ import annotations

import argparse
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
    "the end of two holds": ("hold end a b --rate 5/s", {"act": "end", "hold": ["a", "b"], "rate": "5/s"}),
    "one notification": ("explain ns/n", {"object": "ns/n", "event": None}),
    "an event": ("explain --event e", {"object": None, "event": "e"}),
    "a port": ("web --port 0", {"port": 0}),
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


def test_an_address_has_a_host_and_a_port() -> None:
    """The host may be empty; a port alone might as well be a host."""

    def parse_address(text: str) -> tuple[str, int]:
        parser = argparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("at", type=arguments.address)
        found: tuple[str, int] = parser.parse_args([text]).at
        return found

    assert [parse_address(text) for text in (":80", "h:80", "[::1]:80")] == [
        ("", 80), ("h", 80), ("::1", 80),
    ]  # fmt: skip
    for text in ("80", "h", "", "h:", "h:x", "h:-1"):
        with pytest.raises(argparse.ArgumentError):
            parse_address(text)
