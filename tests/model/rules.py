"""Rules of a model, each of which a run may switch off."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What the options of models have in common: each rule is an attribute, True unless it is switched off.

    Attributes:
        RULES: What they are, by name.
        off: Those that are switched off.
    """

    RULES: ClassVar[dict[str, str]] = {}
    off: tuple[str, ...] = field(default=(), kw_only=True)

    def __getattr__(self, name: str) -> bool:
        """Whether a rule is in force."""
        if name not in self.RULES:
            raise AttributeError(f"{name} is neither an option nor a rule")
        return name not in self.off


R = TypeVar("R", bound=Rules)


def without(options: R, *rules: str, **changes: Any) -> R:
    """Return options with these rules switched off as well, and other changes."""
    return replace(options, off=(*options.off, *rules), **changes)
