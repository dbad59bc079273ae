"""INFO of a server with nothing to object to."""

from __future__ import annotations

GOOD = {
    "redis_version": "7.0.15",
    "master_replid": "8f6a",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "appendfsync": "always",
}
