"""The Redis adapter: client, codec, the attempt log of a notification, the scripts."""

from syncer.runtime.deferred import defer as _defer

# Before any import of redis: clients and commands are the vendor's, and only Sentinels need them. Its own
# version it would look up in the metadata of what is installed.
for _package in ("redis", "redis.asyncio", "redis.commands"):
    _defer(_package)
_defer("importlib.metadata", "entry_points")
