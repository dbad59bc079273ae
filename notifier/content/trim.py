"""
Limits on how much of a notification is shown.

Anyone who may create an object may make it as large as the API server accepts, with a body of 1 MiB or
forty thousand extensions. A message is bounded before it is sanitised, converted and sent; a text that is
cut ends with a mark. The bounds are far above what a person reads, and the same for all attempts, because a
body must not change between attempts.

A text costs its length plus `TEXT_COST` characters, because many small texts take time too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Appended to every text that was cut.
TRUNCATED: Final = "[truncated -- full details in audit trail]"
#: Maximum characters of the body, and of any other text.
BODY_CHARS: Final = 256 * 1024
TEXT_CHARS: Final = 64 * 1024
#: Maximum characters of all texts of a message except subject and body, and of a whole object.
REST_CHARS: Final = 128 * 1024
OBJECT_CHARS: Final = 512 * 1024
TEXT_COST: Final = 64
#: Longest token that is not split where a text is cut.
_TOKEN_CHARS: Final = 512
#: Name of the member that says how many members are left out.
MORE: Final = "…"


class Budget:
    """
    A remaining number of characters.

    Attributes:
        left: Remaining characters; the first text that does not fit takes it below 0.
    """

    def __init__(self, chars: int) -> None:
        """Start with `chars` characters."""
        self.left = chars

    def text(self, text: str, limit: int = TEXT_CHARS) -> str:
        """Return the part of a text that fits."""
        text = head(text, max(0, min(limit, self.left)))
        self.left -= len(text) + TEXT_COST
        return text

    def texts(self, members: Mapping[str, str]) -> dict[str, str]:
        """Return the texts by name that fit; the last member says how many do not."""
        found: dict[str, str] = self.tree(members, 1)
        return found

    def tree(self, value: Any, depth: int) -> Any:
        """Return the part of a JSON-like value that fits; the value itself is left unchanged."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            members: dict[str, Any] = {}
            for name, member in value.items():
                if self.left <= 0 or depth <= 0:
                    members[MORE] = f"{len(value) - len(members)} further entries are left out"
                    break
                # The name first: otherwise a text that takes the rest would be shown without its name.
                shown = self.text(str(name))
                members[shown] = self.tree(member, depth - 1)
            return members
        if isinstance(value, (list, tuple)):
            items: list[Any] = []
            for item in value:
                if self.left <= 0 or depth <= 0:
                    items.append(f"{MORE} {len(value) - len(items)} further entries are left out")
                    break
                items.append(self.tree(item, depth - 1))
            return items
        self.left -= TEXT_COST
        return value


def head(text: str, limit: int) -> str:
    """
    Return a text of at most `limit` characters, or the mark alone.

    It is cut at a blank if one is near, because the sanitiser would not recognise half of a token.
    """
    if len(text) <= limit:
        return text
    end = max(0, limit - len(TRUNCATED))
    near = max(0, end - _TOKEN_CHARS)
    blank = max(text.rfind(" ", near, end), text.rfind("\n", near, end))
    return text[: blank + 1 if blank >= 0 else end] + TRUNCATED
