"""The schema of a group of settings: which keys it has, and which of them may be null."""

from __future__ import annotations

import enum
from typing import Any, Final, Literal

import pytest
from pydantic import Field

from syncer.configfile import Group
from syncer.fields import default_of, schema_for


class Level(enum.Enum):
    """A level."""

    LOW = "low"
    HIGH = "high"


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


class Odd(Group):
    """A group with a field that no schema has words for."""

    inner: list[Inner | None] = Field(default_factory=list, description="Groups, or none.")


class Only(Group):
    """A group of one field that has one value."""

    kind: Literal["one"] = Field(default="one", description="Its kind.")
    level: Level = Field(default=Level.HIGH, description="Its level.")


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


def test_a_value_that_is_the_only_one_may_be_null_as_well() -> None:
    """It is a list of one value then, beside null."""
    found = schema_for(Only, nullable={"kind"}, texts={Level})["properties"]
    assert (found["kind"]["enum"], "const" in found["kind"]) == (["one", None], False)
    assert found["kind"]["description"] == "Its kind."
    assert found["level"] == {"description": "Its level.", "type": "string"}


def test_a_type_without_words_is_an_error_of_ours() -> None:
    """It names the field; a schema that refers to something else would be of no use to an editor."""
    with pytest.raises(TypeError, match=r"^inner: a type that is not known here$"):
        schema_for(Odd, nullable=())


def test_a_default_is_shown_as_it_is_written() -> None:
    """One of a few words is that word."""
    assert default_of(Only.model_fields["level"]) == "`high`"
    assert default_of(Outer.model_fields["name"]) == "required"
