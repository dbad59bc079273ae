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


def test_half_a_character_is_refused_whatever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML's parser in Python takes it; no JSON could be made of it."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    reason = "failed to parse YAML: a: not a valid text (line 1)"
    assert refused(lambda: table_of('a: "\\ud83d"').text("a")) == reason


def test_a_choice() -> None:
    """The first word where there is none; another one is refused with all that there are."""
    first, second, *_ = Security
    assert table_of("b: x").choice("a", Security) is first
    assert table_of(f"a: {second}").choice("a", Security) is second
    reason = f"failed to parse YAML: a: must be {' or '.join(Security)} (line 1)"
    assert refused(lambda: table_of("a: x").choice("a", Security)) == reason


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
