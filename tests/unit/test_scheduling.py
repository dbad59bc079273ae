"""How the suite is spread over processes: units of work, their order, and tests that run alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests import scheduling

ROOT: Final = Path(__file__).resolve().parents[2]


def test_only_tests_that_are_there_have_durations() -> None:
    """A file or test that moved does not keep its old line."""
    gone = []
    for name in scheduling.read_durations():
        path, _, test = name.partition("::")
        if path.endswith(".py"):
            text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            function = re.escape(test.partition("[")[0].rpartition("::")[2])
            if not re.search(rf"def {function}", text):
                gone.append(name)
    assert gone == []
