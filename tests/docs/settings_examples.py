"""Examples of settings on the pages."""

from __future__ import annotations

import re
from typing import Final

from tests.docs.pages import documents

_EXAMPLE: Final = re.compile(r"^```yaml\n# example: settings\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _settings_examples() -> list[tuple[str, str]]:
    return [
        (f"{page.name}-{n}", block)
        for page in documents()
        for n, block in enumerate(_EXAMPLE.findall(page.read_text()))
    ]
