"""
A status that the API server refuses for good, while shards change hands, on real parts.

An admission policy refuses it, as a cluster's own might. What is refused stays in the log and is tried
again for ever, by whoever owns it; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

import pytest

from syncer.model.resource import Json
from tests.e2e.harness import Stage, until
from tests.integration.accounts import admitting

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

SHARDS: Final = 4


def refusing(here: Stage, prefix: str) -> tuple[Json, Json]:
    """A policy that refuses the statuses of objects with such names in the stage's namespace."""
    name = f"refuse-{uuid.uuid4().hex[:8]}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["kubernaut.ai"], "apiVersions": ["*"],
                        "operations": ["UPDATE"], "resources": ["notificationrequests/status"],
                    }
                ],
            },
            "validations": [{"expression": f"!object.metadata.name.startsWith('{prefix}')"}],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": here.namespace}
                }
            },
        },
    }
    return policy, binding


async def in_force(here: Stage, name: str) -> None:
    """Wait until the policy refuses a status, which takes the API server some seconds."""
    await here.create(name, extensions={"probe": "policy"})

    async def refused() -> bool:
        change = {"status": {"message": uuid.uuid4().hex}}
        answer = await here.api.ask("PATCH", f"{here.api.requests}/{name}/status", change)
        return answer.code in (403, 422)

    await until(refused, "the policy is in force", within=60, every=0.5)


@pytest.mark.stage(sampled=True)
async def test_a_hand_over_does_not_wait_for_a_refused_status(here: Stage) -> None:
    """Shards are handed over at once, each quiet; what is healthy goes on, and nothing is lost."""
    with admitting(here.plane, refusing(here, "refused-")):
        await in_force(here, "refused-probe")
        sharding = {"shards": SHARDS, "renewDeadline": "2s"}
        first, second = here.notifier(sharding=sharding), here.notifier(sharding=sharding)
        first.start()
        await first.wait_metric("shards_owned", SHARDS, within=120)
        names = [f"refused-{n}" for n in range(12)]
        await asyncio.gather(*(here.create(name) for name in names))
        await until(lambda: all(here.receiver.calls(name) for name in names), first.tail, within=60)

        async def refused() -> bool:
            name = "notification_ledger_sync_patch_total"
            return await first.metric(name, result="refused") >= len(names)

        await until(refused, first.tail, within=60)
        second.start()
        await second.wait_metric("shards_owned", SHARDS // 2, within=120)
        healthy = [await here.create(f"healthy-{n}") for n in range(8)]
        await here.wait_sent(healthy)
        # The one may say it after the other has taken the shard.
        await until(
            lambda: len(first.lines("shard handed over")) == SHARDS // 2, first.tail, within=30
        )
        assert not first.lines("a shard is handed over with work under way")
        assert [len(here.receiver.calls(name)) for name in names] == [1] * len(names)
