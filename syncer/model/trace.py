"""
The trace that a notification belongs to (W3C Trace Context): how an object bears it.

It is an annotation, so it is in no text, no attribute and no body of a request: whoever changes it changes
a header and a member of log lines. What is not of the standard's form, in every character, is none.
"""

from __future__ import annotations

import re
from typing import Final

#: Annotation of an object, with the header of whoever asked for it.
TRACE: Final = "notification-ledger/traceparent"
#: The only version that there is; an id of zeros alone is none.
_FORM: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(text: object) -> str:
    """Return a `traceparent`, empty for what is none."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else ""


def trace_id(text: str) -> str | None:
    """Return the id of the trace, as logs name it; None without one."""
    return text[3:35] or None
