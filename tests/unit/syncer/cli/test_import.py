"""Where an import is read from."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncer.cli.import_ import _file_of


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy can be read again, and is gone afterwards; a file is read where it is."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"line\n" * 3)))
    with _file_of("-") as path:
        assert Path(path).read_bytes() == b"line\n" * 3
        assert Path(path).stat().st_mode & 0o077 == 0
    assert not Path(path).exists()
    with _file_of("logs.jsonl") as path:
        assert path == "logs.jsonl"
