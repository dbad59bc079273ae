"""A process that journals."""

from __future__ import annotations

from typing import Final

from syncer.model.resource import Json
from tests.e2e.harness import NotifierProcess, Stage, until

#: It is the default; only sooner.
JOURNAL: Final = {"journalAfter": "1s"}


async def journaling(process: NotifierProcess) -> None:
    """Wait until a replica says that it journals."""
    await until(
        lambda: bool(
            process.lines("no replica reaches Redis; attempts are journaled in the status")
        ),
        lambda: f"it journals; {process.tail()}",
        within=30,
    )


def replica(here: Stage, sharding: Json | None = None) -> NotifierProcess:
    """A replica that journals soon."""
    sync = {"window": "100ms", "holdNotice": "2s"}
    return here.notifier(delivery=JOURNAL, sync=sync, sharding=sharding or {}).start()
