"""The merge patch between two statuses."""

from __future__ import annotations

from syncer.model.rendering import render_status
from syncer.model.resource import Json, Status


def difference(shown: Status, wanted: Status) -> Json:
    """
    Return the merge patch that turns one status into another; empty if nothing needs to be written.

    A list is replaced as one, members that fell away become null. The mark of the log is written along with
    other changes and never causes a write.
    """
    old, new = render_status(shown), render_status(wanted)
    patch: Json = {k: v for k, v in new.items() if old.get(k) != v and k != "log"}
    patch |= {k: None for k in old if k not in new and k != "log"}
    if patch and "log" in new:
        patch["log"] = new["log"]
    return patch
