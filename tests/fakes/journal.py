"""A journal that is switched off, without notes: attempts wait for Redis, and outcomes do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final, cast

NO_JOURNAL: Final = cast(
    "Any",
    SimpleNamespace(
        active=False,
        patience=0.0,
        blocks=lambda _uid: False,
        applies=lambda _entry, _term: False,
        allowance=SimpleNamespace(open=lambda: None),
    ),
)
