"""
The explorer beside so many notifications: what a page takes, how soon it shows what is new, what it holds.

`syncer web` runs as a process of its own and is asked over loopback, page by page, as a browser asks; the
installation is that of `operate`. Live is measured as an open page sees it: from the API server's answer to
the one who creates, by the stream that tells of a change, to a page that has the new row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import aiohttp

from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.e2e.harness import ROOT, Stage, until
from tests.servers.ports import free_port

#: Pages, in the words of the report.
_PAGES: Final = {
    "what needs attention": "/",
    "first page of the list": "/list",
    "a search that finds nothing, so looks at all": "/list?q=no-such-name",
    "what operators hold": "/list?state=held",
    "one notification": "/n/{namespace}/n-000000",
    "receivers": "/receivers",
    "health": "/health",
}
_SECONDS: Final = 30
#: Until everything is listed.
_LISTED: Final = 300


async def explore(
    here: Stage, env: dict[str, str], words: Sequence[str], program: str, report: Report, n: int,
    rounds: int,
) -> None:  # fmt: skip
    """
    Add what the explorer takes.

    Args:
        here: The installation.
        env: Of the process.
        words: Where it looks.
        program: The interpreter.
        report: Gets the figures.
        n: How many notifications there are.
        rounds: Of each page.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        program, "-m", "syncer", "web", "--port", str(port), "-n", here.namespace,
        *words, cwd=ROOT, env={**env, "KUBERNAUT_CONTROLLER_NAMESPACE": here.namespace},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as session:

            async def listed() -> bool:
                try:
                    return "read so far" not in await _get(session, f"{url}/list")
                except aiohttp.ClientError:
                    return False

            await until(listed, "the explorer has listed all", within=_LISTED, every=0.5)
            at = f"explorer, {n:,} notifications"
            report.add(f"{at}: CPU until all were listed", "s", [cpu_seconds(process.pid)])
            for name, path in _PAGES.items():
                taken = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    await _get(session, url + path.format(namespace=here.namespace))
                    taken.append((time.perf_counter() - began) * 1000)
                report.add(f"{at}: {name}", "ms", taken)
            live = [await _arrives(session, url, here, f"arrives-{m}") for m in range(rounds)]
            report.add(f"{at}: from its creation to the page", "ms", live)
            report.add(f"{at}: resident", "MiB", [resident_mib(process.pid)])
    finally:
        process.terminate()
        await process.wait()


async def _get(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        assert answer.status == 200, f"{url}: {answer.status}"
        return await answer.text()


async def _arrives(session: aiohttp.ClientSession, url: str, here: Stage, name: str) -> float:
    """Milliseconds from the creation of a notification to the page that shows it."""
    async with session.get(f"{url}/events") as stream, asyncio.timeout(_SECONDS):
        while b"event: hello" not in await stream.content.readline():
            pass
        await here.create(name)
        began = time.perf_counter()
        while True:
            while b"event: change" not in await stream.content.readline():
                pass
            if f"/{name}" in await _get(session, f"{url}/list"):
                return (time.perf_counter() - began) * 1000
