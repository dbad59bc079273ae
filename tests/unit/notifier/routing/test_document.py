"""A routing file as YAML: what is read as which type, what is refused, where it stands, and all bounds."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest
import yaml

from notifier.routing.document import MAX_TEXT, Reader, Table
from notifier.routing.keys import MAPPINGS, Keys
from notifier.routing.mail import Security
from notifier.routing.parse import examine
from syncer.model.errors import ConfigError
from syncer.model.finding import Severity

KEYS: Final[Keys] = cast("Keys", dict.fromkeys(["a", "b", "c", "enabled"]))
#: Those of three mappings that have keys without effect.
IDLE: Final[Keys] = {**MAPPINGS["route"], **MAPPINGS["slackConfigs"], **MAPPINGS["fileConfigs"]}


def node_of(text: str, reader: Reader | None = None) -> yaml.Node:
    """The root of a document."""
    root = (reader or Reader()).compose(text)
    assert root is not None
    return root


def table_of(text: str, reader: Reader | None = None) -> Table:
    """The mapping of a document."""
    reader = reader or Reader()
    found = reader.table(reader.compose(text), "", KEYS)
    assert found is not None
    return found


def refused(read: Any) -> str:
    """The reason for which something is not read."""
    with pytest.raises(ConfigError) as caught:
        read()
    return str(caught.value)


# -- values -----------------------------------------------------------------------------------------

TEXTS: Final = {
    "plain": ("a: text", "text"),
    "a number, as it is written": ("a: 0x1F", "0x1F"),
    "a boolean, as it is written": ("a: Yes", "Yes"),
    "a date": ("a: 2026-01-02", "2026-01-02"),
    "an equals sign": ("a: =", "="),
    "null": ("a: ~", ""),
    "nothing": ("a:", ""),
    "absent": ("b: x", ""),
    "quoted": ("a: '~'", "~"),
    "beyond the basic plane": ('a: "\\U0001F514"', "\U0001f514"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_a_text(case: str) -> None:
    """Scalars of any type are texts as they are written; null is empty."""
    text, wanted = TEXTS[case]
    assert table_of(text).text("a") == wanted


NO_TEXTS: Final = {
    "a list": ("a: [x]", "failed to parse YAML: a: must be a text (line 1)"),
    "a tag": ("b: x\na: !x y", "failed to parse YAML: a: tags are not allowed (line 2)"),
    "half a character": (
        'b: x\na: "\\ud83d"', "failed to parse YAML: line 2: found invalid Unicode character escape code",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TEXTS)
def test_what_is_no_text(case: str) -> None:
    """It is named with its path and its line; what is no character, by the line alone."""
    text, reason = NO_TEXTS[case]
    assert refused(lambda: table_of(text).text("a")) == reason


def test_half_a_character_is_refused_whatever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML's parser in Python takes it; no JSON could be made of it."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    reason = "failed to parse YAML: a: not a valid text (line 1)"
    assert refused(lambda: table_of('a: "\\ud83d"').text("a")) == reason


FLAGS: Final = {
    **dict.fromkeys(["true", "True", "YES", "on", "y"], True),
    **dict.fromkeys(["false", "no", "OFF", "N", "~", ""], False),
}


@pytest.mark.parametrize("word", FLAGS)
def test_a_flag(word: str) -> None:
    """What Go's YAML takes for a boolean; absent is false."""
    assert table_of(f"a: {word}").flag("a") is FLAGS[word]
    assert table_of("b: x").flag("a") is False


@pytest.mark.parametrize("word", ["'true'", '"no"', "1", "tru", "x"])
def test_what_is_no_flag(word: str) -> None:
    """A text in quotes is a text."""
    reason = "failed to parse YAML: a: must be true or false (line 1)"
    assert refused(lambda: table_of(f"a: {word}").flag("a")) == reason


def test_a_choice() -> None:
    """The first word where there is none; another one is refused with all that there are."""
    first, second, *_ = Security
    assert table_of("b: x").choice("a", Security) is first
    assert table_of(f"a: {second}").choice("a", Security) is second
    reason = f"failed to parse YAML: a: must be {' or '.join(Security)} (line 1)"
    assert refused(lambda: table_of("a: x").choice("a", Security)) == reason


def test_a_list() -> None:
    """Each item has its path; absent and null are empty, another type or a tag is refused."""
    items = table_of("a: [x, y]").items("a")
    assert [(cast("Any", node).value, path) for node, path in items] == [
        ("x", "a[0]"),
        ("y", "a[1]"),
    ]
    assert table_of("a: [x, 2]").texts("a") == ["x", "2"]
    for text in ("b: x", "a: ~", "a: []"):
        assert table_of(text).items("a") == []
    for text in ("a: x", "a: {b: c}", "a: !!set [x]"):
        reason = "failed to parse YAML: a: must be a list (line 1)"
        assert refused(lambda text=text: table_of(text).items("a")) == reason


def test_a_mapping() -> None:
    """Another type, a tag or a key that is there twice is refused."""
    reader = Reader()
    for text in ("~", ""):
        assert reader.table(reader.compose(text), "x", KEYS) is None
    for text in ("[x]", "x", "!y {a: b}"):
        reason = "failed to parse YAML: x: must be a mapping (line 1)"
        found = node_of(text)
        assert refused(lambda found=found: Reader().table(found, "x", KEYS)) == reason
    assert refused(lambda: table_of("[x]")) == "failed to parse YAML: must be a mapping (line 1)"
    twice = "failed to parse YAML: a is defined twice (line 2)"
    assert refused(lambda: table_of("a: x\na: y")) == twice


MERGED: Final = {
    "its own keys win": ("<<: {a: merged, b: merged}\na: own", "own", "merged"),
    "wherever they stand": ("a: own\n<<: {a: merged, b: merged}", "own", "merged"),
    "of several the first wins": ("<<: [{a: first}, {a: second, b: second}]", "first", "second"),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED)
def test_a_merged_mapping(case: str) -> None:
    """As YAML has it, and what follows the merge key is read as well."""
    text, a, b = MERGED[case]
    found = table_of(f"{text}\nc: last")
    assert (found.text("a"), found.text("b"), found.text("c")) == (a, b, "last")


@pytest.mark.parametrize(("depth", "read"), [(50, True), (51, False)])
def test_merges_are_bounded_in_depth(depth: int, read: bool) -> None:
    """At the bound itself they are read."""
    text = "{a: x}"
    for _ in range(depth):
        text = f"{{<<: {text}}}"
    if read:
        assert table_of(text).text("a") == "x"
    else:
        assert refused(lambda: table_of(text)).startswith(
            "failed to parse YAML: : merged too deeply"
        )


def test_keys_that_nobody_declared_are_a_slip_of_the_code() -> None:
    """A key that is read must be in the table of keys, or it would not be on its page."""
    with pytest.raises(KeyError, match="z is not a key"):
        table_of("a: x").text("z")


# -- the whole text -----------------------------------------------------------------------------------


def test_only_the_first_document_counts() -> None:
    """A second one is a warning at its line; an empty text holds none."""
    reader = Reader()
    assert reader.compose("") is None
    assert reader.compose("# nothing\n") is None
    assert reader.compose("a: x") is not None
    assert reader.findings() == ()
    reader.compose("a: x\n---\nb: y\n")
    (finding,) = reader.findings()
    assert (finding.path, finding.message, finding.fix) == (
        "", "only the first document is read", "remove the others",
    )  # fmt: skip
    assert finding.line in (2, 3)


def test_a_text_is_bounded() -> None:
    """At the bound itself it is read."""
    text = "a: x".ljust(MAX_TEXT)
    assert MAX_TEXT == 1024 * 1024
    assert table_of(text).text("a") == "x"
    reason = "failed to parse YAML: longer than 1048576 characters"
    assert refused(lambda: Reader().compose(text + " ")) == reason


def test_values_are_bounded_in_number() -> None:
    """Each counts whenever it is read, so that references to anchors do not multiply."""
    reader, node = Reader(), node_of("a: x")
    for _ in range(100_000):
        reader.count(node)
    reason = "failed to parse YAML: more than 100000 values (line 1)"
    assert refused(lambda: reader.count(node)) == reason
    for text, read in (("a: x", Table.text), ("a: [x]", Table.items)):
        full = Reader()
        found = table_of(text, full)
        before = full._nodes
        read(found, "a")
        assert full._nodes == before + 1
        assert before == 2, "the key, read as a text"


# -- findings -----------------------------------------------------------------------------------------


def test_warnings_are_bounded_in_number() -> None:
    """A hundred are kept; a last one counts the others."""
    reader = Reader()
    for n in range(100):
        assert not reader.full
        reader.warn(f"p{n}", "m", "f")
    assert reader.full
    assert len(reader.findings()) == 100
    for _ in range(3):
        reader.warn("x", "m", "f", severity=Severity.ERROR)
    assert len(reader.findings()) == 101
    last = reader.findings()[-1]
    assert (last.severity, last.path, last.message, last.fix) == (
        Severity.WARNING, "", "3 further warnings were left out", "fix those above first",
    )  # fmt: skip


def test_errors_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what is costly to say about one: a likely name is looked for among all receivers."""
    asked: list[str] = []

    def nearest(name: str, _: object) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr("notifier.routing.parse.nearest", nearest)
    routes = [{"match": {"team": str(n)}, "receiver": f"r{n}"} for n in range(103)]
    receivers = [{"name": "a", "consoleConfigs": [{}]}]
    text = yaml.safe_dump({"route": {"receiver": "a", "routes": routes}, "receivers": receivers})
    errors = [f for f in examine(text)[1] if f.severity is Severity.ERROR]
    assert (len(errors), len(asked)) == (101, 100)
    assert errors[-1].message == "3 further errors were left out"


def test_a_warning_stands_where_its_path_does() -> None:
    """Or where it is said to stand; a path that was not read has no line."""
    reader = Reader()
    table_of("b: x\na: y", reader).text("a")
    reader.warn("a", "m", "f")
    reader.warn("a", "m", "f", 7)
    reader.warn("z", "m", "f")
    assert [finding.line for finding in reader.findings()] == [2, 7, 0]
    assert reader.lines[""] == 1


def test_errors_may_be_collected() -> None:
    """Each with path, text, fix and line; the reading goes on."""
    reader = Reader(collect=True)
    found = table_of("a: [x]\nb: !t y\nc: 1", reader)
    assert (found.text("a"), found.flag("b"), found.items("c")) == ("", False, [])
    shown = [(e.severity, e.path, e.message, e.line) for e in reader.errors()]
    assert shown == [
        (Severity.ERROR, "a", "must be a text", 1),
        (Severity.ERROR, "b", "tags are not allowed", 2),
        (Severity.ERROR, "b", "must be true or false", 2),
        (Severity.ERROR, "c", "must be a list", 3),
    ]
    assert reader.errors()[0].fix == "write a text, in quotes if it looks like something else"
    assert reader.errors()[1].fix == "remove the tag"


def test_an_error_without_a_place_has_no_line() -> None:
    """Its text is as it is."""
    with pytest.raises(ConfigError) as caught:
        Reader().refuse("no receiver", None, path="", fix="f")
    assert (str(caught.value), cast("Any", caught.value).line) == ("no receiver", 0)
    with pytest.raises(ConfigError) as caught:
        Reader().refuse("no receiver", node_of("\n\na: x"), path="", fix="f")
    assert (str(caught.value), cast("Any", caught.value).line) == ("no receiver (line 3)", 3)


def test_what_has_no_effect_is_noted() -> None:
    """Only where there is something."""
    for text, noted in (
        ("path: x", ["path"]), ("path: ~", []), ("enabled: true", []),
        ("iconEmoji: ':x:'\nchannel: x", ["channel", "iconEmoji"]),
        ("groupBy: [x]", ["groupBy"]), ("groupBy: []", []),
    ):  # fmt: skip
        reader = Reader()
        table = reader.table(reader.compose(text), "", IDLE)
        assert table is not None
        table.idle()
        assert [finding.path for finding in reader.findings()] == noted
        assert {finding.severity for finding in reader.findings()} <= {Severity.NOTE}
    for text, notes in (("enabled: true", 0), ("enabled: false", 1), ("a: x", 0)):
        reader = Reader()
        table_of(text, reader).enabled()
        assert len(reader.findings()) == notes


def test_what_has_no_effect_is_marked() -> None:
    """The schema calls deprecated what the page says has none, and nothing else."""
    marked = {f"{name}.{key}" for name, keys in MAPPINGS.items() for key in keys if keys[key].idle}
    assert marked == {
        "route.groupBy", "slackConfigs.channel", "slackConfigs.username", "slackConfigs.iconEmoji",
        "pagerdutyConfigs.severity", "fileConfigs.path",
    }  # fmt: skip
