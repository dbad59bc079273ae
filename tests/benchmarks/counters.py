"""
What the servers count by themselves: requests, open watches, Redis commands.

An API server's `apiserver_request_total` counts a request when it was answered, and a watch when it has
ended; how many watches are open it says in `apiserver_longrunning_requests`. Neither tells who asked. So
a suite that asks for the requests of some replica takes away what the same server counts without one.
The server reads its own schema every five seconds (`openapi`), and every few minutes the services, whose
addresses it keeps; those reads are left out here.

Redis counts commands in `INFO commandstats`, where those that a script calls count as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.e2e.harness import Stage

_SERIES: Final = r"^{}\{{(.*)\}} (\S+)$"
_REQUEST: Final = re.compile(_SERIES.format("apiserver_request_total"), re.MULTILINE)
_OPEN: Final = re.compile(_SERIES.format("apiserver_longrunning_requests"), re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_OF_ITSELF: Final = ("openapi", "services")
_READS: Final = frozenset({"GET", "LIST"})
_WATCH: Final = "WATCH"


def requests_in(metrics: str, *resources: str) -> Counter[str]:
    """
    Requests that an API server has answered so far, by verb and path: `PATCH leases`.

    Args:
        metrics: Its /metrics page.
        resources: Only requests for these; default all.
    """
    found: Counter[str] = Counter()
    for labels, value in _series(_REQUEST, metrics):
        path = "/".join(filter(None, (labels["resource"], labels["subresource"])))
        wanted = (
            labels["resource"] in resources
            if resources
            else not path.lstrip("/").startswith(_OF_ITSELF)
        )
        if wanted:
            found[f"{labels['verb']} {path}"] += value
    return found


def watches_in(metrics: str) -> Counter[str]:
    """
    Watches that an API server holds open, by resource.

    Args:
        metrics: Its /metrics page.
    """
    found: Counter[str] = Counter()
    for labels, value in _series(_OPEN, metrics):
        if labels["verb"] == _WATCH:
            found[labels["resource"]] += value
    return found


def is_read(request: str) -> bool:
    """Whether `GET leases` is a read; a watch is none."""
    return request.partition(" ")[0] in _READS


def is_watch(request: str) -> bool:
    """Whether `WATCH leases` is a watch that has ended."""
    return request.partition(" ")[0] == _WATCH


def is_write(request: str) -> bool:
    """Whether `PATCH leases` is a write."""
    return not is_read(request) and not is_watch(request)


async def api_metrics(here: Stage) -> str:
    """The API server's /metrics page."""
    reply = await here.api.ask("GET", "/metrics")
    assert reply.code == 200, reply.code
    return str(reply.body)


async def redis_commands(here: Stage) -> Counter[str]:
    """Commands that Redis has run so far, by name."""
    stats = await here.redis.info("commandstats")
    return Counter({k.removeprefix("cmdstat_"): int(v["calls"]) for k, v in stats.items()})


def _series(pattern: re.Pattern[str], metrics: str) -> Iterator[tuple[dict[str, str], int]]:
    for labels, value in pattern.findall(metrics):
        yield dict(_LABEL.findall(labels)), int(float(value))
