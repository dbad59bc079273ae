"""
docs/client.md as printed: curl, Python and the cron job's script, from a request to a receiver and back.

Controller and gateway are processes, API server and Redis are real. Only addresses are the test's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web

from notifier.gateway.settings import of_document
from tests.docs.pages import DOCS
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.harness import Stage, until
from tests.servers.controlplane import ControlPlane

PAGE: Final = (DOCS / "client.md").read_text()
STEPS: Final = dict(
    re.findall(r"^<!-- step: (\w+) -->\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)


async def run(*command: str, env: dict[str, str], given: str = "") -> str:
    """Run a command of the page to its end; returns what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **env}, cwd=DOCS.parent, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(given.encode()), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.timeout(180)
async def test_what_the_page_says_is_sent_and_answered(
    here: Stage, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Each way makes its notification once, learns that it is delivered, and hands the trace on."""
    calls: list[tuple[dict[str, Any], str]] = []

    async def take(request: web.Request) -> web.Response:
        calls.append((await request.json(), request.headers.get("traceparent", "")))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (source,) = of_sources()
    gateway = GatewayProcess(
        tmp_path / "gw", control_plane.kubeconfig,
        [{"name": source["name"], "kind": source["kind"], "namespace": here.namespace}],
    )  # fmt: skip
    notifier = here.notifier(delivery={"webhook": {"enabled": True}})
    (here.folder / "credentials" / "hook").write_text(f"http://127.0.0.1:{port}/")
    receiver = {"name": "hook", "webhookConfigs": [{"credentialRef": "hook"}]}
    routes = {"route": {"receiver": "hook"}, "receivers": [receiver]}
    (here.folder / "routing.yaml").write_text(json.dumps(routes))
    env = {
        "TOKEN": TOKEN, "GATEWAY": gateway.url("").removesuffix("/v1/"),
        "NAMESPACE": here.namespace, "KUBECONFIG": str(control_plane.kubeconfig),
    }  # fmt: skip
    script = tmp_path / "notify"
    script.write_text(STEPS["notify"])
    traced = STEPS["curl"].replace(
        "-o /dev/null", f"-H 'traceparent: 00-{TRACE}-{'1' * 16}-01' -o /dev/null"
    )
    try:
        notifier.start()
        gateway.start()
        await notifier.wait_ready()
        await gateway.wait_ready()
        for _ in range(2):
            answer = json.loads(await run("bash", "-euc", traced, env=env))
            assert (answer["outcome"], answer["channels"][0]["name"]) == (
                "delivered",
                "webhook:hook",
            )
            said = await run(sys.executable, "-c", STEPS["python"], env=env)
            assert said == "delivered\nwebhook:hook delivered 1\n"
            assert await run(sys.executable, "-c", STEPS["apiserver"], env=env) == "delivered\n"
            await run("sh", str(script), "odd/1", 'Odd "subject"', env=env, given="a\n\\ 'b' $c\n")
        await until(lambda: len(calls) >= 4, notifier.tail)
    finally:
        gateway.kill()
        await runner.cleanup()
    assert sorted((c["subject"], trace) for c, trace in calls) == [
        ("Backup failed", ""), ("Backup failed", f"00-{TRACE}-{'1' * 16}-01"),
        ('Odd "subject"', ""), ("Report ready", ""),
    ]  # fmt: skip
    recorded = notifier.lines("attempt recorded")
    assert sorted(str(line.get("trace_id")) for line in recorded) == [
        TRACE,
        "None",
        "None",
        "None",
    ]
    assert next(c for c, _ in calls if c["subject"].startswith("Odd"))["body"] == "a\n\\ 'b' $c\n"


def of_sources() -> list[dict[str, Any]]:
    """The sources that the page shows, which the gateway takes without a warning."""
    (example,) = re.findall(
        r"^```yaml\n# example: gateway\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    document = yaml.safe_load(example)
    assert of_document(document).warnings == ()
    return list(document["sources"])
