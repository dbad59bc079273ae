"""`syncer export` where its file cannot be written."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.cli import main as cli
from syncer.cli import transfer
from syncer.cli.export_format import Counts


@pytest.mark.parametrize(
    ("where", "why"),
    [("/nowhere/x", "No such file or directory"), ("/dev/full", "No space left on device")],
)
async def test_export_that_cannot_be_written(
    where: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is not there, or a full disk, is said in a sentence, with code 2."""

    async def export(*given: Any) -> Counts:
        given[3].write("x" * 100_000)
        return Counts()

    monkeypatch.setattr(transfer, "export", export)
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", where]
    assert await cli.execute(words) == 2
    assert capsys.readouterr().err == f"syncer: cannot write {where}: {why}\n"
