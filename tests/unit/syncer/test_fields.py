"""The schema of a group of settings: which keys it has, and which of them may be null."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from syncer.configfile import Group
from syncer.fields import schema_for


class Inner(Group):
    """A group in a group."""

    first: int = Field(default=1, description="One.", ge=0)
    second: str = Field(default="", description="Two.")


class Outer(Group):
    """A group."""

    name: str = Field(description="What it is called.")
    hidden: int = Field(default=0, description="Not for the user to set.")
    inner: Inner = Inner()
    last: int = Field(default=0, description="The last.")


def keys(schema: dict[str, Any], *path: str) -> list[str]:
    """The keys of a group in a schema."""
    for part in path:
        schema = schema["properties"][part]
    return list(schema["properties"])


def test_a_key_is_left_out_alone() -> None:
    """By its whole path; those behind it stay."""
    skip: Final = {"hidden", "inner.first"}
    found = schema_for(Outer, skip=skip, nullable=())
    assert keys(found) == ["name", "inner", "last"]
    assert keys(found, "inner") == ["second"]
    assert found["required"] == ["name"]
    assert keys(schema_for(Outer, nullable=())) == ["name", "hidden", "inner", "last"]


def test_null_is_accepted_where_it_is_named() -> None:
    """By its whole path as well, or everywhere."""
    some = schema_for(Outer, nullable={"inner.second"})["properties"]
    assert some["last"]["type"] == "integer"
    assert some["inner"]["type"] == "object"
    assert some["inner"]["properties"]["first"]["type"] == "integer"
    assert some["inner"]["properties"]["second"]["type"] == ["string", "null"]
    every = schema_for(Outer, nullable=None)["properties"]
    assert every["last"]["type"] == ["integer", "null"]
    assert every["inner"]["type"] == ["object", "null"]
