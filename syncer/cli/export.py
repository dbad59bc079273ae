"""`syncer export`: write logs as JSON lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from syncer.cli.arguments import add_namespaces
from syncer.cli.exits import OK
from syncer.model.errors import ConfigError, reason_of

HELP: Final = "write logs as JSON lines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--uid", action="append", metavar="UID", help="only this log; may be given again"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file to write (default: standard output)"
    )


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
        what = options.output or "the export"
        raise ConfigError(f"cannot write {what}: {reason_of(error)}") from None
    write_remark(f"{counts.logs} logs with {counts.records} records")
    return OK


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """The file of an export; it replaces an existing one only when it is complete."""
    if path is None or path == "-":
        yield sys.stdout
        return
    import tempfile
    from pathlib import Path

    target = Path(path)
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8") as out:
            yield out
        return
    if target.is_symlink():
        # Where others may write to the folder, one of them chose what it names.
        raise ConfigError(f"cannot write {path}: it is a symbolic link; name the file itself")
    # Texts of receivers are in it: it is for this user alone.
    number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as out:
            yield out
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
