"""Results of the checks of `syncer doctor`."""

from __future__ import annotations

from syncer.cli.doctor.result import Grade, fail, lines_of, ok, unknown, warn
from syncer.cli.screen import Screen


def test_results() -> None:
    """Each kind of result has its grade, and says what was found and what to do."""
    assert tuple(warn("n", "t", "f")) == ("n", Grade.WARN, "t", "f")
    assert tuple(fail("n", "t", "f")) == ("n", Grade.FAIL, "t", "f")
    assert tuple(unknown("n", "t")) == ("n", Grade.UNKNOWN, "t", "")
    assert tuple(unknown("n", "t", "f")) == ("n", Grade.UNKNOWN, "t", "f")
    assert tuple(ok("n", "t")) == ("n", Grade.OK, "t", "")


def test_results_as_lines() -> None:
    """Grade and name stand in front; what does not fit the screen goes on below, and all of it is there."""
    found = fail("redis-disk", "the disk is full and " * 4, "free space: " + "x " * 30)
    whole = lines_of(found, Screen())
    assert whole == [
        f"fail    redis-disk          {found.text}".rstrip(), f"{'':<28}fix: {found.fix}",
    ]  # fmt: skip
    lines = lines_of(found, Screen(80))
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(whole).split())
    assert all(line.startswith(" " * 28) for line in lines[1:])
    assert lines_of(ok("n", "t"), Screen(0, color=True)) == [
        f"\x1b[32mok      \x1b[0m{'n':<20}t",
    ]  # fmt: skip
    assert lines_of(ok("n", "a\x1bb"), Screen())[0].endswith("a b")
