"""
What is wrong with a file of an operator: where, what, and what to do.

The controller logs a finding as one line, or refuses a file for it; `notifier check` lists all of them.
Both get them from the same code, so neither accepts what the other refuses. No text of a finding quotes a
value that may be a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """
    How much a finding matters.

    An error is what the controller refuses, or a receiver that cannot get anything. A warning is accepted,
    and probably not what is meant.
    """

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One finding.

    Attributes:
        path: Dotted path of the key, as `receivers[0].name`; empty where it is about the whole file.
        message: What is wrong; reads on from the path.
        line: Line of the file, 0 where there is none.
        doubt: Whether it looks like a slip: a warning for the controller, an error for a check.
    """

    severity: Severity
    path: str
    message: str
    fix: str
    line: int = 0
    doubt: bool = False

    @property
    def text(self) -> str:
        """The finding as one line of a log."""
        about = f"{self.path} {self.message}" if self.path else self.message
        return f"{about} (line {self.line})" if self.line else about
