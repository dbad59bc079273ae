"""Checks of the clocks: ours, that of Redis, that of the API server."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import quote

from syncer.cli.doctor.result import Result, fail, ok, unknown, warn
from syncer.kube.client import KubeClient
from syncer.ledger.preflight import CLOCK_FIX, CLOCK_LIMIT, CLOCK_ODD, apart
from syncer.model.errors import PortError
from syncer.model.times import parse_time

_TIMEOUT: Final = 10.0
#: Milliseconds: what is odd, and what breaks something.
_ODD: Final = 2_000
_BAD: Final = 60_000


async def read_offset(kube: KubeClient, home: str) -> int | None:
    """
    Return the API server's clock minus ours in milliseconds, None if it could not be read.

    It is read from a Lease that is created in a dry run, in the controller's namespace `home`.
    """
    path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(home, safe='')}/leases?dryRun=All"
    body = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"generateName": "notification-ledger-doctor-"},
    }  # fmt: skip
    try:
        began = time.time()
        made = await kube.request("POST", path, body=body, timeout=_TIMEOUT)
        ours = (began + time.time()) / 2 * 1000
        # The answer has whole seconds, rounded down.
        return round(parse_time(made["metadata"]["creationTimestamp"]) + 500 - ours)
    except (PortError, TimeoutError, KeyError, ValueError):
        return None


def clock(name: str, offset: int, whose: str) -> Result:
    """
    Check a clock against ours.

    Args:
        name: Of the check.
        offset: That clock minus ours in milliseconds.
        whose: Whose clock it is, for the text.
    """
    text = f"{whose} is {abs(offset) / 1000:.1f} s {'ahead' if offset > 0 else 'behind'}"
    fix = f"run NTP on both machines (here and on that of {whose})"
    if abs(offset) >= _BAD:
        return fail(name, text, fix)
    return warn(name, text, fix) if abs(offset) >= _ODD else ok(name, text)


def check_api_clock(offset: int | None) -> Result:
    """Check the API server's clock against ours; `offset` as of `read_offset`."""
    if offset is None:
        fix = (
            "grant create on Leases, and name the controller's namespace"
            " ($KUBERNAUT_CONTROLLER_NAMESPACE)"
        )
        return unknown("api-clock", "the clock could not be read (by a dry run of a Lease)", fix)
    return clock("api-clock", offset, "the API server")


def check_clocks(redis: int | None, api: int | None) -> Result:
    """Check whether Redis and the API server agree; each is its clock minus ours in ms, None if unread."""
    if redis is None or api is None:
        text = "one of the two clocks could not be read"
        return unknown("clocks", text, "see the other findings")
    ahead = (redis - api) / 1000
    if abs(ahead) <= CLOCK_ODD:
        return ok("clocks", "Redis and the API server agree on the time")
    text = f"Redis: {apart(ahead)}"
    if abs(ahead) > CLOCK_LIMIT:
        return fail("clocks", f"{text}: every attempt is held", CLOCK_FIX)
    return warn("clocks", text, CLOCK_FIX)
