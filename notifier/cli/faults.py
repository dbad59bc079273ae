"""What a person can do about a file that cannot be used: findings made of faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from syncer.configfile import Fault, keys_of
from syncer.fields import default_of, kind_of
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import Document


def of_unread(error: ConfigError, path: Path, option: str) -> Finding:
    """
    Return the finding for a file that is not YAML, or not there.

    Args:
        error: What its reading has raised.
        path: The file.
        option: That names it.
    """
    text = str(error).removeprefix(f"{path}: ")
    fix = "correct the line" if error.line else fix_of_unread(text, option)
    return Finding(Severity.ERROR, "", text, fix, error.line)


def fix_of_unread(text: str, option: str) -> str:
    """Return what to do about a file that is no text, or not there; the text of the fault may name it."""
    return (
        "save it in UTF-8" if text.endswith(" not UTF-8") else f"name a readable file with {option}"
    )


def of_fault(
    fault: Fault, source: Document, added: Mapping[str, str], page: str = "docs/configuration.md"
) -> Finding:
    """
    Return the finding for a fault.

    Args:
        fault: Of a file.
        source: The file.
        added: What to do about keys that are required, by path.
        page: Says what the keys take.
    """
    name = keys_of(fault.group).get(fault.path.rpartition(".")[2])
    field = fault.group.model_fields.get(name) if name else None
    if fault.path in added and fault.message == "is required":
        fix = added[fault.path]
    elif field is None or kind_of(field) == "secret string":
        fix = f"see {page} for what it takes"
    elif fault.message == "must be a mapping":
        fix = "write its keys below it, one per line, indented"
    else:
        default = default_of(field).strip("`")
        fix = f"write a value of this kind: {kind_of(field).replace('`', '')}"
        if default != "required":
            fix += f"; the default is {default}"
    return Finding(Severity.ERROR, fault.path, fault.message, fix, source.line(fault.path))
