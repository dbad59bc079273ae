"""What tests of the explorer stand on: an installation with a past, and the command that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from syncer.cli import main as cli
from tests.e2e.harness import Stage, Step, until
from tests.integration.api import notification
from tests.integration.operating import waiting
from tests.servers.ports import free_port

#: A text that is a script wherever somebody takes it for HTML.
HOSTILE: Final = (
    "\"'><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
)
SLOW: Final = {"maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300}


@dataclass(frozen=True)
class Page:
    """What the server answered."""

    code: int
    text: str


@dataclass(frozen=True)
class Explored:
    """A server that runs."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> Page:
        """Ask for a page."""
        async with self.session.get(self.url + path) as answer:
            return Page(answer.status, await answer.text())


@asynccontextmanager
async def explorer(
    here: Stage, *words: str, redis_url: str = "", kubeconfig: Path | None = None
) -> AsyncIterator[Explored]:
    """
    Run `syncer web` on this loop, and wait until everything is listed.

    Args:
        here: The installation.
        words: Further options.
        redis_url: Another address than the installation's.
        kubeconfig: Another one than the administrator's.
    """
    port = free_port()
    environment = pytest.MonkeyPatch()
    environment.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", here.namespace)
    if "--config" in words:  # its constants count, as those of the controller do
        environment.setenv("LEDGER_TESTING", words[words.index("--config") + 1])
    task = asyncio.create_task(
        cli.execute([
            "web", "--port", str(port), "-n", here.namespace, "--key-prefix", here.prefix,
            "--redis-url", redis_url or here.redis_url,
            "--kubeconfig", str(kubeconfig or here.plane.kubeconfig),
            *words,
        ])
    )  # fmt: skip
    try:
        timeout = aiohttp.ClientTimeout(total=40)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            found = Explored(f"http://127.0.0.1:{port}", session)

            async def serves() -> bool:
                if task.done():
                    task.result()
                try:
                    page = await found.get("/list")
                except aiohttp.ClientError:
                    return False
                return "read so far" not in page.text

            await until(serves, "it has listed everything")
            yield found
    finally:
        environment.undo()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def with_a_past(here: Stage) -> dict[str, str]:
    """Notifications that were sent, refused, lost, are held and wait; uids by name. An owner must run."""
    here.script("refused", Step(400, HOSTILE))
    here.script("waits", Step(503, "the receiver is busy"))
    here.script("lost", Step(drop="after"))
    found = {name: await here.create(name) for name in ("sent", "also-sent")}
    found["refused"] = await here.create("refused", body=HOSTILE)
    found |= {name: await here.create(name, retryPolicy=SLOW) for name in ("waits", "lost")}
    document = notification("held", subject=HOSTILE)
    document["metadata"]["annotations"] = {"notification-ledger/hold": HOSTILE}
    made = await here.api.ask("POST", here.api.requests, document)
    found["held"] = str(made.body["metadata"]["uid"])
    for name, phase in (("sent", "Sent"), ("also-sent", "Sent"), ("refused", "Failed")):
        await here.wait_phase(found[name], phase)
    for name in ("waits", "lost"):
        await waiting(here, name, found[name])
    return found
