"""The Kubernetes adapter: client, reflector, leases, status writes, Events, the definition."""

from syncer.runtime.authorities import postpone as _postpone

# Before any import of aiohttp.
_postpone()
