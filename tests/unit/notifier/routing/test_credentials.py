"""The credentials directory: what counts as a value, what keeps its old one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.credentials import (
    MAX_ENTRIES,
    MAX_VALUE,
    Credentials,
    Look,
    look,
    merge,
)

CANARY = "c4n4ry-s3cret"

_BREAK = "holds a line break or control character"
#: What stands in a file, its value, and why it has none.
FILES: dict[str, tuple[bytes, str, str]] = {
    "as it is": (b"https://h/x", "https://h/x", ""),
    "with a newline at its end": (b"key\n", "key", ""),
    "with blanks and lines around it": (b" \n\tkey\r\n  \n", "key", ""),
    "with a blank inside": (b"two words", "two words", ""),
    "with a byte order mark": (b"\xef\xbb\xbfkey", "key", ""),
    "as long as allowed": (b"x" * MAX_VALUE, "x" * MAX_VALUE, ""),
    "nothing": (b"", "", "empty"),
    "white space": (b" \n\t ", "", "empty"),
    "two lines": (CANARY.encode() + b"\nX: y", "", _BREAK),
    "a carriage return": (CANARY.encode() + b"\rX", "", _BREAK),
    "a NUL": (CANARY.encode() + b"\0x", "", _BREAK),
    "a Unicode line separator": (CANARY.encode() + "\u2028x".encode(), "", _BREAK),
    "bytes that are no text": (CANARY.encode() + b"\xff", "", "not UTF-8"),
    "too much": (CANARY.encode() + b"x" * MAX_VALUE, "", "larger than 65536 bytes"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_a_value_or_is_named_and_not_shown(case: str, tmp_path: Path) -> None:
    """Surrounding white space is no part of a value; a warning has file and reason, never the content."""
    raw, value, reason = FILES[case]
    (tmp_path / "ref").write_bytes(raw)
    seen = look(tmp_path)
    assert dict(seen.values) == ({"ref": value} if value else {})
    warning = f"credential file ref is not used: {reason}"
    assert seen.warnings == ((warning,) if reason else ())
    assert CANARY not in f"{seen} {seen!r}"


def test_only_regular_files_without_a_dot_count(tmp_path: Path) -> None:
    """Directories, pipes, dangling links and dot files are none, nor is what says where Redis is."""
    (tmp_path / "notification-ledger.redis-url").write_text("redis://:p@h")
    (tmp_path / "good").write_text("v")
    (tmp_path / ".hidden").write_text("v")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    seen = look(tmp_path)
    assert not seen.fault
    assert dict(seen.values) == {"good": "v", "link": "v"}
    assert seen.warnings == ()


def test_a_look_leaves_no_file_open(tmp_path: Path) -> None:
    """It is taken twice a second for as long as the process lives."""
    (tmp_path / "good").write_text("v")
    (tmp_path / "folder").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        look(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 20


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """No routing file could name it."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff")).write_text("v")
    (tmp_path / "z").write_text("v")
    seen = look(tmp_path)
    assert dict(seen.values) == {"z": "v"}
    (warning,) = seen.warnings
    assert warning.endswith("is not used: its name is not UTF-8")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    """A file that cannot be opened is named with the system's reason."""
    (tmp_path / "ref").symlink_to(tmp_path / "ref")
    (tmp_path / "z").write_text("v")
    assert dict(look(tmp_path).values) == {"z": "v"}
    assert look(tmp_path).warnings == (
        "credential file ref is not used: Too many levels of symbolic links",
    )


def test_a_missing_directory_is_a_look_too(tmp_path: Path) -> None:
    """It holds nothing, and says why."""
    seen = look(tmp_path / "later")
    assert seen.fault == "No such file or directory"
    assert dict(seen.values) == {}


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    """Beyond the bound nothing is read, with one warning."""
    for n in range(MAX_ENTRIES + 5):
        (tmp_path / f"c{n:05}").write_text("v")
    seen = look(tmp_path)
    assert len(seen.values) == MAX_ENTRIES
    assert seen.warnings == ("credential file (beyond the first 1000) is not used: too many files",)
    for n in range(5):
        (tmp_path / f"c{n:05}").unlink()
    seen = look(tmp_path)
    assert (len(seen.values), seen.warnings) == (MAX_ENTRIES, ())


def test_values_are_not_shown() -> None:
    """Neither repr nor str of anything that holds them."""
    held = Credentials({"a": CANARY})
    assert held["a"] == CANARY
    assert CANARY not in f"{held} {held!r} {Look(values=held)!r} {[held]}"


MERGES: dict[str, tuple[dict[str, str], Look, tuple[str, ...], dict[str, str]]] = {
    "a new value replaces the old one": (
        {"a": "old"},
        Look(values=Credentials({"a": "new"})),
        (),
        {"a": "new"},
    ),
    "a file that cannot be used keeps its old value": (
        {"a": "old"},
        Look(refused=(("a", "empty"),)),
        (),
        {"a": "old"},
    ),
    "a file that never could be used has none": (
        {},
        Look(refused=(("a", "empty"),)),
        ("a",),
        {},
    ),
    "a removed file drops out": ({"a": "old"}, Look(), (), {}),
    "a removed file that is needed serves on": (
        {"a": "old", "b": "old"},
        Look(),
        ("a", "z"),
        {"a": "old"},
    ),
}


@pytest.mark.parametrize("case", MERGES)
def test_what_holds_after_a_look(case: str) -> None:
    """New, kept and dropped values."""
    old, seen, needed, after = MERGES[case]
    assert dict(merge(old, seen, needed=needed)) == after


NAMES = st.sampled_from("abcd")


@given(
    st.dictionaries(NAMES, st.just("old")),
    st.dictionaries(NAMES, st.just("new")),
    st.sets(NAMES),
    st.sets(NAMES),
)
def test_a_look_may_be_taken_twice(
    old: dict[str, str], new: dict[str, str], bad: set[str], needed: set[str]
) -> None:
    """Merging is idempotent, takes every new value and makes none up."""
    seen = Look(values=Credentials(new), refused=tuple((n, "empty") for n in bad))
    once = merge(old, seen, needed=needed)
    assert dict(merge(once, seen, needed=needed)) == dict(once)
    assert dict(once).items() >= new.items()
    assert set(once) <= set(old) | set(new)
