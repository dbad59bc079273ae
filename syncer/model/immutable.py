"""
Immutable values, without what a frozen dataclass costs at run time.

A constructor of `dataclass(frozen=True)` sets each member by way of `object.__setattr__`, which costs five
times an assignment: together a twelfth of the controller's CPU per notification. `@immutable` is for the
classes of which a notification makes one and more. Type checkers take it for a dataclass that is frozen and
refuse a write; tests set `ENFORCED` before anything else is imported, and a write raises there as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")

#: Whether a write raises.
ENFORCED = False


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(cls: type[T]) -> type[T]:
    """Make a dataclass with slots, equality and a hash, whose members are set once."""
    return dataclass(frozen=ENFORCED, unsafe_hash=not ENFORCED, slots=True)(cls)
