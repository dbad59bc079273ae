"""
Several namespaces by name, on a real API server: what one of them lacks is no other one's loss.

With a namespace its roles are deleted as well, so a list of namespaces may name one that nobody may read.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import Stage, create_notification, stage, until
from tests.integration.accounts import bind, make, token_of
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane
from tests.servers.recipe import CONTROLLER_RULES
from tests.servers.webhook import webhook

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

ACCOUNT: Final = "controller"


def account(here: Stage) -> Path:
    """Make a service account with rights in the stage's namespace; returns its kubeconfig."""
    make(
        here.plane,
        f"/api/v1/namespaces/{here.namespace}/serviceaccounts",
        {"metadata": {"name": ACCOUNT}},
    )
    bind(here.plane, here.namespace, ACCOUNT, CONTROLLER_RULES)
    document = json.loads(here.plane.controller_kubeconfig.read_text())
    document["users"][0]["user"]["token"] = token_of(here.plane, here.namespace, ACCOUNT)
    path = here.folder / "account.kubeconfig"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.stage(sampled=True)
async def test_a_namespace_that_may_not_be_read_holds_back_no_other(here: Stage) -> None:
    """The others are served and swept from the start; readiness names it until it may be read."""
    other = f"e2e-{uuid.uuid4().hex[:12]}"
    here.kubeconfig = account(here)
    process = here.notifier(controller={"namespaces": [other, here.namespace]}).start()
    await here.wait_phase(await here.create("served"), within=90)
    code, text = await process.ask("/readyz")
    assert code == 503
    assert f"namespace {other}: access is refused" in text
    await until(
        lambda: bool(process.lines("start-up reconciliation done")), process.tail, within=30
    )
    await asyncio.to_thread(here.plane.api.create_namespace, other)
    bind(here.plane, other, ACCOUNT, CONTROLLER_RULES, home=here.namespace)
    await process.wait_ready(60)


@pytest.mark.stage(sampled=True)
async def test_hundreds_of_namespaces_leave_connections_for_calls(here: Stage) -> None:
    """Each has a watch that stays open, and status writes go on beside them."""
    names = [f"{here.namespace}-{n}" for n in range(120)]
    process = (
        await here.notifier(controller={"namespaces": [*names, here.namespace]})
        .start()
        .wait_ready(90)
    )
    await here.wait_phase(await here.create("served"), within=60)
    process.sigterm()
    assert await process.wait_exit(30) == 0


async def test_a_namespace_whose_webhook_dawdles_leaves_writers_to_others(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Its statuses wait for the webhook; those of another namespace are not written in turns with them."""
    slow, asked = f"e2e-{uuid.uuid4().hex[:12]}", list[str]()
    await asyncio.to_thread(control_plane.api.create_namespace, slow)

    async def dawdle(name: str) -> None:
        asked.append(name)
        await asyncio.sleep(30)

    async with (
        stage(control_plane, redis_url, tmp_path) as here,
        Api(
            control_plane.server, control_plane.admin_token, control_plane.ca_file, namespace=slow
        ) as there,
        webhook(control_plane, slow, tmp_path, dawdle),
    ):
        process = (
            await here.notifier(controller={"namespaces": [slow, here.namespace]})
            .start()
            .wait_ready()
        )
        for n in range(80):
            await create_notification(there, f"slow-{n}")
        await until(lambda: len(asked) >= 12, process.tail, within=90)
        before = len(asked)
        uids = [await here.create(f"quick-{n}") for n in range(120)]
        await here.wait_sent(uids, within=120)
        # Turn about, each of these would have waited for one of the others; four writers ask for four in
        # ten seconds.
        assert len(asked) - before < 90
