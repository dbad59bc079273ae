"""One notification by its name."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import Final

import pytest

from syncer.cli.exits import Absent
from syncer.cli.explain import find
from syncer.cli.known import find_key, is_key, namespace_and_name, read_request
from syncer.model.attempt import Epoch
from syncer.model.errors import ConfigError
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest, parse_object
from tests.unit.syncer.cli.samples import elements
from tests.unit.syncer.cli.world import Objects, World, logged, named, page


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
    with pytest.raises(ConfigError, match=r"not 'n1'; find it with `syncer explain PART`$"):
        await read_request(world.at, "n1")


def _told(uid: str) -> NotificationRequest:
    """An object with a subject and an event; both subjects name the first object's neighbour."""
    spec = {"subject": {"1": "A disk like n12's", "12": "disk is full on a/b"}[uid]}
    meta = {"uid": uid, "namespace": "ns", "name": "n", "creationTimestamp": "2026-01-31T08:00:00Z"}
    made = parse_object({"metadata": meta, "spec": spec})
    return replace(made, name=f"n{uid}", event=f"{{group={uid}}}")


#: What is typed, what is listed; the uid that is found, or what is said instead.
PARTS = {
    "a part that one has": ("n12", ("1", "12"), "12"),
    "a part, in a namespace": ("ns/2", ("1", "12"), "12"),
    "a part that several have": (
        "n1", ("1", "12"),
        "2 notifications have 'n1' in their name; the newest:\n  ns/n1  2026-01-31T08:00:00Z  A disk like",
    ),
    "a part that none has": ("x", ("1",), "there is no object x, and no subject or event with 'x'"),
    "a part of a subject": ("Is FULL", ("1", "12"), "12"),
    "a part of a subject with a slash": ("on a/b", ("1", "12"), "12"),
    "a part of an event": ("group=1}", ("1", "12"), "1"),
    "a part of a name and of subjects": ("n12", ("1", "12"), "12"),
    "a part that several subjects have": (
        "disk", ("1", "12"), "2 notifications have 'disk' in their subject or event; the newest:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PARTS)
async def test_an_object_is_found_by_a_part(case: str) -> None:
    """If it is the only one; of several the newest are named, and none is taken for the one."""
    key, listed, wanted = PARTS[case]
    world = World(Objects(page(*map(_told, listed)), namespace="ns" if is_key(key) else None))
    world.objects.kept["ns/n1"] = named("1")
    if wanted.isdigit():
        assert await find_key(world.at, key, ()) == f"ns/n{wanted}"
        return
    with pytest.raises(Absent) as said:
        await find_key(world.at, key, ())
    assert str(said.value).startswith(wanted)


U1, U2 = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2))
HINT: Final = "; if it was deleted, give NAMESPACE/NAME or its uid while its log is kept"
#: What is typed: the uid that is found, or what is said instead. The object of one of two logs is there.
GONE: Final = {
    "its uid": (U1, U1),
    "its name": ("ns/n" + U1, U1),
    "a part of its name": (
        "n00000001", f"there is no object n00000001, and no subject or event with 'n00000001'{HINT}",
    ),
    "a uid that no log has": (U1[:-1] + "1", HINT),
    "a uid whose name another one has": (U2, "ns/n now names another object"),
    "a part that several have": ("n", "2 notifications have 'n' in their name; the newest:\n  ns/n1  "),
}  # fmt: skip


@pytest.mark.parametrize("case", GONE)
async def test_one_that_was_deleted_is_found(case: str) -> None:
    """By name and uid while there is a log; a part of its name finds nothing, and what does is said."""
    key, wanted = GONE[case]
    world = World(Objects(page(named("1"), named("2"))))
    world.put(U1, logged(U1))
    world.put(U2, elements(header=Header("ns/n", Epoch("0.7"))))
    world.objects.kept["ns/n"] = named("3")
    options = Namespace(object=key, event="", namespace=None, all_namespaces=True)
    if wanted == U1:
        found = await find(world.at, options)
        assert (found.uid, found.key, found.gone) == (U1, f"ns/n{U1}", True)
        return
    with pytest.raises(Absent) as said:
        await find(world.at, options)
    assert (wanted in str(said.value), HINT in str(said.value)) == (True, HINT in wanted)
