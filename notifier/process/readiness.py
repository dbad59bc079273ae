"""What `/readyz` shows: how far the start has come, and what keeps the process from working now."""

from __future__ import annotations

from notifier.process.parts import Parts
from syncer.runtime.failpoints import armed


def register(parts: Parts) -> None:
    """Have the admin server ask the parts."""
    admin, progress = parts.outside.admin, parts.progress
    admin.check("shutdown", lambda: "draining" if progress.draining else None)
    admin.check("redis", lambda: progress.redis or parts.client.unavailable_reason)
    admin.check("cluster", lambda: progress.cluster)
    admin.check("shards", lambda: progress.shards)
    if parts.audit is not None and (gate := parts.audit.gate) is not None:
        admin.check("datastorage", lambda: gate.problem)
    admin.check("schema", lambda: parts.sync.schema.problem)
    admin.check("status", lambda: parts.sync.access_problem)
    patience = parts.settings.lease_duration
    admin.check("epoch", lambda: parts.controller.holds.fence_problem(patience))
    admin.detail("routing", lambda: parts.outside.router.problem)
    admin.detail("failpoints", armed)
