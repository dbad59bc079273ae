"""A journal that is switched off, and whose shards carry no note: attempts wait for Redis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final, cast

NO_JOURNAL: Final = cast(
    "Any",
    SimpleNamespace(
        active=False,
        patience=None,
        blocks=lambda _uid: False,
        applies=lambda _entry, _term: False,
        allowance=SimpleNamespace(open=lambda: None),
    ),
)
