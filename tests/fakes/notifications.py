"""The border of the record, of parts that a test has made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from syncer.sync.attempts import Outcomes
from syncer.sync.notifications import Notifications
from syncer.sync.recorder import Recorder
from tests.fakes.journal import NO_JOURNAL


def notifications(
    recorder: Recorder, ownership: Any, claimer: Any = None, reporter: Any = None, **more: Any
) -> Notifications:
    """What appends by a recorder; without `claimer` nothing is claimed, without `reporter` said."""
    claimer = claimer or SimpleNamespace(
        recorder=recorder, cache=recorder.cache, metrics=recorder.metrics
    )
    outcomes = Outcomes(cast("Any", claimer), NO_JOURNAL, ownership, **more)
    made = Notifications(outcomes)
    if reporter is not None:
        outcomes.on_recorded, made.on_started = reporter.recorded, reporter.started
    return made
