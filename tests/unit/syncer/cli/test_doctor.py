"""Checks of `syncer doctor` that read objects or Leases."""

from __future__ import annotations

from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.cli import doctor
from syncer.cli.doctor import Grade
from syncer.cli.owner import Owner
from syncer.model.errors import Gone, Unauthorised
from syncer.rules.shards import Sharding
from tests.unit.syncer.cli.world import Objects, World, named, page

#: What the controller watches, and the result with one notification in `ns` and one in `other`.
WATCHED: Final = {
    "both": (("ns", "other"), Grade.OK, "every namespace with notifications"),
    "one": (("ns",), Grade.WARN, "nothing is sent for other"),
}


@pytest.mark.parametrize("case", WATCHED)
async def test_a_namespace_that_nobody_watches(case: str) -> None:
    """What is in it is never sent, and nothing else says so."""
    names, grade, said = WATCHED[case]
    world = World(Objects(page(named("1"), named("2", "other"))))
    world.settings.controller.namespaces = names
    (found,) = await doctor._unwatched(world.at)
    assert (found.grade, said in found.text, bool(found.fix)) == (grade, True, grade is Grade.WARN)


#: Who owns the two shards, and what is said of it.
OWNED: Final[dict[str, tuple[list[str], Grade, str]]] = {
    "both": (["a", "a"], Grade.OK, "each of 2 shard(s)"),
    "one of two": (["a", ""], Grade.FAIL, "1 of 2 shard(s) have no owner: 1"),
    "no installation": ([], Grade.FAIL, "there is no Lease"),
}


@pytest.mark.parametrize("case", OWNED)
async def test_each_shard_has_an_owner(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard without one is a failure, and which it is."""
    holders, grade, said = OWNED[case]
    read = AsyncMock(side_effect=[Owner(holder=each) for each in holders])
    monkeypatch.setattr(doctor, "read_shard", read)
    monkeypatch.setattr(doctor, "read_map", AsyncMock(return_value=None))
    monkeypatch.setattr(doctor, "sharding_of", lambda _: Sharding(2) if holders else None)
    owners: dict[str, list[int]] = {"a": [], "": []}
    (found,) = await doctor._owners(World(Objects()).at, Any, "h", owners)  # type: ignore[arg-type]  # not asked
    assert (found.grade, said in found.text) == (grade, True)


@pytest.mark.parametrize(
    ("name", "grade", "said"),
    [("", Grade.WARN, "no policy is configured"), ("p", Grade.WARN, "there is no")],
)
async def test_where_anybody_may_write_statuses(name: str, grade: Grade, said: str) -> None:
    """It is said, and what to do; without the settings it is not known which policy it would be."""
    world, kube = World(Objects()), Mock(request=AsyncMock(side_effect=Gone("no such policy")))
    world.settings.sync.status_policy = name
    (found,) = await doctor._status_policy(world.at, kube)
    assert (found.grade, said in found.text, bool(found.fix)) == (grade, True, True)


async def test_a_check_that_could_not_be_made_does_not_pass() -> None:
    """Each of its names is said to be unknown, and why."""
    refused = AsyncMock(side_effect=Unauthorised("may not"))
    found = await doctor._made(refused(), "a", "b")
    assert [(r.name, r.grade, r.text) for r in found] == [
        ("a", Grade.UNKNOWN, "may not"), ("b", Grade.UNKNOWN, "may not"),
    ]  # fmt: skip


async def test_without_the_controllers_namespace_nothing_is_guessed() -> None:
    """Neither that nobody owns a shard, nor that a right is missing where it is not needed."""
    at = World(Objects()).at
    kube: Any = None
    for name, work in (
        ("rbac-leases", doctor._right(kube, "rbac-leases", (), "", "")),
        ("owners", doctor._owners(at, kube, "", {})),
        ("other-installations", doctor._others(at, kube, "", ())),
    ):
        (found,) = await doctor._made(work, name)
        assert (found.name, found.grade) == (name, Grade.UNKNOWN)
        assert found.text == "the controller's namespace is not known"
        assert "$KUBERNAUT_CONTROLLER_NAMESPACE" in found.fix
