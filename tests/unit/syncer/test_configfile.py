"""A settings file: texts in, a model and warnings out, with the place of whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from syncer.configfile import (
    Duration,
    Group,
    Level,
    Names,
    parse_duration,
    secret_of,
    unknown_keys,
)
from syncer.model.errors import ConfigError


class Inner(Group):
    """A group of a group."""

    max_age: Duration = 5.0
    names: Names = ()
    level: Level = "INFO"


class Needed(Group):
    """A group with a member that must be given."""

    url: str


class Document(Group):
    """A whole file."""

    needed: Needed
    some_group: Inner = Inner()  # noqa: V107 (by its name in a file)
    maybe: Inner | None = None  # noqa: V107 (as above)
    count: int = 1
    flags: tuple[int, ...] = ()


GOOD: Final = {"needed": {"url": "u"}}


# -- durations ------------------------------------------------------------------------------------


def test_a_text_that_is_too_long_is_no_duration() -> None:
    """64 characters are read, and no more."""
    assert parse_duration("0" * 61 + ".5s") == 0.5
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_duration("0" * 62 + ".5s")


# -- models ---------------------------------------------------------------------------------------


def test_unknown_keys() -> None:
    """Each is named with its path, a slip with what may be meant, a long one cut; no value is."""
    document = {
        "needed": {"url": "u", "urll": "x"}, "someGroup": {"maxage": 1, "deep": {"er": 1}},
        "maybe": {"lvel": 1}, 7: 1, "k" * 70: 1, "count": {"no": "group"}, "some_group": 5,
        "somGroup": 1,
    }  # fmt: skip
    assert [(f.text, f.fix) for f in unknown_keys(Document, document)] == [
        ("needed.urll is unknown and ignored: did you mean url?", "write url instead"),
        ("someGroup.maxage is unknown and ignored: did you mean maxAge?", "write maxAge instead"),
        ("someGroup.deep is unknown and ignored", "remove it"),
        ("maybe.lvel is unknown and ignored: did you mean level?", "write level instead"),
        ("7 is unknown and ignored", "remove it"),
        (f"{'k' * 64} is unknown and ignored", "remove it"),
        ("somGroup is unknown and ignored: did you mean someGroup?", "write someGroup instead"),
    ]
    assert unknown_keys(Document, 5) == unknown_keys(Document, GOOD) == []


# -- secrets ----------------------------------------------------------------------------------------


def test_a_file_that_holds_a_secret(tmp_path: Path) -> None:
    """Line ends at its end do not count, blanks do; 64 Ki characters are the most."""
    file = tmp_path / "secret"
    for content, wanted in ((b" a b \r\n\n", " a b "), (b"x" * 65_536, "x" * 65_536)):
        file.write_bytes(content)
        assert secret_of(str(file), "a.b") == wanted
    for content, says in (
        (b"\n", "names a file that is empty"),
        (b"x" * 65_537, "names a file that is too long"),
        (b"hunter2\xff", "is not UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            secret_of(str(file), "a.b")
        assert (caught.value.path, str(caught.value)) == ("a.b", f"a.b: {says}")
    with pytest.raises(ConfigError) as caught:
        secret_of(str(tmp_path / "none"), "a.b")
    assert str(caught.value) == "a.b: cannot be read: No such file or directory"
