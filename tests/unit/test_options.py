"""The options of both commands, which scripts rely on: none goes, and none means something else."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import notifier.cli.main
import syncer.cli.main
from syncer.cli.arguments import where_to_look
from syncer.cli.completion import _commands

#: A line for each; where one changes on purpose, the line changes with it, and a new one is added.
KNOWN: Final = Path(__file__).with_name("options.txt")


SHARED: Final = set(where_to_look()._option_string_actions)


def lines_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What a command takes, and what its subcommands take; what all of `syncer` share is one line."""
    shares = set(parser._option_string_actions) >= SHARED
    if shares:
        yield f"{parser.prog}  where to look"
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or (
            shares and SHARED & {*action.option_strings}
        ):
            continue
        if isinstance(action, argparse._SubParsersAction):
            yield f"{parser.prog}  COMMAND{'' if action.required else '?'}"
            continue
        names = "|".join(action.option_strings) or action.dest
        value = action.metavar or "|".join(map(str, action.choices or ()))
        if not value and action.option_strings and action.nargs != 0:
            value = action.dest.upper()
        facts = [
            f"default {action.default!r}" if action.default not in (None, "==SUPPRESS==") else "",
            f"{action.nargs!r} times" if action.nargs else "",
            "required" if action.required and action.option_strings else "",
            type(action).__name__.strip("_").removesuffix("Action"),
        ]
        yield "  ".join(filter(None, (parser.prog, names, str(value), *facts)))
    for child in _commands(parser).values():
        yield from lines_of(child)


def test_no_option_goes_or_changes() -> None:
    """Names, values, defaults, and how often each may stand."""
    found = {
        line for main in (notifier.cli.main, syncer.cli.main) for line in lines_of(main._parser())
    }
    assert [line for line in KNOWN.read_text().splitlines() if line not in found] == []
