"""One notification by its name."""

from __future__ import annotations

import pytest

from syncer.cli.exits import Absent
from syncer.cli.lookup import namespace_and_name, read_request
from syncer.model.errors import ConfigError
from tests.unit.syncer.cli.world import Objects, World, named


def test_a_key_is_parted() -> None:
    """Namespace and name stand around a slash."""
    assert namespace_and_name("ops/disk-full") == ("ops", "disk-full")


@pytest.mark.parametrize("key", ["", "n", "/", "/n", "ns/", "ns/n/status", "ns//n", "ns/n/"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """The API server is not asked for a subresource, or for an object of no name."""
    with pytest.raises(ConfigError) as refusal:
        namespace_and_name(key)
    assert str(refusal.value) == f"NAMESPACE/NAME expected, not {key!r}"


async def test_an_object_is_read() -> None:
    """By its name; what is not there is named."""
    world = World(Objects())
    world.objects.kept["ns/n1"] = named("1")
    assert (await read_request(world.at, "ns/n1")).uid == "1"
    with pytest.raises(Absent, match=r"^there is no object ns/n2$"):
        await read_request(world.at, "ns/n2")
