"""The schema of a field of settings that is written in words of its own."""

from __future__ import annotations

import enum
from typing import Literal

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


class Odd(Group):
    """A group with a field that no schema has words for."""

    inner: list[Inner | None] = Field(default_factory=list, description="Groups, or none.")


class Few(Group):
    """A group of fields of a few words."""

    name: str = Field(description="What it is called.")
    kind: Literal["one"] = Field(default="one", description="Its kind.")
    level: Level = Field(default=Level.HIGH, description="Its level.")


def test_a_value_that_is_the_only_one_may_be_null_as_well() -> None:
    """It is a list of one value then, beside null."""
    found = schema_for(Few, nullable={"kind"}, texts={Level})["properties"]
    assert (found["kind"]["enum"], "const" in found["kind"]) == (["one", None], False)
    assert found["kind"]["description"] == "Its kind."
    assert found["level"] == {"description": "Its level.", "type": "string"}


def test_a_type_without_words_is_an_error_of_ours() -> None:
    """It names the field; a schema that refers to something else would be of no use to an editor."""
    with pytest.raises(TypeError, match=r"^inner: a type that is not known here$"):
        schema_for(Odd, nullable=())


def test_a_default_is_shown_as_it_is_written() -> None:
    """One of a few words is that word."""
    assert default_of(Few.model_fields["level"]) == "`high`"
    assert default_of(Few.model_fields["name"]) == "required"
