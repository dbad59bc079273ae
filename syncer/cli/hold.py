"""`syncer hold`: send nothing to a receiver, or of a kind, until a given time."""

from __future__ import annotations

import argparse
from typing import Final

from syncer.cli.arguments import add_by, add_dry_run, add_reason
from syncer.cli.exits import OK, Misused, Refused

HELP: Final = "send nothing to a receiver, or of a kind, until a given time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_argument_group(
        "what to hold",
        "Patterns, with `*` and `?`. Repeat an option, or separate patterns by commas, to match any of"
        " them; different options must all match.",
    )
    what.add_argument(
        "--receiver", action="append", metavar="PATTERN",
        help="a channel as listed (`slack:ops`, `slack:*`), or any channel of a receiver (`ops`)",
    )  # fmt: skip
    what.add_argument(
        "-n", "--namespace", action="append", metavar="NAMESPACE",
        help="notifications in this namespace",
    )  # fmt: skip
    for field in ("type", "severity"):
        what.add_argument(
            f"--{field}", action="append", metavar=field.upper(),
            help=f"notifications with this spec.{field}, ignoring case",
        )  # fmt: skip
    parser.add_argument(
        "--until", required=True, metavar="TIME",
        help="when the hold ends by itself: a duration from now (`2h`, `3d`), or a time",
    )  # fmt: skip
    add_reason(parser, "the reason")
    add_dry_run(parser, "what would be held")
    add_by(parser)


async def run(options: argparse.Namespace) -> int:
    """Place a hold; returns the exit code."""
    import secrets

    from syncer.cli.access import access, operator_name, where_of
    from syncer.cli.counting import count_held
    from syncer.cli.holding import as_json
    from syncer.cli.manual_records import parse_reason
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.output import in_words, write_json, write_lines, write_remark
    from syncer.cli.store import trusted_store
    from syncer.cli.times import end_of
    from syncer.ledger.holds import HoldStore
    from syncer.model.hold import Hold
    from syncer.model.times import format_time
    from syncer.rules.holds import check_new, place, selector_of
    from syncer.rules.text import plain

    reason, by = plain(parse_reason(options.reason)), plain(operator_name(options.by))
    async with access(where_of(options)) as at:
        await trusted_store(at, options, writes=not options.dry_run)
        now = await at.now()
        hold = Hold(
            secrets.token_hex(4), now, end_of(options.until, "--until", now), by, reason,
            receivers=_patterns(options.receiver, "--receiver"),
            namespaces=_patterns(options.namespace, "--namespace"),
            types=_patterns(options.type, "--type"),
            severities=_patterns(options.severity, "--severity"),
        )  # fmt: skip
        store, held = HoldStore(at.client), None
        try:
            check_new(hold, now=now)
        except ValueError as error:
            raise Misused(str(error)) from None
        try:
            if options.dry_run:
                place((await store.read()).holds, hold, now=now)
                watched = await namespaces_of(at, argparse.Namespace(config=options.config))
                counted, unread = await count_held(at, [hold], watched, now=now)
                held = counted[hold.id]
                for text in unread:
                    write_remark(f"not counted: {text}")
            else:
                await store.change(lambda holds: place(holds, hold, now=now))
                await store.announce()
        except ValueError as error:
            raise Refused(str(error)) from None
    if options.json:
        write_json({**as_json(hold, held, now), "dryRun": options.dry_run})
        return OK
    end = f"until {format_time(hold.until, millis=False)} (for {in_words(hold.until - now)})"
    if options.dry_run:
        write_lines([f"would hold {selector_of(hold)} {end}: {held} notification(s) at present"])
    else:
        write_lines([
            f"hold {hold.id}: {selector_of(hold)} {end}",
            f"takes effect within 5 seconds; syncer release {hold.id} releases it",
        ])  # fmt: skip
    return OK


def _patterns(given: list[str] | None, option: str) -> tuple[str, ...]:
    """Read the patterns of an option; Misused if one cannot be used."""
    from syncer.rules.holds import patterns_of

    words = [word.strip() for text in given or () for word in text.split(",")]
    try:
        return patterns_of(words, option)
    except ValueError as error:
        raise Misused(str(error)) from None
