"""Options that several commands share: their names, what they become, and their defaults."""

from __future__ import annotations

import argparse
from typing import Any, Final

import pytest

from notifier.cli.main import _parser as notifier_parser
from syncer.cli import arguments
from syncer.cli.main import _parser as syncer_parser
from syncer.rules.divergence import VERIFIED


def parser() -> argparse.ArgumentParser:
    """A command that takes everything."""
    made = argparse.ArgumentParser(parents=[arguments.where_to_look()], exit_on_error=False)
    arguments.add_object(made)
    arguments.add_namespaces(made)
    arguments.add_check(made)
    arguments.add_dry_run(made, "what would be done")
    arguments.add_reason(made, "why")
    arguments.add_by(made)
    made.add_argument("--keep", type=arguments.count, default=3)
    return made


DEFAULTS: Final[dict[str, Any]] = {
    "config": None, "redis_url": None, "redis_url_file": None, "key_prefix": None,
    "kubeconfig": None, "context": None, "json": False,
    "until_stdin_closes": False, "all_namespaces": False,
    "object": "ns/n", "namespace": None, "classes": None,
    "settle": "10s", "stuck": "2m", "pause": 2.0, "dry_run": False, "unchecked_store": False,
    "reason": "r", "by": None, "keep": 3,
}  # fmt: skip

GIVEN: Final[dict[str, tuple[list[str], dict[str, Any]]]] = {
    "nothing": ([], {}),
    "where Redis is": (
        ["--redis-url", "redis://h", "--key-prefix", "p", "--redis-url-file", "f"],
        {"redis_url": "redis://h", "key_prefix": "p", "redis_url_file": "f"},
    ),
    "where the API server is": (["--kubeconfig", "k", "--config", "c"], {"kubeconfig": "k", "config": "c"}),
    "a context": (["--context", "prod"], {"context": "prod"}),
    "answers in JSON": (["-o", "json"], {"json": True}),
    "somebody at the other end": (["--until-stdin-closes"], {"until_stdin_closes": True}),
    "all namespaces": (["-A"], {"all_namespaces": True}),
    "two namespaces": (["-n", "a", "--namespace", "b"], {"namespace": ["a", "b"]}),
    "two classes": (["--class", "phase", "--class", "orphan"], {"classes": ["phase", "orphan"]}),
    "spans of time": (
        ["--settle", "1s", "--stuck", "1m", "--pause", "0.5"],
        {"settle": "1s", "stuck": "1m", "pause": 0.5},
    ),
    "what writes": (
        ["--dry-run", "--unchecked-store", "--by", "me"],
        {"dry_run": True, "unchecked_store": True, "by": "me"},
    ),
    "a count": (["--keep", "0"], {"keep": 0}),
}  # fmt: skip


@pytest.mark.parametrize("case", GIVEN)
def test_options(case: str) -> None:
    """What is given is read, and everything else keeps its default."""
    words, wanted = GIVEN[case]
    found = parser().parse_args([*words, "--reason", "r", "ns/n"])
    assert vars(found) == DEFAULTS | wanted


REFUSED: Final = {
    "a class that there is not": ["--class", "other"],
    "a count below 0": ["--keep", "-1"],
    "a count that is none": ["--keep", "some"],
    "a pause that is no number": ["--pause", "2s"],
    "one namespace and all": ["-n", "a", "-A"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    """A value that means nothing is an error, not a default."""
    with pytest.raises(argparse.ArgumentError):
        parser().parse_args([*REFUSED[case], "--reason", "r", "ns/n"])


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


def test_a_reason_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    """Who changes the record says why."""
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        parser().parse_args(["ns/n"])


def test_the_classes_are_those_of_the_check() -> None:
    """Each class that `verify` may name can be chosen."""
    assert list(arguments.CLASSES) == [kind.value for kind in VERIFIED]


@pytest.mark.parametrize("option", ["--reason", "--by", "--config", "--redis-url"])
def test_two_dashes_are_no_value(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The library makes an empty list of them, which nothing expects."""
    made = arguments.Parser(parents=[parser()], add_help=False)
    with pytest.raises(SystemExit) as caught:
        made.parse_args(["ns/n", "--reason=r", f"{option}=--"])
    assert caught.value.code == 2
    assert f"argument {option}: expected one argument" in capsys.readouterr().err


def test_both_commands_refuse_two_dashes() -> None:
    """Their parsers, and those of their subcommands, are of that class."""
    for made in (notifier_parser(), syncer_parser()):
        (choices,) = (a.choices for a in made._actions if isinstance(a, argparse._SubParsersAction))
        assert {type(p) for p in (made, *choices.values())} == {arguments.Parser}
