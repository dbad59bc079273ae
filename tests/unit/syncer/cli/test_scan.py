"""Reading logs and objects together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from syncer.cli.access import Access
from syncer.cli.scan import read_logs
from syncer.ledger.answers import StoredLog
from syncer.model.errors import Rejected, Unauthorised


async def test_logs_that_may_not_be_read_are_not_called_foreign() -> None:
    """A missing permission is an error of the command; only a key of another type is a finding."""

    class Log:
        def __init__(self, error: Rejected) -> None:
            self.error = error

        async def read_logs(self, uids: list[str]) -> list[StoredLog]:
            raise self.error

    for error in (Unauthorised("no"), Rejected("no", reason="WRONGTYPE")):
        at = cast("Access", SimpleNamespace(log=Log(error)))
        if isinstance(error, Unauthorised):
            with pytest.raises(Unauthorised):
                await read_logs(at, [("u", None), ("v", None)])
        else:
            found = await read_logs(at, [("u", None), ("v", None)])
            assert [p.wrong_type for p in found] == [True, True]
