"""Two installations on the same notifications: both send, and both say so."""

from __future__ import annotations

import asyncio
import json

import pytest

from syncer.cli import main as cli
from tests.e2e.harness import NotifierProcess, Stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


async def test_another_installation_is_reported(
    here: Stage,
    control_plane: ControlPlane,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readiness mentions it, a metric counts it, the doctor names it; neither refuses to start."""
    own = {"namespaces": [here.namespace]}
    first = await here.notifier(controller=own).start().wait_ready()
    uid = await here.create("before")
    await here.wait_phase(uid)
    assert "another installation" not in (await first.ask("/readyz"))[1]
    second = (
        await here.notifier(
            controller=own,
            sharding={"leaseName": "other"},
            redis={"url": redis_url, "keyPrefix": f"{here.prefix}-2"},
        )
        .start()
        .wait_ready()
    )

    async def told(process: NotifierProcess, *signs: str) -> bool:
        code, text = await process.ask("/readyz")
        seen = await process.metric("notification_ledger_other_installations")
        return (code, seen) == (200, len(signs)) and all(sign in text for sign in signs)

    lease = f"the Lease other-map in {here.namespace} is of one that runs"
    await until(lambda: told(first, lease), first.tail)
    # What is as old as its map Lease, to the second, the second would adopt as it is.
    await asyncio.sleep(1.1)
    for n in range(5):
        await here.create(f"twice-{n}")
    await until(
        lambda: sum(len(here.receiver.calls(f"twice-{n}")) for n in range(5)) == 10,
        lambda: f"both send each: {here.receiver.book}\n{first.tail()}\n{second.tail()}",
        within=30,
    )  # fmt: skip
    await until(
        lambda: told(first, lease, "statuses name the store"),
        first.tail, within=30,
    )  # fmt: skip
    capsys.readouterr()
    kubeconfig = str(control_plane.kubeconfig)
    where = ["-n", here.namespace]
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", here.namespace)
    config = str(here.folder / "config-0.yaml")
    await cli.execute(
        ["doctor", "-o", "json", "--config", config, "--kubeconfig", kubeconfig, *where]
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if line["check"] == "other-installations"]
    assert found["grade"] == "warn", found
    # Leases of other tests may be on this server too.
    assert f"{here.namespace}/other" in found["found"], found
    assert "also watches these namespaces" in found["found"], found
