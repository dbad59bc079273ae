"""The admin server's answers: alive, ready or not and why, and the metrics, on one address or two."""

from __future__ import annotations

from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from syncer.runtime.health import AdminServer


async def test_ready() -> None:
    """Without a problem each check is named as passed, and the answer is 200."""
    server = AdminServer(CollectorRegistry())
    for name in ("lease", "redis"):
        server.check(name, lambda: None)
    server.detail("note", lambda: None)
    port = await server.bind("127.0.0.1", 0, health=True, metrics=True)
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert (answer.status, await answer.text()) == (200, "[+] lease: ok\n[+] redis: ok\n")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert server.problems() == {}
    await server.close()
