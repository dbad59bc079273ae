"""
Kubernaut's own suites on this controller, each case by its name.

The suite is Kubernaut's program, built by `scripts/kubernaut` with the set-up of `suites/` in the place of
its own; it makes the Deployment, which the node here runs with our image, and its receivers. What is known
to fail, and why, is in docs/compatibility.md by name: a case that fails and is not there fails the run.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tests.kubernaut.world import FOLDER, OURS, WEBHOOK, World, world

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
NAMESPACES: Final = {"e2e": "notification-e2e", "integration": "kubernaut-notifications"}
IMAGE: Final = f"localhost/{OURS}:current"
TIME: Final = 40 * 60.0
Json = dict[str, Any]


async def webhook(request: web.Request) -> web.Response:
    """The end-to-end suite's receiver: what ends with `fail` is answered 503."""
    if request.path.endswith("/fail"):
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="simulated failure")
    if request.path == "/pagerduty":
        return web.json_response({"status": "success", "dedup_key": "mock"}, status=202)
    return web.Response(text="ok")


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The end-to-end suite reads metrics at a port of the node's."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()

    try:
        back, forth = await asyncio.open_connection("127.0.0.1", 9090)
        await asyncio.gather(copy(reader, forth), copy(back, writer))
    except OSError:
        writer.close()


async def run(there: World) -> int:
    """Run a suite and judge it."""
    given, suite = there.given, there.given["suite"]
    crd = Path(given["tree"], "charts/kubernaut/crds/kubernaut.ai_notificationrequests.yaml")
    await asyncio.to_thread(there.plane.api.apply_crd, crd)
    words = {"NAMESPACE": there.namespace, "REDIS_URL": there.redis.url}

    def manifest(name: str) -> str:
        text = (Path(__file__).parent / "suites" / f"{name}.yaml").read_text()
        return re.sub("|".join(words), lambda found: words[found[0]], text)

    await there.type("kubectl apply -f -", given=manifest("rights"))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", webhook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, WEBHOOK, 8080).start()
    server = await asyncio.start_server(relay, "127.0.0.1", 9186)
    # Their transport finds the store's CA beside the kubeconfig.
    await there.type(f"cp ca/ca.pem {there.plane.kubeconfig.parent}/inter-service-ca.pem")
    report = FOLDER / "report.json"
    process = await asyncio.create_subprocess_exec(
        given["program"], f"-ginkgo.json-report={report}", "-ginkgo.no-color", f"-test.timeout={TIME:.0f}s",
        *given["arguments"], cwd=Path(given["tree"], "test", suite, "notification"),
        env=there.environment | {
            "SUITE_NAMESPACE": there.namespace, "SUITE_IMAGE": IMAGE, "SUITE_BESIDES": manifest(suite),
            "SUITE_TOKEN": await there.node.token("suite"),
            "SUITE_STORE": f"https://data-storage-service.{there.namespace}.svc.cluster.local:8080",
        },
    )  # fmt: skip
    await process.wait()
    server.close()
    await runner.cleanup()
    if not report.exists():
        return 1
    return judge(suite, given["version"], json.loads(report.read_text())[0]["SpecReports"])


def judge(suite: str, version: str, cases: list[Json]) -> int:
    """Print each case that fails; returns the exit code."""
    states = {
        (" / ".join(c["ContainerHierarchyTexts"] or []), c["LeafNodeText"]): c["State"]
        for c in cases
        if c["LeafNodeType"] == "It" and c["State"] not in ("skipped", "pending")
    }
    failed = {n for n, state in states.items() if state != "passed"}
    page = re.sub(r"\s+", " ", PAGE.read_text())
    unexplained = {case for case in failed if f"`{case[1]}`" not in page}
    for case in sorted(failed):
        print("FAILED " if case in unexplained else "differs", *case)
    print(f"{suite} of {version}: {len(states) - len(failed)} of {len(states)} pass")
    return 1 if unexplained or not states else 0


async def main() -> int:
    """Have the servers, and run the suite."""
    given = json.loads(sys.argv[1])
    async with world(given, NAMESPACES[given["suite"]], {}) as there:
        return await run(there)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
