"""Which routes never match: what is said is certain, and what is certain is said where it can be seen."""

from __future__ import annotations

from typing import Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.attributes import ALWAYS, SOMETIMES
from notifier.routing.config import Route
from notifier.routing.keys import FOREIGN, MAPPINGS
from notifier.routing.parse import parse
from notifier.routing.reach import unreachable
from notifier.routing.tree import leads_to, matches
from tests.examples import examples
from tests.servers.definition import load_crd


def never(routes: str) -> list[tuple[str, str]]:
    """Paths below the root of routes that never match, and what they are said for."""
    config = parse(f"route: {{routes: [{routes}]}}\nreceivers: [{{name: x, logConfigs: [{{}}]}}]")
    return [
        (each.route.path.removeprefix("route."), each.key) for each in unreachable(config.route)
    ]


#: Routes, and which of them never match.
CASES: Final[dict[str, tuple[str, list[tuple[str, str]]]]] = {
    "behind one that takes all": (
        "{receiver: x}, {match: {a: b}}, {}", [("routes[1]", ""), ("routes[2]", "")],
    ),
    "behind one that continues": ("{receiver: x, continue: true}, {match: {a: b}}", []),
    "behind one with fewer conditions": (
        "{match: {a: b}}, {match: {a: b, c: d}}", [("routes[1]", "")],
    ),
    "behind one with other conditions": ("{match: {a: b}}, {match: {a: c}}, {match: {b: b}}", []),
    "behind one with more conditions": ("{match: {a: b, c: d}}, {match: {a: b}}", []),
    "behind a pattern that its value has": (
        "{matchRe: {a: ^b}}, {match: {a: bc}}, {match: {a: cb}}", [("routes[1]", "")],
    ),
    "behind the same pattern": (
        "{matchRe: {a: ^b}}, {matchRe: {a: ^b, c: d}}, {matchRe: {a: ^bc}}", [("routes[1]", "")],
    ),
    "a pattern does not match what may be absent": ("{matchRe: {a: ''}}, {match: {a: ''}}", []),
    "behind one that wants the same absence": (
        "{match: {a: ''}}, {match: {a: '', b: c}}", [("routes[1]", "")],
    ),
    "below a route that has the condition": (
        "{match: {a: b}, routes: [{match: {c: d}}, {match: {a: b, c: d}}]}",
        [("routes[0].routes[1]", "")],
    ),
    "below a route that wants another value": (
        "{match: {a: b}, routes: [{match: {a: c}}]}", [("routes[0].routes[0]", "match.a")],
    ),
    "below a route whose pattern its value lacks": (
        "{matchRe: {a: ^b}, routes: [{match: {a: c}}, {match: {a: bc}}]}",
        [("routes[0].routes[0]", "")],
    ),
    "its own pattern that its value lacks": (
        "{match: {a: b}, matchRe: {a: ^c}}", [("routes[0]", "matchRe.a")],
    ),
    "a value that there is not": (
        "{match: {type: escalation}}, {match: {priority: ''}}, {match: {type: Simple}}",
        [("routes[0]", "match.type"), ("routes[1]", "match.priority")],
    ),
    "a pattern that no value has": (
        "{matchRe: {priority: ^crit}}, {matchRe: {priority: '(?i)^crit'}}",
        [("routes[0]", "matchRe.priority")],
    ),
    "what an extension may say": ("{match: {review-source: me}}", []),
    "what is below one that never matches": (
        "{match: {type: x}, routes: [{match: {type: y}}]}", [("routes[0]", "match.type")],
    ),
    "one that never matches takes nothing from others": (
        "{match: {a: b}, matchRe: {a: ^c}}, {match: {a: b}}", [("routes[0]", "matchRe.a")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_routes_that_never_match(case: str) -> None:
    """Each is named, with the condition that is at fault if one is."""
    routes, wanted = CASES[case]
    assert never(routes) == wanted


NAMES: Final = st.sampled_from(["a", "b", "type"])
VALUES: Final = st.sampled_from(["", "x", "xy", "Simple"])
PATTERNS: Final = st.sampled_from(["^x", "y", "", "^Simple$"])


def _trees(depth: int) -> st.SearchStrategy[dict[str, object]]:
    below = st.lists(_trees(depth - 1), max_size=3) if depth else st.just([])
    return st.fixed_dictionaries(
        {
            "match": st.dictionaries(NAMES, VALUES, max_size=2),
            "matchRe": st.dictionaries(NAMES, PATTERNS, max_size=1),
            "continue": st.booleans(),
            "routes": below,
        }
    )


@examples(150)
@given(
    st.lists(_trees(1), max_size=4),
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["", "x", "xy", "y"])),
        min_size=1, max_size=12,
    ),
    st.sampled_from(ALWAYS["type"]),
)  # fmt: skip
def test_what_never_matches_is_never_tried_and_matched(
    routes: list[dict[str, object]], notifications: list[dict[str, str]], kind: str
) -> None:
    """Whatever a notification is like, the walk takes no route that is said to never match."""
    text = yaml.safe_dump(
        {"route": {"routes": routes}, "receivers": [{"name": "x", "logConfigs": [{}]}]}
    )
    root = parse(text).route
    dead = {each.route.path for each in unreachable(root)}

    def taken(route: Route, attributes: dict[str, str]) -> list[str]:
        paths: list[str] = []
        for child in route.routes:
            if matches(child, attributes):
                paths += [child.path, *taken(child, attributes)]
                if not child.goes_on:
                    break
        return paths

    for attributes in notifications:
        assert not dead & set(taken(root, {"type": kind, **attributes}))


def test_the_work_is_bounded() -> None:
    """Thousands of neighbours are not all compared: what is the same far behind is not found."""
    routes = [f"{{match: {{a: v{n}}}}}" for n in range(1000)]
    assert never(", ".join([*routes[:50], routes[0]])) == [("routes[50]", "")]
    assert never(", ".join([*routes, routes[0]])) == []


def test_of_a_long_pattern_the_beginning_is_named() -> None:
    """A pattern may fill the file."""
    pattern = "x" * 100
    config = parse(
        f"route: {{routes: [{{match: {{a: b}}, matchRe: {{a: {pattern}}}}}]}}\n"
        "receivers: [{name: x, logConfigs: [{}]}]"
    )
    (found,) = unreachable(config.route)
    assert f'"{pattern[:64]}" is not found in' in found.why


def test_values_are_those_of_the_definition() -> None:
    """What an attribute may be is what the API server lets through."""
    (version,) = load_crd()["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert {key: tuple(spec[key]["enum"]) for key in ("type", "priority")} == ALWAYS
    assert SOMETIMES["review-source"] == tuple(spec["reviewSource"]["enum"])


def test_routes_that_lead_to_a_receiver() -> None:
    """Of every depth, in the order of the tree's levels."""
    config = parse(
        "route: {receiver: x, routes: [{receiver: y, routes: [{receiver: x}]}, {receiver: x}]}\n"
        "receivers: [{name: x}, {name: y}]"
    )
    assert leads_to(config.route) == {
        "x": ("route", "route.routes[1]", "route.routes[0].routes[0]"), "y": ("route.routes[0]",),
    }  # fmt: skip


def test_every_key_says_what_it_does() -> None:
    """The kinds of mappings are known, texts are sentences, and a key of others is none of ours."""
    known = set(MAPPINGS) | {"text", "true or false", "list of texts", "map of texts"}
    for keys in MAPPINGS.values():
        assert {key.kind for key in keys.values()} <= known
        assert [name for name, key in keys.items() if not key.text.endswith((".", ";"))] == []
    assert not set(FOREIGN) & {name for keys in MAPPINGS.values() for name in keys}
