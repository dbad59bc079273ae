"""One file per channel; channels do not know each other. `http` is the only outbound HTTP client."""

from syncer.runtime.authorities import postpone as _postpone

# Before any import of aiohttp.
_postpone()
