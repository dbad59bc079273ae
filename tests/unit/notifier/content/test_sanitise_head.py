"""The head of a text that is cut: a secret that goes on behind the cut is recognised all the same."""

from __future__ import annotations

import pytest

from notifier.content.sanitise import sanitise_head

URL = "postgres://user:" + "hunter2oak" * 20 + "@host/db"


@pytest.mark.parametrize("chars", [45, 60, 100, 200])
def test_a_short_head_shows_no_part_of_a_secret(chars: int) -> None:
    """However little is asked for, what is cleaned reaches far behind it."""
    head = sanitise_head("x " * 20 + URL + " y" * 3000, chars)
    assert len(head) >= chars
    assert "hunter2oak" not in head
    assert "postgres://user:[REDACTED]@host/db" in head
