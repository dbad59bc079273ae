"""
`syncer doctor`: check Redis, API server, permissions, leases and clocks.

What `/readyz` says of a controller that runs is not repeated: its right to record, and its policy on
statuses.

Each topic is a module that reads facts and checks them: what reads never decides, what checks is pure. A
check that could not be made is reported as such instead of passing, and one that did not pass names its
fix. Reading leaves nothing behind but one key that expires after seconds.

The rights are those of the account that runs this, or, if one is named, of the controller's account.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from syncer.cli.access import access, where_of
from syncer.cli.doctor.examination import examine
from syncer.cli.doctor.result import Grade, lines_of
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.lookup import namespace_and_name
from syncer.cli.namespaces import controller_namespace, namespaces_of
from syncer.cli.output import write_answer, write_lines
from syncer.cli.screen import screen_of


async def run(options: argparse.Namespace) -> int:
    """Make every check; returns the exit code."""
    if options.service_account:
        namespace_and_name(options.service_account)
    async with access(where_of(options)) as at:
        results, _ = await examine(
            at, namespaces=await namespaces_of(at, options), home=await controller_namespace(),
            account=options.service_account or "",
        )  # fmt: skip
    screen = screen_of(sys.stdout)
    for result in results:
        name, grade, text, fix = result
        document = {"check": name, "grade": grade.value, "found": text, "fix": fix or None}
        write_answer(document, lines_of(result, screen), as_json=options.json)
    if not options.json:
        grades = Counter(result.grade for result in results)
        write_lines([", ".join(f"{grades[g]} {g.value}" for g in Grade)])
    return DIFFERENT if any(r.grade is Grade.FAIL for r in results) else OK
