"""A settings file: texts in, a model and warnings out, with the place of whatever is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.configfile import (
    Duration,
    Group,
    Level,
    Names,
    build,
    keys_of,
    parse_duration,
    read_into,
    secret_of,
    unknown_keys,
)
from syncer.model.errors import ConfigError
from syncer.yamlfile import read_document


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
    some_group: Inner = Inner()
    maybe: Inner | None = None
    count: int = 1
    flags: tuple[int, ...] = ()


GOOD: Final = {"needed": {"url": "u"}}


def fault(document: dict[str, Any]) -> tuple[str, str]:
    """Path and text of what is wrong."""
    with pytest.raises(ConfigError) as caught:
        build(Document, document)
    return caught.value.path, str(caught.value)


# -- durations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h1m1s1ms", 3661.001), ("1us", 1e-6), ("1000ns", 1e-6), ("1µs1μs", 2e-6), (".5s", 0.5),
     ("1.s", 1.0), ("500ms500ms", 1.0), ("0.1s0.2s", 0.3), ("1" * 9, 111_111_111.0)],
)  # fmt: skip
def test_a_duration_of_each_unit(text: str, seconds: float) -> None:
    """Parts add up, to the nanosecond."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["x5s", "5s ", "+5", "++5s", "5 s", "1" * 13, "1.0000000001"])
def test_what_looks_like_a_duration(text: str) -> None:
    """What has more before, between or behind its parts is none; blanks around do not count."""
    if text.strip() == "5s":
        assert parse_duration(text) == 5.0
        return
    with pytest.raises(ValueError, match="must be a duration such as 500ms, 10s or 1m30s"):
        parse_duration(text)


def test_a_text_that_is_too_long_is_no_duration() -> None:
    """64 characters are read, and no more."""
    assert parse_duration("0" * 61 + ".5s") == 0.5
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_duration("0" * 62 + ".5s")


@pytest.mark.parametrize("value", ["315360000", 315_360_000, "87600h"])
def test_the_longest_duration_is_ten_years(value: object) -> None:
    """In every form; a second more is refused by the rule."""
    assert parse_duration(value) == 315_360_000.0
    for more in ("315360001", 315_360_001, "87600h1s"):
        with pytest.raises(ValueError, match=r"^must not exceed ten years$"):
            parse_duration(more)


# -- models ---------------------------------------------------------------------------------------


def test_a_fault_names_the_group_that_has_the_key() -> None:
    """Of an entry of a list as well: what lies below a key that is no group belongs to its group."""
    found = read_into(Document, GOOD | {"someGroup": {"names": [1], "level": 5}, "count": "1"})
    assert isinstance(found, list)
    assert {(f.path, f.group) for f in found} == {
        ("someGroup.names[0]", Inner), ("someGroup.level", Inner), ("count", Document)
    }  # fmt: skip


def test_types_of_members() -> None:
    """Levels in any case, lists of names, durations; a value of another type is refused."""
    document = GOOD | {"someGroup": {"level": "warn", "names": ["a", "b"], "maxAge": "1m"}}
    found = build(Document, document)
    assert found.some_group == Inner(level="WARN", names=("a", "b"), max_age=60.0)
    assert fault(GOOD | {"someGroup": {"level": 5}})[0] == "someGroup.level"
    assert fault(GOOD | {"someGroup": {"names": "a"}})[0] == "someGroup.names"
    assert fault(GOOD | {"count": "1"})[0] == "count"


def test_nothing_that_is_given_may_be_changed_later() -> None:
    """Settings are frozen."""
    found = build(Document, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        found.count = 2


def test_both_spellings_and_nulls() -> None:
    """Keys are camelCase or as in the code; null, also in a group, is the default."""
    for key in ("someGroup", "some_group"):
        assert build(Document, GOOD | {key: {"max_age": 7}}).some_group.max_age == 7.0
        assert build(Document, GOOD | {key: {"maxAge": None}}).some_group.max_age == 5.0
        assert build(Document, GOOD | {key: None}).some_group == Inner()
    assert build(Document, GOOD | {"maybe": {"maxAge": None}}).maybe == Inner()
    assert build(Document, GOOD | {"maybe": None}).maybe is None
    assert keys_of(Inner) == {
        "maxAge": "max_age", "max_age": "max_age", "names": "names", "level": "level",
    }  # fmt: skip
    odd: dict[Any, Any] = {"needed": {"url": "u", 5: "x"}, 7: {}}
    assert build(Document, odd) == build(Document, GOOD)


#: A document, the path of what is wrong with it, and the whole text.
FAULTS: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "a required group is missing": ({}, "needed.url", "needed.url: is required"),
    "a required group is null": ({"needed": None}, "needed.url", "needed.url: is required"),
    "a group is a text": (GOOD | {"someGroup": "x"}, "someGroup", "someGroup: must be a mapping"),
    "a required group is a text": ({"needed": "x"}, "needed", "needed: must be a mapping"),
    "a rule of ours is broken": (
        GOOD | {"someGroup": {"maxAge": -1}}, "someGroup.maxAge",
        "someGroup.maxAge: must not be negative",
    ),
    "a rule of the library is broken": (
        GOOD | {"count": "x"}, "count", "count: input should be a valid integer",
    ),
    "a member of a list": (
        GOOD | {"flags": (1, "x")}, "flags[1]", "flags[1]: input should be a valid integer",
    ),
    "two at once": (
        {"count": "x"}, "needed.url",
        "needed.url: is required; count: input should be a valid integer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_by_its_path(case: str) -> None:
    """Every part of the path as the file spells it, then the rule, in lower case."""
    document, path, text = FAULTS[case]
    assert fault(document) == (path, text)


def test_of_many_faults_nine_are_named() -> None:
    """The text stays short, whatever was wrong."""
    _, text = fault(GOOD | {"flags": tuple("abcdefghijkl")})
    assert text.count("input should be a valid integer") == 9


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


def test_faults_and_unknown_keys_have_lines() -> None:
    """Each is where its key stands; what is missing, where what should hold it does."""
    source = read_document(
        "needed:\n  urll: x\nsome_group:\n  # a remark\n  maxAge: -1\nflags: [1,\n  x]\n"
    )
    with pytest.raises(ConfigError) as caught:
        build(Document, source.values, source)
    assert str(caught.value) == (
        "needed.url: is required (line 1); someGroup.maxAge: must not be negative (line 5);"
        " flags: input should be a valid tuple (line 6)"
    )
    assert caught.value.line == 1
    (unknown,) = unknown_keys(Document, source.values, source)
    assert unknown.text == "needed.urll is unknown and ignored: did you mean url? (line 2)"


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


def test_what_is_null_hides_nothing_behind_it() -> None:
    """In the order of the file."""
    assert build(Document, {"maybe": None, "odd": 1, **GOOD, "count": 5}).count == 5


@pytest.mark.parametrize("value", [True, False, None, [], {}, b"5s", ()])
def test_what_is_no_duration(value: object) -> None:
    """A switch is no number of seconds, and neither is a list; the rule is named."""
    with pytest.raises(ValueError, match=r"^must be a duration such as 500ms, 10s or 1m30s$"):
        parse_duration(value)


def test_no_plugin_of_pydantic_is_looked_for() -> None:
    """What else is installed is neither read nor run when settings are imported."""
    program = (
        "import importlib.metadata as metadata; metadata.entry_points = None;"
        "import syncer.settings, notifier.settings"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)
