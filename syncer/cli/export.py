"""`syncer export`: write logs as JSON lines."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TextIO

from syncer.cli.arguments import add_namespaces
from syncer.cli.exits import OK
from syncer.model.errors import ConfigError

HELP: Final = "write logs as JSON lines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--uid", action="append", metavar="UID", help="only this log; may be given again"
    )
    parser.add_argument("--output", metavar="FILE", help="default: standard output")


async def run(options: argparse.Namespace) -> int:
    """Write an export; returns the exit code."""
    from syncer.cli import transfer
    from syncer.cli.access import access, where_of
    from syncer.cli.output import Progress, write_remark

    try:
        async with access(where_of(options), cluster=False) as at:
            with _output(options.output) as out, Progress("exported") as progress:
                counts = await transfer.export(
                    at, options.namespace or (), options.uid or (), out, progress
                )
                out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot write {options.output or 'the export'}: {reason}") from None
    write_remark(f"{counts.logs} logs with {counts.records} records")
    return OK


def _output(path: str | None) -> AbstractContextManager[TextIO]:
    if path is None or path == "-":
        return nullcontext(sys.stdout)
    # Texts of receivers are in it: one that is made is for this user alone.
    return open(path, "w", encoding="utf-8", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
