"""`notifier check`: what is wrong with the files, before the controller or the gateway says it."""

from __future__ import annotations

import argparse
from typing import Final

from notifier.cli.arguments import add_files, add_output
from syncer.cli.exits import DIFFERENT, OK, USAGE

HELP: Final = "check the settings file, the routing file, the credentials, the gateway's file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_files(parser)
    parser.add_argument(
        "--credentials", metavar="DIR",
        help="directory of credentials (default: the one that the settings name, if it exists)",
    )  # fmt: skip
    parser.add_argument(
        "--gateway", metavar="FILE",
        help="the gateway's file; if only this one is given, only this one is checked",
    )  # fmt: skip
    add_output(parser, ("text", "json"))
    parser.epilog = (
        "exit codes: 0 no errors; warnings are shown and do not count; 1 errors; 2 wrong usage"
    )


def run(options: argparse.Namespace) -> int:
    """Check; returns the exit code."""
    from pathlib import Path

    from notifier.cli.checking import check, in_order
    from notifier.cli.files import files_of
    from syncer.cli.output import write_json, write_lines, write_remark
    from syncer.model.errors import ConfigError
    from syncer.model.finding import Severity
    from syncer.rules.text import plain

    try:
        files = files_of(options)
    except ConfigError as error:
        write_remark(str(error), "notifier")
        return USAGE
    report = check(files, credentials=Path(options.credentials) if options.credentials else None)
    shown = in_order(report.found)
    counts = {s: sum(f.severity is s for _, f in shown) for s in Severity}
    for remark in report.remarks:
        write_remark(remark, "notifier")
    if options.output == "json":
        write_json(
            {
                "findings": [
                    {
                        "severity": finding.severity.value, "file": file, "line": finding.line or None,
                        "path": finding.path, "message": finding.message, "fix": finding.fix,
                    }
                    for file, finding in shown
                ],
                "errors": counts[Severity.ERROR], "warnings": counts[Severity.WARNING],
                "not_looked_at": list(report.remarks),
            }
        )  # fmt: skip
    else:
        for file, finding in shown:
            where = f"{file}:{finding.line}" if finding.line else file
            about = f"{finding.path}: " if finding.path else ""
            write_lines(
                [
                    plain(f"{where}: {finding.severity}: {about}{finding.message}"),
                    plain(f"    fix: {finding.fix}"),
                ]
            )
        write_lines([", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items())])
    return DIFFERENT if counts[Severity.ERROR] else OK
