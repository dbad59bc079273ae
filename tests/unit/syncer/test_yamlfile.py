"""A YAML file: values out, where each key stands, and what is wrong with the text."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml

from syncer.model.errors import ConfigError
from syncer.yamlfile import MAX_FILE, read_document, read_file, yaml_errors

# -- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "~"])
def test_an_empty_document_is_an_empty_mapping(text: str) -> None:
    """So that a file of comments means defaults."""
    assert read_document(text).values == {}


@pytest.mark.parametrize("text", ["[]", "0", "false", "''"])
def test_a_document_that_is_no_mapping(text: str) -> None:
    """What is false is not taken for nothing."""
    with pytest.raises(ConfigError, match=r"^the top level must be a mapping$"):
        read_document(text)


def test_anchors_may_be_referred_to_a_few_times() -> None:
    """32 times, which is more than a settings file needs."""
    text = "a: &a 1\nb: [{}]".format
    assert read_document(text(", ".join(["*a"] * 32))).values["b"] == [1] * 32
    with pytest.raises(ConfigError) as caught:
        read_document(text(", ".join(["*a"] * 33)))
    assert str(caught.value) == "not valid YAML: line 2: too many references to anchors"


#: A text that is no YAML, and what is said: the line, and no word of the text.
BROKEN: Final = {
    "an undefined alias": ("a: 1\nb: *secret", "line 2: found undefined alias …"),
    "a tag": ("a: !secret x", "line 1: could not determine a constructor for the tag …"),
    "a mark that is missing": ("a: [1", "line 1: expected ',' or ']', but got '<stream end>'"),
    "a control character": ("a: \x01", "unprintable character"),
    "a value that does not fit": ("a: !!int x", "a value does not fit its type"),
    "nesting without end": ("[" * 1000, "nested too deeply"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_yaml_says_where(case: str) -> None:
    """The library's own sentence, without what it quotes."""
    text, says = BROKEN[case]
    with pytest.raises(ConfigError) as caught, yaml_errors("p"):
        yaml.safe_load(text)
    assert str(caught.value) == f"p: {says}"


def test_an_error_of_yaml_without_a_place() -> None:
    """It has no line, or that of what it belongs to, and a word of its own where it has none."""
    mark = yaml.Mark("n", 0, 4, 0, None, 0)
    for error, says in (
        (yaml.MarkedYAMLError(problem="p"), "x: p"),
        (yaml.MarkedYAMLError(context_mark=mark), "x: line 5: syntax error"),
    ):
        with pytest.raises(ConfigError) as caught, yaml_errors("x"):
            raise error
        assert str(caught.value) == says


# -- files ----------------------------------------------------------------------------------------


def test_the_largest_file(tmp_path: Path) -> None:
    """As much as a ConfigMap holds is read, a byte more is not; a mark of the byte order is none."""
    file = tmp_path / "f.yaml"
    head = b"\xef\xbb\xbfa: 1\n#"
    file.write_bytes(head + b"x" * (MAX_FILE - len(head)))
    assert MAX_FILE == 1_048_576
    assert read_file(str(file)).values == {"a": 1}
    file.write_bytes(head + b"x" * (MAX_FILE - len(head) + 1))
    with pytest.raises(ConfigError) as caught:
        read_file(file)
    assert str(caught.value) == f"{file} is larger than 1048576 bytes"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The reason is the system's; what is wrong with a text has the file's name before it."""
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path)
    assert str(caught.value) == f"cannot read {tmp_path}: Is a directory"
    file = tmp_path / "f.yaml"
    for content, says in ((b"\xff", " is not UTF-8"), (b"[]", ": the top level must be a mapping")):
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_file(file)
        assert str(caught.value) == f"{file}{says}"


# -- lines ----------------------------------------------------------------------------------------

TEXT: Final = """\
# a remark
redis:
  url: u
  key_prefix: nl
sync: &sync
  - a
  - {b: 1,
     c: 2}
more:
  <<: {d: 1}
  e: *sync
7: x
"8": y
Odd-Key: z
"""

#: Where a key is, and its line.
LINES: Final[dict[str, tuple[str, int]]] = {
    "the whole": ("", 1),
    "a group": ("redis", 2),
    "a key": ("redis.url", 3),
    "a key in the other spelling": ("redis.keyPrefix", 4),
    "a key that is not there": ("redis.timeout", 2),
    "a group that is not there": ("audit.file", 1),
    "an item": ("sync[1]", 7),
    "a key of an item": ("sync[1].c", 8),
    "an item that is not there": ("sync[5]", 5),
    "what is below no mapping": ("sync[0].x", 6),
    "a merged key": ("more.d", 10),
    "behind a reference": ("more.e[1].b", 11),
    "a number": ("7", 12),
    "a number that is a text": ("8", 13),
    "a key in no spelling of ours": ("Odd-Key", 14),
}


@pytest.mark.parametrize("case", LINES)
def test_where_a_key_stands(case: str) -> None:
    """Its own line, or that of what is nearest above it."""
    location, line = LINES[case]
    assert read_document(TEXT).line(location) == line


def test_a_document_without_text_has_no_lines() -> None:
    """An empty one begins nowhere."""
    assert read_document("").line("a") == 0


def test_a_key_that_is_written_twice_is_remembered() -> None:
    """With its second line; keys that are merged or referred to are no repetition."""
    source = read_document("a:\n  b: 1\n  c: [{d: 1, d: 2}]\n  b: 3\n5: 1\n5: 2\n")
    assert source.repeated == [("a.c[0].d", 3), ("a.b", 4), ("5", 6)]
    assert source.values["a"]["b"] == 3
    assert read_document("x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: [*x, *x]\n").repeated == []
    twice = "u: {b: 1, b: 2}\nx: &x {a: 1}\nz: [*x, *x]\n"
    assert read_document(twice).repeated == [("u.b", 1)]


@pytest.mark.parametrize("c", [True, False])
def test_errors_of_yaml_have_a_line(c: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there for programs too; the end of a text is its last line."""
    if not c:
        monkeypatch.delattr(yaml, "CSafeLoader")
    for text, line in (
        ("a: 1\nb: [", 2),
        ("a: 1\nb: [\n", 2),
        ("a: 'x\n\n", 2),
        ("a: 1\n b: 2\nc: 3", 2),
    ):
        with pytest.raises(ConfigError) as caught:
            read_document(text)
        assert caught.value.line == line, text


def test_a_file_is_the_same_whatever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML's parser in C is used where it is there; the one in Python reads the same."""
    text = (
        f"{TEXT}f: [1, 1.5, yes, ~, 2026-11-27, 'x', \"\\u00e9\", 0x1F]\n"
        "g: |\n  a\n  b\nh: &h {i: *sync, i: 2}\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", None)
        quick = read_document(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    slow = read_document(text)
    assert (quick.values, quick.repeated) == (slow.values, slow.repeated)
    places = [location for location, _ in LINES.values()]
    assert [quick.line(at) for at in places] == [slow.line(at) for at in places]
