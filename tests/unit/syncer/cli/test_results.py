"""Results of the checks of `syncer doctor`."""

from __future__ import annotations

from syncer.cli.doctor.result import Grade, Result, lines_of, passes


def test_results() -> None:
    """A check that passes says what is so, one that does not what is wrong, and what to do."""
    assert passes("n", good=True, text="t", problem="p", fix="f") == ("n", Grade.OK, "t", "")
    assert passes("n", good=False, text="t", problem="p", fix="f") == ("n", Grade.FAIL, "p", "f")
    bad = passes("n", good=0, text="t", problem="p", fix="f", bad=Grade.WARN)
    assert bad == ("n", Grade.WARN, "p", "f")


def test_results_as_lines() -> None:
    """Grade and name stand in front, the fix below."""
    assert lines_of(Result("redis-disk", Grade.FAIL, "it is\x1bfull", "free space")) == [
        "fail    redis-disk          it is full", f"{'':28}fix: free space",
    ]  # fmt: skip
