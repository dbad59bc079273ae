"""Results of the checks of `syncer doctor`."""

from __future__ import annotations

from syncer.cli.doctor.result import Grade, fail, ok, unknown, warn


def test_results() -> None:
    """Each kind of result has its grade, and says what was found and what to do."""
    assert tuple(warn("n", "t", "f")) == ("n", Grade.WARN, "t", "f")
    assert tuple(fail("n", "t", "f")) == ("n", Grade.FAIL, "t", "f")
    assert tuple(unknown("n", "t")) == ("n", Grade.UNKNOWN, "t", "")
    assert tuple(unknown("n", "t", "f")) == ("n", Grade.UNKNOWN, "t", "f")
    assert tuple(ok("n", "t")) == ("n", Grade.OK, "t", "")
