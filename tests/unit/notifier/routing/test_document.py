"""A routing file as YAML: what is read as which type, what is refused, where it stands, and all bounds."""

from __future__ import annotations

from typing import Final
from unittest.mock import Mock

import pytest
import yaml

from notifier.routing.config import RoutingConfig
from notifier.routing.document import MAX_TEXT
from notifier.routing.parse import examine, parse
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity

NATIVE: Final = frozenset({"email", "webhook"})
RECEIVERS: Final = "receivers: [{name: a, slackConfigs: [{credentialRef: s}]}]"


def child(members: str, more: str = RECEIVERS) -> str:
    """A file whose root has one route with these members; they begin in the second line."""
    return f"route: {{routes: [{{\n{members}, receiver: a}}]}}\n{more}\n"


def webhook(members: str) -> str:
    """A file with one webhook."""
    entry = f"{{url: https://h/x, {members}}}"
    return f"route: {{receiver: a}}\nreceivers: [{{name: a, webhookConfigs: [{entry}]}}]"


def errors(text: str) -> list[Finding]:
    """What a file is refused for."""
    return [f for f in examine(text, native=NATIVE)[1] if f.severity is Severity.ERROR]


def read(text: str) -> RoutingConfig:
    """A file that is good."""
    return parse(text, native=NATIVE)


# -- values ---------------------------------------------------------------------------------------

FLAGS: Final = {
    **dict.fromkeys(["true", "True", "YES", "on", "y"], True),
    **dict.fromkeys(["false", "no", "OFF", "N", "~", ""], False),
}


@pytest.mark.parametrize("word", FLAGS)
def test_a_flag(word: str) -> None:
    """What Go's YAML takes for a boolean; absent is false."""
    assert read(child(f"continue: {word}")).route.routes[0].goes_on is FLAGS[word]


#: Members of a route, and what they are refused for; each in its second line.
WRONG: Final[dict[str, tuple[str, str]]] = {
    **{
        f"no flag: {word}": (
            f"continue: {word}", "route.routes[0].continue: must be true or false",
        )
        for word in ("'true'", '"no"', "1", "tru", "[]")
    },
    "a list for a text": ("receiver: [x]", "route.routes[0].receiver: must be a string"),
    "a tag": ("match: {a: !x y}", "route.routes[0].match.a: tags are not allowed"),
    "a text for a list": ("routes: x", "route.routes[0].routes: must be a list"),
    "a set for a list": (
        "routes: !!set {x}", "route.routes[0].routes: must be a mapping",
    ),
    "a text for a mapping": ("match: x", "route.routes[0].match: must be a mapping"),
    "a list for what has no effect": (
        "groupBy: x", "route.routes[0].groupBy: must be a list",
    ),
    "a key that is there twice": (
        "match: {a: x, a: y}", "route.routes[0].match.a is defined twice",
    ),
    "a key that is a list": (
        "match: {[a]: x}", "route.routes[0].match: must be a string in quotes",
    ),
    "half a character": (
        'match: {a: "\\ud83d"}', "line 2: found invalid Unicode character escape code",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_of_another_type(case: str) -> None:
    """It is named with its path and its line; what is no character, by the line alone."""
    members, reason = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        read(child(members).replace(", receiver: a}", "}"))
    assert str(caught.value).startswith(f"failed to parse YAML: {reason}")
    assert caught.value.line == 2


def test_half_a_character_is_refused_whatever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML's parser in Python takes it; no JSON could be made of it."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    (error, *_) = errors(child('match: {a: "\\ud83d"}'))
    assert (error.path, error.message) == ("route.routes[0].match.a", "not a valid text")


def test_what_nothing_reads_may_hold_anything() -> None:
    """An anchor's home, a key of another program, and the items of what has no effect."""
    bomb = "k0: &k0 [x, x]\n" + "".join(
        f"k{n}: &k{n} [*k{n - 1}, *k{n - 1}]\n" for n in range(1, 40)
    )
    config = read(
        child("groupBy: [!t x, [[]], {a: b, a: c}], x: !t {a: b, a: c}", f"{bomb}{RECEIVERS}")
    )
    assert config.route.routes[0].receiver == "a"
    assert config.doubts == 41


def test_numbers_of_templates_are_numbers() -> None:
    """And a text that looks like one is in quotes there; elsewhere a text is what is written."""
    assert read(webhook("payload: {a: 5, b: 1.5, c: true, d: ~, e: '5'}")) is not None
    for members, path in (
        ("query: {a: 5}", "query.a"), ("text: 5", "text"), ("form: {a: yes}", "form.a"),
        ("update: {path: 5}", "update.path"), ("success: {when: 1}", "success.when"),
    ):  # fmt: skip
        (error,) = errors(webhook(members))
        assert (error.path, error.message) == (
            f"receivers[0].webhookConfigs[0].{path}",
            "must be a string",
        )


def test_an_unknown_key_is_refused_where_a_request_would_change() -> None:
    """In `update`, `resolve` and `success`; empty, they are there without members."""
    for member in ("update", "resolve", "success"):
        (error,) = errors(webhook(f"{member}: {{x: 1}}"))
        assert error.path == f"receivers[0].webhookConfigs[0].{member}.x"
        assert read(webhook(f"{member}: []")) is not None


MERGED: Final = {
    "its own keys win": ("<<: {a: merged, b: merged}, a: own", "own", "merged"),
    "wherever they stand": ("a: own, <<: {a: merged, b: merged}", "own", "merged"),
    "of several the first wins": ("<<: [{a: first}, {a: second, b: second}]", "first", "second"),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED)
def test_a_merged_mapping(case: str) -> None:
    """As YAML has it, and what follows the merge key is read as well."""
    text, a, b = MERGED[case]
    match = dict(read(child(f"match: {{{text}, c: last}}")).route.routes[0].match)
    assert match == {"a": a, "b": b, "c": "last"}


@pytest.mark.parametrize(("depth", "good"), [(50, True), (51, False)])
def test_merges_are_bounded_in_depth(depth: int, good: bool) -> None:
    """At the bound itself they are read."""
    text = "{a: x}"
    for _ in range(depth):
        text = f"{{<<: {text}}}"
    if good:
        assert read(child(f"match: {text}")).route.routes[0].match == (("a", "x"),)
    else:
        assert "merged too deeply" in errors(child(f"match: {text}"))[0].message


@pytest.mark.parametrize(("depth", "good"), [(51, True), (52, False)])
def test_trees_are_bounded_in_depth(depth: int, good: bool) -> None:
    """Each from its own root, also where no template is made of it."""
    tree = f"{'[' * depth}{']' * depth}"
    text = f"route: {{receiver: a}}\nreceivers: [{{name: a, templates: {{slackBlocks: {tree}}}}}]"
    assert any("nested too deeply" in error.message for error in errors(text)) is not good


# -- the whole text -------------------------------------------------------------------------------


def test_a_text_is_bounded() -> None:
    """At the bound itself it is read."""
    text = child("match: {a: x}").ljust(MAX_TEXT)
    assert MAX_TEXT == 1024 * 1024
    assert read(text) is not None
    assert errors(text + " ")[0].message == "failed to parse YAML: longer than 1048576 characters"


def test_values_are_bounded_in_number() -> None:
    """Each reference to an anchor counts anew: a key for two, an item of a list and a text for one."""
    ids = f"x: &x [{', '.join(['{match: {a: b}}'] * 10)}]\n"  # 60 where it is read
    for more, good in ((1580, True), (1620, False)):
        routes = ", ".join(["{routes: *x}"] * more)
        text = f"{ids}route: {{receiver: a, routes: [{routes}]}}\n{RECEIVERS}"
        found = [error.message for error in errors(text)]
        assert found == ([] if good else ["failed to parse YAML: more than 100000 values (line 1)"])


# -- findings -------------------------------------------------------------------------------------


def test_everything_is_said_at_once() -> None:
    """What cannot be read is left out, and the rest is looked at; a log gets the first ones in one line."""
    text = (
        "route: {receiver: nobody,\n routes: [~, {continue: 'x'},\n {matchRe: {a: '('}, recever: a}]}\n"
        "receivers:\n- name: a\n  allowedNamespaces: []\n  slackConfigs: [5, {credentialRef: [x]}]\n"
    )
    config, found = examine(text, native=NATIVE)
    assert config is not None
    assert sorted((f.line, f.path) for f in found if f.severity is Severity.ERROR) == [
        (1, "route.receiver"), (2, "route.routes[0]"), (2, "route.routes[1].continue"),
        (3, "route.routes[2].matchRe.a"), (6, "receivers[0].allowedNamespaces"),
        (7, "receivers[0].slackConfigs[0]"), (7, "receivers[0].slackConfigs[1].credentialRef"),
    ]  # fmt: skip
    assert [f.path for f in found if f.doubt] == ["route.routes[2].recever"]
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).count(" (line ") == 7


def test_warnings_are_bounded_in_number() -> None:
    """A hundred are kept; a last one counts the others."""
    keys = ", ".join(f"k{n}: 1" for n in range(103))
    config, found = examine(child(keys), native=NATIVE)
    assert config is not None
    assert (len(found), config.doubts) == (101, 103)
    assert (found[-1].severity, found[-1].message) == (
        Severity.WARNING, "3 further warnings were left out",
    )  # fmt: skip


def test_errors_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what is costly to say about one: a likely name is looked for among all receivers."""
    nearest = Mock(return_value="")
    monkeypatch.setattr("notifier.routing.parse.nearest", nearest)
    routes = [{"match": {"team": str(n)}, "receiver": f"r{n}"} for n in range(103)]
    receivers = [{"name": "a", "consoleConfigs": [{}]}]
    text = yaml.safe_dump({"route": {"receiver": "a", "routes": routes}, "receivers": receivers})
    found = errors(text)
    assert (len(found), nearest.call_count) == (101, 100)
    assert found[-1].message == "3 further errors were left out"
