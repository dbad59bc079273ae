"""
Other processes of a benchmark: what they do is not charged to the clock of whoever measures.

Each is a module that is told what to do, and tells what came of it, in lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.benchmarks.report import ROOT


class Child:
    """One of them, which is `process`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._orders, self._answers = process.stdin, process.stdout

    async def said(self) -> Any:
        """
        Return what it says next.

        Raises:
            RuntimeError: it has ended.
        """
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("a process of the benchmark has ended; it said why above")
        return json.loads(line)

    async def ask(self, orders: object) -> Any:
        """Tell it something; returns what it says to that."""
        self._orders.write(json.dumps(orders).encode() + b"\n")
        return await self.said()


@asynccontextmanager
async def child(
    module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run a module, at most until the context ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def say(found: object) -> None:
    """Say something, in one of these processes."""
    print(json.dumps(found), flush=True)
