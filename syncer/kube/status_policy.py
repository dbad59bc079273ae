"""
Checks whether the API server lets nobody else write statuses: reads the chart's policy and its binding.

`syncer.rules.status_policy` judges them. Both are read by name, which needs a permission: without it the
answer is *unknown*. The policy takes effect within a second of its binding, so a check once a minute is as
good as a watch.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from syncer.kube.client import KubeClient
from syncer.model.errors import Gone, KindMissing, PortError, Unauthorised
from syncer.model.resource import Json
from syncer.rules.status_policy import Finding, State, fault_of
from syncer.runtime.clock import MonotonicClock

logger = logging.getLogger("ledger")

#: Seconds between checks.
PERIOD: Final = 60.0
_TIMEOUT: Final = 10.0
#: Seconds for which an answer stays valid while no other comes.
_BELIEVED: Final = 300.0
_POLICIES: Final = "validatingadmissionpolicies"
_BINDINGS: Final = "validatingadmissionpolicybindings"
_PATH: Final = "/apis/admissionregistration.k8s.io/v1"


async def find(kube: KubeClient, name: str, namespaces: Collection[str] | None) -> Finding:
    """
    Check whether the policy is in force.

    Args:
        kube: The API server.
        name: Name of the policy, and of its binding; empty for none.
        namespaces: Namespaces that are watched, None for all.

    Raises:
        PortError: the answer is not known; another call may bring it.
    """
    if not name:
        return Finding(State.ABSENT, "no policy is configured (sync.statusPolicy)")
    found: dict[str, Json] = {}
    for plural in (_POLICIES, _BINDINGS):
        try:
            found[plural] = await kube.request("GET", f"{_PATH}/{plural}/{name}", timeout=_TIMEOUT)
        except (Gone, KindMissing):
            return Finding(State.ABSENT, f"there is no {plural}/{name}")
        except Unauthorised as error:
            return Finding(State.UNKNOWN, f"{plural}/{name} may not be read ({error})")
    fault = fault_of(found[_POLICIES], found[_BINDINGS], namespaces)
    return Finding(State.ABSENT, f"{name}: {fault}") if fault else Finding(State.IN_FORCE)


class StatusPolicy:
    """
    The last answer; each change of it is logged.

    Attributes:
        found: The last answer; unknown until the first check has ended.
    """

    def __init__(
        self,
        kube: KubeClient,
        name: str,
        namespaces: Collection[str] | None,
        monotonic: MonotonicClock,
    ) -> None:
        """Nothing is known yet; the arguments are those of `find`."""
        self._kube = kube
        self._name = name
        self._namespaces = namespaces
        self._monotonic = monotonic
        self._found_at = float("-inf")
        self.found = Finding(State.UNKNOWN, "not checked yet")

    @property
    def problem(self) -> str | None:
        """Why statuses are not protected, or why that is not known; None if they are."""
        return None if self.found.state is State.IN_FORCE else self.found.reason

    async def look(self) -> None:
        """Check once; if the server does not answer, the last answer stays for some minutes."""
        try:
            found = await find(self._kube, self._name, self._namespaces)
        except PortError as error:
            if self._monotonic() - self._found_at < _BELIEVED:
                return
            found = Finding(State.UNKNOWN, f"the API server does not say ({error})")
        else:
            self._found_at = self._monotonic()
        if found.state is not self.found.state:
            level = logging.INFO if found.state is State.IN_FORCE else logging.WARNING
            extra = {"state": found.state, "reason": found.reason}
            logger.log(level, "the protection of statuses by a policy has changed", extra=extra)
        self.found = found
