"""Other installations: which signs count, and for how long."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.kube.leases import LeaseRecord
from syncer.model.resource import LogMark, NotificationRequest, Status
from syncer.model.times import format_time
from syncer.sharding.neighbours import Neighbours, living, namespaces_shown
from syncer.sharding.view import NAMESPACES

NOW = 1_800_000_000_000


def session(name: str = "other-session-0123456789abcdef", **more: object) -> LeaseRecord:
    """A session of another installation, renewed two seconds ago, that watches everything."""
    found = LeaseRecord(
        name, "u", "5", "pod", duration=18.0, renew_time=format_time(NOW - 2_000),
        annotations={NAMESPACES: "*"},
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type] # members by name


LIVING: dict[str, tuple[LeaseRecord, str, list[str]]] = {
    "all of everything": (session(), "*", ["other"]),
    "we watch two namespaces": (session(), "a,b", ["other"]),
    "one of two is the same": (session(annotations={NAMESPACES: "b,c"}), "a,b", ["other"]),
    "none is the same": (session(annotations={NAMESPACES: "c,d"}), "a,b", []),
    "what it watches is not known": (session(annotations={}), "a,b", ["other"]),
    "too many to be shown here": (session(annotations={NAMESPACES: "c"}), "", ["other"]),
    "its last renewal is old": (session(renew_time=format_time(NOW - 18_001)), "*", []),
    "it was never renewed": (session(renew_time=""), "*", []),
    "its time cannot be read": (session(renew_time="soon"), "*", []),
    "a map": (session("other-map"), "*", []),
    "a name with a session in it": (session("my-session-x-session-01"), "*", ["my-session-x"]),
}


@pytest.mark.parametrize("case", LIVING)
def test_which_installations_live(case: str) -> None:
    """Those with a session that was renewed within its duration and a namespace that is ours, too."""
    lease, namespaces, names = LIVING[case]
    assert living([lease], NOW, namespaces) == names


@pytest.mark.parametrize(
    ("namespaces", "shown"),
    [(None, "*"), (["b", "a"], "a,b"), ([f"namespace-{n}" for n in range(500)], "")],
    ids=["all", "two", "too many"],
)
def test_namespaces_are_shown_up_to_a_bound(namespaces: list[str] | None, shown: str) -> None:
    """Too many are not cut: what is not known may be the same."""
    assert namespaces_shown(namespaces) == shown


async def test_signs_are_believed_for_a_while() -> None:
    """Statuses of what is younger than this process count; a replaced Redis explains older ones."""
    now, request = [0.0], AsyncMock()
    meta = {"name": "other-session-01", "uid": "u", "resourceVersion": "5", "namespace": "home"}
    spec = {"leaseDurationSeconds": 18, "renewTime": format_time(NOW)}
    request.return_value = {"items": [{"metadata": meta, "spec": spec}, {"metadata": {}}]}
    here = Neighbours(
        Mock(request=request),
        "home",
        "ours",
        namespaces=None,
        api_time=lambda: NOW,
        clock=lambda: now[0],
    )

    def seen(store: str, own: str = "mine", *, age: int = -1) -> list[str]:
        status = Status(log=LogMark(3, "0.1", store))
        here.compare(
            NotificationRequest("u", "ns", "n", "7", status=status, created=NOW - age), own
        )
        return here.seen

    assert seen("theirs") == [], "before the first round nothing is known of the time"
    await here.round()
    (asked,) = request.await_args_list
    assert asked.args[1].endswith("/namespaces/home/leases")
    assert asked.kwargs["params"]["labelSelector"].endswith("!=ours")
    lease = "the Lease other-map in home is of one that runs"
    assert here.seen == [lease]
    for store, own, age in (
        ("mine", "mine", -1),
        ("", "mine", -1),
        ("theirs", "", -1),
        ("theirs", "mine", 0),
    ):
        assert seen(store, own, age=age) == [lease]
    assert seen("theirs") == ["statuses name the store theirs, not mine", lease]
    assert (
        here.problem == f"another installation sends the same notifications: {'; '.join(here.seen)}"
    )
    now[0] = 1500.1
    assert here.problem is None
