"""
Make a body readable: the id of a workflow becomes its name.

Only the body is touched, never the subject and never the stored object; without a name, or without
an id to look for, the body stays as it is. Runs before the sanitiser, so a name is sanitised, too.

An id of one letter and a name of a mebibyte would make a body that no memory holds, and whether a message
is made beside the event loop goes by the size of the object, without what names add. Names are short;
where replacing would add more than `MAX_GROWTH`, nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from syncer.model.context import workflow_of

#: Characters that names may add to a body.
MAX_GROWTH: Final = 4 * 1024


def enrich(body: str, context: Mapping[str, Any]) -> str:
    """
    Replace every occurrence of the workflow's id in a body by its name.

    The id is `context.workflow.workflowId`, else `selectedWorkflow`.
    """
    identity, name = workflow_of(context)
    if not (identity and name):
        return body
    if body.count(identity) * (len(name) - len(identity)) > MAX_GROWTH:
        return body
    return body.replace(identity, name)
