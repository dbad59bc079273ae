"""The JSON schemas of the controller's files, as the command prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import jsonschema
import pytest

from notifier.cli.main import main

PUBLISHED: Final = Path(__file__).resolve().parents[4] / "docs" / "schemas"


@pytest.mark.parametrize("name", ["settings", "routing", "gateway"])
def test_schemas_are_schemas(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are valid themselves, and what the command prints is what is published."""
    published = json.loads((PUBLISHED / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    assert main(["show", name]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('{\n  "$')
    assert json.loads(printed) == published
