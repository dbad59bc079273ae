"""`syncer import`: read logs from JSON lines and write them to a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from syncer.cli.arguments import add_dry_run
from syncer.cli.exits import DIFFERENT, OK
from syncer.model.errors import ConfigError, reason_of

HELP: Final = "read logs from JSON lines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", metavar="FILE", help="an export, `-` for standard input")
    parser.add_argument(
        "--by-name", action="store_true",
        help="give each log to the object that now has its name, whatever its uid",
    )  # fmt: skip
    parser.add_argument(
        "--join", action="store_true",
        help="if a log with another history exists, append the imported attempts to it",
    )  # fmt: skip
    add_dry_run(parser, "what would be written")


async def run(options: argparse.Namespace) -> int:
    """Import a file; returns the exit code."""
    with _file_of(options.file) as path:
        return await _import(options, path)


async def _import(options: argparse.Namespace, path: str) -> int:
    from syncer.cli.access import access, where_of
    from syncer.cli.export_format import read_export
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.output import Progress, write_json, write_lines, write_remark
    from syncer.cli.store import trusted_store
    from syncer.cli.transfer import import_logs, objects_by_name

    # It is read twice: whole, before anything is written.
    try:
        with _reading(path) as file:
            total = sum(1 for _ in read_export(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {reason_of(error)}") from None
    async with access(where_of(options)) as at:
        await trusted_store(at, options, writes=not options.dry_run, new=True)
        named = None
        if options.by_name:
            named = await objects_by_name(at, await namespaces_of(at, options))
        with _reading(path) as file, Progress("imported", total=total) as progress:
            imported = await import_logs(
                at, read_export(file), progress, named=named, join=options.join,
                dry_run=options.dry_run,
            )  # fmt: skip
    for uid, position in imported.apart:
        write_remark(f"another history from record {position} on, left alone: {uid}")
    for name in imported.nameless:
        write_remark(f"no object has this name now: {name}")
    for uid in imported.refused:
        write_remark(f"damaged in the export, not imported: {uid}")
    summary = {
        "logs": total, "created": imported.created, "extended": imported.extended,
        "present": imported.present, "joined": imported.joined, "records": imported.records,
        "apart": len(imported.apart), "nameless": len(imported.nameless),
        "refused": len(imported.refused), "dryRun": options.dry_run,
    }  # fmt: skip
    if options.json:
        write_json({"summary": summary})
    else:
        write_lines([", ".join(f"{k} {v}" for k, v in summary.items())])
    return DIFFERENT if imported.apart or imported.nameless or imported.refused else OK


@contextmanager
def _file_of(path: str) -> Iterator[str]:
    """The file of an export; for standard input, which can be read only once, a temporary copy."""
    if path != "-":
        yield path
        return
    import shutil
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="import-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield copy.name


def _reading(path: str) -> TextIO:
    from pathlib import Path

    return Path(path).open(encoding="utf-8")
