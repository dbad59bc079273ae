"""`syncer resolve`: record the result of an attempt that ended as unknown."""

from __future__ import annotations

import argparse

from syncer.cli.manual_records import record, resolutions


async def run(options: argparse.Namespace) -> int:
    """Record a manual resolution; returns the exit code."""
    return await record(
        options,
        lambda _at, _request, log, stamp: resolutions(
            log, attempt=options.attempt or "", channel=tuple(options.receiver or ()),
            delivered=options.result == "delivered", even_open=options.even_open, **stamp,
        ),
    )  # fmt: skip
