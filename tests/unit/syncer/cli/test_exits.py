"""Exit codes, which are an interface, and what says them."""

from __future__ import annotations

from syncer.cli import exits


def test_exit_codes() -> None:
    """Scripts rely on the numbers; the help of each command explains them."""
    codes = {
        "OK": 0, "DIFFERENT": 1, "USAGE": 2, "ABSENT": 3, "UNAVAILABLE": 4, "NOT_COMPARED": 5,
        "REFUSED": 6, "INTERRUPTED": 130,
    }  # fmt: skip
    assert {name: getattr(exits, name) for name in codes} == codes
    said = exits.EPILOG.removeprefix("exit codes: ").split("; ")
    assert [int(part.split()[0]) for part in said] == list(range(7))
