"""Results of the checks of `syncer doctor`."""

from __future__ import annotations

from syncer.cli.doctor.result import Grade, Result, lines_of, passes
from syncer.cli.output import Screen


def test_results() -> None:
    """A check that passes says what is so, one that does not what is wrong, and what to do."""
    assert passes("n", good=True, text="t", problem="p", fix="f") == ("n", Grade.OK, "t", "")
    assert passes("n", good=False, text="t", problem="p", fix="f") == ("n", Grade.FAIL, "p", "f")
    bad = passes("n", good=0, text="t", problem="p", fix="f", bad=Grade.WARN)
    assert bad == ("n", Grade.WARN, "p", "f")


def test_results_as_lines() -> None:
    """Grade and name stand in front; what does not fit the screen goes on below, and all of it is there."""
    found = Result(
        "redis-disk",
        Grade.FAIL,
        ("the disk is full and " * 4).strip(),
        "free space: " + "x " * 29 + "x",
    )
    whole = lines_of(found, Screen())
    assert whole == [
        f"fail    redis-disk          {found.text}", f"{'':<28}fix: {found.fix}",
    ]  # fmt: skip
    lines = lines_of(found, Screen(80))
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(whole).split())
    assert all(line.startswith(" " * 28) for line in lines[1:])
    assert lines_of(Result("n", Grade.OK, "t"), Screen(0, color=True)) == [
        f"\x1b[32mok      \x1b[0m{'n':<20}t",
    ]  # fmt: skip
    assert lines_of(Result("n", Grade.OK, "a\x1bb"), Screen())[0].endswith("a b")
