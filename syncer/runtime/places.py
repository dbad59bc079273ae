"""
Places (host and port) of the operator's own servers, which log lines may name.

Addresses in foreign texts are redacted. The address of the API server or of Redis, however, is a setting
of the operator, and whoever reads about a lost connection needs it. So an error that names such a place
marks it (`own`), and the formatter of log lines leaves it as it is (`spare`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

#: Places that are remembered; the oldest goes first. Nodes of a cluster change their addresses.
_MOST: Final = 64
#: Stands for a place while a text is redacted; inside a secret, it is redacted with the secret.
_MARK: Final = "\0"
_MARKED: Final = re.compile(rf"{_MARK}([0-9]+){_MARK}")

_places: Final[dict[str, re.Pattern[str]]] = {}


def own(place: str) -> str:
    """Return the place of a server, such as `10.0.0.1:6379`; from now on log lines may show it."""
    if place and place not in _places:
        if len(_places) >= _MOST:
            del _places[next(iter(_places))]
        _places[place] = re.compile(rf"(?<![\w.-]){re.escape(place)}(?![\w-])")
    return place


def spare(text: str, redact: Callable[[str], str]) -> str:
    """Redact a text, except for the places that `own` has marked."""
    found: list[str] = []

    def hide(match: re.Match[str]) -> str:
        found.append(match[0])
        return f"{_MARK}{len(found) - 1}{_MARK}"

    hidden = text
    if _MARK not in text:
        for place, pattern in _places.items():
            if place in hidden:
                hidden = pattern.sub(hide, hidden)
    if not found:
        return redact(text)
    return _MARKED.sub(lambda match: found[int(match[1])], redact(hidden))
